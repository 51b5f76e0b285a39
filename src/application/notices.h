// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "application/fabric.h"
#include "application/segment_protocol.h"

#include <deque>
#include <functional>
#include <map>
#include <vector>

namespace lanepool::application {

// Tells other agents which connections are no more, many at a time, and again until they have heard it or are
// dead: who has died has forgotten them anyway. On the loop's thread.
class Notices {
  public:
    explicit Notices(Fabric& fabric) : fabric_(fabric) {}

    // KIND: disconnect or gone. DONE, if any: PEER knows, or is dead.
    void add(ntb::Partition peer, SegmentRequest kind, uint64_t id, std::function<void()> done = {});
    size_t waiting() const;

  private:
    struct Notice {
        uint64_t id;
        std::function<void()> done;
    };
    struct Box {
        std::deque<Notice> queue;
        std::vector<Notice> under_way; // one message at a time
        io::EventLoop::Registration retry;
    };
    using Key = std::pair<ntb::Partition, SegmentRequest>;
    void send(const Key& key);
    void answered(const Key& key, const Result<std::vector<std::byte>>& answer);

    Fabric& fabric_;
    std::map<Key, Box> boxes_; // a peer's and a kind's, for ever: at most 96
};

} // namespace lanepool::application
