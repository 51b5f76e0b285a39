// SPDX-License-Identifier: Apache-2.0
//
// What the tests of the SISCI API stand on: this process on one host of a cluster, a peer on another.
#pragma once

#include "peer.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <gtest/gtest.h>
#include <memory>
#include <ostream>
#include <sisci_api.h>
#include <string>

namespace lanepool::sisci_test {

// An outcome, which says in words what it is.
struct Code {
    sci_error_t value;
    bool operator==(const Code&) const = default;
};
inline void PrintTo(const Code& code, std::ostream* out) {
    char number[16];
    std::snprintf(number, sizeof number, "%x", code.value);
    *out << number << " (" << SCIGetErrorString(code.value) << ")";
}

// What FUNCTION leaves in its last argument.
template <class Function, class... Arguments>
Code outcome(Function function, Arguments... arguments) {
    Code code{0xdeadbeef};
    function(arguments..., &code.value);
    return code;
}

#define EXPECT_SCI(error, function, ...)                                                                     \
    EXPECT_EQ(::lanepool::sisci_test::Code{error}, ::lanepool::sisci_test::outcome(function, __VA_ARGS__))   \
        << #function
#define ASSERT_SCI(error, function, ...)                                                                     \
    ASSERT_EQ(::lanepool::sisci_test::Code{error}, ::lanepool::sisci_test::outcome(function, __VA_ARGS__))   \
        << #function
#define EXPECT_ORDER(error, peer, ...)                                                                       \
    EXPECT_EQ(::lanepool::sisci_test::Code{error}, ::lanepool::sisci_test::Code{(peer).tell(__VA_ARGS__)})

inline std::string setting(const char* name) {
    const char* value = std::getenv(name);
    return value ? value : "";
}

// The bits that no function has.
inline constexpr unsigned unknown_flag = 0x00800000;
inline constexpr size_t page = 4096;
inline constexpr unsigned soon_ms = 50;
inline constexpr unsigned long_ms = 20000;

// Ids and numbers that no other test uses.
inline unsigned fresh() {
    static unsigned last = 0x1000;
    return ++last;
}

// One of what a callback says, for a test to wait for.
template <class T>
class Said {
  public:
    void say(T value) { promise_.set_value(value); }
    T hear() {
        auto future = promise_.get_future();
        if (future.wait_for(std::chrono::milliseconds(long_ms)) != std::future_status::ready) {
            ADD_FAILURE() << "no callback came";
            return {};
        }
        return future.get();
    }

  private:
    std::promise<T> promise_;
};

// Calls again while it is busy: somebody else has just let go, and word of it is on its way.
template <class Call>
sci_error_t while_busy(Call&& call) {
    auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(long_ms);
    sci_error_t error = SCI_ERR_OK;
    do
        error = call();
    while (error == SCI_ERR_BUSY && std::chrono::steady_clock::now() < end);
    return error;
}

class Sisci : public testing::Test {
  protected:
    void SetUp() override {
        ASSERT_SCI(SCI_ERR_OK, SCIInitialize, 0);
        ASSERT_SCI(SCI_ERR_OK, SCIOpen, &sd, 0);
        ASSERT_SCI(SCI_ERR_OK, SCIGetLocalNodeId, 0, &node, 0);
    }
    void TearDown() override {
        // Whatever a test has made, it has removed.
        EXPECT_SCI(SCI_ERR_OK, SCIClose, sd, 0);
        SCITerminate();
    }

    // A segment that others can connect to.
    sci_local_segment_t show(unsigned id, size_t size = page) {
        sci_local_segment_t segment = nullptr;
        EXPECT_SCI(SCI_ERR_OK, SCICreateSegment, sd, &segment, id, size, nullptr, nullptr, 0);
        EXPECT_SCI(SCI_ERR_OK, SCIPrepareSegment, segment, 0, 0);
        EXPECT_SCI(SCI_ERR_OK, SCISetSegmentAvailable, segment, 0, 0);
        return segment;
    }
    sci_remote_segment_t connect(unsigned to, unsigned id) {
        sci_remote_segment_t segment = nullptr;
        EXPECT_SCI(SCI_ERR_OK, SCIConnectSegment, sd, &segment, to, id, 0, nullptr, nullptr, long_ms, 0);
        return segment;
    }
    void remove(sci_local_segment_t segment) {
        EXPECT_EQ(Code{SCI_ERR_OK},
                  Code{while_busy([&] { return outcome(SCIRemoveSegment, segment, 0).value; })});
    }
    void disconnect(sci_remote_segment_t segment) {
        EXPECT_SCI(SCI_ERR_OK, SCIDisconnectSegment, segment, 0);
    }

    sci_desc_t sd = nullptr;
    unsigned node = 0;
};

// With a peer on another host.
class SisciPair : public Sisci {
  protected:
    void SetUp() override {
        Sisci::SetUp();
        peer = std::make_unique<Peer>(setting("LANEPOOL_PEER_AGENT"));
        peer_node = static_cast<unsigned>(peer->ask(Order::node_id).value);
    }

    // A segment of the peer's, at PLACE.
    unsigned peer_shows(uint64_t place, size_t size = page) {
        unsigned id = fresh();
        EXPECT_ORDER(SCI_ERR_OK, *peer, Order::create_segment, place, id, size);
        EXPECT_ORDER(SCI_ERR_OK, *peer, Order::prepare_segment, place);
        EXPECT_ORDER(SCI_ERR_OK, *peer, Order::segment_available, place);
        return id;
    }

    std::unique_ptr<Peer> peer;
    unsigned peer_node = 0;
};

} // namespace lanepool::sisci_test
