// SPDX-License-Identifier: Apache-2.0
#include "peer.h"

#include <array>
#include <cstdlib>
#include <cstring>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace lanepool::sisci_test {
namespace {

struct Question {
    Order order{};
    uint32_t padding = 0;
    std::array<uint64_t, 4> arguments{};
};

// What a peer has.
struct Places {
    template <class T>
    using Place = std::array<T, 8>;

    sci_desc_t descriptor = nullptr;
    Place<sci_local_segment_t> local{};
    Place<sci_map_t> local_map{};
    Place<volatile uint8_t*> local_bytes{};
    Place<void*> registered{};
    Place<sci_remote_segment_t> remote{};
    Place<sci_map_t> remote_map{};
    Place<volatile uint8_t*> remote_bytes{};
    Place<sci_local_interrupt_t> interrupt{};
    Place<sci_remote_interrupt_t> remote_interrupt{};
    Place<sci_local_data_interrupt_t> data_interrupt{};
    Place<sci_remote_data_interrupt_t> remote_data_interrupt{};
    Place<sci_smartio_device_t> device{};
};

Answer create_segment(Places& places, size_t place, unsigned id, size_t size) {
    Answer answer;
    SCICreateSegment(places.descriptor, &places.local[place], id, size, nullptr, nullptr, 0, &answer.error);
    if (answer.error != SCI_ERR_OK) return answer;
    places.local_bytes[place] = static_cast<volatile uint8_t*>(SCIMapLocalSegment(
        places.local[place], &places.local_map[place], 0, size, nullptr, 0, &answer.error));
    return answer;
}

Answer register_segment(Places& places, size_t place, unsigned id, size_t size) {
    Answer answer;
    void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SCICreateSegment(places.descriptor, &places.local[place], id, size, nullptr, nullptr, SCI_FLAG_EMPTY,
                     &answer.error);
    if (answer.error == SCI_ERR_OK)
        SCIRegisterSegmentMemory(memory, size, places.local[place], SCI_FLAG_LOCK_USER_MEM, &answer.error);
    places.registered[place] = memory;
    places.local_bytes[place] = static_cast<volatile uint8_t*>(memory);
    return answer;
}

Answer remove_segment(Places& places, size_t place) {
    Answer answer;
    if (places.local_map[place]) {
        SCIUnmapSegment(places.local_map[place], 0, &answer.error);
        places.local_map[place] = nullptr;
    }
    SCIRemoveSegment(places.local[place], 0, &answer.error);
    return answer;
}

Answer connect_segment(Places& places, size_t place, unsigned node, unsigned id, unsigned timeout) {
    Answer answer;
    SCIConnectSegment(places.descriptor, &places.remote[place], node, id, 0, nullptr, nullptr, timeout, 0,
                      &answer.error);
    if (answer.error != SCI_ERR_OK) return answer;
    places.remote_bytes[place] = static_cast<volatile uint8_t*>(
        SCIMapRemoteSegment(places.remote[place], &places.remote_map[place], 0,
                            SCIGetRemoteSegmentSize(places.remote[place]), nullptr, 0, &answer.error));
    return answer;
}

Answer disconnect_segment(Places& places, size_t place) {
    Answer answer;
    SCIUnmapSegment(places.remote_map[place], 0, &answer.error);
    SCIDisconnectSegment(places.remote[place], 0, &answer.error);
    return answer;
}

Answer do_segments(Places& places, const Question& question) {
    auto [place, b, c, d] = question.arguments;
    Answer answer;
    switch (question.order) {
    case Order::create_segment:
        return create_segment(places, place, static_cast<unsigned>(b), c);
    case Order::register_segment:
        return register_segment(places, place, static_cast<unsigned>(b), c);
    case Order::prepare_segment:
        SCIPrepareSegment(places.local[place], 0, 0, &answer.error);
        break;
    case Order::segment_available:
        SCISetSegmentAvailable(places.local[place], 0, 0, &answer.error);
        break;
    case Order::segment_unavailable:
        SCISetSegmentUnavailable(places.local[place], 0, 0, &answer.error);
        break;
    case Order::remove_segment:
        return remove_segment(places, place);
    case Order::segment_id:
        answer.value = SCIGetLocalSegmentId(places.local[place]);
        break;
    case Order::read_local:
        answer.value = places.local_bytes[place][b];
        break;
    case Order::write_local:
        places.local_bytes[place][b] = static_cast<uint8_t>(c);
        break;
    case Order::connect_segment:
        return connect_segment(places, place, static_cast<unsigned>(b), static_cast<unsigned>(c),
                               static_cast<unsigned>(d));
    case Order::disconnect_segment:
        return disconnect_segment(places, place);
    case Order::read_remote:
        answer.value = places.remote_bytes[place][b];
        break;
    case Order::write_remote:
        places.remote_bytes[place][b] = static_cast<uint8_t>(c);
        break;
    default:
        answer.error = SCI_ERR_NOT_IMPLEMENTED;
    }
    return answer;
}

Answer do_interrupts(Places& places, const Question& question) {
    auto [place, b, c, d] = question.arguments;
    auto number = static_cast<unsigned>(b);
    Answer answer;
    switch (question.order) {
    case Order::create_interrupt:
        SCICreateInterrupt(places.descriptor, &places.interrupt[place], 0, &number, nullptr, nullptr,
                           static_cast<unsigned>(c), &answer.error);
        answer.value = number;
        break;
    case Order::remove_interrupt:
        SCIRemoveInterrupt(places.interrupt[place], 0, &answer.error);
        break;
    case Order::wait_interrupt:
        SCIWaitForInterrupt(places.interrupt[place], number, 0, &answer.error);
        break;
    case Order::connect_interrupt:
        SCIConnectInterrupt(places.descriptor, &places.remote_interrupt[place], number, 0,
                            static_cast<unsigned>(c), SCI_INFINITE_TIMEOUT, 0, &answer.error);
        break;
    case Order::disconnect_interrupt:
        SCIDisconnectInterrupt(places.remote_interrupt[place], 0, &answer.error);
        break;
    case Order::trigger_interrupt:
        for (; b > 0 && answer.error == SCI_ERR_OK; --b)
            SCITriggerInterrupt(places.remote_interrupt[place], 0, &answer.error);
        break;
    default:
        answer.error = SCI_ERR_NOT_IMPLEMENTED;
    }
    return answer;
}

Answer do_data_interrupts(Places& places, const Question& question) {
    auto [place, b, c, d] = question.arguments;
    auto number = static_cast<unsigned>(b);
    Answer answer;
    std::vector<uint8_t> data;
    unsigned length = 0;
    switch (question.order) {
    case Order::create_data_interrupt:
        SCICreateDataInterrupt(places.descriptor, &places.data_interrupt[place], 0, &number, nullptr, nullptr,
                               static_cast<unsigned>(c), &answer.error);
        answer.value = number;
        break;
    case Order::remove_data_interrupt:
        SCIRemoveDataInterrupt(places.data_interrupt[place], 0, &answer.error);
        break;
    case Order::wait_data_interrupt:
        data.resize(c);
        length = static_cast<unsigned>(c);
        SCIWaitForDataInterrupt(places.data_interrupt[place], data.data(), &length, number, 0, &answer.error);
        answer.value = length | (length > 0 && answer.error == SCI_ERR_OK ? uint64_t{data[0]} << 32 : 0);
        break;
    case Order::connect_data_interrupt:
        SCIConnectDataInterrupt(places.descriptor, &places.remote_data_interrupt[place], number, 0,
                                static_cast<unsigned>(c), SCI_INFINITE_TIMEOUT, 0, &answer.error);
        break;
    case Order::disconnect_data_interrupt:
        SCIDisconnectDataInterrupt(places.remote_data_interrupt[place], 0, &answer.error);
        break;
    case Order::trigger_data_interrupt:
        data.assign(b, static_cast<uint8_t>(c));
        SCITriggerDataInterrupt(places.remote_data_interrupt[place], data.data(), number, 0, &answer.error);
        break;
    default:
        answer.error = SCI_ERR_NOT_IMPLEMENTED;
    }
    return answer;
}

Answer do_devices(Places& places, const Question& question) {
    auto [place, b, c, d] = question.arguments;
    Answer answer;
    switch (question.order) {
    case Order::borrow_device:
        SCIBorrowDevice(places.descriptor, &places.device[place], static_cast<uint32_t>(b),
                        static_cast<unsigned>(c), &answer.error);
        break;
    case Order::return_device:
        SCIReturnDevice(places.device[place], 0, &answer.error);
        break;
    case Order::create_device_segment:
        SCICreateDeviceSegment(places.device[place], static_cast<unsigned>(b), c, static_cast<unsigned>(d), 0,
                               0, &answer.error);
        break;
    case Order::connect_device_segment:
        SCIConnectDeviceSegment(places.device[place], &places.remote[b], static_cast<unsigned>(c),
                                static_cast<unsigned>(d), nullptr, nullptr, 0, &answer.error);
        if (answer.error != SCI_ERR_OK) break;
        places.remote_bytes[b] = static_cast<volatile uint8_t*>(
            SCIMapRemoteSegment(places.remote[b], &places.remote_map[b], 0,
                                SCIGetRemoteSegmentSize(places.remote[b]), nullptr, 0, &answer.error));
        break;
    default:
        answer.error = SCI_ERR_NOT_IMPLEMENTED;
    }
    return answer;
}

Answer carry_out(Places& places, const Question& question) {
    Answer answer;
    if (question.order == Order::node_id) {
        unsigned node = 0;
        SCIGetLocalNodeId(0, &node, 0, &answer.error);
        answer.value = node;
        return answer;
    }
    if (question.order < Order::create_interrupt) return do_segments(places, question);
    if (question.order < Order::create_data_interrupt) return do_interrupts(places, question);
    if (question.order < Order::borrow_device) return do_data_interrupts(places, question);
    return do_devices(places, question);
}

} // namespace

Peer::Peer(const std::string& socket) {
    std::array<int, 2> ends{};
    EXPECT_EQ(0, socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()));
    channel_ = UniqueFd(ends[0]);
    UniqueFd other(ends[1]);

    std::vector<std::string> environment{"LANEPOOL_AGENT=" + socket};
    for (char** word = environ; *word; ++word)
        if (std::strncmp(*word, "LANEPOOL_AGENT=", 15) != 0) environment.emplace_back(*word);
    std::vector<char*> words;
    for (auto& word : environment)
        words.push_back(word.data());
    words.push_back(nullptr);
    std::string program = "/proc/self/exe";
    std::string role = "--peer";
    std::array<char*, 3> arguments{program.data(), role.data(), nullptr};

    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, other.get(), STDIN_FILENO);
    EXPECT_EQ(0, posix_spawn(&pid_, program.c_str(), &actions, nullptr, arguments.data(), words.data()));
    posix_spawn_file_actions_destroy(&actions);
}

Peer::~Peer() {
    if (pid_ == 0) return;
    channel_.reset(); // it ends when there is nobody to serve
    waitpid(pid_, nullptr, 0);
}

void Peer::begin(Order order, uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
    Question question{.order = order, .arguments = {a, b, c, d}};
    EXPECT_EQ(static_cast<ssize_t>(sizeof question),
              send(channel_.get(), &question, sizeof question, MSG_NOSIGNAL));
}

Answer Peer::answer() {
    Answer answer{.error = SCI_ERR_SYSTEM};
    EXPECT_EQ(static_cast<ssize_t>(sizeof answer), recv(channel_.get(), &answer, sizeof answer, 0))
        << "the peer has died";
    return answer;
}

Answer Peer::ask(Order order, uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
    begin(order, a, b, c, d);
    return answer();
}

void Peer::die() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = 0;
}

int serve_as_peer(int channel) {
    Places places;
    sci_error_t error = SCI_ERR_OK;
    SCIInitialize(0, &error);
    if (error != SCI_ERR_OK) return 1;
    SCIOpen(&places.descriptor, 0, &error);
    Question question;
    while (recv(channel, &question, sizeof question, 0) == static_cast<ssize_t>(sizeof question)) {
        Answer answer = carry_out(places, question);
        if (send(channel, &answer, sizeof answer, MSG_NOSIGNAL) < 0) break;
    }
    SCITerminate();
    return 0;
}

} // namespace lanepool::sisci_test
