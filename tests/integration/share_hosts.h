// SPDX-License-Identifier: Apache-2.0
//
// For tests: the manager and the clients of a shared drive, all in this process, over a drive model on a
// thread of its own. A Process can be killed: what it has shown others is gone, who was connected is told,
// and the drive does not hear from it any more.
#pragma once

#include "base/eventually.h"
#include "integration/nvme_drive.h"
#include "share/fabric.h"
#include "share/manager.h"
#include "share/shared_drive.h"

#include <atomic>
#include <map>
#include <mutex>
#include <set>

namespace lanepool::integration {

using sharing::Sender;

// Everything that is shown on the fabric. One lock: callbacks come under it, and only take notes.
class TestNetwork {
  public:
    struct Memory {
        explicit Memory(uint64_t size_bytes)
            : place(static_cast<std::byte*>(std::aligned_alloc(4096, (size_bytes + 4095) / 4096 * 4096)),
                    std::free),
              size(size_bytes) {
            std::memset(place.get(), 0, size_bytes);
        }
        std::unique_ptr<std::byte, decltype(&std::free)> place;
        uint64_t size;
        std::map<uint64_t, sharing::Fabric::OnLost> connected;
    };
    struct Box {
        sharing::Fabric::OnMessage on_message;
        sharing::Fabric::OnGone on_gone;
    };
    using Key = std::pair<uint32_t, uint32_t>; // node, id or number

    std::recursive_mutex mutex;
    std::map<Key, std::shared_ptr<Memory>> memory;
    std::map<Key, std::shared_ptr<Box>> boxes;
    uint64_t next = 1;
};

class TestFabric final : public sharing::Fabric {
  public:
    TestFabric(TestNetwork& network, uint32_t node, std::string user)
        : network_(network), node_(node), user_(std::move(user)) {}
    ~TestFabric() override { die(); }

    uint32_t node() const override { return node_; }

    void die() {
        const std::lock_guard lock(network_.mutex);
        dead_ = true;
        for (const auto& key : std::exchange(memories_, {}))
            take_memory(key);
        for (const auto& key : std::exchange(boxes_, {}))
            network_.boxes.erase(key);
        for (auto& [id, there] : std::exchange(senders_, {}))
            if (auto box = there.lock()) box->on_gone(sender(id));
    }

    Result<std::unique_ptr<sharing::SharedMemory>> create_memory(uint64_t size_bytes,
                                                                 std::optional<uint32_t> id) override {
        const std::lock_guard lock(network_.mutex);
        if (dead_) return fail(Errc::disconnected, "dead");
        const TestNetwork::Key key{node_, id.value_or(static_cast<uint32_t>(network_.next++))};
        if (network_.memory.contains(key)) return fail(Errc::already_exists, "segment {}", key.second);
        auto memory = network_.memory[key] = std::make_shared<TestNetwork::Memory>(size_bytes);
        memories_.insert(key);
        return std::make_unique<Shown>(memory, key.second, [this, key] {
            const std::lock_guard relock(network_.mutex);
            if (memories_.erase(key) > 0) take_memory(key);
        });
    }
    Result<std::unique_ptr<sharing::SharedMemory>>
    connect_memory(uint32_t node, uint32_t id, uint64_t size_bytes, io::Duration, OnLost on_lost) override {
        const std::lock_guard lock(network_.mutex);
        if (dead_) return fail(Errc::disconnected, "dead");
        const auto found = network_.memory.find({node, id});
        if (found == network_.memory.end()) return fail(Errc::not_found, "no segment {}", id);
        if (found->second->size < size_bytes) return fail(Errc::protocol, "smaller");
        const uint64_t connection = network_.next++;
        found->second->connected[connection] = std::move(on_lost);
        return std::make_unique<Shown>(found->second, id, [this, memory = found->second, connection] {
            const std::lock_guard relock(network_.mutex);
            memory->connected.erase(connection);
        });
    }
    Result<std::unique_ptr<sharing::Inbox>> create_inbox(std::optional<uint32_t> number, OnMessage on_message,
                                                         OnGone on_gone) override {
        const std::lock_guard lock(network_.mutex);
        if (dead_) return fail(Errc::disconnected, "dead");
        const TestNetwork::Key key{node_, number.value_or(static_cast<uint32_t>(network_.next++))};
        if (network_.boxes.contains(key)) return fail(Errc::already_exists, "interrupt {}", key.second);
        network_.boxes[key] =
            std::make_shared<TestNetwork::Box>(TestNetwork::Box{std::move(on_message), std::move(on_gone)});
        boxes_.insert(key);
        return std::make_unique<Receiver>(*this, key);
    }
    Result<std::unique_ptr<sharing::Outbox>> connect_inbox(uint32_t node, uint32_t number,
                                                           io::Duration) override {
        const std::lock_guard lock(network_.mutex);
        if (dead_) return fail(Errc::disconnected, "dead");
        const auto found = network_.boxes.find({node, number});
        if (found == network_.boxes.end()) return fail(Errc::not_found, "no interrupt {}", number);
        const uint64_t id = network_.next++;
        senders_[id] = found->second;
        return std::make_unique<Talker>(*this, found->second, id);
    }

  private:
    struct Shown final : sharing::SharedMemory {
        Shown(std::shared_ptr<TestNetwork::Memory> m, uint32_t i, std::function<void()> e)
            : memory(std::move(m)), number(i), end(std::move(e)) {}
        ~Shown() override { end(); }
        std::span<std::byte> bytes() override { return {memory->place.get(), memory->size}; }
        uint32_t id() const override { return number; }
        std::shared_ptr<TestNetwork::Memory> memory;
        uint32_t number;
        std::function<void()> end;
    };
    struct Receiver final : sharing::Inbox {
        Receiver(TestFabric& f, TestNetwork::Key k) : fabric(f), key(k) {}
        ~Receiver() override {
            const std::lock_guard lock(fabric.network_.mutex);
            if (fabric.boxes_.erase(key) > 0) fabric.network_.boxes.erase(key);
        }
        uint32_t number() const override { return key.second; }
        TestFabric& fabric;
        TestNetwork::Key key;
    };
    struct Talker final : sharing::Outbox {
        Talker(TestFabric& f, std::weak_ptr<TestNetwork::Box> b, uint64_t i)
            : fabric(f), box(std::move(b)), id(i) {}
        ~Talker() override {
            const std::lock_guard lock(fabric.network_.mutex);
            if (fabric.senders_.erase(id) == 0) return;
            if (auto there = box.lock()) there->on_gone(fabric.sender(id));
        }
        Result<> send(std::span<const std::byte> message) override {
            const std::lock_guard lock(fabric.network_.mutex);
            const auto there = box.lock();
            if (!there || fabric.dead_) return fail(Errc::disconnected, "nobody is there");
            there->on_message(fabric.sender(id), message);
            return {};
        }
        TestFabric& fabric;
        std::weak_ptr<TestNetwork::Box> box;
        uint64_t id;
    };

    Sender sender(uint64_t id) const { return {id, node_, fmt::format("host{}", node_), user_}; }
    void take_memory(const TestNetwork::Key& key) {
        const auto found = network_.memory.find(key);
        if (found == network_.memory.end()) return;
        const auto memory = found->second;
        network_.memory.erase(found);
        for (auto& [id, on_lost] : std::exchange(memory->connected, {}))
            on_lost(Error(Errc::disconnected, "its owner has gone"));
    }

    TestNetwork& network_;
    uint32_t node_;
    std::string user_;
    bool dead_ = false;
    std::set<TestNetwork::Key> memories_;
    std::set<TestNetwork::Key> boxes_;
    std::map<uint64_t, std::weak_ptr<TestNetwork::Box>> senders_;
};

// One loan of a drive that several have: its function as each of them sees it, until he dies.
class TestLoan final : public sharing::BorrowedDrive {
  public:
    TestLoan(pci::Function& function, nvme::DmaAllocator& allocator)
        : view_(function), allocator_(allocator) {}

    pci::Function& function() override { return view_; }
    nvme::DmaAllocator& allocator() override { return allocator_; }
    uint32_t node() const override { return 0; }
    std::optional<Error> lost() const override {
        const std::lock_guard lock(mutex_);
        return lost_;
    }
    void die() { view_.dead = true; }
    void end(Error why) {
        const std::lock_guard lock(mutex_);
        lost_ = std::move(why);
    }

  private:
    struct View final : pci::Function {
        explicit View(pci::Function& f) : function(f) {}
        const pci::RegionInfo& region(pci::Region index) const override { return function.region(index); }
        const pci::IrqInfo& irq(pci::Irq index) const override { return function.irq(index); }
        bool can_reset() const override { return false; }
        Result<> read(pci::Region region, uint64_t offset, std::span<std::byte> data) override {
            if (dead) return fail(Errc::disconnected, "dead");
            return function.read(region, offset, data);
        }
        Result<> write(pci::Region region, uint64_t offset, std::span<const std::byte> data) override {
            if (dead) return fail(Errc::disconnected, "dead");
            // One of several does not switch the bus mastering of all off.
            if (region == pci::Region::config) return {};
            return function.write(region, offset, data);
        }
        Result<std::vector<pci::Extent>> memory(pci::Region region, uint64_t offset, uint64_t size) override {
            return function.memory(region, offset, size);
        }
        Result<UniqueFd> event(pci::Region, uint64_t) override { return fail(Errc::not_supported, "none"); }
        Result<pci::DmaMapping> map_dma(Range<Iova>, const MemoryRef&, Access) override {
            return fail(Errc::not_supported, "by the allocator");
        }
        Result<pci::DmaMapping> map_dma(Range<Iova>, std::shared_ptr<pci::DmaTarget>, Access) override {
            return fail(Errc::not_supported, "by the allocator");
        }
        Result<pci::DmaMapping> map_dma_event(Iova, const UniqueFd&) override {
            return fail(Errc::not_supported, "none");
        }
        Result<> unmap_dma(Range<Iova>) override { return fail(Errc::not_supported, "by the allocator"); }
        Result<> set_irqs(pci::Irq, uint32_t, std::span<const int>) override {
            return fail(Errc::not_supported, "none");
        }
        Result<> mask_irq(pci::Irq, uint32_t, bool) override { return fail(Errc::not_supported, "none"); }
        Result<> reset() override { return fail(Errc::not_supported, "it is shared"); }
        bool fresh_memory_on_reset() const override { return function.fresh_memory_on_reset(); }
        void on_disconnect(std::function<void()>) override {}
        pci::Function& function;
        std::atomic<bool> dead{false};
    };
    View view_;
    nvme::DmaAllocator& allocator_;
    mutable std::mutex mutex_;
    std::optional<Error> lost_;
};

// The hosts and their one drive, which sits in node 0.
class SharedHosts {
  public:
    static constexpr uint64_t fdid = 0x80100;

    explicit SharedHosts(uint64_t drive_bytes)
        : drive(drive_bytes), function(drive.connect()), allocator(*function) {
        // As the drive's loans leave it.
        EXPECT_TRUE(pci::write16(*function, pci::Region::config, 4, 0x406));
    }

    struct Process {
        Process(SharedHosts& hosts, uint32_t node, const std::string& user)
            : fabric(hosts.network, node, user), loan(*hosts.function, hosts.allocator) {}
        // As by SIGKILL: nothing that it does from now on reaches anybody.
        void kill() {
            loan.die();
            fabric.die();
        }
        TestFabric fabric;
        TestLoan loan;
    };

    NvmeDrive drive;
    std::unique_ptr<pci::Function> function;
    nvme::FunctionDmaAllocator allocator;
    TestNetwork network;
};

// A manager, served on a thread of its own.
class ManagerProcess {
  public:
    ManagerProcess(SharedHosts& hosts, sharing::ManagerOptions options) : process(hosts, 0, "root") {
        auto created = sharing::Manager::create(process.fabric, process.loan, SharedHosts::fdid,
                                                io::system_clock(), std::move(options), [] {});
        if (!created) {
            error = created.error();
            return;
        }
        manager = std::move(*created);
        thread_ = std::thread([this] {
            while (!stop_) {
                const std::lock_guard lock(mutex_);
                if (auto polled = manager->poll(); !polled) {
                    error = polled.error();
                    return;
                }
                std::this_thread::sleep_for(std::chrono::microseconds(200));
            }
        });
    }
    ~ManagerProcess() { end(); }
    void kill() {
        process.kill();
        end();
    }
    // In order.
    void end() {
        stop_ = true;
        if (thread_.joinable()) thread_.join();
        manager.reset();
    }
    sharing::Manager::Status status() {
        const std::lock_guard lock(mutex_);
        return manager->status();
    }

    SharedHosts::Process process;
    std::unique_ptr<sharing::Manager> manager;
    std::optional<Error> error;

  private:
    std::mutex mutex_;
    std::atomic<bool> stop_{false};
    std::thread thread_;
};

} // namespace lanepool::integration
