// SPDX-License-Identifier: Apache-2.0
#include "qualify/stored.h"

#include <fstream>
#include <gtest/gtest.h>
#include <unistd.h>

namespace lanepool::qualify {
namespace {

class StoredTest : public testing::Test {
  protected:
    StoredTest() {
        std::string name = testing::TempDir() + "stored.XXXXXX";
        folder = ::mkdtemp(name.data());
        report.vendor_id = 0x1b36;
        report.device_id = 0x10;
        report.serial = "S1";
        report.firmware = "1.0";
        report.kernel_release = "6.12";
        for (const auto model : access_models)
            report.models.push_back({model, {}});
    }
    ~StoredTest() override { std::filesystem::remove_all(folder); }
    Json stored() {
        const auto result =
            store(folder, "nvme0", report, AccessModel::lending, to_json(report, AccessModel::lending));
        if (!result) throw std::runtime_error(result.error().message());
        return Json::parse(std::ifstream(folder / "qualifications/nvme0.json"))["qualification"];
    }

    std::filesystem::path folder;
    Report report;
};

TEST_F(StoredTest, NamesWhatWasQualifiedAsTheAgentComparesIt) {
    const auto json = stored();
    EXPECT_EQ(json["result"], "fit");
    EXPECT_EQ(json["vendor_id"], "1b36");
    EXPECT_EQ(json["device_id"], "0010");
    EXPECT_EQ(json["serial"], "S1");
    EXPECT_EQ(json["firmware"], "1.0");
    EXPECT_EQ(json["kernel_release"], "6.12");
}

TEST_F(StoredTest, LimitsAndWhatCouldNotBeTestedAreFit) {
    report.active = {{"recovery", Outcome::limits, "", "", ""}, {"load", Outcome::not_tested, "", "", ""}};
    EXPECT_EQ(stored()["result"], "fit");
    EXPECT_EQ(stored()["verdict"], "fit_with_limits");
}

TEST_F(StoredTest, WhatFailedOrIsNotKnownReplacesWhatWasFit) {
    EXPECT_EQ(stored()["result"], "fit");
    report.active = {{"load", Outcome::fail, "", "", ""}};
    EXPECT_EQ(stored()["result"], "not_fit");
    report.active = {};
    report.models[0].checks = {{"iommu", Outcome::unknown, "", "", ""}};
    EXPECT_EQ(stored()["result"], "not_fit");
}

TEST_F(StoredTest, LeavesItsFolderToNobodysNames) {
    for (const char* name : {"", "../x", ".x", "a/b"})
        EXPECT_EQ(store(folder, name, report, AccessModel::lending, Json::object()).error().code(),
                  Errc::invalid_argument)
            << name;
    EXPECT_EQ(store(folder / "none", "nvme0", report, AccessModel::lending, Json::object()).error().code(),
              Errc::not_found);
}

} // namespace
} // namespace lanepool::qualify
