// SPDX-License-Identifier: Apache-2.0
//
// One connection of a process of this host to a segment or an interrupt of another host (or of this one):
// asks for it until it is there, opens the windows to it, and gives them back.
#pragma once

#include "application/notices.h"
#include "pci/function.h"

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace lanepool::application {

class Connection;

// Those that there are, by number. On the loop's thread.
class Connections {
  public:
    Connections(Fabric& fabric, Notices& notices) : fabric_(fabric), notices_(notices) {}

    struct Wish {
        ntb::Partition peer;
        SegmentRequest kind = SegmentRequest::connect_segment;
        uint32_t number = 0;
        bool data = false;
        std::string user;
        io::Duration timeout; // ask again for so long while there is no such number
    };
    // What a connection leads to.
    struct Way {
        ntb::Target target;               // a segment's
        std::vector<pci::Extent> extents; // of a segment, or of a data interrupt's ring
        SharedFd event;                   // an interrupt's
    };
    using Opened = std::function<void(Result<Way>)>;
    // Once, after OPENED was successful: it leads nowhere any more.
    using Lost = std::function<void(const std::string& reason)>;
    // OPENED comes once, unless it is closed before. The connection lives until it is closed, lost or not
    // opened. Errors: not_found (for all of the time there was no such number, or it was not available),
    // unavailable (the node is not alive), failed_precondition, no_space.
    std::shared_ptr<Connection> open(Wish wish, Opened opened, Lost lost);

    void gone(ntb::Partition from, uint64_t id); // says the one who showed it
    void peer_lost(ntb::Partition peer);
    size_t size() const { return open_.size(); }

  private:
    friend class Connection;
    void answered(); // one of those that ask
    Fabric& fabric_;
    Notices& notices_;
    uint64_t next_id_ = 1;
    std::map<uint64_t, std::shared_ptr<Connection>> open_; // and those that want to be
    // Few ask at a time, so that processes that ask and ask leave room on the channel for others.
    size_t asking_ = 0;
    std::deque<std::weak_ptr<Connection>> queue_;
};

class Connection : public std::enable_shared_from_this<Connection> {
  public:
    Connection(Connections& owner, uint64_t id, Connections::Wish wish, Connections::Opened opened,
               Connections::Lost lost);

    // DONE: this host does not reach it any more, and who shows it knows. None of the other callbacks comes
    // afterwards.
    void close(std::function<void()> done);

  private:
    friend class Connections;
    struct Windows {
        std::vector<ntb::Window> windows;
        Connections::Way way;
    };
    enum class Phase { asking, waiting, opening, open, ended };

    void ask(); // at once, or in its turn
    void answered(Result<std::vector<std::byte>> answer);
    void refused(const Error& why);
    void open_windows(std::vector<ntb::Target> targets);
    static Result<Windows> open_windows(ntb::Adapter& adapter, const std::vector<ntb::Target>& targets,
                                        SegmentRequest kind);
    void windows_opened(Result<Windows> opened);
    void lose(const std::string& reason);
    void end();              // forget it here
    void give_up(Error why); // end() and say so
    void tell_peer(std::function<void()> done = {});

    Connections& owner_;
    const std::weak_ptr<bool> alive_; // of the fabric, and so of the owner
    const uint64_t id_;
    const Connections::Wish wish_;
    const io::TimePoint deadline_;
    Phase phase_ = Phase::asking;
    Connections::Opened opened_;
    Connections::Lost lost_;
    std::optional<std::string> lost_reason_; // while it was being opened
    io::EventLoop::Registration retry_;
    std::vector<ntb::Window> windows_;
};

} // namespace lanepool::application
