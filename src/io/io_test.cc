// SPDX-License-Identifier: Apache-2.0
#include "base/temporary_folder.h"
#include "io/event_loop.h"
#include "io/unix_socket.h"

#include <filesystem>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <thread>

namespace lanepool::io {
namespace {

using namespace std::chrono_literals;

TEST(EventLoop, TimersRunInOrderOfTheirTime) {
    auto loop = *EventLoop::create();
    std::string order;
    auto late = loop->after(2ms, [&] {
        order += "b";
        loop->stop();
    });
    auto early = loop->after(1ms, [&] { order += "a"; });
    loop->run();
    EXPECT_EQ(order, "ab");
}

TEST(EventLoop, AnUnregisteredTimerDoesNotRun) {
    auto loop = *EventLoop::create();
    bool ran = false;
    auto timer = loop->after(0ms, [&] { ran = true; });
    timer.reset();
    loop->run_once(1ms);
    EXPECT_FALSE(ran);
}

TEST(EventLoop, ARepeatingTimerMayUnregisterItself) {
    auto loop = *EventLoop::create();
    int count = 0;
    EventLoop::Registration timer = loop->every(1ms, [&] {
        if (++count == 3) timer.reset();
    });
    for (int i = 0; i < 20; ++i)
        loop->run_once(1ms);
    EXPECT_EQ(count, 3);
}

TEST(EventLoop, AWatchMayRemoveAnotherOneThatIsReady) {
    auto loop = *EventLoop::create();
    auto a = *create_eventfd();
    auto b = *create_eventfd();
    int calls = 0;
    EventLoop::Registration first, second;
    first = *loop->watch(a.get(), EPOLLIN, [&](uint32_t) {
        ++calls;
        first.reset();
        second.reset();
    });
    second = *loop->watch(b.get(), EPOLLIN, [&](uint32_t) {
        ++calls;
        first.reset();
        second.reset();
    });
    signal(a);
    signal(b);
    loop->run_once(1ms);
    loop->run_once(1ms);
    EXPECT_EQ(calls, 1);
}

TEST(EventLoop, PostFromAnotherThreadWakesIt) {
    auto loop = *EventLoop::create();
    std::thread other([&] { loop->post([&] { loop->stop(); }); });
    loop->run();
    other.join();
}

TEST(UnixSocket, CarriesDescriptorsWithTheFirstByte) {
    int pair[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    UniqueFd a(pair[0]), b(pair[1]);
    auto eventfd = *create_eventfd();
    const std::byte data[3] = {};
    const int fds[] = {eventfd.get()};
    ASSERT_EQ(*send(a.get(), data, fds), 3u);
    std::byte buffer[8];
    auto received = receive(b.get(), buffer);
    ASSERT_EQ(received->bytes, 3u);
    ASSERT_EQ(received->fds.size(), 1u);
    signal(received->fds[0]);
    EXPECT_EQ(drain(eventfd), 1u);
}

TEST(UnixSocket, ReplacesAStaleSocketButNotALiveOne) {
    const TemporaryFolder folder;
    const auto path = folder / "s";
    {
        auto listener = listen_unix(path);
        ASSERT_TRUE(listener);
        EXPECT_EQ(listen_unix(path).error().code(), Errc::already_exists);
    }
    EXPECT_TRUE(listen_unix(path));
}

TEST(UnixSocket, APathThatIsTooLongIsRefusedWithItsLength) {
    EXPECT_EQ(connect_unix(std::string(200, 'x')).error().code(), Errc::invalid_argument);
}

} // namespace
} // namespace lanepool::io
