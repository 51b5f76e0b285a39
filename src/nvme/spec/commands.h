// SPDX-License-Identifier: Apache-2.0
//
// Submission and completion entries, opcodes, and the fields of their command dwords
// (NVM Express Base Specification 2.0, sections 3.3.3, 5 and 7; NVM Command Set Specification 1.0, section
// 3).
#pragma once

#include "base/endian.h"
#include "nvme/spec/registers.h"
#include "nvme/spec/status.h"

#include <array>

namespace lanepool::nvme {

enum class AdminOpcode : uint8_t {
    delete_io_sq = 0x00,
    create_io_sq = 0x01,
    get_log_page = 0x02,
    delete_io_cq = 0x04,
    create_io_cq = 0x05,
    identify = 0x06,
    abort = 0x08,
    set_features = 0x09,
    get_features = 0x0a,
    async_event_request = 0x0c,
    namespace_management = 0x0d,
    firmware_commit = 0x10,
    firmware_download = 0x11,
    device_self_test = 0x14,
    namespace_attachment = 0x15,
    keep_alive = 0x18,
    directive_send = 0x19,
    directive_receive = 0x1a,
    virtualization_management = 0x1c,
    doorbell_buffer_config = 0x7c,
    format_nvm = 0x80,
    security_send = 0x81,
    security_receive = 0x82,
    sanitize = 0x84,
};

enum class IoOpcode : uint8_t {
    flush = 0x00,
    write = 0x01,
    read = 0x02,
    write_uncorrectable = 0x04,
    compare = 0x05,
    write_zeroes = 0x08,
    dataset_management = 0x09,
    verify = 0x0c,
    reservation_register = 0x0d,
    reservation_report = 0x0e,
    reservation_acquire = 0x11,
    reservation_release = 0x15,
    copy = 0x19,
};

// A submission queue entry (figure "Common Command Format").
struct Command {
    uint8_t opcode = 0;
    uint8_t flags = 0; // FUSE in bits 1:0, PSDT in bits 7:6
    le16 cid;
    le32 nsid;
    le32 cdw2;
    le32 cdw3;
    le64 mptr;
    le64 prp1; // or the first half of an SGL descriptor
    le64 prp2;
    le32 cdw10;
    le32 cdw11;
    le32 cdw12;
    le32 cdw13;
    le32 cdw14;
    le32 cdw15;
};
static_assert(sizeof(Command) == 64);

inline constexpr Field<uint8_t, 0, 2> command_fuse;
inline constexpr Field<uint8_t, 6, 2> command_psdt; // 0: PRPs

// A completion queue entry.
struct Completion {
    le32 dw0; // command specific
    le32 dw1;
    le16 sq_head;
    le16 sq_id;
    le16 cid;
    le16 status_phase; // bit 0: phase tag; bits 15:1: status

    bool phase() const { return (status_phase & 1) != 0; }
    Status status() const { return Status(static_cast<uint16_t>(status_phase >> 1)); }
    static constexpr uint16_t make_status_phase(Status status, bool phase) {
        return static_cast<uint16_t>(status.raw() << 1 | (phase ? 1 : 0));
    }
};
static_assert(sizeof(Completion) == 16);

inline constexpr uint32_t broadcast_nsid = 0xffffffff;

namespace create_queue {                        // Create I/O Submission Queue, Create I/O Completion Queue
inline constexpr Field<uint32_t, 0, 16> qid;    // dword 10
inline constexpr Field<uint32_t, 16, 16> qsize; // dword 10, entries, 0's based
inline constexpr Field<uint32_t, 0, 1> pc;      // dword 11, physically contiguous
inline constexpr Field<uint32_t, 1, 1> ien;     // dword 11, CQ: interrupts enabled
inline constexpr Field<uint32_t, 16, 16> iv;    // dword 11, CQ: interrupt vector
inline constexpr Field<uint32_t, 1, 2> qprio;   // dword 11, SQ: QueuePriority
inline constexpr Field<uint32_t, 16, 16> cqid;  // dword 11, SQ
} // namespace create_queue
// Create I/O Submission Queue, QPRIO: of meaning with weighted round robin (CC.AMS) only.
enum class QueuePriority : uint8_t { urgent = 0, high = 1, medium = 2, low = 3 };

namespace delete_queue {
inline constexpr Field<uint32_t, 0, 16> qid; // dword 10
}
namespace abort_command {
inline constexpr Field<uint32_t, 0, 16> sqid;       // dword 10
inline constexpr Field<uint32_t, 16, 16> cid;       // dword 10
inline constexpr Field<uint32_t, 0, 1> not_aborted; // completion dword 0
} // namespace abort_command
namespace identify_command {
inline constexpr Field<uint32_t, 0, 8> cns;     // dword 10
inline constexpr Field<uint32_t, 16, 16> cntid; // dword 10
inline constexpr Field<uint32_t, 24, 8> csi;    // dword 11
} // namespace identify_command
namespace get_log {
inline constexpr Field<uint32_t, 0, 8> lid;     // dword 10
inline constexpr Field<uint32_t, 8, 7> lsp;     // dword 10
inline constexpr Field<uint32_t, 15, 1> rae;    // dword 10, retain asynchronous event
inline constexpr Field<uint32_t, 16, 16> numdl; // dword 10, dwords, 0's based, low half
inline constexpr Field<uint32_t, 0, 16> numdu;  // dword 11
// Dwords 12 and 13: byte offset, low and high.
} // namespace get_log
namespace features_command {
inline constexpr Field<uint32_t, 0, 8> fid; // dword 10
inline constexpr Field<uint32_t, 8, 3> sel; // dword 10, get: 0 current, 1 default, 2 saved, 3 supported
inline constexpr Field<uint32_t, 31, 1> sv; // dword 10, set: save
inline constexpr uint32_t sel_current = 0;
inline constexpr uint32_t sel_default = 1;
inline constexpr uint32_t sel_saved = 2;
inline constexpr uint32_t sel_supported = 3;
// Completion dword 0 of sel_supported.
inline constexpr Field<uint32_t, 0, 1> saveable;
inline constexpr Field<uint32_t, 1, 1> namespace_specific;
inline constexpr Field<uint32_t, 2, 1> changeable;
} // namespace features_command
namespace format_command { // dword 10
inline constexpr Field<uint32_t, 0, 4> lbaf;
inline constexpr Field<uint32_t, 4, 1> mset;
inline constexpr Field<uint32_t, 5, 3> pi;
inline constexpr Field<uint32_t, 8, 1> pil;
inline constexpr Field<uint32_t, 9, 3> ses;
inline constexpr uint32_t ses_none = 0;
inline constexpr uint32_t ses_user_data = 1;
inline constexpr uint32_t ses_cryptographic = 2;
} // namespace format_command
namespace sanitize_command { // dword 10
inline constexpr Field<uint32_t, 0, 3> sanact;
inline constexpr Field<uint32_t, 3, 1> ause; // allow unrestricted sanitize exit
inline constexpr Field<uint32_t, 4, 4> owpass;
inline constexpr Field<uint32_t, 8, 1> oipbp;
inline constexpr Field<uint32_t, 9, 1> no_deallocate;
// Dword 11: overwrite pattern.
} // namespace sanitize_command
enum class SanitizeAction : uint8_t { exit_failure = 1, block_erase = 2, overwrite = 3, crypto_erase = 4 };

namespace firmware_commit {
inline constexpr Field<uint32_t, 0, 3> fs; // dword 10, slot
inline constexpr Field<uint32_t, 3, 3> ca; // dword 10, action
} // namespace firmware_commit
namespace self_test {
inline constexpr Field<uint32_t, 0, 4> stc; // dword 10: 1 short, 2 extended, 0xf abort
}

// Read, Write, Compare, Write Zeroes, Verify: dwords 10 and 11 are the first logical block.
namespace rw {
inline constexpr Field<uint32_t, 0, 16> nlb;    // dword 12, blocks, 0's based
inline constexpr Field<uint32_t, 25, 1> deac;   // dword 12, Write Zeroes: deallocate
inline constexpr Field<uint32_t, 26, 4> prinfo; // dword 12
inline constexpr Field<uint32_t, 30, 1> fua;    // dword 12
inline constexpr Field<uint32_t, 31, 1> lr;     // dword 12, limited retry
} // namespace rw

namespace dsm {
inline constexpr Field<uint32_t, 0, 8> nr; // dword 10, ranges, 0's based
inline constexpr Field<uint32_t, 2, 1> ad; // dword 11, deallocate
inline constexpr uint32_t max_ranges = 256;
} // namespace dsm
struct DsmRange {
    le32 context;
    le32 blocks;
    le64 first_block;
};
static_assert(sizeof(DsmRange) == 16);

enum class Feature : uint8_t {
    arbitration = 0x01,
    power_management = 0x02,
    temperature_threshold = 0x04,
    error_recovery = 0x05,
    volatile_write_cache = 0x06,
    number_of_queues = 0x07,
    interrupt_coalescing = 0x08,
    interrupt_vector = 0x09,
    write_atomicity = 0x0a,
    async_event_config = 0x0b,
    autonomous_power_transition = 0x0c,
    host_memory_buffer = 0x0d,
    timestamp = 0x0e,
    keep_alive_timer = 0x0f,
    host_controlled_thermal = 0x10,
    non_operational_power = 0x11,
    read_recovery_level = 0x12,
    host_behavior = 0x16,
    sanitize_config = 0x17,
    software_progress = 0x80,
    host_identifier = 0x81,
    namespace_write_protection = 0x84,
};

// Arbitration, dword 11.
namespace arbitration {
inline constexpr Field<uint32_t, 0, 3> burst;      // 2^AB commands; 7: no limit
inline constexpr Field<uint32_t, 8, 8> low_weight; // commands a turn, 0's based
inline constexpr Field<uint32_t, 16, 8> medium_weight;
inline constexpr Field<uint32_t, 24, 8> high_weight;
} // namespace arbitration

// Number of Queues: in dword 11 and completion dword 0, both 0's based.
namespace number_of_queues {
inline constexpr Field<uint32_t, 0, 16> sq;
inline constexpr Field<uint32_t, 16, 16> cq;
} // namespace number_of_queues

// Asynchronous events: completion dword 0, and the bits of Asynchronous Event Configuration.
namespace async_event {
inline constexpr Field<uint32_t, 0, 3> type;
inline constexpr Field<uint32_t, 8, 8> info;
inline constexpr Field<uint32_t, 16, 8> log_page;
inline constexpr uint32_t type_error = 0;
inline constexpr uint32_t type_smart = 1;
inline constexpr uint32_t type_notice = 2;
inline constexpr uint32_t type_io_command_set = 6;
// Information of type_error.
inline constexpr uint32_t invalid_doorbell_register = 0;
inline constexpr uint32_t invalid_doorbell_value = 1;
inline constexpr uint32_t persistent_internal_error = 3;
// Information of type_smart.
inline constexpr uint32_t reliability = 0;
inline constexpr uint32_t temperature_threshold = 1;
inline constexpr uint32_t spare_below_threshold = 2;
// Information of type_notice.
inline constexpr uint32_t namespace_attribute_changed = 0;
inline constexpr uint32_t firmware_activation_starting = 1;
// Information of type_io_command_set.
inline constexpr uint32_t reservation_log_available = 0;
inline constexpr uint32_t sanitize_completed = 1;
// Asynchronous Event Configuration, dword 11.
inline constexpr uint32_t enable_smart_critical = 0xff;
inline constexpr uint32_t enable_namespace_attribute = 1 << 8;
inline constexpr uint32_t enable_firmware_activation = 1 << 9;
} // namespace async_event

} // namespace lanepool::nvme
