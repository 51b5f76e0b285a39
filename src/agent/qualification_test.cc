// SPDX-License-Identifier: Apache-2.0
#include "agent/qualification.h"

#include "base/temporary_folder.h"

#include <fstream>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace lanepool::agent {
namespace {

class QualificationTest : public testing::Test {
  protected:
    QualificationTest() {
        identity.set_vendor_id(0x8086);
        identity.set_device_id(0x10c9);
        identity.set_serial("S1");
        identity.set_firmware("1.2");
    }
    void store(const nlohmann::json& qualification) {
        put(nlohmann::json{{"qualification", qualification}}.dump());
    }
    void put(const std::string& text) { std::ofstream(folder.path() / "nic0.json") << text; }
    bool fit() const { return Qualifications(folder.path(), "6.1.0").fit("nic0", identity); }

    TemporaryFolder folder;
    v1::DeviceIdentity identity;
    nlohmann::json stored = {{"vendor_id", "8086"}, {"device_id", "10c9"},       {"serial", "S1"},
                             {"firmware", "1.2"},   {"kernel_release", "6.1.0"}, {"result", "fit"}};
};

TEST_F(QualificationTest, OfThisDeviceAndThisKernelCounts) {
    store(stored);
    EXPECT_TRUE(fit());
    EXPECT_FALSE(Qualifications(folder.path(), "6.1.0").fit("nic1", identity));
}

TEST_F(QualificationTest, OfAnythingElseDoesNotCount) {
    EXPECT_FALSE(fit()); // there is none
    const nlohmann::json others = {
        {"vendor_id", "8087"}, {"device_id", 0x10c9},        {"serial", "S2"},
        {"firmware", "1.3"},   {"kernel_release", "6.12.0"}, {"result", "fit_with_limits"}};
    for (const auto& [key, value] : others.items()) {
        auto other = stored;
        other[key] = value;
        store(other);
        EXPECT_FALSE(fit()) << key;
        other.erase(key);
        store(other);
        EXPECT_FALSE(fit()) << key;
    }
}

TEST_F(QualificationTest, FilesThatAreNoneDoNotCount) {
    for (const std::string text : {"", "{", "[]", "7", "\"fit\"", "null", "{}", "{\"qualification\": 7}"}) {
        put(text);
        EXPECT_FALSE(fit()) << text;
    }
    put(nlohmann::json{{"qualification", stored}}.dump() +
        std::string(2 << 20, ' ')); // as long as that is none that we have written
    EXPECT_FALSE(fit());
}

} // namespace
} // namespace lanepool::agent
