// SPDX-License-Identifier: Apache-2.0
#include "api/status.h"

#include <gtest/gtest.h>

namespace lanepool::api {
namespace {

TEST(Status, AnErrorKeepsItsCodeAndItsWords) {
    for (const auto code :
         {Errc::busy, Errc::stale_epoch, Errc::timeout, Errc::internal, Errc::disconnected}) {
        const auto back = from_status(to_status(Error(code, "device 80001 is lent to a")));
        EXPECT_EQ(back.error().code(), code);
        EXPECT_EQ(back.error().message(), "device 80001 is lent to a");
    }
}

TEST(Status, AForeignStatusGetsTheCodeThatFits) {
    EXPECT_EQ(from_status({grpc::StatusCode::UNAVAILABLE, "gone"}).error().code(), Errc::unavailable);
    EXPECT_TRUE(from_status(grpc::Status::OK));
}

TEST(Status, ADetailThatIsNotOursIsIgnored) {
    EXPECT_EQ(from_status({grpc::StatusCode::NOT_FOUND, "x", "\xff\xff\xff"}).error().code(),
              Errc::not_found);
}

} // namespace
} // namespace lanepool::api
