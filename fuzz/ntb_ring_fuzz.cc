// SPDX-License-Identifier: Apache-2.0
//
// A hostile host against the channel of another: it writes what it likes into the mailbox area that is open
// to it, in the middle of everything, and now and then records that are well-formed around what they carry.
#include "ntb/memory_transport.h"

#include <cstdlib>
#include <spdlog/spdlog.h>

namespace {

using namespace lanepool;
using namespace lanepool::ntb;
using lanepool::ntb::testing::HostMemory;
using lanepool::ntb::testing::MemoryFabric;
using lanepool::ntb::testing::MemoryLink;

constexpr Partition victim{0};
constexpr Partition hostile{1};

class Input {
  public:
    explicit Input(std::span<const uint8_t> data) : data_(data) {}
    bool empty() const { return data_.empty(); }
    uint8_t byte() {
        if (data_.empty()) return 0;
        const uint8_t value = data_[0];
        data_ = data_.subspan(1);
        return value;
    }
    uint64_t word() {
        uint64_t value = 0;
        for (int i = 0; i < 8; ++i)
            value |= uint64_t{byte()} << (8 * i);
        return value;
    }
    std::span<const std::byte> bytes(size_t size) {
        size = std::min(size, data_.size());
        const auto taken = std::as_bytes(data_.first(size));
        data_ = data_.subspan(size);
        return taken;
    }

  private:
    std::span<const uint8_t> data_;
};

class Game {
  public:
    explicit Game(Input input) : input_(input) {
        fabric_.memory[hostile.value] = memory_;
        ChannelEvents events;
        events.request = [this](Partition, uint16_t kind, std::vector<std::byte> body, ChannelReply reply) {
            if (body.size() > max_channel_body_bytes) std::abort();
            if (kind % 2 == 0)
                reply(std::move(body));
            else if (kept_.size() < 64)
                kept_.push_back(std::move(reply));
        };
        ChannelOptions options;
        options.max_outstanding_requests = 8;
        core_ = ChannelCore::create(*fabric_.loop, fabric_.transport(victim.value), std::move(events),
                                    options, 77)
                    .value();
        link_ = std::make_unique<MemoryLink>(fabric_, hostile.value, fabric_.memory[victim.value]);
    }
    // Every request is answered exactly once.
    ~Game() {
        kept_.clear();
        core_.reset();
        if (asked_ != answered_) std::abort();
    }

    void play() {
        for (int step = 0; step < 200 && !input_.empty(); ++step) {
            turn(input_.byte() % 7);
            fabric_.settle();
        }
    }

  private:
    void turn(unsigned what) {
        switch (what) {
        case 0: {
            const uint64_t where = 4 * (input_.word() % (mailbox::area_bytes / 4));
            return store(where, static_cast<uint32_t>(input_.word()));
        }
        case 1:
            return meet(input_.byte());
        case 2:
            return say(input_.bytes(input_.byte() * 8u));
        case 3:
            return ask(input_.bytes(input_.byte()));
        case 4:
            return fabric_.run(std::chrono::milliseconds(10 * input_.byte()));
        case 5:
            return store(4 * (input_.byte() % 16), static_cast<uint32_t>(input_.word()));
        case 6:
            return link_->wake();
        }
    }
    void store(uint64_t where, uint32_t value) {
        if (!link_->store32(where, value)) std::abort();
    }
    void introduce() {
        if (!mailbox::store(*link_, mailbox::Identity{own_, theirs_, 0})) std::abort();
    }
    // What an honest peer would write when it meets the victim.
    void meet(uint64_t incarnation) {
        own_ = 1000 + incarnation;
        theirs_ = 0;
        store(static_cast<uint64_t>(mailbox::Field::seal), 0);
        for (const auto field : {mailbox::Field::head, mailbox::Field::tail})
            store(static_cast<uint64_t>(field), static_cast<uint32_t>(mailbox::first_count));
        introduce();
        link_->wake();
        fabric_.run(std::chrono::milliseconds(30));
        const auto view = read_mailbox(memory_->areas[victim.value].bytes);
        if (!view) return;
        theirs_ = view->incarnation;
        writer_.reset(own_ ^ (theirs_ << 1 | theirs_ >> 63));
        introduce();
        link_->wake();
    }
    void say(std::span<const std::byte> record) {
        if (const auto view = read_mailbox(memory_->areas[victim.value].bytes)) [[maybe_unused]]
            const auto believed = writer_.consumed(view->tail);
        if (!writer_.write(*link_, record)) std::abort();
        store(static_cast<uint64_t>(mailbox::Field::head), static_cast<uint32_t>(writer_.head()));
        link_->wake();
    }
    void ask(std::span<const std::byte> body) {
        ++asked_;
        core_->request(hostile, 1, body, std::chrono::milliseconds(100), [this](auto) { ++answered_; });
    }

    Input input_;
    int asked_ = 0;
    int answered_ = 0;
    MemoryFabric fabric_{2};
    std::shared_ptr<HostMemory> memory_ = std::make_shared<HostMemory>();
    std::unique_ptr<MemoryLink> link_;
    RingWriter writer_;
    uint64_t own_ = 0;
    uint64_t theirs_ = 0;
    std::vector<ChannelReply> kept_;
    std::unique_ptr<ChannelCore> core_;
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static const bool quiet = [] {
        spdlog::set_level(spdlog::level::off);
        return true;
    }();
    (void)quiet;
    Game(Input({data, size})).play();
    const auto bytes = std::as_bytes(std::span(data, size));
    [[maybe_unused]] const auto message = decode_message(bytes);
    [[maybe_unused]] const auto error = decode_error(bytes);
    return 0;
}
