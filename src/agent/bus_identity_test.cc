// SPDX-License-Identifier: Apache-2.0
#include "agent/bus_identity.h"

#include "base/temporary_folder.h"
#include "pci/config_space.h"

#include <array>
#include <fstream>
#include <gtest/gtest.h>

namespace lanepool::agent {
namespace {

constexpr pci::Address drive{0, 2, 0, 0}, nic{0, 3, 0, 0}, function{0, 3, 0x10, 0};

// A machine's sysfs, as far as it says who functions are.
class BusIdentityTest : public testing::Test {
  protected:
    BusIdentityTest() : system_(local_devices::linux_system({root("sys"), root("proc"), root("dev")})) {
        for (const char* name : {"proc", "dev", "etc", "lib", "sys/bus/pci/devices"})
            std::filesystem::create_directories(root(name));
        add(drive, "0x1b36", "0x0010", "0x010802");
        add(nic, "0x8086", "0x10c9", "0x020000");
        put(nic, "config", config(0x0102030405060708));
        inventory::Roots roots = inventory::Roots::saved_in(folder_.path());
        roots.ids = root("pci.ids");
        std::ofstream(root("pci.ids"))
            << "8086  Intel Corporation\n\t10c9  82576 Gigabit Network Connection\n";
        identity_ = std::make_unique<BusIdentity>(roots);
    }

    Sighting read(const pci::Address& address) {
        Sighting seen;
        identity_->read(*system_, address, seen);
        return seen;
    }
    std::filesystem::path root(const std::string& name) const { return folder_.path() / name; }
    std::filesystem::path folder(const pci::Address& address) const {
        return root("sys/devices/pci0000:00") / pci::to_string(address);
    }
    void put(const pci::Address& address, const std::string& attribute, const std::string& text) {
        std::filesystem::create_directories((folder(address) / attribute).parent_path());
        std::ofstream(folder(address) / attribute) << text;
    }
    void add(const pci::Address& address, const std::string& vendor, const std::string& device,
             const std::string& class_code) {
        put(address, "vendor", vendor + "\n");
        put(address, "device", device + "\n");
        put(address, "class", class_code + "\n");
        put(address, "subsystem_vendor", "0x1af4\n");
        put(address, "subsystem_device", "0x1100\n");
        std::filesystem::create_directory_symlink("../../../devices/pci0000:00/" + pci::to_string(address),
                                                  root("sys/bus/pci/devices") / pci::to_string(address));
    }
    void bind(const pci::Address& address, const std::string& driver) {
        std::filesystem::create_directories(root("sys/bus/pci/drivers") / driver);
        std::filesystem::remove(folder(address) / "driver");
        if (!driver.empty())
            std::filesystem::create_directory_symlink("../../../bus/pci/drivers/" + driver,
                                                      folder(address) / "driver");
    }
    // What the nvme driver shows, padded as the drive says it.
    void say_drive(const std::string& serial) {
        put(drive, "nvme/nvme0/serial", serial + std::string(20 - serial.size(), ' ') + "\n");
        put(drive, "nvme/nvme0/model", "Fast Drive          \n");
        put(drive, "nvme/nvme0/firmware_rev", "7.1     \n");
        put(drive, "nvme/nvme0/nvme0n1/size", "131072\n");
    }
    static std::string config(uint64_t serial_number) {
        std::array<std::byte, pci::extended_config_bytes> bytes{};
        pci::set16(bytes, pci::config::vendor_id, 0x8086);
        pci::set16(bytes, pci::config::device_id, 0x10c9);
        pci::set16(bytes, pci::config::status, pci::status::capabilities_list);
        bytes[pci::config::capabilities] = std::byte{0x40};
        pci::set16(bytes, 0x40, static_cast<uint16_t>(pci::Capability::pci_express));
        pci::set32(bytes, 0x100, static_cast<uint32_t>(pci::ExtendedCapability::serial_number) | 1 << 16);
        pci::set32(bytes, 0x104, static_cast<uint32_t>(serial_number));
        pci::set32(bytes, 0x108, static_cast<uint32_t>(serial_number >> 32));
        return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    }

    TemporaryFolder folder_;
    std::unique_ptr<local_devices::System> system_;
    std::unique_ptr<BusIdentity> identity_;
};

TEST_F(BusIdentityTest, ADriveIsAsItsHostsDriverSays) {
    bind(drive, "nvme");
    say_drive("SN 1");
    const auto seen = read(drive);
    EXPECT_TRUE(seen.serial_known);
    EXPECT_EQ(seen.identity.serial(), "SN 1");
    EXPECT_EQ(seen.identity.model(), "Fast Drive");
    EXPECT_EQ(seen.identity.firmware(), "7.1");
    EXPECT_EQ(seen.identity.capacity_bytes(), 64u << 20);
    EXPECT_EQ(seen.identity.kind(), "nvme");
    EXPECT_EQ(seen.identity.vendor_id(), 0x1b36u);
    EXPECT_EQ(seen.identity.class_code(), 0x010802u);
}

TEST_F(BusIdentityTest, ADriveWithoutADriverDoesNotSayItsNumber) {
    EXPECT_FALSE(read(drive).serial_known);
    bind(drive, "vfio-pci");
    const auto seen = read(drive);
    EXPECT_FALSE(seen.serial_known);
    EXPECT_EQ(seen.identity.serial(), "");
}

TEST_F(BusIdentityTest, ADriverThatHasJustBeenBoundMayTakeItsTime) {
    bind(drive, "nvme");
    EXPECT_FALSE(read(drive).serial_known);
    say_drive("S1");
    EXPECT_TRUE(read(drive).serial_known);
    EXPECT_EQ(read(drive).identity.serial(), "S1");
}

// (host, name, serial number) is who a device is.
TEST_F(BusIdentityTest, ACardHasTheSameNumberWhoeverHasIt) {
    bind(nic, "igb");
    const auto before = read(nic);
    EXPECT_TRUE(before.serial_known);
    EXPECT_EQ(before.identity.serial(), "01-02-03-04-05-06-07-08");
    EXPECT_EQ(before.identity.model(), "82576 Gigabit Network Connection");
    EXPECT_EQ(before.identity.kind(), "nic");
    for (const char* driver : {"vfio-pci", ""}) {
        bind(nic, driver);
        EXPECT_EQ(read(nic).identity.SerializeAsString(), before.identity.SerializeAsString()) << driver;
    }
}

TEST_F(BusIdentityTest, AFunctionHasItsParentsNumber) {
    add(function, "0x8086", "0x10ca", "0x020000");
    std::filesystem::create_directory_symlink("../0000:03:00.0", folder(function) / "physfn");
    const auto seen = read(function);
    EXPECT_TRUE(seen.serial_known);
    EXPECT_EQ(seen.identity.serial(), "01-02-03-04-05-06-07-08");
    EXPECT_EQ(seen.identity.device_id(), 0x10cau);
}

TEST_F(BusIdentityTest, AnotherDriveInItsPlaceIsReadAnew) {
    bind(drive, "nvme");
    say_drive("S1");
    ASSERT_EQ(read(drive).identity.serial(), "S1");
    identity_->forget(); // it was away
    say_drive("S2");
    EXPECT_EQ(read(drive).identity.serial(), "S2");
}

TEST_F(BusIdentityTest, OfAFunctionThatIsNotThereNothingIsSaid) {
    EXPECT_EQ(read({0, 9, 0, 0}).identity.vendor_id(), 0u);
}

} // namespace
} // namespace lanepool::agent
