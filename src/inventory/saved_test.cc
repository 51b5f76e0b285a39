// SPDX-License-Identifier: Apache-2.0
//
// The saved trees of tests/data/machines, unpacked to a disk, are read as the machines that they were made
// of. After a change of testing/machines.h: inventory_write_machines tests/data/machines
#include "base/temporary_folder.h"
#include "inventory/json.h"
#include "inventory/reader.h"
#include "inventory/save.h"
#include "inventory/testing/machines.h"

#include <gtest/gtest.h>

namespace lanepool::inventory {
namespace {

TEST(SavedMachines, AreReadAsTheyWereMade) {
    const TemporaryFolder folder;
    for (const auto& machine : testing::machines) {
        const auto command = fmt::format("tar -C '{}' -xJf '{}/{}.tar.xz'", folder.path().string(),
                                         LANEPOOL_MACHINES, machine.name);
        ASSERT_EQ(std::system(command.c_str()), 0) << machine.name;
        Roots roots = Roots::saved_in(folder / machine.name);
        roots.ids = folder / "none";
        auto builder = machine.make();
        EXPECT_EQ(to_json(read_machine(roots)).dump(1), to_json(read_machine(builder.tree(), "")).dump(1))
            << machine.name;
    }
}

TEST(SavedMachines, KeepTheirSecrets) {
    const TemporaryFolder folder;
    auto builder = testing::plain_server();
    builder.kernel_options("root=/dev/sda1 password=secret intel_iommu=on");
    builder.tree().add_file("/lib/modules/6.1.0-50-amd64/modules.dep",
                            "kernel/secret.ko:\nkernel/drivers/vfio/vfio_iommu_type1.ko: a.ko\n");
    ASSERT_TRUE(builder.tree().write(folder / "machine"));
    const auto saved = save_machine(Roots::saved_in(folder / "machine"), folder / "saved");
    ASSERT_TRUE(saved) << saved.error().message();
    EXPECT_GT(saved->entries, 100u);
    DiskFiles files(Roots::saved_in(folder / "saved"));
    EXPECT_EQ(files.read("/proc/cmdline", 1000), "intel_iommu=on\n");
    EXPECT_EQ(files.read("/lib/modules/6.1.0-50-amd64/modules.dep", 1000),
              "kernel/drivers/vfio/vfio_iommu_type1.ko: a.ko\n");
    EXPECT_EQ(read_machine(files, "").host.vfio, std::vector<std::string>{"type1"});
}

} // namespace
} // namespace lanepool::inventory
