// SPDX-License-Identifier: Apache-2.0
//
// A device of a whole host, reached by kernel VFIO, lent to a program on another host. Runs in both at once,
// as ntb_host_test does: "ntb_lend_test serve" lends what QEMU has for it, the tests borrow
// them.
#include "hosts/ntb_hosts.h"

#include "ntb/event_words.h"
#include "pci/config_space.h"
#include "smartio/direct_device.h"
#include "smartio/lender.h"
#include "smartio/msix_capability.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lanepool::hosts {
namespace {

constexpr uint64_t edu = 0x80001;
constexpr uint64_t drive = 0x80002;
constexpr uint64_t memory_device = 0x80003;
enum Kind : uint16_t { lend = 1, cut, leftovers, stop };

Said about(uint64_t fdid, uint64_t epoch) { return {fdid, 0, epoch}; }

class Epochs final : public smartio::EpochStore {
  public:
    Result<uint64_t> highest() override { return highest_.load(); }
    Result<> raise(uint64_t epoch) override {
        highest_ = epoch;
        return {};
    }

  private:
    std::atomic<uint64_t> highest_{0};
};

class AnyDevice final : public smartio::DeviceClass {
  public:
    Result<smartio::DeviceIdentity> identify(pci::Function&) override { return smartio::DeviceIdentity{}; }
    Result<> verify_reset(pci::Function&) override { return {}; }
    Result<> wipe(pci::Function&, io::Duration) override { return {}; }
};

// ---- The one that lends

class Server {
  public:
    Server()
        : host_([this](Partition from, uint16_t kind, std::vector<std::byte> body, ntb::ChannelReply reply) {
              serve(from, kind, std::move(body), std::move(reply));
          }) {
        add(edu, "EDU");
        add(drive, "DRIVE");
        add(memory_device, "MEMORY");
        host_.run([this] { ready_ = true; });
    }
    ~Server() {
        host_.run([this] {
            for (auto& [fdid, lent] : lent_)
                lent.lender.reset();
        });
    }
    void run() { stop_.get_future().get(); }

  private:
    struct Lent {
        std::unique_ptr<pci::Function> device;
        Epochs epochs;
        std::unique_ptr<smartio::Lender> lender; // on the loop's thread
    };
    void add(uint64_t fdid, const char* name) {
        auto& lent = lent_[fdid];
        lent.device = card(name);
        smartio::LenderSetup setup;
        setup.loop = &host_.loop();
        setup.adapter = host_.adapter.get();
        setup.device = lent.device.get();
        setup.device_class = &class_;
        setup.epochs = &lent.epochs;
        setup.fdid = fdid;
        setup.requester = pci::requester_of(pci::parse_address(environment(name)).value());
        host_.run([&] { lent.lender = smartio::Lender::create(std::move(setup)).value(); });
    }

    // What is answered later is answered with nothing.
    using Reply = std::shared_ptr<ntb::ChannelReply>;
    static smartio::Lender::Done answer(const Reply& reply) {
        return [reply](const Result<>& done) { (*reply)(done.map([] { return std::vector<std::byte>{}; })); };
    }
    void serve(Partition from, uint16_t kind, std::vector<std::byte> body, ntb::ChannelReply to) {
        if (!ready_) return to(fail(Errc::unavailable, "not yet"));
        if (kind >= smartio::first_loan_kind) {
            const auto key = smartio::decode_key(body).value();
            return lent_.at(key.fdid).lender->serve(from, kind, std::move(body), std::move(to));
        }
        const auto reply = std::make_shared<ntb::ChannelReply>(std::move(to));
        const uint64_t epoch = said(body).value;
        switch (kind) {
        case lend: {
            auto& lender = *lent_.at(said(body).address).lender;
            return lender.reset([reply, epoch, from, &lender](const Result<>& reset) {
                if (!reset) return answer(reply)(reset);
                lender.prepare(epoch, epoch, from, false, answer(reply));
            });
        }
        case cut:
            return lent_.at(said(body).address).lender->cut(epoch, answer(reply));
        case leftovers:
            return (*reply)(bytes_of({0, 0, host_.adapter->capacity().windows_free}));
        default:
            (*reply)(std::vector<std::byte>{});
            host_.soon([this] { stop_.set_value(); });
        }
    }

    std::promise<void> stop_;
    AnyDevice class_;
    std::map<uint64_t, Lent> lent_; // by fdid; constant once ready
    bool ready_ = false;            // on the loop's thread
    Host host_;
};

// ---- The one that borrows

class Borrowing : public testing::Environment {
  public:
    void SetUp() override {
        host = std::make_unique<Host>([](Partition, uint16_t, std::vector<std::byte>, ntb::ChannelReply) {});
        ASSERT_TRUE(host->wait_for_peer()) << "the other host is not heard of";
    }
    void TearDown() override {
        // It may be gone before its answer has arrived.
        if (host) [[maybe_unused]]
            const auto ignored = host->try_to_ask(stop, {});
        host.reset();
    }
    static std::unique_ptr<Host> host;
    static uint64_t epoch;
};
std::unique_ptr<Host> Borrowing::host;
uint64_t Borrowing::epoch = 0;

class NtbLending : public testing::Test {
  protected:
    explicit NtbLending(uint64_t fdid = edu, bool enable = true) : fdid_(fdid), enable_(enable) {}
    static Host& host() { return *Borrowing::host; }
    // Only where this host's adapter is one.
    static bool is_card() { return !host().adapter->function().hands_out_memory(); }

    void SetUp() override { borrow(); }
    void borrow() {
        ++epoch_;
        // The server begins its lenders after its channel.
        Result<std::vector<std::byte>> lent;
        do
            lent = host().try_to_ask(lend, bytes_of(about(fdid_, epoch_)));
        while (!lent && lent.error().code() == Errc::unavailable);
        ASSERT_TRUE(lent) << lent.error().message();
        const auto attached = wait([this](auto done) {
            smartio::DirectDeviceSetup setup;
            setup.loop = &host().loop();
            setup.adapter = host().adapter.get();
            setup.channel = &host().channel();
            setup.lender = Host::peer();
            setup.key = {fdid_, epoch_, epoch_};
            setup.enable = enable_;
            device_ = smartio::DirectDevice::attach(std::move(setup), {done, [](const Error&) {}}).value();
        });
        ASSERT_TRUE(attached) << attached.error().message();
    }
    void TearDown() override { give_back(); }
    void give_back() {
        if (device_) {
            EXPECT_TRUE(wait([this](auto done) { device_->detach(done); }));
        }
        host().run([this] { device_.reset(); });
        EXPECT_TRUE(host().try_to_ask(cut, bytes_of(about(fdid_, epoch_))));
    }
    // Starts something on the loop's thread that answers later, and waits for its answer.
    template <class T = void, class Start>
    static Result<T> wait(Start start) {
        const auto answer = std::make_shared<std::promise<Result<T>>>();
        auto future = answer->get_future();
        host().run([&] { start([answer](Result<T> result) { answer->set_value(std::move(result)); }); });
        return future.get();
    }
    template <class T>
    T get(uint64_t offset) {
        const auto bytes = wait<std::vector<std::byte>>([&](auto done) {
                               device_->read(0, offset, sizeof(T), done);
                           }).value();
        T value;
        std::memcpy(&value, bytes.data(), sizeof value);
        return value;
    }
    template <class T>
    void put(uint64_t offset, T value) {
        EXPECT_TRUE(
            wait([&](auto done) { device_->write(0, offset, std::as_bytes(std::span(&value, 1)), done); }));
    }
    // QEMU's teaching device (docs/specs/edu.rst there): its DMA engine copies from or to 4 KiB of its own.
    void transfer(uint64_t from, uint64_t to, uint64_t size_bytes, uint64_t direction) {
        put<uint64_t>(0x80, from);
        put<uint64_t>(0x88, to);
        put<uint64_t>(0x90, size_bytes);
        put<uint64_t>(0x98, 1 | direction);
        while (get<uint64_t>(0x98) & 1)
            std::this_thread::sleep_for(2ms);
    }
    static constexpr uint64_t buffer = 0x40000;
    static constexpr uint64_t from_device = 2;

    const uint64_t fdid_;
    const bool enable_;
    uint64_t& epoch_ = Borrowing::epoch;
    std::unique_ptr<smartio::DirectDevice> device_;
};

TEST_F(NtbLending, RegistersOfAllWidths) {
    ASSERT_EQ(device_->bars()[0].size_bytes, 1u << 20);
    EXPECT_TRUE(device_->bars()[0].memory.empty());
    EXPECT_EQ(get<uint32_t>(0), 0x010000edu);
    for (uint32_t i = 0; i < 10; ++i) {
        put<uint32_t>(4, 0x1000'0000 + i);
        ASSERT_EQ(get<uint32_t>(4), ~(0x1000'0000u + i));
    }
    put<uint64_t>(0x88, 0x1234'5678'9abc'def0);
    EXPECT_EQ(get<uint64_t>(0x88), 0x1234'5678'9abc'def0u);
}

TEST_F(NtbLending, InterruptsCross) {
    ASSERT_EQ(device_->interrupts(), 1u);
    const auto eventfd = create_eventfd().value();
    ASSERT_TRUE(wait([&](auto done) { device_->set_interrupt(0, eventfd.duplicate().value(), done); }));
    for (uint32_t i = 0; i < 10; ++i) {
        put<uint32_t>(0x60, 1); // raise
        ASSERT_TRUE(arrives(eventfd)) << i;
        put<uint32_t>(0x64, 1); // acknowledge
    }
    ASSERT_TRUE(wait([&](auto done) { device_->set_interrupt(0, {}, done); }));
    put<uint32_t>(0x60, 1);
    put<uint32_t>(0x64, 1);
    EXPECT_EQ(get<uint32_t>(0x24), 0u);
    EXPECT_EQ(drain(eventfd), 0u);
}

TEST_F(NtbLending, ItReachesMemoryHereAsLongAsItIsPlaced) {
    const MemoryRef memory{share(create_memory("lent", 4 * page).value()), 0, 4 * page};
    const auto bytes = Mapping::create(memory).value();
    std::memset(bytes.data(), 0x11, 4 * page);
    const auto exported = host().adapter->export_memory(memory, Access::read_write).value();
    const auto iova = wait<Iova>([&](auto done) {
                          device_->place(host().adapter->partition(), exported.address(), 2 * page,
                                         Access::read_write, done);
                      }).value();
    std::memset(bytes.data() + 256, 0xa5, 128);
    transfer(iova.value + 256, buffer, 128, 0);
    transfer(buffer, iova.value + page, 128, from_device);
    const auto all = [&](uint64_t from, uint64_t to, uint8_t value) {
        return std::all_of(bytes.data() + from, bytes.data() + to,
                           [&](std::byte byte) { return std::to_integer<uint8_t>(byte) == value; });
    };
    EXPECT_TRUE(all(page, page + 128, 0xa5) && all(page + 128, 4 * page, 0x11));
    // Beyond what was placed, and no address of its own at all.
    transfer(buffer, iova.value + 2 * page, 128, from_device);
    transfer(buffer, exported.address().value + 2 * page, 128, from_device);
    EXPECT_TRUE(all(page + 128, 4 * page, 0x11));
    ASSERT_TRUE(wait([&](auto done) { device_->unmap(iova, done); }));
    std::memset(bytes.data() + page, 0x11, page);
    transfer(buffer, iova.value + page, 128, from_device);
    EXPECT_TRUE(all(page, 4 * page, 0x11));
}

TEST_F(NtbLending, AfterACutNothingIsLeft) {
    const auto& bar = device_->bars()[0];
    const auto kept = host().adapter->open_window(bar.target).value();
    const auto word = [&] {
        le32 value;
        EXPECT_TRUE(kept.read(0, std::as_writable_bytes(std::span(&value, 1))));
        return uint32_t{value};
    };
    EXPECT_EQ(word(), 0x010000edu);
    const auto eventfd = create_eventfd().value();
    ASSERT_TRUE(wait([&](auto done) { device_->set_interrupt(0, eventfd.duplicate().value(), done); }));
    ASSERT_TRUE(host().try_to_ask(cut, bytes_of(about(fdid_, epoch_))));
    EXPECT_EQ(word(), 0xffff'ffffu);
    host().run([this] { device_.reset(); });
    // The next loan begins with all windows free.
    const uint64_t free = host().ask(leftovers, Said{}).value;
    ++epoch_;
    ASSERT_TRUE(host().try_to_ask(lend, bytes_of(about(fdid_, epoch_))));
    EXPECT_EQ(host().ask(leftovers, Said{}).value, free);
    EXPECT_EQ(word(), 0xffff'ffffu) << "a window that was kept leads to nothing else";
    EXPECT_EQ(drain(eventfd), 0u);
}

// ---- As a host's own kernel uses it

// Of this host's adapter, mapped as the kernel maps what a driver asks for.
TEST_F(NtbLending, ABarIsAPartOfTheCard) {
    const auto& bar = device_->bars()[0];
    ASSERT_EQ(bar.card_memory.size_bytes, is_card() ? bar.size_bytes : 0);
    if (!is_card()) return;
    EXPECT_EQ(bar.card_memory.offset_bytes % bar.size_bytes, 0u);
    const auto mapped = Mapping::create(bar.card_memory).value();
    const auto at = [&](uint64_t offset) -> volatile uint32_t& {
        return *reinterpret_cast<volatile uint32_t*>(mapped.data() + offset);
    };
    EXPECT_EQ(at(0), 0x010000edu);
    at(4) = 0x12345678;
    EXPECT_EQ(at(4), ~0x12345678u);
}

// Its reset is the bus's: it has none of its function's own.
TEST_F(NtbLending, AfterAResetAllIsWhereItWas) {
    const auto eventfd = create_eventfd().value();
    std::vector<UniqueFd> all;
    all.push_back(eventfd.duplicate().value());
    ASSERT_TRUE(wait([&](auto done) { device_->set_interrupts(std::move(all), done); }));
    const MemoryRef memory{share(create_memory("lent", page).value()), 0, page};
    const auto exported = host().adapter->export_memory(memory, Access::read_write).value();
    const auto range = Range<Iova>::create({16 << 20}, page).value();
    ASSERT_TRUE(wait([&](auto done) { device_->map(range, exported.address(), Access::read_write, done); }));
    const auto config = wait<std::vector<std::byte>>([&](auto done) { device_->reset(done); });
    ASSERT_TRUE(config) << config.error().message();
    EXPECT_EQ(pci::get16(*config, pci::config::command) & pci::command::bus_master, 0);
    ASSERT_TRUE(wait([&](auto done) { device_->set_command(0x0406, done); }));
    put<uint32_t>(0x60, 1);
    EXPECT_TRUE(arrives(eventfd));
    put<uint32_t>(0x64, 1);
    transfer(range.start().value, buffer, 128, 0);
    const auto bytes = Mapping::create(memory).value();
    std::memset(bytes.data(), 0x11, page);
    transfer(buffer, range.start().value, 128, from_device);
    EXPECT_EQ(bytes.data()[127], std::byte{0});
    EXPECT_EQ(bytes.data()[128], std::byte{0x11});
}

// The kernel maps there what its drivers use, after the window has been opened and while it is open.
TEST_F(NtbLending, AddressesLeadToWhatIsMappedThere) {
    constexpr uint64_t size = 1 << 30;
    auto& adapter = *host().adapter;
    if (!is_card()) {
        EXPECT_EQ(adapter.export_addresses(size).error().code(), Errc::not_supported);
        return;
    }
    const auto exported = adapter.export_addresses(size).value();
    EXPECT_EQ(exported.address().value % size, 0u);
    const auto range = Range<Iova>::create({uint64_t{1} << 38}, size).value();
    const auto ms_since = [](auto start) {
        return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    };
    auto start = std::chrono::steady_clock::now();
    const auto done =
        wait([&](auto mapped) { device_->map(range, exported.address(), Access::read_write, mapped); });
    ASSERT_TRUE(done) << done.error().message();
    const double map_ms = ms_since(start);
    const MemoryRef memory{share(create_memory("kernel", page).value()), 0, page};
    const auto bytes = Mapping::create(memory).value();
    for (const uint64_t at : {uint64_t{0}, size / 2, size - page}) {
        auto mapped = adapter.function()
                          .map_dma(Range<Iova>::create({exported.address().value + at}, page).value(), memory,
                                   Access::read_write)
                          .value();
        std::memset(bytes.data(), 0x5a, 64);
        std::memset(bytes.data() + 64, 0, 64);
        transfer(range.start().value + at, buffer, 64, 0);
        transfer(buffer, range.start().value + at + 64, 64, from_device);
        EXPECT_EQ(bytes.data()[127], std::byte{0x5a}) << at;
        ASSERT_TRUE(mapped.unmap());
        std::memset(bytes.data(), 0x11, page);
        transfer(buffer, range.start().value + at, 64, from_device);
        EXPECT_EQ(bytes.data()[0], std::byte{0x11}) << "nothing is mapped there any more";
    }
    start = std::chrono::steady_clock::now();
    ASSERT_TRUE(wait([&](auto unmapped) { device_->unmap(range.start(), unmapped); }));
    fmt::print("1 GiB is mapped in {:.0f} ms, unmapped in {:.0f} ms\n", map_ms, ms_since(start));
}

class NtbDrive : public NtbLending {
  protected:
    NtbDrive() : NtbLending(drive, false) {}
    // NVM Express Base Specification 2.0, 3.1.3.
    static constexpr uint64_t version = 0x08;
    static constexpr uint64_t interrupt_mask_set = 0x0c;
};

TEST_F(NtbDrive, SleepsAndWakesAsItWas) {
    ASSERT_TRUE(wait([&](auto done) { device_->set_command(0x0406, done); }));
    const auto is = get<uint32_t>(version);
    EXPECT_NE(is, 0xffff'ffffu);
    put<uint32_t>(interrupt_mask_set, 5);
    EXPECT_EQ(get<uint32_t>(interrupt_mask_set), 5u);
    for (int round = 0; round < 3; ++round) {
        ASSERT_TRUE(wait([&](auto done) { device_->set_power_state(3, done); }));
        EXPECT_EQ(get<uint32_t>(version), 0xffff'ffffu) << "it does not answer";
        ASSERT_TRUE(wait([&](auto done) { device_->set_power_state(0, done); }));
        EXPECT_EQ(get<uint32_t>(version), is);
    }
    const auto config = wait<std::vector<std::byte>>([&](auto done) { device_->reset(done); });
    ASSERT_TRUE(config) << config.error().message();
    ASSERT_TRUE(wait([&](auto done) { device_->set_command(0x0406, done); }));
    EXPECT_EQ(get<uint32_t>(interrupt_mask_set), 0u);
    EXPECT_EQ(get<uint32_t>(version), is);
    ASSERT_TRUE(wait([&](auto done) { device_->set_power_state(3, done); }));
    EXPECT_TRUE(wait<std::vector<std::byte>>([&](auto done) { device_->reset(done); })) << "also from there";
    ASSERT_TRUE(wait([&](auto done) { device_->set_command(0x0406, done); }));
    EXPECT_EQ(get<uint32_t>(version), is);
    ASSERT_TRUE(wait([&](auto done) { device_->set_power_state(3, done); })); // and it is given back so
}

// The lender's own interrupts of it are messages in the real table.
TEST_F(NtbDrive, ItsMsixTableIsABlankPage) {
    EXPECT_TRUE(device_->msix_table_apart());
    ASSERT_TRUE(device_->interrupts_by_msix());
    ASSERT_TRUE(wait([&](auto done) { device_->set_command(0x0406, done); }));
    const auto msix = smartio::find_msix(device_->config()).value().value();
    ASSERT_EQ(msix.table.bar, 0u);
    std::vector<UniqueFd> eventfds(device_->interrupts());
    eventfds[0] = create_eventfd().value();
    ASSERT_TRUE(wait([&](auto done) { device_->set_interrupts(std::move(eventfds), done); }));
    for (const uint64_t at :
         {msix.table.offset_bytes, msix.table.offset_bytes + 12, msix.pending.offset_bytes}) {
        EXPECT_EQ(get<uint32_t>(at), 0u) << at;
        put<uint32_t>(at, 0xfee0'0000);
        EXPECT_EQ(get<uint32_t>(at), 0xfee0'0000u) << at;
    }
    give_back();
    borrow();
    EXPECT_EQ(get<uint32_t>(msix.table.offset_bytes), 0u);
}

// QEMU's shared memory (docs/specs/ivshmem-spec.rst there): its registers are 256 bytes.
class NtbMemory : public NtbLending {
  protected:
    NtbMemory() : NtbLending(memory_device) {}
};

TEST_F(NtbMemory, ABarThatIsSmallerThanAPage) {
    const auto& bars = device_->bars();
    ASSERT_EQ(bars[0].size_bytes, 256u);
    EXPECT_EQ(device_->interrupts(), 0u);
    EXPECT_FALSE(device_->msix_table_apart());
    put<uint32_t>(0, 0x1234);
    EXPECT_EQ(get<uint32_t>(0), 0x1234u);
    if (!is_card()) return;
    ASSERT_EQ(bars[0].card_memory.size_bytes, 256u);
    EXPECT_EQ(bars[0].card_memory.offset_bytes % page, 0u);
    const auto mapped = Mapping::create(bars[0].card_memory).value();
    EXPECT_EQ(*reinterpret_cast<volatile uint32_t*>(mapped.data()), 0x1234u);
    ASSERT_EQ(bars[2].card_memory.size_bytes, 1u << 20);
    EXPECT_EQ(bars[2].card_memory.offset_bytes % (1 << 20), 0u);
}

} // namespace
} // namespace lanepool::hosts

int main(int argc, char** argv) {
    if (argc == 2 && std::strcmp(argv[1], "serve") == 0) {
        lanepool::hosts::Server().run();
        return 0;
    }
    testing::InitGoogleMock(&argc, argv);
    testing::AddGlobalTestEnvironment(new lanepool::hosts::Borrowing);
    return RUN_ALL_TESTS();
}
