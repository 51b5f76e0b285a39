// SPDX-License-Identifier: Apache-2.0
#include "smartio/config_shadow.h"

#include "base/endian.h"
#include "pci/config_space.h"
#include "smartio/config_image_for_test.h"

#include <gmock/gmock.h>

namespace lanepool::smartio {
namespace {

using testing::ElementsAre;
using namespace test;

std::vector<std::byte> image(const ConfigShadow& shadow) {
    std::vector<std::byte> bytes(shadow.size_bytes());
    EXPECT_TRUE(shadow.read(0, bytes));
    return bytes;
}

template <class T>
T get(const ConfigShadow& shadow, uint64_t offset) {
    LittleEndian<T> value;
    EXPECT_TRUE(shadow.read(offset, std::as_writable_bytes(std::span(&value, 1))));
    return value;
}

template <class T>
ShadowEffects put(ConfigShadow& shadow, uint64_t offset, T value) {
    const LittleEndian<T> bytes = value;
    auto effects = shadow.write(offset, std::as_bytes(std::span(&bytes, 1)));
    EXPECT_TRUE(effects);
    return effects.value_or(ShadowEffects{});
}

ConfigShadow sample() {
    const auto config = sample_config();
    auto shadow = ConfigShadow::create(sample_source(config));
    EXPECT_TRUE(shadow) << (shadow ? "" : shadow.error().message());
    return std::move(*shadow);
}

std::vector<uint16_t> ids(const std::vector<pci::CapabilityEntry>& chain) {
    std::vector<uint16_t> result;
    for (const auto& entry : chain)
        result.push_back(entry.id);
    return result;
}

Errc refusal(const ShadowSource& source) {
    auto shadow = ConfigShadow::create(source);
    EXPECT_FALSE(shadow);
    return shadow ? Errc::internal : shadow.error().code();
}

TEST(ConfigShadow, KeepsOnlyWhatConcernsTheBorrower) {
    const auto shadow = sample();
    auto chain = pci::capabilities(image(shadow));
    ASSERT_TRUE(chain);
    EXPECT_THAT(ids(*chain), ElementsAre(0x01, 0x05, 0x10, 0x09));
    chain = pci::extended_capabilities(image(shadow));
    ASSERT_TRUE(chain);
    EXPECT_THAT(ids(*chain), ElementsAre(0x00, 0x03));
    EXPECT_EQ(chain->back().offset, at::serial_number);
    EXPECT_EQ(get<uint32_t>(shadow, at::serial_number + 4), 0xcafe0001);
}

TEST(ConfigShadow, LeavesNoByteOfAHiddenCapability) {
    const auto bytes = image(sample());
    for (const size_t offset : {at::msix, at::advanced_error + 4, at::sriov})
        EXPECT_EQ(pci::get32(bytes, offset), 0u) << offset;
}

TEST(ConfigShadow, AnExtendedChainWithNothingToKeepIsEmpty) {
    auto config = sample_config();
    pci::set32(config, at::advanced_error, 0x00010001); // ends here
    const auto shadow = ConfigShadow::create(sample_source(config));
    ASSERT_TRUE(shadow);
    EXPECT_EQ(get<uint32_t>(*shadow, 0x100), 0u);
}

TEST(ConfigShadow, ConventionalConfigSpaceIsEnough) {
    auto config = sample_config();
    config.resize(256);
    const auto shadow = ConfigShadow::create(sample_source(config));
    ASSERT_TRUE(shadow);
    EXPECT_EQ(shadow->size_bytes(), 256u);
}

TEST(ConfigShadow, BarsCanBeSized) {
    auto shadow = sample();
    for (const uint64_t offset : {0x10, 0x14, 0x18, 0x1c})
        put<uint32_t>(shadow, offset, 0xffffffff);
    EXPECT_EQ(get<uint32_t>(shadow, 0x10), 0xffffc00c);
    EXPECT_EQ(get<uint32_t>(shadow, 0x14), 0xffffffff);
    EXPECT_EQ(get<uint32_t>(shadow, 0x18), 0u); // the I/O BAR is hidden
    EXPECT_EQ(get<uint32_t>(shadow, 0x1c), 0xfffff000);
    EXPECT_TRUE(shadow.bar_visible(0) && shadow.bar_visible(3));
    EXPECT_FALSE(shadow.bar_visible(1) || shadow.bar_visible(2));
}

TEST(ConfigShadow, BarsTakeAnAddressByteByByte) {
    auto shadow = sample();
    put<uint8_t>(shadow, 0x12, 0x34);
    put<uint8_t>(shadow, 0x14, 0x12);
    EXPECT_EQ(get<uint64_t>(shadow, 0x10), 0x000000120034000cu);
}

TEST(ConfigShadow, BarsBeginWithoutTheLendersAddresses) {
    const auto shadow = sample();
    EXPECT_EQ(get<uint64_t>(shadow, 0x10), 0xcu);
    EXPECT_EQ(get<uint32_t>(shadow, 0x1c), 0u);
}

TEST(ConfigShadow, TheExpansionRomIsHidden) {
    auto shadow = sample();
    put<uint32_t>(shadow, 0x30, 0xffffffff);
    EXPECT_EQ(get<uint32_t>(shadow, 0x30), 0u);
}

TEST(ConfigShadow, MemoryAndBusMasterBitsReachTheDevice) {
    auto shadow = sample();
    EXPECT_EQ(get<uint16_t>(shadow, 0x04), 0u); // as after reset, whatever the lender had
    EXPECT_EQ(put<uint16_t>(shadow, 0x04, 0x0546).command, 0x0406);
    EXPECT_EQ(get<uint16_t>(shadow, 0x04), 0x0546);
    EXPECT_EQ(put<uint16_t>(shadow, 0x04, 0x0546).command, std::nullopt); // no change, nothing to do
    EXPECT_EQ(put<uint8_t>(shadow, 0x04, 0x00).command, 0x0400);
}

TEST(ConfigShadow, IdentityCannotBeWritten) {
    auto shadow = sample();
    const auto before = image(shadow);
    for (const uint64_t offset : {0x00, 0x08, 0x2c, 0x34, 0x40, 0x44})
        EXPECT_EQ(put<uint16_t>(shadow, offset, 0xfffc), ShadowEffects{});
    EXPECT_EQ(image(shadow), before);
}

TEST(ConfigShadow, MsiOffersNoMoreThanTheVectorsThereAre) {
    const auto config = sample_config();
    auto source = sample_source(config);
    source.msi_vectors = 9;
    auto shadow = ConfigShadow::create(source);
    ASSERT_TRUE(shadow);
    EXPECT_EQ(get<uint16_t>(*shadow, at::msi + 2), 0x0086); // 8 vectors, 64 bits, no masking, off
    EXPECT_EQ(get<uint32_t>(*shadow, at::msi + 4), 0u);     // not the lender's address
    source.msi_vectors = 0;
    shadow = ConfigShadow::create(source);
    ASSERT_TRUE(shadow);
    const auto chain = pci::capabilities(image(*shadow));
    EXPECT_THAT(ids(*chain), ElementsAre(0x01, 0x10, 0x09));
}

TEST(ConfigShadow, MsiCanBeProgrammedWithoutTheDevice) {
    auto shadow = sample();
    EXPECT_EQ(put<uint32_t>(shadow, at::msi + 4, 0xfee00003), ShadowEffects{});
    EXPECT_EQ(put<uint16_t>(shadow, at::msi + 2, 0x0031), ShadowEffects{});
    EXPECT_EQ(get<uint32_t>(shadow, at::msi + 4), 0xfee00000);
    EXPECT_EQ(get<uint16_t>(shadow, at::msi + 2), 0x00bb);
}

TEST(ConfigShadow, FunctionLevelResetIsForwardedAndClearsTheShadow) {
    auto shadow = sample();
    const auto fresh = image(shadow);
    put<uint16_t>(shadow, 0x04, 0x0006);
    put<uint32_t>(shadow, 0x10, 0xf0000000);
    const auto effects = put<uint16_t>(shadow, at::pci_express + 8, 0x8000);
    EXPECT_TRUE(effects.reset);
    EXPECT_EQ(effects.command, std::nullopt);
    EXPECT_EQ(image(shadow), fresh);
}

TEST(ConfigShadow, WithoutFlrTheBitDoesNothing) {
    auto config = sample_config();
    pci::set32(config, at::pci_express + 4, 0);
    auto shadow = ConfigShadow::create(sample_source(config));
    ASSERT_TRUE(shadow);
    EXPECT_FALSE(shadow->has_flr());
    EXPECT_FALSE(put<uint16_t>(*shadow, at::pci_express + 8, 0x8000).reset);
    EXPECT_EQ(get<uint16_t>(*shadow, at::pci_express + 8) & 0x8000, 0);
}

// A function without MSI, with three vectors of its 33.
ShadowSource msix_only(std::span<const std::byte> config) {
    auto source = sample_source(config);
    source.msi_vectors = 0;
    source.msix_vectors = 3;
    return source;
}

TEST(ConfigShadow, MsixIsForTheGuestOnly) {
    auto config = sample_config();
    pci::set32(config, at::msix + 4, 0x2000);
    pci::set32(config, at::msix + 8, 0x0003);
    const auto shadow = ConfigShadow::create(msix_only(config));
    ASSERT_TRUE(shadow);
    // As QEMU reads it.
    const auto chain = pci::capabilities(image(*shadow));
    ASSERT_TRUE(chain);
    EXPECT_THAT(ids(*chain), ElementsAre(0x01, 0x7f, 0x10, 0x09));
    std::vector<std::byte> conventional(256);
    ASSERT_TRUE(shadow->read(0, conventional));
    EXPECT_EQ(conventional[at::msix], std::byte{0x7f});
    // As its guest does.
    EXPECT_EQ(get<uint8_t>(*shadow, at::msix), 0x11);
    EXPECT_EQ(get<uint16_t>(*shadow, at::msix), 0x7011); // and on to PCI Express
    EXPECT_EQ(get<uint32_t>(*shadow, at::msix), 0x00027011u);
    EXPECT_EQ(get<uint32_t>(*shadow, at::msix + 4), 0x2000u);
    EXPECT_EQ(get<uint32_t>(*shadow, at::msix + 8), 0x0003u);
    EXPECT_EQ(shadow->msix()->vectors, 3u);
    EXPECT_EQ(shadow->msix()->table.offset_bytes, 0x2000u);
    EXPECT_EQ(shadow->msix()->pending.bar, 3u);
}

TEST(ConfigShadow, MsixIsTurnedOnAndMaskedHere) {
    auto config = sample_config();
    pci::set32(config, at::msix + 8, 0x0003);
    auto shadow = ConfigShadow::create(msix_only(config));
    ASSERT_TRUE(shadow);
    EXPECT_FALSE(shadow->msix_enabled()); // whatever the lender had
    EXPECT_TRUE(put<uint16_t>(*shadow, at::msix + 2, 0xffff).msix);
    EXPECT_EQ(get<uint16_t>(*shadow, at::msix + 2), 0xc002);
    EXPECT_TRUE(shadow->msix_enabled() && shadow->msix_masked());
    EXPECT_FALSE(put<uint16_t>(*shadow, at::msix + 2, 0xc000).msix);
    EXPECT_TRUE(put<uint8_t>(*shadow, at::msix + 3, 0x80).msix);
    EXPECT_FALSE(shadow->msix_masked());
    EXPECT_EQ(put<uint32_t>(*shadow, at::msix + 4, 0xffffffff), ShadowEffects{});
    EXPECT_EQ(get<uint32_t>(*shadow, at::msix + 4), 0u);
    shadow->reset();
    EXPECT_FALSE(shadow->msix_enabled());
}

TEST(ConfigShadow, MsixIsHiddenWhereThereIsMsiOrItMakesNoSense) {
    auto config = sample_config();
    pci::set32(config, at::msix + 8, 0x0003);
    auto both = msix_only(config);
    both.msi_vectors = 1;
    EXPECT_FALSE(ConfigShadow::create(both)->msix());
    auto none = msix_only(config);
    none.msix_vectors = 0;
    EXPECT_FALSE(ConfigShadow::create(none)->msix());
    const auto with = [&](uint32_t table, uint32_t pending) {
        auto odd = config;
        pci::set32(odd, at::msix + 4, table);
        pci::set32(odd, at::msix + 8, pending);
        const auto shadow = ConfigShadow::create(msix_only(odd));
        EXPECT_TRUE(shadow);
        return shadow && shadow->msix();
    };
    EXPECT_TRUE(with(0x3000, 0x0));
    EXPECT_FALSE(with(0x3e00, 0x0)) << "the table leaves its BAR";
    EXPECT_FALSE(with(0x3000, 0x3008)) << "the pending bits lie in it";
    EXPECT_FALSE(with(0x0002, 0x0)) << "an I/O BAR";
    EXPECT_FALSE(with(0x0004, 0x0)) << "no BAR";
    EXPECT_FALSE(with(0x0007, 0x0)) << "there are six";
}

TEST(ConfigShadow, VendorsOwnAreKeptWhereTheyAreSound) {
    auto config = sample_config();
    pci::set32(config, at::vendor + 4, 0x12345678);
    auto shadow = ConfigShadow::create(sample_source(config));
    EXPECT_EQ(get<uint32_t>(*shadow, at::vendor + 4), 0x12345678u);
    EXPECT_EQ(put<uint32_t>(*shadow, at::vendor + 4, 0), ShadowEffects{});
    EXPECT_EQ(get<uint32_t>(*shadow, at::vendor + 4), 0x12345678u);
    for (const unsigned length : {0u, 2u, 0x41u}) {
        config[at::vendor + 2] = static_cast<std::byte>(length);
        shadow = ConfigShadow::create(sample_source(config));
        ASSERT_TRUE(shadow);
        EXPECT_THAT(ids(*pci::capabilities(image(*shadow))), ElementsAre(0x01, 0x05, 0x10)) << length;
    }
    // One that reaches into another is given up; the other is not.
    pci::set32(config, 0x48, 0x00400009 | at::power_management << 8);
    config[pci::config::capabilities] = std::byte{0x48};
    config[at::vendor + 2] = std::byte{16};
    shadow = ConfigShadow::create(sample_source(config));
    ASSERT_TRUE(shadow);
    EXPECT_THAT(ids(*pci::capabilities(image(*shadow))), ElementsAre(0x01, 0x05, 0x10, 0x09));
}

TEST(ConfigShadow, VirtioIsNotReachedThroughConfigSpace) {
    auto config = sample_config();
    config[at::vendor + 3] = std::byte{5};
    EXPECT_EQ(get<uint8_t>(*ConfigShadow::create(sample_source(config)), at::vendor), 0x09);
    pci::set16(config, pci::config::vendor_id, 0x1af4);
    EXPECT_EQ(get<uint8_t>(*ConfigShadow::create(sample_source(config)), at::vendor), 0x00);
    config[at::vendor + 3] = std::byte{1};
    EXPECT_EQ(get<uint8_t>(*ConfigShadow::create(sample_source(config)), at::vendor), 0x09);
}

TEST(ConfigShadow, PowerStatesAreEmulated) {
    auto shadow = sample();
    EXPECT_EQ(get<uint16_t>(shadow, at::power_management + 2) & 0xf800, 0); // no PME
    EXPECT_EQ(put<uint16_t>(shadow, at::power_management + 4, 0x8003), ShadowEffects{});
    EXPECT_EQ(get<uint16_t>(shadow, at::power_management + 4), 0x000b); // D3hot, and nothing was lost
}

TEST(ConfigShadow, IntxIsShownOnlyWhereItWorks) {
    const auto config = sample_config();
    auto source = sample_source(config);
    EXPECT_EQ(get<uint8_t>(*ConfigShadow::create(source), 0x3d), 1);
    source.intx_vectors = 0;
    EXPECT_EQ(get<uint8_t>(*ConfigShadow::create(source), 0x3d), 0);
}

TEST(ConfigShadow, InterruptStatusIsTheDevices) {
    auto shadow = sample();
    shadow.set_interrupt_status(true);
    EXPECT_EQ(get<uint16_t>(shadow, 0x06), 0x0018);
    shadow.set_interrupt_status(false);
    EXPECT_EQ(get<uint16_t>(shadow, 0x06), 0x0010);
}

TEST(ConfigShadow, AccessesOutsideAreRefused) {
    auto shadow = sample();
    std::array<std::byte, 8> bytes{};
    EXPECT_FALSE(shadow.read(4090, bytes));
    EXPECT_FALSE(shadow.write(4090, bytes));
    EXPECT_FALSE(shadow.read(~uint64_t{0}, bytes));
    EXPECT_FALSE(shadow.write(~uint64_t{0}, bytes));
}

TEST(ConfigShadow, BrokenChainsAreRefused) {
    for (const auto& [offset, value] : {std::pair{size_t{0x34}, 0x20u},       // into the header
                                        {at::vendor + 1, 0x40u},              // round and round
                                        {at::power_management + 1, 0x44u}}) { // into the one before
        auto config = sample_config();
        config[offset] = static_cast<std::byte>(value);
        if (value == 0x44) pci::set16(config, 0x44, 0x0005); // an MSI inside of power management
        EXPECT_EQ(refusal(sample_source(config)), Errc::protocol) << offset;
    }
    auto config = sample_config();
    pci::set32(config, at::serial_number, at::sriov << 20 | 0x10003);
    EXPECT_EQ(refusal(sample_source(config)), Errc::protocol);
}

TEST(ConfigShadow, ACapabilityThatLeavesConfigSpaceIsRefused) {
    auto config = sample_config();
    config[at::pci_express + 1] = std::byte{0xfc};
    pci::set16(config, 0xfc, 0x0001);
    config[at::power_management] = std::byte{0x09};
    EXPECT_EQ(refusal(sample_source(config)), Errc::protocol);
    config = sample_config();
    pci::set32(config, at::sriov, 0xffcu << 20 | 0x10010);
    pci::set32(config, 0xffc, 0x10003);
    EXPECT_EQ(refusal(sample_source(config)), Errc::protocol);
}

TEST(ConfigShadow, BarsThatCannotBeAreRefused) {
    const auto config = sample_config();
    auto source = sample_source(config);
    source.bar_bytes[1] = 4096; // the upper half of BAR 0
    EXPECT_EQ(refusal(source), Errc::protocol);
    source = sample_source(config);
    source.bar_bytes[3] = 4097;
    EXPECT_EQ(refusal(source), Errc::protocol);
    source = sample_source(config);
    source.bar_bytes[3] = uint64_t{1} << 32;
    EXPECT_EQ(refusal(source), Errc::protocol);
}

TEST(ConfigShadow, BridgesAndGoneDevicesAreRefused) {
    auto config = sample_config();
    config[0x0e] = std::byte{1};
    EXPECT_EQ(refusal(sample_source(config)), Errc::protocol);
    std::ranges::fill(config, std::byte{0xff});
    EXPECT_EQ(refusal(sample_source(config)), Errc::protocol);
    EXPECT_EQ(refusal(sample_source(std::span(config).first(100))), Errc::protocol);
}

} // namespace
} // namespace lanepool::smartio
