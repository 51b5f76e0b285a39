// SPDX-License-Identifier: Apache-2.0
#include "cli/table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lanepool::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

v1::Device& add(v1::DeviceList& list, uint64_t fdid, const std::string& name,
                const std::string& parent = "") {
    auto& device = *list.add_devices();
    device.set_fdid(fdid);
    device.set_name(name);
    device.set_parent(parent);
    device.set_state("available");
    return device;
}

TEST(DevicesText, HasNoColumnForFunctionsWhereThereAreNone) {
    v1::DeviceList list;
    add(list, 0x80000, "store/nvme0");
    EXPECT_EQ(devices_text(list),
              "FDID   DEVICE       KIND  MODEL  CAPACITY  STATE      BORROWER  LOAN  REASON\n"
              "80000  store/nvme0  -     -      -         available  -         -     -\n");
}

TEST(DevicesText, ShowsFunctionsBelowTheirParent) {
    v1::DeviceList list;
    auto& parent = add(list, 0x80000, "store/nic0");
    parent.set_functions(2);
    parent.set_most_functions(8);
    add(list, 0x80001, "store/nvme0");
    add(list, 0x80002, "store/nic0.vf0", "store/nic0");
    add(list, 0x80003, "store/nic0.vf1", "store/nic0");
    EXPECT_EQ(devices_text(list),
              "FDID   DEVICE            VFS  KIND  MODEL  CAPACITY  STATE      BORROWER  LOAN  REASON\n"
              "80000  store/nic0        2/8  -     -      -         available  -         -     -\n"
              "80002    store/nic0.vf0  -    -     -      -         available  -         -     -\n"
              "80003    store/nic0.vf1  -    -     -      -         available  -         -     -\n"
              "80001  store/nvme0       -    -     -      -         available  -         -     -\n");
}

TEST(DevicesText, ShowsEachOnceWhateverTheirParents) {
    v1::DeviceList list;
    add(list, 0x80000, "store/a", "store/gone");
    add(list, 0x80001, "store/b");
    add(list, 0x80002, "store/b"); // another one of that name, before
    add(list, 0x80003, "store/b.vf0", "store/b");
    const std::string text = devices_text(list);
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 5);
    EXPECT_THAT(text, HasSubstr("80000    store/a"));
}

} // namespace
} // namespace lanepool::cli
