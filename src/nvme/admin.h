// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "nvme/dma_memory.h"
#include "nvme/queue_pair.h"
#include "nvme/spec.h"

#include <memory>
#include <span>
#include <vector>

namespace lanepool::nvme {

// An I/O queue pair as its controller is told of it. Whose memory the queues lie in is nobody's business
// here.
struct QueuePlace {
    uint16_t id = 0;
    uint16_t entries = 0; // of each of the two
    Iova submission{};
    Iova completion{};
    std::optional<uint16_t> interrupt_vector = std::nullopt;
    QueuePriority priority = QueuePriority::medium; // counts with weighted arbitration only
};

// The admin commands, each sent and waited for. One thread. Errors: timeout (then the queue is broken, as the
// controller may still write to the data buffer: reset it), io with the controller's status in words,
// disconnected, cancelled, protocol.
class Admin {
  public:
    static constexpr size_t buffer_bytes = 64 * 1024; // the most data of one command
    static constexpr io::Duration default_timeout = std::chrono::seconds(10);

    // QUEUE is the admin queue and must outlive this; DATA holds buffer_bytes.
    Admin(QueuePair& queue, DmaMemory data, io::Duration timeout = default_timeout)
        : queue_(queue), data_(std::move(data)), timeout_(timeout) {}

    Result<IdentifyController> identify_controller();
    Result<IdentifyNamespace> identify_namespace(uint32_t nsid);
    Result<IdentifyControllerNvm> identify_controller_nvm();
    // The ids of active namespaces, ascending, at most LIMIT of them.
    Result<std::vector<uint32_t>> active_namespaces(size_t limit);

    // OUT.size() bytes (a multiple of four) of PAGE from OFFSET_BYTES on.
    Result<> get_log(LogPage page, uint32_t nsid, uint64_t offset_bytes, std::span<std::byte> out);
    Result<SmartLog> smart_log();
    Result<SanitizeStatusLog> sanitize_status();

    // Completion dword 0; SELECT is features_command::sel_*. Data that comes with it goes to OUT.
    Result<uint32_t> get_feature(Feature feature, uint32_t nsid = 0, uint32_t select = 0,
                                 std::span<std::byte> out = {});
    Result<uint32_t> set_feature(Feature feature, uint32_t value, uint32_t nsid = 0, bool save = false,
                                 std::span<const std::byte> data = {});

    // Formats NSID (or broadcast_nsid) with LBA format FORMAT; SECURE_ERASE is format_command::ses_*.
    Result<> format(uint32_t nsid, uint8_t format, uint32_t secure_erase, io::Duration timeout);
    // Starts a sanitize operation; sanitize_status() tells how far it is. Overwrites once, with PATTERN.
    Result<> start_sanitize(SanitizeAction action, uint32_t pattern = 0);
    // Leaves the failure mode of an operation that failed.
    Result<> exit_sanitize_failure();

    // Both queues, or none.
    Result<> create_queue(const QueuePlace& place);
    // Both queues of that id. The controller aborts what is in flight there.
    Result<> delete_queue(uint16_t id);
    Result<> set_doorbell_buffers(Iova shadow, Iova event_index);

    // Any other command without data. WHAT names it in errors.
    Result<uint32_t> execute(const Command& command, std::string_view what, io::Duration timeout);

  private:
    Result<> identify(Cns cns, uint32_t nsid, std::span<std::byte> out);
    Result<uint32_t> execute_read(Command command, std::span<std::byte> out, std::string_view what);

    QueuePair& queue_;
    DmaMemory data_;
    io::Duration timeout_;
};

} // namespace lanepool::nvme
