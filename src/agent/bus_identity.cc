// SPDX-License-Identifier: Apache-2.0
#include "agent/bus_identity.h"

#include "agent/device_class.h"
#include "inventory/names.h"
#include "inventory/parts.h"
#include "local_devices/pci_tree.h"

#include <array>

namespace lanepool::agent {

namespace {

constexpr uint32_t nvme_class = 0x010802;
constexpr uint64_t sector_bytes = 512; // of the attribute `size`, whatever the drive's blocks are

struct Read {
    v1::DeviceIdentity identity;
    bool serial_known = true;
};

// What its host's nvme driver says of it, at FOLDER/nvme/nvmeN; false: no driver has it.
bool read_drive(inventory::Files& files, const std::string& folder, v1::DeviceIdentity& identity) {
    const auto controllers = files.list(folder + "/nvme", 1);
    if (controllers.empty()) return false;
    const std::string drive = folder + "/nvme/" + controllers.front().name;
    const auto serial = files.read(drive + "/serial", 64);
    if (!serial) return false;
    identity.set_serial(inventory::read_word(files, drive + "/serial"));
    identity.set_model(inventory::read_word(files, drive + "/model"));
    identity.set_firmware(inventory::read_word(files, drive + "/firmware_rev"));
    uint64_t bytes = 0;
    for (const auto& [name, kind] : files.list(drive, 4096))
        if (kind == inventory::Kind::folder && name.starts_with("nvme"))
            bytes += inventory::read_number(files, drive + "/" + name + "/size").value_or(0) * sector_bytes;
    identity.set_capacity_bytes(bytes);
    return true;
}

Read read_identity(inventory::Files& files, const inventory::Roots& roots, const pci::Address& address) {
    const auto folder = inventory::follow(files, "/sys/bus/pci/devices/" + pci::to_string(address));
    if (!folder) return {};
    std::vector functions = {inventory::read_function(files, {address, *folder})};
    inventory::name_functions(inventory::read_ids(roots.ids), functions);
    const inventory::Function& function = functions.front();
    Read read;
    auto& identity = read.identity;
    identity.set_vendor_id(function.vendor_id);
    identity.set_device_id(function.device_id);
    identity.set_class_code(function.class_code);
    identity.set_kind(kind_of(function.class_code));
    identity.set_model(inventory::title_of(function));
    identity.set_serial(function.serial);
    identity.set_firmware(function.firmware);
    if (function.class_code == nvme_class && !read_drive(files, *folder, identity)) {
        identity.clear_serial();
        read.serial_known = false;
    }
    return read;
}

} // namespace

void BusIdentity::read(local_devices::System& system, const pci::Address& address, Sighting& seen) {
    const auto parent = local_devices::parent_of(system, address);
    const auto driver = [&](const pci::Address& function) {
        return local_devices::driver_of(system, function);
    };
    const std::string key =
        fmt::format("{} {} {} {}", local_devices::identity_of(system, address).ids, driver(address),
                    parent ? pci::to_string(*parent) : "", parent ? driver(*parent) : "");
    // A driver that has just been bound may take a moment to say who it has found.
    const bool may_say = !serial_known_ && driver(parent.value_or(address)) == "nvme";
    if (key != key_ || may_say) {
        inventory::DiskFiles files(roots_);
        auto read = read_identity(files, roots_, address);
        if (parent) {
            const auto of_parent = read_identity(files, roots_, *parent);
            read.identity.set_serial(of_parent.identity.serial());
            read.serial_known = of_parent.serial_known;
        }
        key_ = key;
        identity_ = std::move(read.identity);
        serial_known_ = read.serial_known;
    }
    seen.identity = identity_;
    seen.serial_known = serial_known_;
}

} // namespace lanepool::agent
