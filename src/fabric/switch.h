// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"
#include "fabric/options.h"
#include "fabric/port.h"
#include "io/event_loop.h"

#include <cstdint>
#include <memory>
#include <vector>

namespace lanepool::fabric {

// The virtual NTB switch, without its sockets: ports that are driven as vfio_user::Handler. Used on the
// loop's thread only.
class Switch {
  public:
    // Errors: invalid_argument. LOOP must outlive the switch.
    static Result<std::unique_ptr<Switch>> create(io::EventLoop& loop, SwitchOptions options);
    Switch(const Switch&) = delete;
    Switch& operator=(const Switch&) = delete;

    const SwitchOptions& options() const { return options_; }
    io::EventLoop& loop() { return loop_; }
    // INDEX must be below options().ports.
    Port& port(unsigned index) { return *ports_[index]; }
    const Port& port(unsigned index) const { return *ports_[index]; }

    // For the ports.
    void link_changed(unsigned partition);
    void release_locks(unsigned holder);
    void ring(unsigned source, uint64_t targets, uint64_t bits);

  private:
    Switch(io::EventLoop& loop, SwitchOptions options) : loop_(loop), options_(std::move(options)) {}

    io::EventLoop& loop_;
    SwitchOptions options_;
    std::vector<std::unique_ptr<Port>> ports_;
};

} // namespace lanepool::fabric
