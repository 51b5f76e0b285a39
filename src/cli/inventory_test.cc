// SPDX-License-Identifier: Apache-2.0
#include "inventory/reader.h"
#include "inventory/testing/machines.h"
#include "inventory/text.h"
#include "site/site_file.h"

#include <gtest/gtest.h>

namespace lanepool::cli {
namespace {

TEST(Inventory, GivesWhatASiteFileTakes) {
    size_t classes = 0;
    for (const auto& machine : inventory::testing::machines) {
        auto builder = machine.make();
        const auto text = inventory::site_toml(inventory::read_machine(builder.tree(), ""));
        const auto reading = site::read(text);
        EXPECT_TRUE(reading.good()) << machine.name << "\n"
                                    << site::problem_lines(reading, "inventory") << text;
        EXPECT_EQ(reading.site.hosts.size(), 1u);
        classes += reading.site.classes.size();
    }
    EXPECT_GT(classes, 10u);
}

TEST(Inventory, NamesAHostAsASiteFileCan) {
    for (const char* name : {"", "-.-", "a b\"c", "\n[[rule]]", "x\xff"}) {
        inventory::testing::MachineBuilder builder = inventory::testing::plain_server();
        builder.tree().add_file("/proc/sys/kernel/hostname", name);
        EXPECT_TRUE(site::read(inventory::site_toml(inventory::read_machine(builder.tree(), ""))).good());
    }
}

} // namespace
} // namespace lanepool::cli
