// SPDX-License-Identifier: Apache-2.0
//
// This host's place on the fabric: its adapter and its channel to the other hosts, brought up again whenever
// the adapter goes away.
#pragma once

#include "agent/background.h"
#include "agent/function_source.h"
#include "io/event_loop.h"
#include "ntb/adapter.h"
#include "ntb/channel.h"

#include <functional>
#include <memory>

namespace lanepool::agent {

// On the loop's thread, all of them.
struct FabricEvents {
    std::function<void()> up; // adapter() and channel() are there
    std::function<void()>
        down; // they are about to go: give back whatever was made from them before returning
    std::function<void(ntb::Partition peer, bool alive)> peer_changed;
    std::function<void(ntb::Partition from, uint16_t kind, std::vector<std::byte> body,
                       ntb::ChannelReply reply)>
        request;
};

class FabricPort {
  public:
    // Opens the adapter, now and whenever it has gone, in the background.
    FabricPort(io::EventLoop& loop, std::shared_ptr<Background> background,
               std::shared_ptr<FunctionSource> source, FabricEvents events);
    ~FabricPort();

    bool is_up() const { return channel_ != nullptr; }
    ntb::Adapter& adapter() { return *adapter_; }
    ntb::Channel& channel() { return *channel_; }

  private:
    void connect();
    void opened(Result<std::unique_ptr<ntb::Adapter>> adapter, uint64_t generation);
    void gone(uint64_t generation);

    io::EventLoop& loop_;
    const std::shared_ptr<Background> background_;
    const std::shared_ptr<FunctionSource> source_;
    const FabricEvents events_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true); // used on the loop's thread only
    uint64_t generation_ = 0; // of the adapter: an event of an earlier one is ignored
    std::unique_ptr<ntb::Adapter> adapter_;
    std::unique_ptr<ntb::Channel> channel_; // uses the adapter
    io::EventLoop::Registration retry_;
    std::string last_problem_; // logged once, not at every attempt
};

} // namespace lanepool::agent
