// SPDX-License-Identifier: Apache-2.0
//
// What the processes of this host have, as long as the host is on the fabric.
#pragma once

#include "application/connection.h"
#include "application/devices.h"
#include "application/session.h"
#include "application/showing.h"

#include <map>
#include <memory>
#include <string>

namespace lanepool::application {

inline constexpr size_t max_sessions = 256;

class Host {
  public:
    // ADAPTER, CHANNEL and CONTROLLER must outlive it.
    // CONTROLLER: null where no devices are borrowed.
    Host(io::EventLoop& loop, ntb::Adapter& adapter, ntb::Channel& channel, std::string name,
         Controller* controller, Devices::Broken broken, io::Duration look_interval)
        : name_(std::move(name)), fabric_(loop, adapter, channel), notices_(fabric_),
          showing_(fabric_, notices_), connections_(fabric_, notices_),
          devices_(fabric_, controller, std::move(broken), look_interval) {}

    bool has_room() const { return sessions_.size() < max_sessions; }
    Result<> add_session(UniqueFd socket, const std::string& user);
    void serve(ntb::Partition from, uint16_t kind, std::vector<std::byte> body, ntb::ChannelReply reply);
    void peer_changed(ntb::Partition peer, bool alive);
    // How much there is of what: as before when the last session has ended.
    session::Json counts() const;

    // For sessions.
    const std::string& name() const { return name_; }
    Fabric& fabric() { return fabric_; }
    Showing& showing() { return showing_; }
    Connections& connections() { return connections_; }
    Devices& devices() { return devices_; }
    void end_session(uint64_t id); // soon

  private:
    const std::string name_;
    Fabric fabric_;
    Notices notices_;
    Showing showing_;
    Connections connections_;
    Devices devices_;
    uint64_t next_session_ = 1;
    std::map<uint64_t, std::unique_ptr<Session>> sessions_; // destroyed first: they give back
};

} // namespace lanepool::application
