// SPDX-License-Identifier: Apache-2.0
#include "base/temporary_folder.h"
#include "cli/context.h"
#include "inventory/reader.h"
#include "inventory/testing/machines.h"
#include "inventory/text.h"
#include "site/site_file.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

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

// A machine of the collection in a folder, and commands that look at it.
class Commands {
  public:
    explicit Commands(inventory::testing::MachineBuilder builder) {
        if (const auto written = builder.tree().write(folder_ / "machine"); !written)
            throw std::runtime_error(written.error().message());
    }
    // The exit code of a command with --sysroot; what it says is in said().
    int run(std::vector<std::string> words) {
        words.insert(words.begin(), "lanepool");
        words.insert(words.end(), {"--sysroot", folder_ / "machine"});
        std::vector<char*> pointers;
        for (auto& word : words)
            pointers.push_back(word.data());
        ::testing::internal::CaptureStdout();
        ::testing::internal::CaptureStderr();
        const int exit_code = cli::run(static_cast<int>(pointers.size()), pointers.data());
        said_ = ::testing::internal::GetCapturedStdout();
        ::testing::internal::GetCapturedStderr();
        return exit_code;
    }
    const std::string& said() const { return said_; }
    bool says(const std::string& text) const { return said_.find(text) != std::string::npos; }
    std::string place(const std::string& name) const { return folder_ / name; }

  private:
    TemporaryFolder folder_;
    std::string said_;
};

TEST(Inventory, PrintsTableTreeDetailsAndJson) {
    Commands commands(inventory::testing::plain_server());
    EXPECT_EQ(commands.run({"inventory"}), exit_ok);
    EXPECT_TRUE(commands.says("0000:01:00.0  nvme") && !commands.says("0000:00:01.0")) << commands.said();
    EXPECT_EQ(commands.run({"inventory", "--all"}), exit_ok);
    EXPECT_TRUE(commands.says("0000:00:01.0")) << commands.said();
    EXPECT_EQ(commands.run({"inventory", "--class", "nic"}), exit_ok);
    EXPECT_TRUE(commands.says("0000:02:00.0") && !commands.says("0000:01:00.0")) << commands.said();
    EXPECT_EQ(commands.run({"inventory", "--tree"}), exit_ok);
    EXPECT_TRUE(commands.says("|  `- 0000:01:00.0 nvme")) << commands.said();
    EXPECT_EQ(commands.run({"inventory", "01:00.0"}), exit_ok);
    EXPECT_TRUE(commands.says("S1234567")) << commands.said();
    EXPECT_EQ(commands.run({"inventory", "-o", "json", "--class", "nvme"}), exit_ok);
    EXPECT_EQ(nlohmann::json::parse(commands.said())["functions"].size(), 1u);
}

TEST(Inventory, EndsWithWhatWentWrong) {
    Commands commands(inventory::testing::plain_server());
    EXPECT_EQ(commands.run({"inventory", "0000:99:00.0"}), exit_not_found);
    EXPECT_EQ(commands.run({"inventory", "there"}), exit_usage);
    EXPECT_EQ(commands.run({"inventory", "--tree", "--toml"}), exit_usage);
    EXPECT_EQ(commands.run({"inventory", "--registers"}), exit_usage);
    EXPECT_EQ(commands.run({"inventory", "--save", commands.place("new")}), exit_ok);
    EXPECT_NE(commands.run({"inventory", "--save", commands.place("new")}), exit_ok);
}

TEST(Completion, HasTheCommandsAndTheirOptions) {
    std::string words[]{"lanepool", "completion", "bash"};
    char* pointers[]{words[0].data(), words[1].data(), words[2].data()};
    ::testing::internal::CaptureStdout();
    EXPECT_EQ(cli::run(3, pointers), exit_ok);
    const auto script = ::testing::internal::GetCapturedStdout();
    EXPECT_NE(script.find("'inventory') words="), std::string::npos) << script;
    EXPECT_NE(script.find("--matrix"), std::string::npos);
}

TEST(QualifyCommand, EndsWithTheVerdictOfTheModelThatDecides) {
    Commands commands(inventory::testing::virtual_functions());
    EXPECT_EQ(commands.run({"qualify", "0000:01:00.1"}), exit_ok); // a virtual function, so by vf
    EXPECT_EQ(commands.run({"qualify", "0000:01:00.0"}), exit_failed);
    EXPECT_TRUE(commands.says("lending   not fit") && commands.says("vf        fit with limits"))
        << commands.said();
    EXPECT_EQ(commands.run({"qualify", "0000:01:00.0", "--model", "vf"}), exit_ok);
    EXPECT_EQ(commands.run({"qualify", "0000:77:00.0"}), exit_not_found);
    EXPECT_EQ(commands.run({"qualify", "0000:01:00.1", "--matrix", commands.place("none")}), exit_not_found);
    EXPECT_EQ(commands.run({"qualify", "0000:01:00.1", "-o", "json"}), exit_ok);
    EXPECT_EQ(nlohmann::json::parse(commands.said())["qualification"]["result"], "fit");
    EXPECT_EQ(commands.run({"qualify"}), exit_ok);
    EXPECT_TRUE(commands.says("0000:02:00.2")) << commands.said();
}

} // namespace
} // namespace lanepool::cli
