// SPDX-License-Identifier: Apache-2.0
//
// What a driver of this host's writes to registers of configuration space that ask something of the device
// itself: carried to its lender, the newest value of each, one thing at a time. The module does not wait for
// it (docs/kernel-bridge.md), so that memory space and bus master are on for as long as the function is
// plugged in: what a driver has just turned on works at once, and what the device reaches is the pool, or
// what is mapped.
#pragma once

#include "agent/background.h"
#include "agent/kernel_description.h"
#include "bridge/function.h"
#include "smartio/direct_device.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

namespace lanepool::agent {

// On the loop's thread.
class KernelRegisters {
  public:
    // What is pointed to must outlive it. FAILED: a reset did not succeed; not from inside of a call.
    KernelRegisters(Background& background, smartio::DirectDevice& device,
                    std::shared_ptr<bridge::Function> function, bridge::ShownConfig shown,
                    bridge::ServedRegisters registers, std::function<void(const Error&)> failed);
    ~KernelRegisters() { *alive_ = false; }

    // Turns the device on; before the function is plugged in.
    void turn_on(smartio::DirectDevice::Done done);
    // An event, or some that were lost: registers may have changed.
    void changed();
    void reset();

    uint64_t forwarded() const { return forwarded_; }
    uint64_t resets() const { return resets_; }

  private:
    struct Written {
        uint16_t command = 0;
        std::optional<unsigned> power_state;
    };
    void next();
    void read_registers();
    void forward(const Written& written);
    void set_power(unsigned state, const Written& then);
    void set_command(uint16_t command);
    void was_reset(Result<std::vector<std::byte>> config);
    void restore(Result<> on, const std::vector<std::byte>& config);
    void finish();

    Background& background_;
    smartio::DirectDevice& device_;
    const std::shared_ptr<bridge::Function> function_;
    const bridge::ShownConfig shown_;
    const bridge::ServedRegisters registers_;
    const std::function<void(const Error&)> failed_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
    bool busy_ = false;
    bool changed_ = false;
    bool reset_asked_ = false;
    uint16_t command_ = 0; // that the device has
    unsigned power_state_ = 0;
    uint64_t forwarded_ = 0;
    uint64_t resets_ = 0;
};

} // namespace lanepool::agent
