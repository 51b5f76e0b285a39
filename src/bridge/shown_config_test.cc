// SPDX-License-Identifier: Apache-2.0
#include "bridge/shown_config.h"

#include "bridge/module_rules_for_test.h"
#include "smartio/config_image_for_test.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lanepool::bridge {
namespace {

namespace at = smartio::test::at;
using smartio::test::sample_config;
using testing::ElementsAre;
using testing::HasSubstr;
using Vectors = ShownConfig::Vectors;

constexpr uint16_t msi_64bit = 0x80;

DeviceConfig sample(std::span<const std::byte> config, bool msix_table_apart = false) {
    return {config, {16384, 0, 256, 4096, 0, 0}, 32, 33, msix_table_apart};
}

uint16_t get16(const std::vector<std::byte>& bytes, size_t offset) { return pci::get16(bytes, offset); }

std::vector<uint16_t> ids(const Shown& shown) {
    std::vector<uint16_t> result;
    const auto chain = pci::capabilities(shown.config.values);
    for (const auto& entry : *chain)
        result.push_back(entry.id);
    return result;
}

test::BarBytes bar_bytes(const Shown& shown) {
    test::BarBytes result;
    std::ranges::transform(shown.bars, result.begin(), &ShownBar::size_bytes);
    return result;
}

// What comes out of a device that must be shown, and that the module takes it.
Shown taken(const DeviceConfig& device) {
    auto shown = shown_config(device);
    if (!shown) {
        ADD_FAILURE() << shown.error().message();
        return Shown{{std::vector<std::byte>(4096), std::vector<std::byte>(4096),
                      std::vector<std::byte>(4096), std::vector<std::byte>(4096)},
                     {},
                     {},
                     false};
    }
    const auto verdict = test::module_takes(shown->config, bar_bytes(*shown));
    EXPECT_TRUE(verdict) << verdict.error().message();
    return *std::move(shown);
}

Errc refused(const DeviceConfig& device) {
    const auto shown = shown_config(device);
    EXPECT_FALSE(shown);
    return shown ? Errc::internal : shown.error().code();
}

// The sample's chain without one of its capabilities; A leads to B no more but to what follows it.
void unlink(std::vector<std::byte>& config, size_t a, size_t b) { config[a + 1] = config[b + 1]; }

std::vector<std::byte> without_msix() {
    auto config = sample_config();
    unlink(config, at::power_management, at::msix);
    return config;
}

std::vector<std::byte> without_messages() {
    auto config = without_msix();
    unlink(config, at::power_management, at::msi);
    return config;
}

std::vector<std::byte> msix_within_bar_0() {
    auto config = sample_config();
    pci::set32(config, at::msix + 4, 0x2000);
    pci::set32(config, at::msix + 8, 0x3000);
    return config;
}

TEST(ShownConfig, KeepsTheIdentity) {
    const auto config = sample_config();
    const auto shown = taken(sample(config));
    EXPECT_EQ(pci::get32(shown.config.values, 0), pci::get32(config, 0));
    EXPECT_EQ(pci::get32(shown.config.values, 8), pci::get32(config, 8)); // revision, class
    EXPECT_EQ(pci::get32(shown.config.values, 0x2c), pci::get32(config, 0x2c));
}

TEST(ShownConfig, LeavesBarsRomCommandAndLineToTheModule) {
    const auto shown = taken(sample(sample_config()));
    for (size_t offset = pci::config::bar0; offset < pci::config::subsystem_vendor_id; ++offset)
        EXPECT_EQ(shown.config.values[offset], std::byte{0}) << offset;
    EXPECT_EQ(pci::get32(shown.config.values, pci::config::rom_base), 0u);
    EXPECT_EQ(get16(shown.config.values, pci::config::command), 0);
    EXPECT_EQ(get16(shown.config.values, pci::config::interrupt_line), 0); // and the pin
}

TEST(ShownConfig, ManyFunctionsBecomeOne) {
    const auto config = sample_config();
    ASSERT_EQ(config[pci::config::header_type], std::byte{0x80});
    EXPECT_EQ(taken(sample(config)).config.values[pci::config::header_type], std::byte{0});
}

TEST(ShownConfig, NoticesMemorySpaceAndBusMaster) {
    const auto shown = taken(sample(sample_config()));
    EXPECT_EQ(shown.registers.command, 4u);
    EXPECT_EQ(get16(shown.config.noticed, 4), 0x0006);
}

TEST(ShownConfig, SaysOfWhatKindBarsAre) {
    const auto shown = taken(sample(sample_config()));
    EXPECT_EQ(shown.bars[0].size_bytes, 16384u);
    EXPECT_TRUE(shown.bars[0].is_64bit);
    EXPECT_TRUE(shown.bars[0].prefetchable);
    EXPECT_EQ(shown.bars[2].size_bytes, 0u); // I/O ports
    EXPECT_EQ(shown.bars[3].size_bytes, 4096u);
    EXPECT_FALSE(shown.bars[3].is_64bit);
    EXPECT_FALSE(shown.bars[3].prefetchable);
}

TEST(ShownConfig, MsiTakesThePlaceOfMsix) {
    const auto shown = taken(sample(sample_config()));
    EXPECT_THAT(ids(shown), ElementsAre(0x01, 0x05, 0x10, 0x09));
    EXPECT_EQ(shown.config.values[at::msix], std::byte{0x05});
    EXPECT_EQ(shown.config.vectors, Vectors::msi);
    EXPECT_EQ(shown.config.vector_count, 32u); // of 33
    EXPECT_EQ(get16(shown.config.values, at::msix + 2), 5 << 1);
    EXPECT_EQ(pci::get32(shown.config.values, at::msix + 8), 0u); // nothing of MSI-X is left
    EXPECT_TRUE(shown.by_msix);
}

TEST(ShownConfig, MsiInPlaceOfMsixHasAPowerOfTwo) {
    auto device = sample({});
    const auto config = sample_config();
    device.config = config;
    for (const auto& [real, expected] : {std::pair{1u, 1u}, {3u, 2u}, {16u, 16u}, {31u, 16u}}) {
        device.msix_vectors = real;
        EXPECT_EQ(taken(device).config.vector_count, expected);
    }
}

TEST(ShownConfig, MsixStaysWhereItsTableIsApart) {
    const auto config = msix_within_bar_0();
    const auto shown = taken(sample(config, true));
    EXPECT_THAT(ids(shown), ElementsAre(0x01, 0x11, 0x10, 0x09));
    EXPECT_EQ(shown.config.vectors, Vectors::msix);
    EXPECT_EQ(shown.config.vector_count, 33u);
    EXPECT_EQ(get16(shown.config.values, at::msix + 2), 32); // off, and not masked
    EXPECT_EQ(pci::get32(shown.config.values, at::msix + 4), 0x2000u);
    EXPECT_EQ(pci::get32(shown.config.values, at::msix + 8), 0x3000u);
    EXPECT_TRUE(shown.by_msix);
}

TEST(ShownConfig, MsixHasAsManyVectorsAsTheLenderSignals) {
    const auto config = msix_within_bar_0();
    auto device = sample(config, true);
    device.msix_vectors = 9;
    EXPECT_EQ(taken(device).config.vector_count, 9u);
    device.msix_vectors = UINT32_MAX;
    EXPECT_EQ(taken(device).config.vector_count, 33u);
}

TEST(ShownConfig, MsixWhoseTableIsOutOfSightBecomesMsi) {
    for (const uint32_t place : {0x3ff0u, 0xfffffff8u, 1u, 2u, 6u, 7u}) {
        auto config = msix_within_bar_0();
        pci::set32(config, at::msix + 4, place);
        EXPECT_EQ(taken(sample(config, true)).config.vectors, Vectors::msi) << place;
    }
}

TEST(ShownConfig, ADeviceWithMsiOnlyKeepsIt) {
    const auto config = without_msix();
    const auto shown = taken(sample(config));
    EXPECT_THAT(ids(shown), ElementsAre(0x01, 0x05, 0x10, 0x09));
    EXPECT_EQ(shown.config.vectors, Vectors::msi);
    EXPECT_EQ(shown.config.vector_count, 32u);
    EXPECT_EQ(get16(shown.config.values, at::msi + 2), 5 << 1 | msi_64bit); // off, without masking
    EXPECT_EQ(pci::get32(shown.config.values, at::msi + 4), 0u);
    EXPECT_FALSE(shown.by_msix);
}

TEST(ShownConfig, MsiHasNotMoreVectorsThanTheLenderSignals) {
    const auto config = without_msix();
    auto device = sample(config);
    device.msi_vectors = 3;
    EXPECT_EQ(taken(device).config.vector_count, 2u);
    device.msi_vectors = UINT32_MAX;
    EXPECT_EQ(taken(device).config.vector_count, 32u);
}

TEST(ShownConfig, MsiWith32BitAddressesAtTheVeryEnd) {
    auto config = without_messages();
    config[at::power_management + 1] = std::byte{0xf4};
    config[0xf4] = std::byte{0x05};
    config[0xf5] = std::byte{at::pci_express};
    const auto shown = taken(sample(config));
    EXPECT_EQ(shown.config.vector_count, 1u);
    EXPECT_EQ(get16(shown.config.values, 0xf6), 0);
}

TEST(ShownConfig, MsiOfAnUnlentMsixIsUsed) {
    const auto config = sample_config();
    auto device = sample(config);
    device.msix_vectors = 0;
    const auto shown = taken(device);
    EXPECT_FALSE(shown.by_msix);
    EXPECT_EQ(shown.config.values[at::msi], std::byte{0x05});
}

TEST(ShownConfig, ALineAloneIsNotEnough) {
    const auto config = without_messages();
    const auto shown = shown_config(sample(config));
    ASSERT_FALSE(shown);
    EXPECT_EQ(shown.error().code(), Errc::not_supported);
    EXPECT_THAT(shown.error().message(), HasSubstr("INTx"));
}

TEST(ShownConfig, ADeviceWithoutInterruptsHasNone) {
    auto config = without_messages();
    config[pci::config::interrupt_pin] = std::byte{0};
    const auto shown = taken(sample(config));
    EXPECT_EQ(shown.config.vectors, Vectors::none);
    EXPECT_EQ(shown.config.vector_count, 0u);
}

TEST(ShownConfig, InterruptsThatNobodySignalsAreRefused) {
    const auto config = sample_config();
    auto device = sample(config);
    device.msi_vectors = device.msix_vectors = 0;
    EXPECT_EQ(refused(device), Errc::not_supported);
}

TEST(ShownConfig, PowerStatesAreWrittenAndNoticed) {
    auto config = sample_config();
    pci::set16(config, at::power_management + 4, 0x810b); // PME, No_Soft_Reset, D3hot
    const auto shown = taken(sample(config));
    constexpr size_t control = at::power_management + 4;
    EXPECT_EQ(shown.registers.power_state, control);
    EXPECT_EQ(get16(shown.config.values, at::power_management + 2), 0x0003); // no PME, no D1, no D2
    EXPECT_EQ(get16(shown.config.values, control), 0x0008);
    EXPECT_EQ(get16(shown.config.writable, control), 0x0003);
    EXPECT_EQ(get16(shown.config.noticed, control), 0x0003);
}

TEST(ShownConfig, WithoutPowerManagementThereIsNoRegisterOfIt) {
    auto config = sample_config();
    config[pci::config::capabilities] = std::byte{at::msix};
    EXPECT_FALSE(taken(sample(config)).registers.power_state);
}

TEST(ShownConfig, DeviceControlIsWrittenAndErrorsAreCleared) {
    const auto config = sample_config();
    const auto shown = taken(sample(config));
    EXPECT_EQ(get16(shown.config.writable, at::pci_express + 8), 0x7fff);
    EXPECT_EQ(get16(shown.config.values, at::pci_express + 8), 0x2810);
    EXPECT_EQ(get16(shown.config.cleared, at::pci_express + 0x0a), 0x000f);
    EXPECT_EQ(get16(shown.config.writable, at::pci_express + 0x0a), 0);
    // The reset is offered, and the module sees it asked for.
    EXPECT_TRUE(pci::get32(shown.config.values, at::pci_express + 4) & 1u << 28);
    EXPECT_EQ(pci::get32(shown.config.values, at::pci_express + 0x24), 0u); // no LTR
}

TEST(ShownConfig, APortsExpressCapabilityIsRefused) {
    for (const unsigned type : {4u, 5u, 6u, 7u, 8u, 10u}) {
        auto config = sample_config();
        pci::set16(config, at::pci_express + 2, static_cast<uint16_t>(type << 4 | 2));
        EXPECT_EQ(refused(sample(config)), Errc::protocol) << type;
    }
}

TEST(ShownConfig, VendorSpecificIsReadOnly) {
    auto config = sample_config();
    config[at::vendor + 3] = std::byte{0x5a};
    const auto shown = taken(sample(config));
    EXPECT_EQ(shown.config.values[at::vendor + 3], std::byte{0x5a});
    for (size_t i = 0; i < 16; ++i)
        EXPECT_EQ(shown.config.writable[at::vendor + i], std::byte{0});
}

TEST(ShownConfig, OnlyTheSerialNumberIsLeftOfExtendedOnes) {
    const auto shown = taken(sample(sample_config()));
    const auto chain = pci::extended_capabilities(shown.config.values);
    ASSERT_TRUE(chain);
    ASSERT_EQ(chain->size(), 2u);
    EXPECT_EQ(chain->at(0).id, 0); // a place holder
    EXPECT_EQ(chain->at(1).id, 3);
    EXPECT_EQ(pci::get32(shown.config.values, at::serial_number + 4), 0xcafe0001u);
    EXPECT_EQ(pci::get32(shown.config.values, at::sriov), 0u);
    EXPECT_EQ(pci::get32(shown.config.values, at::advanced_error + 4), 0u);
}

TEST(ShownConfig, AConventionalSpaceBecomesAnExtendedOne) {
    auto config = sample_config();
    config.resize(pci::conventional_config_bytes);
    const auto shown = taken(sample(config));
    EXPECT_EQ(shown.config.values.size(), pci::extended_config_bytes);
    EXPECT_EQ(pci::get32(shown.config.values, 0x100), 0u);
}

TEST(ShownConfig, NothingIsWritableBesideWhatIsShown) {
    const auto shown = taken(sample(sample_config()));
    for (size_t offset = 0; offset < pci::extended_config_bytes; ++offset) {
        const bool power = offset == at::power_management + 4;
        const bool express = offset >= at::pci_express + 8 && offset < at::pci_express + 0x2a;
        if (offset == 0x0c || power || express) continue; // 0x0c: cache line size
        EXPECT_EQ(shown.config.writable[offset], std::byte{0}) << offset;
    }
}

// --- from a hostile lender --------------------------------------------------------------------------------

TEST(HostileConfig, NoEndpoint) {
    const auto with = [](size_t offset, unsigned value) {
        auto config = sample_config();
        config[offset] = static_cast<std::byte>(value);
        return config;
    };
    EXPECT_EQ(refused(sample(with(pci::config::header_type, 1))), Errc::protocol);
    EXPECT_EQ(refused(sample(with(pci::config::class_code + 2, 6))), Errc::not_supported);
    EXPECT_EQ(refused(sample(std::vector(4096, std::byte{0xff}))), Errc::protocol);
    EXPECT_EQ(refused(sample(std::vector(4096, std::byte{0}))), Errc::protocol);
    EXPECT_EQ(refused(sample(std::vector(255, std::byte{1}))), Errc::protocol);
    EXPECT_EQ(refused(sample({})), Errc::protocol);
}

TEST(HostileConfig, ChainsThatGoWrong) {
    const auto with = [](size_t offset, unsigned value) {
        auto config = sample_config();
        config[offset] = static_cast<std::byte>(value);
        return config;
    };
    EXPECT_EQ(refused(sample(with(at::vendor + 1, at::msix))), Errc::protocol);    // a loop
    EXPECT_EQ(refused(sample(with(at::vendor + 1, 0x10))), Errc::protocol);        // into the header
    EXPECT_EQ(refused(sample(with(at::vendor, 0x11))), Errc::protocol);            // MSI-X twice
    EXPECT_EQ(refused(sample(with(at::vendor, 0x10))), Errc::protocol);            // PCI Express twice
    EXPECT_EQ(refused(sample(with(at::serial_number + 3, 0x10))), Errc::protocol); // extended loop
}

TEST(HostileConfig, MsiTwice) {
    auto config = without_msix();
    config[at::vendor] = std::byte{0x05};
    EXPECT_EQ(refused(sample(config)), Errc::protocol);
}

TEST(HostileConfig, MsixOverAnotherCapability) {
    auto config = sample_config();
    // Its last bytes are those of PCI Express: what takes its place would overwrite them.
    config[at::power_management + 1] = std::byte{at::pci_express - 4};
    config[at::pci_express - 4] = std::byte{0x11};
    config[at::pci_express - 3] = std::byte{at::msi};
    EXPECT_EQ(refused(sample(config)), Errc::protocol);
}

TEST(HostileConfig, BarsThatCannotBe) {
    const auto config = sample_config();
    const auto with = [&](size_t bar, uint64_t size) {
        auto device = sample(config);
        device.bar_bytes[bar] = size;
        return device;
    };
    EXPECT_EQ(refused(with(0, 12345)), Errc::protocol);
    EXPECT_EQ(refused(with(0, 8)), Errc::protocol);
    EXPECT_EQ(refused(with(1, 4096)), Errc::protocol); // the upper half of BAR 0
    EXPECT_EQ(refused(with(3, uint64_t{1} << 32)), Errc::protocol);
    auto last = sample_config();
    pci::set32(last, pci::config::bar0 + 20, 4);
    auto device = sample(last);
    device.bar_bytes[5] = 4096;
    EXPECT_EQ(refused(device), Errc::protocol);
}

// --- bars for the description -----------------------------------------------------------------------------

TEST(DescribedBars, TakesWhatIsShown) {
    const auto config = sample_config();
    const auto shown = taken(sample(config));
    const auto fd = share(*create_memory("bar", 65536));
    std::array<MemoryRef, pci::bar_count> memory;
    memory[0] = {fd, 16384, 16384};
    memory[2] = {fd, 0, 256}; // of I/O ports, which are not shown
    memory[3] = {fd, 4096, 4096};
    const auto bars = described_bars(shown, memory);
    ASSERT_TRUE(bars) << bars.error().message();
    EXPECT_TRUE(bars->at(0).is_64bit && bars->at(0).prefetchable);
    EXPECT_EQ(bars->at(0).memory.offset_bytes, 16384u);
    EXPECT_EQ(bars->at(2).memory.size_bytes, 0u);
    EXPECT_EQ(bars->at(3).memory.size_bytes, 4096u);
}

TEST(DescribedBars, NamesTheOneThatIsNotInOnePiece) {
    const auto config = sample_config();
    const auto shown = taken(sample(config));
    const auto fd = share(*create_memory("bar", 65536));
    std::array<MemoryRef, pci::bar_count> memory;
    memory[0] = {fd, 0, 16384};
    memory[3] = {fd, 0, 2048};
    const auto bars = described_bars(shown, memory);
    ASSERT_FALSE(bars);
    EXPECT_EQ(bars.error().code(), Errc::not_supported);
    EXPECT_THAT(bars.error().message(), HasSubstr("BAR 3 of 4096 bytes"));
}

} // namespace
} // namespace lanepool::bridge
