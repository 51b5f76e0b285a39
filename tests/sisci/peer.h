// SPDX-License-Identifier: Apache-2.0
//
// Another process on another host, which does what a test tells it to.
#pragma once

#include "base/unique_fd.h"

#include <cstdint>
#include <sisci_api.h>
#include <string>
#include <sys/types.h>

namespace lanepool::sisci_test {

// What a peer can be told to do; it has eight places for resources of each kind.
enum class Order : uint32_t {
    node_id,                   // -> its node id
    create_segment,            // place, id, size, callback (1: counts events)
    register_segment,          // place, id, size
    prepare_segment,           // place
    segment_available,         // place
    segment_unavailable,       // place
    remove_segment,            // place
    segment_id,                // place -> its id
    read_local,                // place, offset -> the byte there
    write_local,               // place, offset, byte
    connect_segment,           // place, node, id, timeout
    disconnect_segment,        // place
    read_remote,               // place, offset -> the byte there
    write_remote,              // place, offset, byte
    create_interrupt,          // place, number, flags -> its number
    remove_interrupt,          // place
    wait_interrupt,            // place, timeout
    connect_interrupt,         // place, node, number
    disconnect_interrupt,      // place
    trigger_interrupt,         // place, count
    create_data_interrupt,     // place, number, flags -> its number
    remove_data_interrupt,     // place
    wait_data_interrupt,       // place, timeout, room -> the length; the first byte in the high half
    connect_data_interrupt,    // place, node, number
    disconnect_data_interrupt, // place
    trigger_data_interrupt,    // place, length, byte: as many of it
    borrow_device,             // place, fdid, flags
    return_device,             // place
    create_device_segment,     // place, id, size, memtype
    connect_device_segment,    // place of the device, place of the segment, id, memtype
};

struct Answer {
    sci_error_t error = SCI_ERR_OK;
    uint32_t padding = 0;
    uint64_t value = 0;
};

class Peer {
  public:
    // Of the agent that listens at SOCKET.
    explicit Peer(const std::string& socket);
    ~Peer();

    Answer ask(Order order, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0, uint64_t d = 0);
    // The error only.
    sci_error_t tell(Order order, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0, uint64_t d = 0) {
        return ask(order, a, b, c, d).error;
    }
    // Begins something that takes a while; answer() ends it.
    void begin(Order order, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0, uint64_t d = 0);
    Answer answer();
    // Kills it, as a crash does.
    void die();

  private:
    UniqueFd channel_;
    pid_t pid_ = 0;
};

// What main() does in the process that is the peer; CHANNEL leads to the test.
int serve_as_peer(int channel);

} // namespace lanepool::sisci_test
