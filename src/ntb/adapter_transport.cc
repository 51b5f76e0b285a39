// SPDX-License-Identifier: Apache-2.0
#include "ntb/adapter_transport.h"

#include "base/endian.h"

#include <atomic>
#include <cstring>
#include <mutex>
#include <optional>
#include <spdlog/spdlog.h>

namespace lanepool::ntb {

using namespace std::chrono_literals;

// ---- Worker

void Worker::post(std::function<void()> job) {
    {
        const std::lock_guard lock(mutex_);
        if (stopping_) return;
        jobs_.push_back(std::move(job));
    }
    changed_.notify_one();
}

void Worker::run() {
    std::unique_lock lock(mutex_);
    for (;;) {
        changed_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
        if (stopping_) return;
        auto job = std::move(jobs_.front());
        jobs_.pop_front();
        lock.unlock();
        job();
        job = nullptr; // what it holds is released outside of the lock as well
        lock.lock();
    }
}

void Worker::stop() {
    std::deque<std::function<void()>> dropped;
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
        dropped.swap(jobs_);
    }
    changed_.notify_one();
    if (thread_.joinable()) thread_.join();
}

// ---- The way to one peer

namespace {

// Tells a peer by message that there is something to see. One at a time: more would say the same.
class MessageWaker {
  public:
    MessageWaker(Adapter& adapter, Partition peer) : adapter_(adapter), peer_(peer) {}
    void run() {
        pending_ = false;
        for (int attempt = 0; attempt < 5; ++attempt) {
            const auto sent = adapter_.send_message(peer_, AdapterTransport::wake_message);
            if (sent || sent.error().code() != Errc::busy) return;
            std::this_thread::sleep_for(1ms);
        }
    }
    bool start() { return !pending_.exchange(true); }

  private:
    Adapter& adapter_;
    const Partition peer_;
    std::atomic<bool> pending_{false};
};

// The windows to one peer.
struct Way {
    std::vector<Window> windows; // to our area there, and to its event
    Mapping area;                // none: reached by calls
    UniqueFd event;              // none: messages
};

// Writes that go by calls, which may block, in their order: the worker's.
class Calls {
  public:
    explicit Calls(std::shared_ptr<Way> way) : way_(std::move(way)) {}

    // Takes DATA for the worker. Errors: those of earlier calls, no_space.
    Result<> add(Worker& worker, const std::shared_ptr<Calls>& self, uint64_t offset_bytes,
                 std::span<const std::byte> data) {
        {
            const std::lock_guard lock(mutex_);
            if (failed_) return tl::unexpected<Error>(*failed_);
            if (waiting_bytes_ > max_waiting_bytes)
                return fail(Errc::no_space, "the adapter does not take what is written to a mailbox area");
            waiting_bytes_ += data.size();
        }
        worker.post([self, offset_bytes, bytes = std::vector<std::byte>(data.begin(), data.end())] {
            self->call(offset_bytes, bytes);
        });
        return {};
    }

  private:
    void call(uint64_t offset_bytes, std::span<const std::byte> data) {
        const auto done = way_->windows.front().write(offset_bytes, data);
        const std::lock_guard lock(mutex_);
        waiting_bytes_ -= data.size();
        if (!done && !failed_) failed_ = done.error();
    }

    static constexpr size_t max_waiting_bytes = 16 * mailbox::ring_bytes;
    const std::shared_ptr<Way> way_;
    std::mutex mutex_;
    size_t waiting_bytes_ = 0;
    std::optional<Error> failed_;
};

class AdapterLink final : public PeerLink {
  public:
    AdapterLink(std::shared_ptr<Worker> worker, std::shared_ptr<MessageWaker> waker, Way way)
        : worker_(std::move(worker)), waker_(std::move(waker)), way_(std::make_shared<Way>(std::move(way))),
          calls_(std::make_shared<Calls>(way_)) {}

    // Closing asks the switch, so it is the worker's; a worker that has stopped leaves it to us.
    ~AdapterLink() override {
        calls_.reset();
        worker_->post([way = std::move(way_)] { way->windows.clear(); });
    }

    Result<> write(uint64_t offset_bytes, std::span<const std::byte> data) override {
        TRY(check(offset_bytes, data.size()));
        if (data.empty()) return {};
        if (!way_->area) return calls_->add(*worker_, calls_, offset_bytes, data);
        std::memcpy(way_->area.data() + offset_bytes, data.data(), data.size());
        return {};
    }

    Result<> store32(uint64_t offset_bytes, uint32_t value) override {
        TRY(check(offset_bytes, sizeof value));
        if (offset_bytes % sizeof value != 0)
            return fail(Errc::invalid_argument, "a word at {:#x} of a mailbox area", offset_bytes);
        if (!way_->area) {
            const le32 bytes = value;
            return calls_->add(*worker_, calls_, offset_bytes, std::as_bytes(std::span(&bytes, 1)));
        }
        auto& word = *reinterpret_cast<uint32_t*>(way_->area.data() + offset_bytes);
        std::atomic_ref(word).store(value, std::memory_order_release);
        return {};
    }

    void wake() override {
        // What was written by calls must be there before.
        if (way_->event && way_->area)
            signal(way_->event);
        else if (way_->event)
            worker_->post([way = way_] { signal(way->event); });
        else if (waker_->start())
            worker_->post([waker = waker_] { waker->run(); });
    }

  private:
    static Result<> check(uint64_t offset_bytes, size_t size_bytes) {
        if (offset_bytes <= mailbox::area_bytes && size_bytes <= mailbox::area_bytes - offset_bytes)
            return {};
        return fail(Errc::out_of_range, "{} bytes at {:#x} of a mailbox area", size_bytes, offset_bytes);
    }

    std::shared_ptr<Worker> worker_;
    std::shared_ptr<MessageWaker> waker_;
    std::shared_ptr<Way> way_;
    std::shared_ptr<Calls> calls_;
};

Result<Way> open_way(Adapter& adapter, Partition peer, uint64_t wake_address) {
    Way way;
    std::vector<Target> targets;
    targets.push_back({peer, mailbox::areas_address + adapter.partition().value * mailbox::area_bytes,
                       mailbox::area_bytes});
    if (wake_address != 0 && wake_address % 4 == 0) targets.push_back({peer, BusAddress{wake_address}, 4});
    auto windows = adapter.open_windows(targets);
    if (!windows && targets.size() > 1) windows = adapter.open_windows({targets.data(), 1});
    way.windows = TRY(std::move(windows));
    // Without a descriptor by calls: what lies behind the window is a whole machine's, or the adapter is a
    // card. A card's window could be mapped, but then a card that fails would end this process (SIGBUS).
    if (auto extents = TRY(way.windows[0].memory(0, mailbox::area_bytes)); !extents.empty())
        way.area = TRY(way.windows[0].map());
    if (way.windows.size() > 1) {
        if (auto event = way.windows[1].event(0))
            way.event = std::move(*event);
        else
            way.windows.pop_back();
    }
    return way;
}

} // namespace

// ---- The transport

Result<std::unique_ptr<AdapterTransport>> AdapterTransport::create(io::EventLoop& loop, Adapter& adapter) {
    std::unique_ptr<AdapterTransport> self(new AdapterTransport(loop, adapter));
    MemoryRef memory;
    memory.size_bytes = max_partitions * mailbox::area_bytes;
    memory.fd = share(TRY(create_memory("lanepool-channel", memory.size_bytes)));
    self->areas_ = TRY(Mapping::create(memory));
    self->areas_export_ = TRY(adapter.export_memory_at(mailbox::areas_address, memory, Access::read_write));
    self->wake_eventfd_ = TRY(create_eventfd());
    const std::array<int, 1> eventfds = {self->wake_eventfd_.get()};
    if (auto exported = adapter.export_events(eventfds))
        self->wake_export_ = std::move(*exported);
    else if (exported.error().code() == Errc::not_supported)
        spdlog::info("channel: peers wake this host by messages: {}", exported.error().message());
    else
        return tl::unexpected(exported.error());
    return self;
}

AdapterTransport::~AdapterTransport() {
    gate_->close();
    worker_->stop();
}

std::span<std::byte> AdapterTransport::area(Partition peer) {
    return areas_.bytes().subspan(peer.value * mailbox::area_bytes, mailbox::area_bytes);
}

void AdapterTransport::connect(Partition peer, uint64_t wake_address, Connected connected) {
    worker_->post([this, peer, wake_address, connected = std::move(connected), gate = gate_] {
        auto way = open_way(adapter_, peer, wake_address);
        // std::function must be copyable, a way is not.
        auto result = std::make_shared<Result<std::unique_ptr<PeerLink>>>(
            tl::unexpected(Error(Errc::unavailable, "no way")));
        if (way)
            *result = std::make_unique<AdapterLink>(worker_, std::make_shared<MessageWaker>(adapter_, peer),
                                                    std::move(*way));
        else
            *result = tl::unexpected(way.error());
        gate->post([connected, result] { connected(std::move(*result)); });
    });
}

void AdapterTransport::check_links(std::function<void(Partition peer, bool up)> found) {
    worker_->post([this, found = std::move(found), gate = gate_] {
        const auto own_up = adapter_.link_up(own());
        for (const Partition peer : peers()) {
            const auto peer_up = adapter_.link_up(peer);
            const bool up = own_up && *own_up && peer_up && *peer_up;
            gate->post([found, peer, up] { found(peer, up); });
        }
    });
}

} // namespace lanepool::ntb
