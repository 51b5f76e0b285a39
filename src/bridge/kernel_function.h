// SPDX-License-Identifier: Apache-2.0
//
// One open file of kernel/lanepool_bridge. Its interface is kernel/lanepool_bridge/lanepool_bridge.h.
#pragma once

#include "bridge/function.h"
#include "bridge/module.h"

#include <mutex>
#include <string>

namespace lanepool::bridge {

class KernelFunction final : public Function {
  public:
    // FILE is a fresh open file of MODULE's, whose interface has been found to be ours.
    KernelFunction(Module& module, UniqueFd file) : module_(module), file_(share(std::move(file))) {}
    ~KernelFunction() override;
    KernelFunction(const KernelFunction&) = delete;
    KernelFunction& operator=(const KernelFunction&) = delete;

    Result<> create(const Description& description) override;
    Result<MemoryRef> pool() const override;
    Result<pci::Address> plug(uint64_t dma_base) override;
    Result<> unplug(bool surprise) override;
    Result<> set_vectors(uint32_t first, std::span<const int> eventfds) override;
    Result<> update_config(uint32_t offset_bytes, std::span<const std::byte> data) override;
    Result<std::vector<std::byte>> read_config(uint32_t offset_bytes, size_t size_bytes) const override;
    Result<> begin_reset() override { return reset(true); }
    Result<> end_reset() override { return reset(false); }
    Result<Stats> stats() const override;
    int event_fd() const override { return file_->get(); }
    Result<std::vector<Event>> take_events() override;

  private:
    int call(unsigned long request, void* argument) const {
        return module_.ioctl(file_->get(), request, argument);
    }
    Result<> reset(bool begin);

    Module& module_;
    const SharedFd file_;
    mutable std::mutex mutex_;
    uint64_t pool_bytes_ = 0; // under mutex_
};

} // namespace lanepool::bridge
