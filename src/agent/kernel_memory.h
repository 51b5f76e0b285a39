// SPDX-License-Identifier: Apache-2.0
//
// The memory of this host that a device lent to its own kernel reaches, and the function that is described
// with it: in bounce mode the pool is the function's, else the function is told where its addresses are, so
// that both are made together. Where there is no room, smaller ones.
#pragma once

#include "agent/background.h"
#include "agent/own_kernel.h"
#include "bridge/function.h"
#include "ntb/adapter.h"
#include "smartio/direct_device.h"
#include "smartio/errands.h"

#include <functional>
#include <memory>
#include <optional>

namespace lanepool::agent {

// ---- Decided without doing it

struct DmaSize {
    uint64_t bytes = 0;
    uint64_t least_bytes = 0;

    // Half of it; none: it would be less than the least.
    std::optional<DmaSize> half() const {
        return bytes / 2 < least_bytes ? std::nullopt : std::optional(DmaSize{bytes / 2, least_bytes});
    }
};
// In bounce and iommu mode.
DmaSize dma_size(bridge::DmaMode mode, uint32_t class_code, uint64_t max_pool_bytes);
// Where the device is to see so many bytes: low, for devices that have not all the wires.
Iova dma_base(uint64_t bytes);

// ---- Done

// On the loop's thread.
class KernelMemory {
  public:
    // What is pointed to must outlive it; BACKGROUND must be gone first.
    KernelMemory(io::EventLoop& loop, Background& background, OwnKernel kernel, ntb::Adapter& adapter,
                 smartio::DirectDevice& device)
        : background_(background), kernel_(kernel), adapter_(adapter), device_(device),
          errands_(std::make_unique<smartio::Errands>(loop)) {}
    ~KernelMemory();

    // Fills in DESCRIPTION's DMA, creates the function and lets the device reach its memory. Once. After an
    // error nothing is left of it. Errors: no_space, and what the parts say.
    void make(bridge::Description description, uint32_t class_code, std::function<void(Result<>)> done);
    // Makes no more: DONE is not called.
    void stop();

    std::shared_ptr<bridge::Function> function() const { return function_; }
    uint64_t size_bytes() const { return size_.bytes; }
    Iova base() const { return dma_base(size_.bytes); }

    // When the device reaches it no more. DONE once nobody does.
    void withdraw(std::function<void()> done);
    // The adapter is about to go: withdraws before it returns.
    void adapter_gone();
    // When the kernel has ended with it.
    void drop_function() { function_.reset(); }

  private:
    void attempt();
    void create(BusAddress addresses);
    void created(Result<std::shared_ptr<bridge::Function>> function);
    void export_pool();
    void exported(Result<ntb::Export> made);
    void map();
    void failed(const Error& error, const char* what);
    void finish(Result<> result);
    // Runs WORK with the adapter; THEN gets what it returned unless this has been stopped.
    template <class Work, class Then>
    void with_adapter(Work work, Then then);

    Background& background_;
    const OwnKernel kernel_;
    ntb::Adapter& adapter_;
    smartio::DirectDevice& device_;
    std::shared_ptr<bool> wanted_ = std::make_shared<bool>(false); // false: stopped
    std::function<void(Result<>)> done_;
    bridge::Description description_;
    DmaSize size_;
    std::shared_ptr<bridge::Function> function_;
    ntb::Export export_;
    std::unique_ptr<smartio::Errands> errands_; // where the adapter is used; null: it has gone
};

} // namespace lanepool::agent
