// SPDX-License-Identifier: Apache-2.0
//
// A fabric with hosts, a device and who lends and borrows it, all in this process: each host with a loop of
// its own, everything between them over the sockets and the switch that separate hosts use.
#pragma once

#include "fabric/switch.h"
#include "integration/card_function.h"
#include "integration/copy_engine.h"
#include "ntb/adapter.h"
#include "ntb/channel.h"
#include "smartio/borrower.h"
#include "smartio/lender.h"
#include "smartio/loan_protocol.h"
#include "vfio_user/client.h"
#include "vfio_user/server.h"
#include "vfio_user/test_function.h"

#include <atomic>
#include <functional>
#include <future>
#include <gtest/gtest.h>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

namespace lanepool::test {

using vfio_user::testing::LoopThread;

template <class T>
T must(Result<T> result) {
    if (!result) throw std::runtime_error(result.error().message());
    if constexpr (!std::is_void_v<T>) return std::move(*result);
}

// Starts something on LOOP's thread that answers later, and waits for its answer.
inline Result<> await(LoopThread& thread, const std::function<void(std::function<void(Result<>)>)>& start) {
    const auto answer = std::make_shared<std::promise<Result<>>>();
    auto future = answer->get_future();
    thread.run([&] { start([answer](Result<> result) { answer->set_value(std::move(result)); }); });
    if (future.wait_for(std::chrono::seconds(20)) != std::future_status::ready)
        return fail(Errc::timeout, "no answer at all");
    return future.get();
}

// The switch with a socket for each port.
class Fabric {
  public:
    explicit Fabric(const TemporaryFolder& folder, unsigned ports) : folder_(folder) {
        thread_.run([&] {
            fabric::SwitchOptions options;
            options.ports = ports;
            switch_ = must(fabric::Switch::create(thread_.loop(), options));
            for (unsigned i = 0; i < ports; ++i)
                servers_.push_back(
                    must(vfio_user::Server::create(thread_.loop(), socket(i), switch_->port(i))));
        });
    }
    ~Fabric() {
        thread_.run([&] {
            servers_.clear();
            switch_.reset();
        });
    }
    std::filesystem::path socket(unsigned port) const {
        return folder_ / ("port" + std::to_string(port)).c_str();
    }
    // Accesses that the switch handled by message, of any port.
    uint64_t messages() const {
        uint64_t sum = 0;
        for (const auto& server : servers_)
            for (const auto* count : {&server->stats().region_reads, &server->stats().region_writes,
                                      &server->stats().dma_reads, &server->stats().dma_writes})
                sum += *count;
        return sum;
    }

  private:
    const TemporaryFolder& folder_;
    LoopThread thread_;
    std::unique_ptr<fabric::Switch> switch_;
    std::vector<std::unique_ptr<vfio_user::Server>> servers_;
};

// A host's agent, as far as lending needs one.
class Host {
  public:
    Host(Fabric& fabric, unsigned port, bool is_card = false) {
        ntb::AdapterEvents events;
        events.message = [this](ntb::Partition from, uint32_t message) {
            const std::lock_guard lock(mutex_);
            if (channel_) channel_->adapter_message(from, message);
        };
        events.link_changed = [this] {
            const std::lock_guard lock(mutex_);
            if (channel_) channel_->link_changed();
        };
        auto function = must(vfio_user::connect(fabric.socket(port)));
        if (is_card) function = std::make_unique<integration::CardFunction>(std::move(function));
        adapter_ = must(ntb::Adapter::create(std::move(function), std::move(events)));
        live();
    }
    // Begins a channel, at first and after die().
    void live() {
        thread.run([&] {
            auto channel =
                must(ntb::Channel::create(thread.loop(), *adapter_,
                                          {[this](auto from, auto kind, auto body, auto reply) {
                                               request(from, kind, std::move(body), std::move(reply));
                                           },
                                           [this](auto peer, bool alive) {
                                               if (peer_changed) peer_changed(peer, alive);
                                           }}));
            const std::lock_guard lock(mutex_);
            channel_ = std::move(channel);
        });
    }
    ~Host() {
        die();
        adapter_.reset(); // its threads call here
    }
    // Ends the channel without a word to anybody.
    void die() {
        thread.run([&] {
            std::unique_ptr<ntb::Channel> channel;
            const std::lock_guard lock(mutex_);
            channel.swap(channel_);
        });
    }

    ntb::Adapter& adapter() { return *adapter_; }
    ntb::Channel& channel() { return *channel_; }
    ntb::Partition partition() const { return adapter_->partition(); }
    bool sees(const Host& other) {
        return thread.run([&] { return channel_->alive(other.partition()); });
    }

    std::function<void(ntb::Partition, bool)> peer_changed; // on the loop's thread
    std::map<uint64_t, smartio::Lender*> lenders;           // by fdid, on the loop's thread
    // Answers in place of the lender where it says something. On the loop's thread.
    std::function<std::optional<std::vector<std::byte>>(uint16_t kind)> lie;
    // Takes what is not a loan's. On the loop's thread.
    std::function<void(ntb::Partition from, uint16_t kind, std::vector<std::byte> body,
                       ntb::ChannelReply reply)>
        applications;
    LoopThread thread;

  private:
    void request(ntb::Partition from, uint16_t kind, std::vector<std::byte> body, ntb::ChannelReply reply) {
        if (applications && kind > smartio::last_loan_kind)
            return applications(from, kind, std::move(body), std::move(reply));
        if (lie)
            if (auto answer = lie(kind)) return reply(std::move(*answer));
        const auto key = smartio::decode_key(body);
        const auto found = key ? lenders.find(key->fdid) : lenders.end();
        if (found == lenders.end()) return reply(fail(Errc::not_found, "no such device"));
        found->second->serve(from, kind, std::move(body), std::move(reply));
    }

    std::mutex mutex_; // the adapter calls from its own thread
    std::unique_ptr<ntb::Adapter> adapter_;
    std::unique_ptr<ntb::Channel> channel_;
};

class MemoryEpochs final : public smartio::EpochStore {
  public:
    Result<uint64_t> highest() override { return highest_.load(); }
    Result<> raise(uint64_t epoch) override {
        if (full) return fail(Errc::no_space, "the disk is full");
        highest_ = epoch;
        return {};
    }
    std::atomic<bool> full{false};

  private:
    std::atomic<uint64_t> highest_{0};
};

inline constexpr uint64_t test_fdid = 0x80001;

// A copy engine on a socket.
class ServedEngine {
  public:
    explicit ServedEngine(const TemporaryFolder& folder, bool fresh_memory = true)
        : path_(folder / "device") {
        vfio_user::ServerOptions options;
        options.fresh_memory_on_reset = fresh_memory;
        options.reply_timeout = std::chrono::minutes(1); // a hanging device hangs
        thread.run([&] {
            engine = std::make_unique<CopyEngine>(thread.loop());
            server = must(vfio_user::Server::create(thread.loop(), path_, *engine, options));
        });
    }
    ~ServedEngine() {
        thread.run([&] {
            server.reset();
            engine.reset();
        });
    }
    const std::filesystem::path& path() const { return path_; }
    template <class F>
    auto run(F work) {
        return thread.run([&] { return work(*engine); });
    }

    LoopThread thread;
    std::unique_ptr<CopyEngine> engine;
    std::unique_ptr<vfio_user::Server> server;

  private:
    std::filesystem::path path_;
};

// A lender and its device on HOST.
class Lending {
  public:
    Lending(Host& host, const std::filesystem::path& device,
            io::Duration device_timeout = std::chrono::seconds(1), smartio::LenderOptions options = {})
        : Lending(host, device, device_timeout, options, own_class()) {}
    Lending(Host& host, const std::filesystem::path& device, io::Duration device_timeout,
            smartio::LenderOptions options, smartio::DeviceClass& device_class)
        : Lending(host, must(vfio_user::connect(device, {device_timeout})), options, device_class) {}
    Lending(Host& host, std::unique_ptr<pci::Function> device, smartio::LenderOptions options,
            smartio::DeviceClass& device_class)
        : host_(host), device_(std::move(device)) {
        host_.thread.run([&] {
            lender_ =
                must(smartio::Lender::create({&host_.thread.loop(), &host_.adapter(), device_.get(),
                                              &device_class, &epochs, test_fdid, std::nullopt, options}));
            host_.lenders[test_fdid] = lender_.get();
        });
    }
    ~Lending() {
        host_.thread.run([&] {
            host_.lenders.erase(test_fdid);
            lender_.reset();
        });
    }

    Result<> reset() {
        return step([](auto& lender, auto done) { lender.reset(done); });
    }
    Result<> wipe(io::Duration deadline = std::chrono::seconds(1)) {
        return step([deadline](auto& lender, auto done) { lender.wipe(deadline, done); });
    }
    Result<smartio::DeviceIdentity> identify() {
        const auto identity = std::make_shared<smartio::DeviceIdentity>();
        TRY(step([identity](auto& lender, auto done) {
            lender.identify([identity, done](Result<smartio::DeviceIdentity> result) {
                if (result) *identity = *result;
                done(result.map([](auto&&) {}));
            });
        }));
        return *identity;
    }
    Result<> prepare(uint64_t loan, uint64_t epoch, const Host& borrower, bool shared = false) {
        return step([&](auto& lender, auto done) {
            lender.prepare(loan, epoch, borrower.partition(), shared, done);
        });
    }
    Result<> expel(uint64_t loan, uint64_t epoch) {
        return step([&](auto& lender, auto done) { lender.expel(loan, epoch, done); });
    }
    Result<> cut(uint64_t epoch) {
        return step([&](auto& lender, auto done) { lender.cut(epoch, done); });
    }
    smartio::LenderStatus status() {
        return host_.thread.run([&] { return lender_->status(); });
    }
    smartio::LenderState state() { return status().state; }

    MemoryEpochs epochs;

  private:
    Result<> step(const std::function<void(smartio::Lender&, smartio::Lender::Done)>& start) {
        return await(host_.thread, [&](auto done) { start(*lender_, done); });
    }

    static smartio::DeviceClass& own_class() {
        static CopyEngineClass copy_engine; // without state
        return copy_engine;
    }

    Host& host_;
    std::unique_ptr<pci::Function> device_;
    std::unique_ptr<smartio::Lender> lender_;
};

// A borrower on HOST. Call attach() first.
class Borrowing {
  public:
    Borrowing(Host& host, const Host& lender, const TemporaryFolder& folder, smartio::LoanKey key)
        : host_(host), lender_(lender.partition()), key_(key),
          socket_(folder / ("loan" + std::to_string(key.loan)).c_str()) {}
    ~Borrowing() {
        host_.thread.run([&] { borrower_.reset(); });
    }

    Result<> attach() {
        return await(host_.thread, [&](auto done) {
            smartio::BorrowerEvents events;
            events.attached = done;
            events.client_changed = [this](bool connected) { connected ? ++connects : ++disconnects; };
            events.driver_ready = [this] { ++driver_ready; };
            events.failed = [this](const Error& why) {
                const std::lock_guard lock(mutex_);
                failure_ = why;
            };
            borrower_ = must(smartio::Borrower::attach(
                {&host_.thread.loop(), &host_.adapter(), &host_.channel(), lender_, key_, socket_, {}},
                events));
        });
    }
    Result<> detach() {
        return await(host_.thread, [&](auto done) { borrower_->detach(done); });
    }
    void lender_lost() {
        host_.thread.run([&] { borrower_->lender_lost(); });
    }
    smartio::BorrowerStats stats() {
        return host_.thread.run([&] { return borrower_->stats(); });
    }
    uint64_t served_accesses() {
        return host_.thread.run([&] {
            const auto& stats = *borrower_->server_stats();
            return stats.region_reads + stats.region_writes + stats.dma_reads + stats.dma_writes +
                   stats.other;
        });
    }
    std::optional<Error> failure() {
        const std::lock_guard lock(mutex_);
        return failure_;
    }
    const std::filesystem::path& socket() const { return socket_; }

    std::atomic<int> connects{0};
    std::atomic<int> disconnects{0};
    std::atomic<int> driver_ready{0};

  private:
    Host& host_;
    const ntb::Partition lender_;
    const smartio::LoanKey key_;
    const std::filesystem::path socket_;
    std::mutex mutex_;
    std::optional<Error> failure_;
    std::unique_ptr<smartio::Borrower> borrower_;
};

// What a guest's driver does with the device: maps its RAM, an interrupt, the doorbell page.
class Guest {
  public:
    static constexpr uint64_t ram_bytes = 1 << 20;
    static constexpr uint64_t ram_at = 0x100000; // guest physical

    explicit Guest(const std::filesystem::path& socket, bool extension = false)
        : device(must(vfio_user::connect(socket, {std::chrono::seconds(5), extension}))),
          ram_memory{share(must(create_memory("guest", ram_bytes))), 0, ram_bytes},
          ram(must(Mapping::create(ram_memory))), interrupt(must(create_eventfd())) {}

    // Everything that a driver sets up.
    void drive() {
        map_ram();
        const std::array fds{interrupt.get()};
        must(device->set_irqs(pci::Irq::msi, 0, fds));
        must(pci::write16(*device, pci::Region::config, pci::config::command,
                          pci::command::memory_space | pci::command::bus_master));
        map_doorbell();
    }
    void map_ram() {
        ram_mapping =
            must(device->map_dma(*Range<Iova>::create({ram_at}, ram_bytes), ram_memory, Access::read_write));
    }
    void map_doorbell() { doorbell = must(Mapping::create(doorbell_memory())); }
    MemoryRef doorbell_memory() {
        auto extents =
            must(device->memory(pci::Region::bar0, copy_engine::doorbell, copy_engine::doorbell_bytes));
        if (extents.size() != 1) throw std::runtime_error("the doorbell page cannot be mapped");
        return extents[0].memory;
    }
    void set_registers(uint64_t from, uint64_t to, uint32_t bytes) {
        must(pci::write64(*device, pci::Region::bar0, copy_engine::source, ram_at + from));
        must(pci::write64(*device, pci::Region::bar0, copy_engine::destination, ram_at + to));
        must(pci::write32(*device, pci::Region::bar0, copy_engine::size, bytes));
    }
    // One copy by the registers that are set; whether the interrupt came.
    bool ring() {
        ++rung;
        std::memcpy(doorbell.data(), &rung, sizeof rung);
        return eventually([&] { return drain(interrupt) != 0; });
    }
    uint32_t copies() { return must(pci::read32(*device, pci::Region::bar0, copy_engine::copies)); }
    uint32_t failures() { return must(pci::read32(*device, pci::Region::bar0, copy_engine::failures)); }

    std::unique_ptr<pci::Function> device;
    MemoryRef ram_memory;
    Mapping ram;
    UniqueFd interrupt;
    pci::DmaMapping ram_mapping;
    Mapping doorbell;
    uint32_t rung = 0;
};

} // namespace lanepool::test
