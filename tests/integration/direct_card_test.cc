// SPDX-License-Identifier: Apache-2.0
//
// A lent device between hosts whose adapters are cards, as a whole host's agent uses it for its own kernel.
#include "integration/direct_user.h"
#include "integration/memory_device.h"

#include <gmock/gmock.h>

namespace lanepool::test {
namespace {

using memory_device::Msix;
using smartio::LenderState;
using smartio::LoanRequest;
using ::testing::HasSubstr;

constexpr uint64_t page = 4096;
constexpr Iova low{16 << 20}; // where devices of 28 bits reach, too
constexpr uint16_t on = pci::command::memory_space | pci::command::bus_master;

std::vector<UniqueFd> eventfds(size_t count) {
    std::vector<UniqueFd> fds;
    for (size_t i = 0; i < count; ++i)
        fds.push_back(must(create_eventfd()));
    return fds;
}

// Host 0 lends to host 1.
class OfACard : public testing::Test {
  protected:
    explicit OfACard(MemoryDevice::Kind kind = {}, bool lender_is_card = true,
                     smartio::LenderOptions options = {})
        : fabric(folder, 3), store(fabric, 0, lender_is_card), a(fabric, 1, true),
          made(std::make_unique<MemoryDevice>(kind)), device(*made),
          lending(store, std::move(made), options, device_class) {}
    void SetUp() override {
        ASSERT_TRUE(eventually([&] { return store.sees(a) && a.sees(store); }));
        must(lending.reset());
    }
    // One that has the device, at EPOCH.
    std::unique_ptr<Application> user(uint64_t epoch = 1, bool enable = false) {
        must(lending.prepare(1, epoch, a));
        auto user = std::make_unique<Application>(a, store, 1, epoch, false, enable);
        must(user->attach());
        return user;
    }
    // What no method of a direct device would ask.
    Errc ask(LoanRequest request, const Body& body) {
        const auto answer = std::make_shared<std::promise<Result<Body>>>();
        a.channel().request(store.partition(), static_cast<uint16_t>(request), body, std::chrono::seconds(10),
                            [answer](Result<Body> result) { answer->set_value(std::move(result)); });
        const auto result = answer->get_future().get();
        return result ? Errc::internal : result.error().code();
    }
    void expect_nothing_left() {
        EXPECT_EQ(device.dma_maps(), 0u);
        EXPECT_EQ(device.interrupts(), 0u);
        EXPECT_FALSE(device.asleep());
        EXPECT_EQ(device.config16(pci::config::command) & pci::command::bus_master, 0);
        EXPECT_EQ(device.rude_awakenings(), 0);
    }

    TemporaryFolder folder;
    Fabric fabric;
    Host store;
    Host a;
    std::unique_ptr<MemoryDevice> made;
    MemoryDevice& device;
    MemoryDeviceClass device_class;
    Lending lending;
};

TEST_F(OfACard, IsOffUntilItsDriverTurnsItOn) {
    const auto driver = user();
    EXPECT_EQ(device.config16(pci::config::command) & pci::command::bus_master, 0);
    must(driver->set_command(0xffff));
    EXPECT_EQ(device.config16(pci::config::command), on | pci::command::interrupt_disable);
    must(driver->set_command(0));
    EXPECT_EQ(device.config16(pci::config::command), 0);
    must(driver->detach());
    must(lending.cut(1));
    must(lending.reset());
    const auto application = user(2, true);
    EXPECT_EQ(device.config16(pci::config::command), on | pci::command::interrupt_disable);
}

TEST_F(OfACard, ItsBarsArePartsOfTheCard) {
    const auto driver = user();
    const auto& bars = driver->device->bars();
    EXPECT_EQ(bars[0].card_memory.size_bytes, memory_device::bar0_bytes);
    EXPECT_EQ(bars[3].card_memory.size_bytes, memory_device::bar3_bytes);
    EXPECT_EQ(bars[4].card_memory.size_bytes, memory_device::bar4_bytes);
    EXPECT_EQ(bars[1].card_memory.fd, nullptr);
    for (const auto& bar : bars)
        EXPECT_TRUE(bar.memory.empty()) << "nothing that could be handed to a process";
    for (const unsigned bar : {0u, 3u}) {
        const auto mapped = must(Mapping::create(bars[bar].card_memory));
        mapped.data()[mapped.size_bytes() - 1] = std::byte{7};
        EXPECT_EQ(device.registers(bar)[mapped.size_bytes() - 1], std::byte{7});
        EXPECT_EQ(must(driver->read(bar, mapped.size_bytes() - 1, 1))[0], std::byte{7});
    }
}

TEST_F(OfACard, TheMsixTableIsABlankPageOfItsOwn) {
    auto driver = user();
    EXPECT_TRUE(driver->device->msix_table_apart());
    EXPECT_EQ(driver->device->interrupts(), memory_device::vectors);
    EXPECT_TRUE(driver->device->interrupts_by_msix());
    device.registers(4)[0] = std::byte{9};
    const auto table = must(Mapping::create(driver->device->bars()[4].card_memory));
    EXPECT_EQ(table.data()[0], std::byte{0});
    std::memset(table.data(), 0x55, table.size_bytes());
    EXPECT_EQ(device.registers(4)[0], std::byte{9});
    EXPECT_EQ(device.registers(4)[page], std::byte{0});
    EXPECT_EQ(must(driver->read(4, 0x1ffc, 4)), Body(4, std::byte{0x55}));
    must(driver->reset());
    EXPECT_EQ(must(driver->read(4, 0, 4)), Body(4, std::byte{0x55})) << "its kernel's own";
    must(driver->detach());
    must(lending.cut(1));
    must(lending.reset());
    driver = user(2);
    EXPECT_EQ(must(driver->read(4, 0, 4)), Body(4)) << "what the one before left";
    std::memset(table.data(), 0x66, table.size_bytes());
    EXPECT_EQ(must(driver->read(4, 0, 4)), Body(4)) << "by what it kept";
}

TEST_F(OfACard, MemoryLiesWhereItsKernelWantsIt) {
    const auto driver = user();
    must(driver->set_command(on));
    auto& memory = driver->memory;
    must(driver->map(low, memory.exported.address(), ram_bytes));
    std::memcpy(memory.bytes.data(), "a kernel's", 11);
    EXPECT_TRUE(device.copy(low, low + page, 11));
    EXPECT_STREQ(reinterpret_cast<const char*>(memory.bytes.data() + page), "a kernel's");
    EXPECT_EQ(driver->map(low + (ram_bytes - page), memory.exported.address(), ram_bytes).error().code(),
              Errc::already_exists);
    EXPECT_EQ(driver->map(low, {~uint64_t{0}}, page).error().code(), Errc::out_of_range);
    EXPECT_EQ(driver->map({0x100}, memory.exported.address(), page).error().code(), Errc::invalid_argument);
    const auto elsewhere = must(driver->place_memory());
    EXPECT_TRUE(device.copy(low, elsewhere + page, 11));
    must(driver->unmap(low));
    EXPECT_FALSE(device.copy(low, elsewhere + page, 11));
    must(driver->map(low, memory.exported.address(), ram_bytes, Access::read_only));
    EXPECT_FALSE(device.copy(low, low + page, 11));
    EXPECT_TRUE(device.copy(low, elsewhere + page, 11));
    must(driver->unmap(low));
    EXPECT_EQ(driver->unmap(low).error().code(), Errc::not_found);
    EXPECT_FALSE(driver->failure());
}

// The kernel maps there what it likes, when it likes; here before the lender's window is opened, because a
// window of the virtual switch is what is behind it.
TEST_F(OfACard, AddressesLeadToWhatTheKernelMapsThere) {
    const auto driver = user();
    must(driver->set_command(on));
    constexpr uint64_t size = 64 << 20;
    auto addresses = must(a.adapter().export_addresses(size));
    EXPECT_EQ(addresses.address().value % size, 0u);
    const MemoryRef all{share(must(create_memory("kernel", size))), 0, size};
    const Iova start{addresses.address().value};
    auto mapped =
        must(a.adapter().function().map_dma(*Range<Iova>::create(start, size), all, Access::read_write));
    const Iova high{uint64_t{1} << 40};
    must(driver->map(high, addresses.address(), size));
    must(Mapping::create(all)).data()[size - page] = std::byte{5};
    EXPECT_TRUE(device.copy(high + (size - page), high, 1));
    EXPECT_EQ(must(Mapping::create(all)).data()[0], std::byte{5});
    must(driver->unmap(high));
    must(mapped.unmap());
}

TEST_F(OfACard, AllVectorsAreSetAtOnce) {
    const auto driver = user();
    const auto fds = eventfds(memory_device::vectors);
    must(driver->set_interrupts(fds));
    for (uint32_t i = 0; i < fds.size(); ++i) {
        EXPECT_TRUE(device.raise(i));
        EXPECT_TRUE(eventually([&] { return drain(fds[i]) != 0; })) << i;
    }
    must(driver->set_interrupts(eventfds(2)));
    EXPECT_TRUE(device.raise(1));
    EXPECT_FALSE(device.raise(2));
    EXPECT_EQ(drain(fds[1]), 0u);
    std::vector<UniqueFd> with_gap = eventfds(3);
    with_gap[1] = UniqueFd();
    must(driver->set_interrupts(with_gap));
    EXPECT_FALSE(device.raise(1));
    EXPECT_TRUE(device.raise(2));
    EXPECT_TRUE(eventually([&] { return drain(with_gap[2]) != 0; }));
    must(driver->set_interrupts({}));
    EXPECT_EQ(device.interrupts(), 0u);
    EXPECT_EQ(driver->set_interrupts(eventfds(memory_device::vectors + 1)).error().code(),
              Errc::out_of_range);
    EXPECT_FALSE(driver->failure());
}

// ---- Power states

TEST_F(OfACard, SleepsAndWakesAsItWas) {
    const auto driver = user();
    const auto fds = eventfds(2);
    must(driver->set_command(on));
    must(driver->set_interrupts(fds));
    must(driver->map(low, driver->memory.exported.address(), ram_bytes));
    for (int round = 0; round < 3; ++round) {
        must(driver->set_power_state(3));
        must(driver->set_power_state(3));
        EXPECT_TRUE(device.asleep());
        EXPECT_FALSE(device.copy(low, low, 1));
        must(driver->set_power_state(0));
        must(driver->set_power_state(0));
        EXPECT_FALSE(device.asleep());
        EXPECT_EQ(device.config16(pci::config::command), on);
        EXPECT_TRUE(device.copy(low, low + page, page));
        EXPECT_TRUE(device.raise(1));
        EXPECT_TRUE(eventually([&] { return drain(fds[1]) != 0; }));
    }
    EXPECT_EQ(device.rude_awakenings(), 0);
}

TEST_F(OfACard, OnlyTwoPowerStatesAreLetThrough) {
    const auto driver = user();
    EXPECT_EQ(driver->set_power_state(1).error().code(), Errc::not_supported);
    EXPECT_EQ(driver->set_power_state(4).error().code(), Errc::not_supported);
    const smartio::LoanKey key{test_fdid, 1, 1};
    const auto written = [&](size_t offset, uint16_t value) {
        return ask(LoanRequest::config_write,
                   encode(smartio::ConfigWriteRequest{key, static_cast<uint16_t>(offset), value}));
    };
    for (const uint16_t value : {1, 2, 4, 7, 0x103, 0x8000, 0x8003, 0xffff})
        EXPECT_EQ(written(memory_device::power_control, value), Errc::permission_denied) << value;
    for (const size_t offset : {size_t{0}, size_t{6}, memory_device::power_control - 2,
                                memory_device::power_control + 2, memory_device::device_control})
        EXPECT_EQ(written(offset, 3), Errc::permission_denied) << offset;
    EXPECT_FALSE(device.asleep());
    EXPECT_EQ(device.config16(pci::config::vendor_id), 0x1b36);
}

TEST_F(OfACard, IsWokenBeforeItIsCut) {
    const auto driver = user();
    must(driver->set_command(on));
    must(driver->set_interrupts(eventfds(2)));
    must(driver->map(low, driver->memory.exported.address(), ram_bytes));
    must(driver->set_power_state(3));
    must(lending.cut(1));
    expect_nothing_left();
    must(lending.reset());
    EXPECT_EQ(lending.state(), LenderState::ready);
}

TEST_F(OfACard, IsWokenWhenItIsReturnedAsleep) {
    auto driver = user();
    must(driver->set_interrupts(eventfds(2)));
    must(driver->set_power_state(3));
    must(driver->detach());
    expect_nothing_left();
    driver = std::make_unique<Application>(a, store, 1, 1, false, true); // the same loan, opened again
    must(driver->attach());
    must(driver->place_memory());
    EXPECT_EQ(device.config16(pci::config::command), on | pci::command::interrupt_disable);
}

TEST_F(OfACard, IsWokenBeforeItIsReset) {
    const auto driver = user();
    const auto fds = eventfds(1);
    must(driver->set_interrupts(fds));
    must(driver->set_power_state(3));
    must(driver->reset());
    EXPECT_FALSE(device.asleep());
    EXPECT_EQ(device.rude_awakenings(), 0);
    EXPECT_TRUE(device.raise(0));
    EXPECT_TRUE(eventually([&] { return drain(fds[0]) != 0; }));
}

TEST_F(OfACard, OneThatDoesNotWakeUpIsBroken) {
    const auto driver = user();
    must(driver->set_power_state(3));
    device.refuse_to_wake(true);
    EXPECT_EQ(driver->set_power_state(0).error().code(), Errc::timeout);
    EXPECT_FALSE(lending.cut(1));
    EXPECT_EQ(lending.state(), LenderState::broken);
    EXPECT_THAT(lending.status().reason, HasSubstr("waking it up"));
    EXPECT_EQ(device.dma_maps(), 0u);
    EXPECT_THAT(lending.reset().error().message(), HasSubstr("power state D3"));
    EXPECT_EQ(lending.state(), LenderState::broken);
    device.refuse_to_wake(false);
    must(lending.reset());
    EXPECT_EQ(lending.state(), LenderState::ready);
}

class WithoutPowerManagement : public OfACard {
  protected:
    WithoutPowerManagement() : OfACard({.has_power_management = false}) {}
};

TEST_F(WithoutPowerManagement, NothingIsWrittenWhereItWouldBe) {
    const auto driver = user();
    EXPECT_EQ(driver->set_power_state(3).error().code(), Errc::not_supported);
    const smartio::LoanKey key{test_fdid, 1, 1};
    for (const uint16_t offset : {size_t{0}, memory_device::power_control})
        EXPECT_EQ(ask(LoanRequest::config_write, encode(smartio::ConfigWriteRequest{key, offset, 3})),
                  Errc::permission_denied);
}

TEST_F(OfACard, WhoSharesItCannotPutItToSleep) {
    must(lending.prepare(1, 1, a, true));
    Application one(a, store, 1, 1, true);
    must(one.attach());
    EXPECT_EQ(one.set_power_state(3).error().code(), Errc::not_supported);
    EXPECT_FALSE(device.asleep());
}

// ---- Resets

class AfterAReset : public OfACard, public testing::WithParamInterface<bool> {
  protected:
    AfterAReset() : OfACard({.has_flr = GetParam()}) {}
};
INSTANTIATE_TEST_SUITE_P(DirectDevice, AfterAReset, testing::Bool(),
                         [](const auto& of) { return of.param ? "OfItsFunction" : "OfAnotherKind"; });

TEST_P(AfterAReset, EverythingIsWhereItWas) {
    const auto driver = user();
    const auto fds = eventfds(memory_device::vectors);
    must(driver->set_command(on));
    must(driver->set_interrupts(fds));
    must(driver->map(low, driver->memory.exported.address(), ram_bytes));
    const auto mapped = must(Mapping::create(driver->device->bars()[0].card_memory));
    const int resets = device.resets();
    for (int round = 0; round < 2; ++round) {
        mapped.data()[0] = std::byte{7};
        const auto config = must(driver->reset());
        EXPECT_EQ(device.resets(), resets + round + 1);
        EXPECT_EQ(config.size(), pci::extended_config_bytes);
        EXPECT_EQ(pci::get16(config, pci::config::command) & pci::command::bus_master, 0);
        EXPECT_EQ(mapped.data()[0], std::byte{0});
        mapped.data()[1] = std::byte{8};
        EXPECT_EQ(device.registers(0)[1], std::byte{8});
        EXPECT_FALSE(device.copy(low, low, 1)) << "it is no bus master after a reset";
        must(driver->set_command(on));
        EXPECT_TRUE(device.copy(low, low + page, page));
        EXPECT_TRUE(device.raise(3));
        EXPECT_TRUE(eventually([&] { return drain(fds[3]) != 0; }));
    }
    EXPECT_FALSE(driver->failure());
}

TEST_F(OfACard, ALenderIsNotBelievedAfterAReset) {
    const auto driver = user();
    Body opened;
    const auto says = [&](LoanRequest request, std::optional<Body> answer) {
        store.thread.run([&] {
            store.lie = [request, answer](uint16_t kind) {
                return kind == static_cast<uint16_t>(request) ? answer : std::nullopt;
            };
        });
    };
    const auto& target = driver->device->bars()[0].target;
    smartio::Opened truth;
    for (size_t i = 0; i < truth.bars.size(); ++i) {
        const auto& bar = driver->device->bars()[i];
        if (bar.size_bytes != 0)
            truth.bars[i] = {bar.size_bytes, bar.target.address, true, true, {{0, bar.size_bytes}}};
    }
    truth.vectors = {0, 1, memory_device::vectors};
    truth.memory_survives_reset = truth.msix_table_apart = true;
    const auto config = driver->device->config();
    truth.config.assign(config.begin(), config.end());
    says(LoanRequest::reset, *encode(truth));
    EXPECT_TRUE(driver->reset());
    const auto refused = [&](auto change, Errc code) {
        auto lie = truth;
        change(lie);
        says(LoanRequest::reset, *encode(lie));
        EXPECT_EQ(driver->reset().error().code(), code);
    };
    refused([&](auto& lie) { lie.bars[0].address = target.address + 0x100000; }, Errc::not_supported);
    refused([](auto& lie) { lie.memory_survives_reset = false; }, Errc::not_supported);
    refused([](auto& lie) { lie.msix_table_apart = false; }, Errc::not_supported);
    refused([](auto& lie) { lie.vectors[2] = 1; }, Errc::not_supported);
    refused([](auto& lie) { lie.bars[3] = {}; }, Errc::not_supported);
    must(driver->map(low, driver->memory.exported.address(), ram_bytes));
    says(LoanRequest::map, Body{});
    EXPECT_EQ(driver->map(low + page, driver->memory.exported.address(), page).error().code(),
              Errc::protocol);
    says(LoanRequest::reset, Body(100));
    EXPECT_EQ(driver->reset().error().code(), Errc::protocol);
}

// ---- Other devices, other lenders

class TableAmongRegisters : public OfACard {
  protected:
    TableAmongRegisters() : OfACard({.msix = Msix::in_bar0}) {}
};

TEST_F(TableAmongRegisters, OnlyItsPagesAreBlank) {
    const auto driver = user();
    EXPECT_TRUE(driver->device->msix_table_apart());
    for (const uint64_t offset : {uint64_t{0}, page, 2 * page - 4, 2 * page, 3 * page, 4 * page - 4}) {
        must(driver->write(0, offset, uint32_t{0x11111111}));
        EXPECT_EQ(must(driver->read(0, offset, 4)), Body(4, std::byte{0x11})) << offset;
        const bool apart = offset >= 2 * page;
        EXPECT_EQ(device.registers(0)[offset], apart ? std::byte{0} : std::byte{0x11}) << offset;
    }
}

class WithoutMsix : public OfACard {
  protected:
    WithoutMsix() : OfACard({.msix = Msix::none}) {}
};

TEST_F(WithoutMsix, ThereIsNoTableToBeApart) {
    const auto driver = user();
    EXPECT_FALSE(driver->device->msix_table_apart());
    EXPECT_FALSE(driver->device->interrupts_by_msix());
    EXPECT_EQ(driver->device->interrupts(), 1u);
}

class WithLimits : public OfACard {
  protected:
    WithLimits() : OfACard({}, true, {.max_memory_maps = 2, .max_mapped_bytes = 3 * ram_bytes / 2}) {}
};

TEST_F(WithLimits, MemoryIsMappedUpToThem) {
    const auto driver = user();
    const auto address = driver->memory.exported.address();
    must(driver->map(low, address, ram_bytes));
    EXPECT_EQ(driver->map(low + ram_bytes, address, ram_bytes).error().code(), Errc::no_space);
    must(driver->map(low + ram_bytes, address, page));
    EXPECT_EQ(driver->map(low + 2 * ram_bytes, address, page).error().code(), Errc::no_space);
    EXPECT_FALSE(driver->failure());
}

} // namespace
} // namespace lanepool::test
