// SPDX-License-Identifier: Apache-2.0
//
// Interrupts, without and with data.
#include "fixture.h"

#include <atomic>
#include <cstring>
#include <vector>

namespace lanepool::sisci_test {
namespace {

TEST_F(SisciPair, triggers_an_interrupt_of_another_host) {
    unsigned number = static_cast<unsigned>(peer->ask(Order::create_interrupt, 0, 0, 0).value);
    sci_remote_interrupt_t remote = nullptr;
    ASSERT_SCI(SCI_ERR_OK, SCIConnectInterrupt, sd, &remote, peer_node, 0, number, SCI_INFINITE_TIMEOUT, 0);
    EXPECT_ORDER(SCI_ERR_TIMEOUT, *peer, Order::wait_interrupt, 0, soon_ms);
    EXPECT_SCI(SCI_ERR_OK, SCITriggerInterrupt, remote, 0);
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::wait_interrupt, 0, long_ms);
    EXPECT_ORDER(SCI_ERR_BUSY, *peer, Order::remove_interrupt, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCITriggerInterrupt, remote, 1);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCIDisconnectInterrupt, remote, 1);
    EXPECT_SCI(SCI_ERR_OK, SCIDisconnectInterrupt, remote, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCITriggerInterrupt, remote, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIDisconnectInterrupt, remote, 0);
    EXPECT_EQ(SCI_ERR_OK, while_busy([&] { return peer->tell(Order::remove_interrupt, 0); }));
}

TEST_F(SisciPair, is_woken_by_another_host) {
    unsigned number = 0;
    sci_local_interrupt_t interrupt = nullptr;
    ASSERT_SCI(SCI_ERR_OK, SCICreateInterrupt, sd, &interrupt, 0, &number, nullptr, nullptr, 0);
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::connect_interrupt, 0, node, number);
    auto waiting = std::async(
        std::launch::async, [&] { return outcome(SCIWaitForInterrupt, interrupt, SCI_INFINITE_TIMEOUT, 0); });
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::trigger_interrupt, 0, 1);
    EXPECT_EQ(Code{SCI_ERR_OK}, waiting.get());
    // Many at once are one.
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::trigger_interrupt, 0, 5);
    EXPECT_SCI(SCI_ERR_OK, SCIWaitForInterrupt, interrupt, long_ms, 0);
    EXPECT_SCI(SCI_ERR_TIMEOUT, SCIWaitForInterrupt, interrupt, soon_ms, 0);
    EXPECT_SCI(SCI_ERR_BUSY, SCIRemoveInterrupt, interrupt, 0);
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::disconnect_interrupt, 0);
    EXPECT_EQ(SCI_ERR_OK, while_busy([&] { return outcome(SCIRemoveInterrupt, interrupt, 0).value; }));
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIWaitForInterrupt, interrupt, 0, 0);
}

TEST_F(SisciPair, counts_interrupts_where_it_is_told_to) {
    unsigned number = 0;
    sci_local_interrupt_t interrupt = nullptr;
    ASSERT_SCI(SCI_ERR_OK, SCICreateInterrupt, sd, &interrupt, 0, &number, nullptr, nullptr,
               SCI_FLAG_COUNTING_INT);
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::connect_interrupt, 0, node, number);
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::trigger_interrupt, 0, 3);
    for (int i = 0; i < 3; ++i)
        EXPECT_SCI(SCI_ERR_OK, SCIWaitForInterrupt, interrupt, long_ms, 0);
    EXPECT_SCI(SCI_ERR_TIMEOUT, SCIWaitForInterrupt, interrupt, soon_ms, 0);
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::disconnect_interrupt, 0);
    EXPECT_EQ(SCI_ERR_OK, while_busy([&] { return outcome(SCIRemoveInterrupt, interrupt, 0).value; }));
}

TEST_F(SisciPair, calls_back_for_interrupts) {
    struct Told {
        std::atomic<sci_local_interrupt_t> interrupt{nullptr};
        Said<int> second;
        std::atomic<int> count{0};
    } told;
    auto callback = [](void* arg, sci_local_interrupt_t interrupt, sci_error_t status) {
        auto& events = *static_cast<Told*>(arg);
        EXPECT_EQ(Code{SCI_ERR_OK}, Code{status});
        events.interrupt = interrupt;
        if (++events.count < 2) return SCI_CALLBACK_CONTINUE;
        if (events.count == 2) events.second.say(2);
        return SCI_CALLBACK_CANCEL;
    };
    unsigned number = fresh(), wanted = number;
    sci_local_interrupt_t interrupt = nullptr;
    ASSERT_SCI(SCI_ERR_OK, SCICreateInterrupt, sd, &interrupt, 0, &number,
               static_cast<sci_cb_interrupt_t>(callback), &told,
               SCI_FLAG_USE_CALLBACK | SCI_FLAG_FIXED_INTNO | SCI_FLAG_COUNTING_INT);
    EXPECT_EQ(wanted, number);
    EXPECT_SCI(SCI_ERR_ILLEGAL_OPERATION, SCIWaitForInterrupt, interrupt, 0, 0);
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::connect_interrupt, 0, node, number);
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::trigger_interrupt, 0, 5);
    told.second.hear();
    EXPECT_EQ(interrupt, told.interrupt);
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::disconnect_interrupt, 0);
    EXPECT_EQ(SCI_ERR_OK, while_busy([&] { return outcome(SCIRemoveInterrupt, interrupt, 0).value; }));
    EXPECT_EQ(2, told.count); // it did not want to be called again
}

TEST_F(Sisci, removes_an_interrupt_in_its_own_callback) {
    struct Told {
        Said<sci_error_t> removed;
    } told;
    auto callback = [](void* arg, sci_local_interrupt_t interrupt, sci_error_t) {
        static_cast<Told*>(arg)->removed.say(
            while_busy([&] { return outcome(SCIRemoveInterrupt, interrupt, 0).value; }));
        return SCI_CALLBACK_CANCEL;
    };
    unsigned number = 0;
    sci_local_interrupt_t interrupt = nullptr;
    sci_remote_interrupt_t remote = nullptr;
    ASSERT_SCI(SCI_ERR_OK, SCICreateInterrupt, sd, &interrupt, 0, &number,
               static_cast<sci_cb_interrupt_t>(callback), &told, SCI_FLAG_USE_CALLBACK);
    ASSERT_SCI(SCI_ERR_OK, SCIConnectInterrupt, sd, &remote, node, 0, number, long_ms, 0);
    EXPECT_SCI(SCI_ERR_OK, SCITriggerInterrupt, remote, 0);
    EXPECT_SCI(SCI_ERR_OK, SCIDisconnectInterrupt, remote, 0);
    EXPECT_EQ(Code{SCI_ERR_OK}, Code{told.removed.hear()});
}

TEST_F(Sisci, ends_waits_for_an_interrupt_that_is_removed) {
    unsigned number = 0;
    sci_local_interrupt_t interrupt = nullptr;
    ASSERT_SCI(SCI_ERR_OK, SCICreateInterrupt, sd, &interrupt, 0, &number, nullptr, nullptr, 0);
    auto waiting = std::async(
        std::launch::async, [&] { return outcome(SCIWaitForInterrupt, interrupt, SCI_INFINITE_TIMEOUT, 0); });
    EXPECT_EQ(std::future_status::timeout, waiting.wait_for(std::chrono::milliseconds(soon_ms)));
    EXPECT_SCI(SCI_ERR_OK, SCIRemoveInterrupt, interrupt, 0);
    EXPECT_EQ(Code{SCI_ERR_CANCELLED}, waiting.get());
}

TEST_F(SisciPair, says_why_there_is_no_interrupt) {
    unsigned number = fresh();
    sci_local_interrupt_t one = nullptr, two = nullptr;
    ASSERT_SCI(SCI_ERR_OK, SCICreateInterrupt, sd, &one, 0, &number, nullptr, nullptr, SCI_FLAG_FIXED_INTNO);
    EXPECT_SCI(SCI_ERR_INTNO_USED, SCICreateInterrupt, sd, &two, 0, &number, nullptr, nullptr,
               SCI_FLAG_FIXED_INTNO);
    EXPECT_SCI(SCI_ERR_NO_SUCH_ADAPTERNO, SCICreateInterrupt, sd, &two, 1, &number, nullptr, nullptr, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCICreateInterrupt, sd, &two, 0, &number, nullptr, nullptr,
               unknown_flag);
    EXPECT_SCI(SCI_ERR_FLAG_NOT_IMPLEMENTED, SCICreateInterrupt, sd, &two, 0, &number, nullptr, nullptr,
               SCI_FLAG_SHARED_INT);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCICreateInterrupt, sd, &two, 0, nullptr, nullptr, nullptr, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCICreateInterrupt, sd, nullptr, 0, &number, nullptr, nullptr, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCICreateInterrupt, nullptr, &two, 0, &number, nullptr, nullptr, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCICreateInterrupt, sd, &two, 0, &number, nullptr, nullptr,
               SCI_FLAG_USE_CALLBACK);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCIWaitForInterrupt, one, 0, 1);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCIRemoveInterrupt, one, 1);

    sci_remote_interrupt_t remote = nullptr;
    EXPECT_SCI(SCI_ERR_NO_SUCH_INTNO, SCIConnectInterrupt, sd, &remote, peer_node, 0, number,
               SCI_INFINITE_TIMEOUT, 0);
    EXPECT_SCI(SCI_ERR_NO_SUCH_NODEID, SCIConnectInterrupt, sd, &remote, 200, 0, number, 0, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_NODEID, SCIConnectInterrupt, sd, &remote, 255, 0, number, 0, 0);
    EXPECT_SCI(SCI_ERR_NO_SUCH_ADAPTERNO, SCIConnectInterrupt, sd, &remote, peer_node, 1, number, 0, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCIConnectInterrupt, sd, &remote, peer_node, 0, number, 0, unknown_flag);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIConnectInterrupt, nullptr, &remote, peer_node, 0, number, 0, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIConnectInterrupt, sd, nullptr, peer_node, 0, number, 0, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCITriggerInterrupt, nullptr, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIWaitForInterrupt, nullptr, 0, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIRemoveInterrupt, nullptr, 0);
    // One with data is not one without.
    sci_remote_data_interrupt_t with_data = nullptr;
    EXPECT_SCI(SCI_ERR_NO_SUCH_INTNO, SCIConnectDataInterrupt, sd, &with_data, node, 0, number,
               SCI_INFINITE_TIMEOUT, 0);
    EXPECT_SCI(SCI_ERR_OK, SCIRemoveInterrupt, one, 0);
}

TEST_F(SisciPair, carries_data_to_another_host) {
    unsigned number = static_cast<unsigned>(peer->ask(Order::create_data_interrupt, 0, 0, 0).value);
    sci_remote_data_interrupt_t remote = nullptr;
    ASSERT_SCI(SCI_ERR_OK, SCIConnectDataInterrupt, sd, &remote, peer_node, 0, number, SCI_INFINITE_TIMEOUT,
               0);
    EXPECT_ORDER(SCI_ERR_TIMEOUT, *peer, Order::wait_data_interrupt, 0, soon_ms, 64);
    char first[] = "A first", second[] = "Behind it";
    EXPECT_SCI(SCI_ERR_OK, SCITriggerDataInterrupt, remote, first, sizeof first, 0);
    EXPECT_SCI(SCI_ERR_OK, SCITriggerDataInterrupt, remote, second, sizeof second, 0);
    EXPECT_EQ(sizeof first | uint64_t{'A'} << 32,
              peer->ask(Order::wait_data_interrupt, 0, long_ms, 64).value);
    // Too little room: it stays.
    Answer answer = peer->ask(Order::wait_data_interrupt, 0, long_ms, 4);
    EXPECT_EQ(Code{SCI_ERR_OVERFLOW}, Code{answer.error});
    EXPECT_EQ(sizeof second, answer.value);
    EXPECT_EQ(sizeof second | uint64_t{'B'} << 32,
              peer->ask(Order::wait_data_interrupt, 0, long_ms, 64).value);

    std::vector<uint8_t> large(4097, 1);
    EXPECT_SCI(SCI_ERR_OUT_OF_RANGE, SCITriggerDataInterrupt, remote, large.data(), 4097, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCITriggerDataInterrupt, remote, first, 1, 1);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCITriggerDataInterrupt, remote, nullptr, 1, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCITriggerDataInterrupt, nullptr, first, 1, 0);
    int sent = 0;
    Code code{SCI_ERR_OK};
    for (; sent < 1000; ++sent) {
        code = outcome(SCITriggerDataInterrupt, remote, large.data(), 4096, 0);
        if (code.value != SCI_ERR_OK) break;
    }
    EXPECT_EQ(Code{SCI_ERR_BUSY}, code); // the receiver has not taken them
    for (; sent > 0; --sent)
        EXPECT_EQ(4096 | uint64_t{1} << 32, peer->ask(Order::wait_data_interrupt, 0, long_ms, 4096).value);
    EXPECT_SCI(SCI_ERR_OK, SCITriggerDataInterrupt, remote, first, 1, 0);
    EXPECT_ORDER(SCI_ERR_BUSY, *peer, Order::remove_data_interrupt, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCIDisconnectDataInterrupt, remote, 1);
    EXPECT_SCI(SCI_ERR_OK, SCIDisconnectDataInterrupt, remote, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIDisconnectDataInterrupt, remote, 0);
    EXPECT_EQ(SCI_ERR_OK, while_busy([&] { return peer->tell(Order::remove_data_interrupt, 0); }));
}

TEST_F(SisciPair, calls_back_with_data) {
    struct Told {
        sci_local_data_interrupt_t interrupt = nullptr;
        std::vector<std::vector<uint8_t>> messages;
        Said<int> third;
    } told;
    auto callback = [](void* arg, sci_local_data_interrupt_t interrupt, void* data, unsigned length,
                       sci_error_t status) {
        auto& events = *static_cast<Told*>(arg);
        EXPECT_EQ(Code{SCI_ERR_OK}, Code{status});
        events.interrupt = interrupt;
        auto* bytes = static_cast<uint8_t*>(data);
        events.messages.emplace_back(bytes, bytes + length);
        std::memset(data, 0, length); // it is the callback's while it runs
        if (events.messages.size() < 3) return SCI_CALLBACK_CONTINUE;
        events.third.say(3);
        return SCI_CALLBACK_CANCEL;
    };
    unsigned number = fresh();
    sci_local_data_interrupt_t interrupt = nullptr;
    ASSERT_SCI(SCI_ERR_OK, SCICreateDataInterrupt, sd, &interrupt, 0, &number,
               static_cast<sci_cb_data_interrupt_t>(callback), &told,
               SCI_FLAG_USE_CALLBACK | SCI_FLAG_FIXED_INTNO);
    unsigned length = 4;
    EXPECT_SCI(SCI_ERR_ILLEGAL_OPERATION, SCIWaitForDataInterrupt, interrupt, &number, &length, 0, 0);
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::connect_data_interrupt, 0, node, number);
    for (unsigned i = 1; i <= 4; ++i)
        EXPECT_ORDER(SCI_ERR_OK, *peer, Order::trigger_data_interrupt, 0, 10 * i, i);
    told.third.hear();
    EXPECT_EQ(interrupt, told.interrupt);
    ASSERT_EQ(3u, told.messages.size());
    for (size_t i = 0; i < 3; ++i)
        EXPECT_EQ(std::vector<uint8_t>(10 * (i + 1), static_cast<uint8_t>(i + 1)), told.messages[i]);
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::disconnect_data_interrupt, 0);
    EXPECT_EQ(SCI_ERR_OK, while_busy([&] { return outcome(SCIRemoveDataInterrupt, interrupt, 0).value; }));
    EXPECT_EQ(3u, told.messages.size());
}

TEST_F(Sisci, ends_waits_for_data) {
    unsigned number = 0, length = 8;
    char room[8];
    sci_local_data_interrupt_t interrupt = nullptr;
    ASSERT_SCI(SCI_ERR_OK, SCICreateDataInterrupt, sd, &interrupt, 0, &number, nullptr, nullptr, 0);
    auto waiting = std::async(std::launch::async, [&] {
        return outcome(SCIWaitForDataInterrupt, interrupt, room, &length, SCI_INFINITE_TIMEOUT, 0);
    });
    EXPECT_EQ(std::future_status::timeout, waiting.wait_for(std::chrono::milliseconds(soon_ms)));
    EXPECT_SCI(SCI_ERR_OK, SCIRemoveDataInterrupt, interrupt, 0);
    EXPECT_EQ(Code{SCI_ERR_CANCELLED}, waiting.get());
}

TEST_F(SisciPair, says_why_there_is_no_data_interrupt) {
    unsigned number = fresh(), length = 8;
    char room[8];
    sci_local_data_interrupt_t one = nullptr, two = nullptr;
    ASSERT_SCI(SCI_ERR_OK, SCICreateDataInterrupt, sd, &one, 0, &number, nullptr, nullptr,
               SCI_FLAG_FIXED_INTNO);
    EXPECT_SCI(SCI_ERR_INTNO_USED, SCICreateDataInterrupt, sd, &two, 0, &number, nullptr, nullptr,
               SCI_FLAG_FIXED_INTNO);
    EXPECT_SCI(SCI_ERR_NO_SUCH_ADAPTERNO, SCICreateDataInterrupt, sd, &two, 1, &number, nullptr, nullptr, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCICreateDataInterrupt, sd, &two, 0, &number, nullptr, nullptr,
               unknown_flag);
    EXPECT_SCI(SCI_ERR_FLAG_NOT_IMPLEMENTED, SCICreateDataInterrupt, sd, &two, 0, &number, nullptr, nullptr,
               SCI_FLAG_SHARED_INT);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCICreateDataInterrupt, sd, &two, 0, nullptr, nullptr, nullptr, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCICreateDataInterrupt, nullptr, &two, 0, &number, nullptr, nullptr,
               0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCICreateDataInterrupt, sd, &two, 0, &number, nullptr, nullptr,
               SCI_FLAG_USE_CALLBACK);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIWaitForDataInterrupt, one, room, nullptr, 0, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIWaitForDataInterrupt, one, nullptr, &length, 0, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIWaitForDataInterrupt, nullptr, room, &length, 0, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCIWaitForDataInterrupt, one, room, &length, 0, 1);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCIRemoveDataInterrupt, one, 1);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIRemoveDataInterrupt, nullptr, 0);

    sci_remote_data_interrupt_t remote = nullptr;
    EXPECT_SCI(SCI_ERR_NO_SUCH_INTNO, SCIConnectDataInterrupt, sd, &remote, peer_node, 0, number,
               SCI_INFINITE_TIMEOUT, 0);
    EXPECT_SCI(SCI_ERR_NO_SUCH_NODEID, SCIConnectDataInterrupt, sd, &remote, 200, 0, number, 0, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_NODEID, SCIConnectDataInterrupt, sd, &remote, 255, 0, number, 0, 0);
    EXPECT_SCI(SCI_ERR_NO_SUCH_ADAPTERNO, SCIConnectDataInterrupt, sd, &remote, peer_node, 1, number, 0, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCIConnectDataInterrupt, sd, &remote, peer_node, 0, number, 0,
               unknown_flag);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIConnectDataInterrupt, nullptr, &remote, peer_node, 0, number, 0,
               0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIConnectDataInterrupt, sd, nullptr, peer_node, 0, number, 0, 0);
    EXPECT_SCI(SCI_ERR_OK, SCIRemoveDataInterrupt, one, 0);
}

TEST_F(SisciPair, triggers_nobody_who_has_died) {
    unsigned number = static_cast<unsigned>(peer->ask(Order::create_data_interrupt, 0, 0, 0).value);
    sci_remote_data_interrupt_t remote = nullptr;
    ASSERT_SCI(SCI_ERR_OK, SCIConnectDataInterrupt, sd, &remote, peer_node, 0, number, long_ms, 0);
    peer->die();
    char byte = 1;
    auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(long_ms);
    Code code{SCI_ERR_OK};
    while (code.value != SCI_ERR_NOT_CONNECTED && std::chrono::steady_clock::now() < end)
        code = outcome(SCITriggerDataInterrupt, remote, &byte, 1, 0);
    EXPECT_EQ(Code{SCI_ERR_NOT_CONNECTED}, code);
    EXPECT_SCI(SCI_ERR_OK, SCIDisconnectDataInterrupt, remote, 0);
}

} // namespace
} // namespace lanepool::sisci_test
