// SPDX-License-Identifier: Apache-2.0
#include "api/endpoints.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lanepool::api {
namespace {

using ::testing::HasSubstr;

TEST(Endpoints, AreReadAsPeopleWriteThem) {
    const auto read =
        parse_endpoints("unix:/run/c.sock,/tmp/d.sock,pool1.example:7443,[fd00::1]:7443,10.0.0.1:1");
    ASSERT_TRUE(read) << read.error().message();
    std::vector<std::string> texts;
    for (const auto& endpoint : *read)
        texts.push_back(endpoint.text());
    EXPECT_EQ(texts, (std::vector<std::string>{"unix:/run/c.sock", "unix:/tmp/d.sock", "pool1.example:7443",
                                               "[fd00::1]:7443", "10.0.0.1:1"}));
    EXPECT_EQ((*read)[0].target(), "unix:/run/c.sock");
    EXPECT_EQ((*read)[2].target(), "dns:///pool1.example:7443"); // no other scheme of gRPC's can be meant
}

TEST(Endpoints, OneThatIsThereTwiceCountsOnce) {
    EXPECT_EQ(parse_endpoints("unix:/a,/a,/b,unix:/a")->size(), 2U);
}

TEST(Endpoints, WhatIsWrongIsNamed) {
    for (const std::string wrong : {"", "unix:", "host", "host:", "host:0", "host:65536", "host:12x", ":7443",
                                    "[fd00::1]", "[fd00::1:7443", "fd00::1", "a b:1", "http://host:1",
                                    "unix:relative.sock", "[host]:1", "host:-1"}) {
        const auto read = parse_endpoints("/good," + wrong);
        ASSERT_FALSE(read) << wrong;
        EXPECT_EQ(read.error().code(), Errc::invalid_argument) << wrong;
        EXPECT_THAT(read.error().message(), HasSubstr("HOST:PORT"));
    }
    EXPECT_THAT(parse_endpoints("/good,nonsense").error().message(), HasSubstr("'nonsense'"));
}

TEST(Endpoints, ThereIsALimit) {
    std::string list = "/0";
    for (size_t i = 1; i < max_endpoints; ++i)
        list += fmt::format(",/{}", i);
    EXPECT_TRUE(parse_endpoints(list));
    EXPECT_FALSE(parse_endpoints(list + ",/one-more"));
}

} // namespace
} // namespace lanepool::api
