// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "nvme/admin.h"
#include "nvme/controller_registers.h"
#include "nvme/drive_info.h"
#include "nvme/queue_pair.h"

#include <memory>
#include <vector>

namespace lanepool::nvme {

struct DriverOptions {
    enum class Reset { never, if_needed, always }; // function-level, before anything else is done
    Reset reset = Reset::if_needed;
    uint16_t io_queues = 8;         // how many to ask for
    uint16_t interrupt_vectors = 0; // 0: polling only
    size_t max_namespaces = 128;
    io::Duration command_timeout = Admin::default_timeout; // of admin commands
    io::TimePoint deadline = io::TimePoint::max();         // of create() as a whole
    // Where its memory comes from; none: memory of this process, mapped for the function from iova_start on,
    // where nothing else may be.
    std::shared_ptr<DmaAllocator> allocator = nullptr;
    Iova iova_start = {IovaSpace::default_start};
    // Submission queues are served by priority (CC.AMS), as the Arbitration feature weighs them.
    bool weighted_arbitration = false;
    // Whether doorbells that are no memory may be spared by shadow doorbells. Not for a driver that creates
    // queues for others: with them the controller looks at no other doorbells.
    bool shadow_doorbells = true;
};

// A user-space driver for one NVMe controller, reached through a pci::Function: hardware or a model, it
// cannot tell. It owns the controller while it lives and leaves it quiet when it goes: disabled, no bus
// mastering, no interrupts, no DMA mapping. One thread for the driver; one thread for each queue.
//
// A controller that is reset, dies or fails under it breaks its queues: make a new Driver then.
class Driver {
  public:
    // Takes the controller over in whatever state it is, enables it, identifies it and its namespaces.
    // FUNCTION and CLOCK must outlive the driver. Errors: disconnected, timeout, io (fatal status), protocol
    // (the controller talks nonsense), not_supported (no NVM command set, pages of over 64 KiB,
    // no weighted arbitration).
    static Result<std::unique_ptr<Driver>> create(pci::Function& function, const io::Clock& clock,
                                                  DriverOptions options = {});
    Driver(const Driver&) = delete;
    Driver& operator=(const Driver&) = delete;
    ~Driver();

    const DriveInfo& info() const { return info_; }
    const std::vector<NamespaceInfo>& namespaces() const { return namespaces_; }
    // Identifies the namespaces again, for example after a format.
    Result<> refresh_namespaces();
    Admin& admin() { return *admin_; }

    // Memory for data; must be given back before the driver goes.
    Result<DmaMemory> allocate(uint64_t size_bytes);

    struct QueueOptions {
        uint16_t depth = 32; // taken down to what the controller can (CAP.MQES)
        std::optional<uint16_t> interrupt_vector = std::nullopt;
        QueuePriority priority = QueuePriority::medium;
    };
    // A new I/O queue pair; it lives until delete_queue() or the driver's end. Errors: no_space when the
    // controller has no more, and those of admin commands.
    Result<QueuePair*> create_queue(QueueOptions options);
    Result<> delete_queue(QueuePair& queue);

    // For the manager of a shared drive: a queue pair that somebody else uses (see QueuePair::create), in
    // memory of theirs. PLACE.id is chosen here and returned. What else they need: page_bytes(),
    // doorbell_stride(), info() and namespaces(). Errors: no_space, failed_precondition with shadow
    // doorbells, out_of_range for entries that the controller cannot have, and those of admin commands.
    Result<uint16_t> create_foreign_queue(QueuePlace place);
    // Also when its user has died: the controller is told to forget what is in flight there.
    Result<> delete_foreign_queue(uint16_t id);
    uint64_t page_bytes() const { return page_bytes_; }
    unsigned doorbell_stride() const { return doorbells_.stride(); }

    uint16_t max_queues() const { return max_queues_; }
    // Whether doorbells are stores to memory, not calls.
    bool doorbells_mapped() const;

    // Signalled by completions of queues on that vector.
    const UniqueFd& interrupt(uint16_t vector) const { return interrupts_.at(vector); }

    // Errors: disconnected, io (fatal status), cancelled (somebody has reset or disabled the controller).
    Result<> check_health();

    // Tells the controller that it will lose power (CC.SHN), waits for it, then stop().
    Result<> shut_down();
    // Disables the controller and leaves the function quiet. Commands in flight are answered `cancelled`. The
    // destructor does it as well. Errors: timeout, disconnected; all that can be done is done nevertheless.
    Result<> stop();

  private:
    Driver(pci::Function& function, const io::Clock& clock, const DriverOptions& options);
    Result<> take_over();
    Result<> start();
    Result<> set_up_interrupts();
    Result<> set_up_queues();
    Result<> set_up_shadow_doorbells();
    io::TimePoint until(io::Duration duration) const;
    QueuePair::HealthCheck health_check();
    Result<uint16_t> free_id() const;

    pci::Function& function_;
    const io::Clock& clock_;
    DriverOptions options_;
    ControllerRegisters registers_;
    uint64_t capabilities_ = 0;
    uint64_t page_bytes_ = min_page_bytes;
    bool stopped_ = false;
    std::shared_ptr<DmaAllocator> allocator_;
    Doorbells doorbells_;
    std::vector<UniqueFd> interrupts_;
    std::optional<pci::Irq> irq_;
    DmaMemory shadow_doorbells_;
    DmaMemory event_indexes_;
    std::unique_ptr<QueuePair> admin_queue_;
    std::unique_ptr<Admin> admin_;
    DriveInfo info_;
    std::vector<NamespaceInfo> namespaces_;
    uint16_t max_queues_ = 0;
    struct IoQueue {
        std::unique_ptr<QueuePair> own;
        bool foreign = false;
    };
    std::vector<IoQueue> queues_; // at id - 1
};

} // namespace lanepool::nvme
