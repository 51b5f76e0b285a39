// SPDX-License-Identifier: Apache-2.0
#include "agent/device_records.h"
#include "base/temporary_folder.h"

#include <gmock/gmock.h>

#include <fstream>
#include <sstream>
#include <stdlib.h>

namespace lanepool::agent {
namespace {

using ::testing::HasSubstr;

class Records : public ::testing::Test {
  protected:
    Records() { reopen(); }

    std::filesystem::path file() const { return folder_ / "devices.json"; }
    void reopen() { records.emplace(DeviceRecords::open(file()).value()); }
    void write(const std::string& text) const { std::ofstream(file()) << text; }
    std::string read() const {
        std::ostringstream text;
        text << std::ifstream(file()).rdbuf();
        return text.str();
    }
    DeviceRecord found(const std::string& serial, const std::string& name = "nvme0") {
        return records->found(name, serial).value();
    }
    void put(const std::string& serial, const DeviceRecord& record) {
        ASSERT_TRUE(records->put("nvme0", serial, record));
    }

    std::optional<DeviceRecords> records;

  private:
    TemporaryFolder folder_;
};

TEST_F(Records, ADeviceThatIsNotKnownIsNotClean) { EXPECT_EQ(found("A"), DeviceRecord{}); }

TEST_F(Records, OutliveTheirAgent) {
    const DeviceRecord kept{7, true, "it was slow"};
    found("A");
    put("A", kept);
    reopen();
    EXPECT_EQ(found("A"), kept);
    EXPECT_EQ(found("A"), kept);
}

TEST_F(Records, ADriveInTheSamePlaceInheritsNothing) {
    found("A");
    put("A", {7, true, ""});
    reopen();
    EXPECT_EQ(found("B"), DeviceRecord{});
    put("B", {2, true, ""});
    reopen();
    EXPECT_EQ(found("B"), (DeviceRecord{2, true, ""}));
}

TEST_F(Records, ADriveThatWasAwayKeepsItsEpochAndIsNotClean) {
    found("A");
    put("A", {7, true, "it was slow"});
    found("B");
    reopen();
    EXPECT_EQ(found("A"), (DeviceRecord{7, false, "it was slow"}));
}

TEST_F(Records, TheSameNumberInTwoPlacesAreTwoDrives) {
    found("A");
    put("A", {7, true, ""});
    EXPECT_EQ(found("A", "nvme1"), DeviceRecord{});
    EXPECT_EQ(found("A"), (DeviceRecord{7, true, ""}));
}

TEST_F(Records, WithoutANumberNothingIsCleanWhenItIsBack) {
    found("");
    put("", {7, true, ""});
    EXPECT_EQ(found(""), (DeviceRecord{7, false, ""}));
}

TEST_F(Records, OfAnEarlierFormatTheEpochIsTaken) {
    write(R"({"nvme0": {"epoch": 9, "clean": true, "problem": ""},
              "format": {"epoch": 3, "clean": true, "problem": "bus master is on"}})");
    reopen();
    EXPECT_EQ(found("A"), (DeviceRecord{9, false, ""}));
    put("A", {10, true, ""});
    EXPECT_EQ(found("B", "format"), (DeviceRecord{3, false, ""}));
    reopen();
    EXPECT_EQ(found("A"), (DeviceRecord{10, true, ""}));
    EXPECT_EQ(found("C"), DeviceRecord{}); // the place was somebody's
}

// What was not found again yet is not lost when something else is written down.
TEST_F(Records, OfAnEarlierFormatNothingIsForgotten) {
    write(R"({"nvme0": {"epoch": 9, "clean": true, "problem": ""}})");
    reopen();
    found("B", "nvme1");
    reopen();
    EXPECT_EQ(found("A"), (DeviceRecord{9, false, ""}));
}

TEST_F(Records, CanBeReadByPeople) {
    found("A");
    put("A", {7, true, ""});
    EXPECT_THAT(read(), HasSubstr(R"("serial": "A")"));
    EXPECT_THAT(read(), HasSubstr(R"("epoch": 7)"));
}

TEST_F(Records, ForgetTheFirstThatWasTakenOutAndNeverOneThatIsThere) {
    const auto entry = [](const std::string& name, const std::string& serial) {
        return fmt::format(R"({{"name": "{}", "serial": "{}", "epoch": 5, "clean": true, "problem": ""}})",
                           name, serial);
    };
    std::string devices = entry("nvme1", "kept");
    for (int i = 0; i < 1023; ++i)
        devices += "," + entry("nvme0", std::to_string(i));
    write(R"({"format": 2, "devices": [)" + devices + "]}");
    reopen();
    found("new");
    reopen();
    EXPECT_THAT(read(), ::testing::Not(HasSubstr(R"("serial": "0")")));
    EXPECT_THAT(read(), HasSubstr(R"("serial": "1")"));
    EXPECT_EQ(found("kept", "nvme1"), (DeviceRecord{5, true, ""}));
    EXPECT_EQ(found("1022"), (DeviceRecord{5, false, ""}));
}

TEST_F(Records, WhatCannotBeWrittenHasNotChanged) {
    found("A");
    put("A", {7, true, ""});
    std::filesystem::rename(file(), file().string() + ".away");
    std::filesystem::create_directory(file()); // cannot be replaced by a file
    EXPECT_FALSE(records->put("nvme0", "A", {8, false, ""}));
    EXPECT_FALSE(records->found("nvme0", "B"));
    EXPECT_EQ(found("A"), (DeviceRecord{7, true, ""}));
    EXPECT_EQ(records->put("nvme0", "C", {}).error().code(), Errc::internal);
}

TEST_F(Records, AFileThatIsNotOursIsLeftAlone) {
    for (
        const char* text :
        {"", "[]", "{", R"({"nvme0": 3})", R"({"nvme0": {"epoch": -1, "clean": true, "problem": ""}})",
         R"({"format": 3, "devices": []})", R"({"format": 2})", R"({"format": 2, "devices": [7]})",
         R"({"format": 2, "devices": [{"epoch": 1, "clean": true, "problem": "", "serial": "A"}]})",
         R"({"format": 2, "devices": [{"name": "n", "epoch": 1, "clean": true, "problem": "", "serial": 1}]})"}) {
        write(text);
        const auto opened = DeviceRecords::open(file());
        ASSERT_FALSE(opened) << text;
        EXPECT_EQ(opened.error().code(), Errc::protocol) << text;
        EXPECT_THAT(opened.error().message(), HasSubstr("move it away"));
        EXPECT_EQ(read(), text);
    }
}

} // namespace
} // namespace lanepool::agent
