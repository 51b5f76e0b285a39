// SPDX-License-Identifier: Apache-2.0
//
// The registers of a Microchip Switchtec NT endpoint, as far as our driver and our model use them. There is
// no public manual: layout and behaviour are what Linux relies on (include/linux/switchtec.h,
// ntb_hw_switchtec and quirk_switchtec_ntb_dma_alias). Where that leaves something open, the comment says
// "model:", and a driver should demand no more of a card than it says.
//
// Everything is little-endian and lies in BAR 0, the "global address space" (GAS). Structs give the offsets
// (`gas::control(p) + offsetof(ControlBlock, bar_error)`), Field types take registers apart.
//
// What a driver does with it:
// 1. Check vendor, device and class, set memory_space and bus_master in the PCI command register: without bus
//    mastering nothing that peers send arrives at this host.
// 2. Read its partition from sys_info (gas::partition_id), which others exist from NtbInfo::ep_map.
// 3. Under one lock: list NtbInfo::requester_id (what the host's own accesses carry) in the requester table,
// or
//    nothing that the host sends through a window arrives; split the LUT between the window BARs.
// 4. Fill vec_map, enable idb_mask and imsg mask, and link events: PffCsr::link_state_hdr of every partition.
#pragma once

#include "base/endian.h"

#include <cstddef>
#include <cstdint>
#include <optional>

namespace lanepool::ntb::switchtec {

inline constexpr uint16_t vendor_id = 0x11f8;
inline constexpr uint32_t class_code = 0x068000; // bridge, other. 0x058000 is a management-only endpoint
inline constexpr unsigned max_partitions = 48;
inline constexpr unsigned max_lut_entries = 512;
inline constexpr unsigned max_requesters = 512;
inline constexpr unsigned bar_slots = 6; // numbered as the BARs: a 64-bit BAR 2 is slot 2
inline constexpr unsigned message_registers = 4;
inline constexpr unsigned doorbells = 64;
inline constexpr unsigned max_vectors = 64; // what the MSI-X table has room for
inline constexpr uint64_t min_window_bytes = 4096;

enum class Generation { gen3 = 3, gen4 = 4, gen5 = 5, gen6 = 6 };

constexpr std::optional<Generation> generation(uint16_t device_id) {
    if (device_id >= 0x8531 && device_id <= 0x8576) return Generation::gen3;
    if (device_id >> 12 == 4) return Generation::gen4;
    if (device_id >> 12 == 5) return Generation::gen5;
    if (device_id >> 12 == 6) return Generation::gen6;
    return std::nullopt;
}

// WIDTH bits from bit LO of a register of type Reg, seen as T.
template <class Reg, class T, unsigned lo, unsigned width>
struct Field {
    static_assert(lo + width <= 8 * sizeof(Reg) && width < 8 * sizeof(Reg));
    static constexpr Reg mask = static_cast<Reg>(((Reg{1} << width) - 1) << lo);
    static constexpr T get(Reg reg) { return static_cast<T>((reg & mask) >> lo); }
    // The field alone; bits of VALUE beyond the field are cut off.
    static constexpr Reg of(T value) { return static_cast<Reg>(static_cast<Reg>(value) << lo) & mask; }
    static constexpr Reg set(Reg reg, T value) { return static_cast<Reg>((reg & ~mask) | of(value)); }
};

// ---- MRPC: commands to the switch's firmware. NTB needs none.
struct Mrpc {
    uint8_t input[1024];
    uint8_t output[1024];
    le32 cmd; // writing starts the command
    le32 status;
    le32 ret_value;
    le32 dma_en;
    le64 dma_addr;
    le32 dma_vector;
    le32 dma_ver; // 0: answers lie in `output` only
};
static_assert(offsetof(Mrpc, cmd) == 0x800 && offsetof(Mrpc, status) == 0x804);
static_assert(offsetof(Mrpc, ret_value) == 0x808 && offsetof(Mrpc, dma_ver) == 0x81c);

enum class MrpcStatus : uint32_t { in_progress = 1, done = 2, error = 0xff, interrupted = 0x100 };
inline constexpr uint32_t mrpc_invalid_command = 0x64005;

// ---- System information
struct SysInfo {
    le32 device_id; // equals the PCI device id
    le32 device_version;
    le32 firmware_version;
    uint8_t gen4_reserved1[12];
    le32 gen3_partition_id;
    uint8_t gen4_reserved2[44];
    le32 gen4_partition_id; // Gen4 and later
};
static_assert(offsetof(SysInfo, gen3_partition_id) == 0x18 && offsetof(SysInfo, gen4_partition_id) == 0x48);

// ---- Event headers (the *_hdr registers)
namespace event {
using Occurred = Field<uint32_t, bool, 0, 1>; // writing 1 clears
using EnableIrq = Field<uint32_t, bool, 3, 1>;
using Count = Field<uint32_t, uint8_t, 5, 8>; // wraps
using NotSupported = Field<uint32_t, bool, 31, 1>;
} // namespace event

struct EventRegisters {
    le32 header;
    le32 data[5];
};

// ---- Partition configuration: read-only but for event headers
struct PartCfg {
    le32 status;
    le32 state;
    le32 port_count;
    le32 usp_port_mode;
    le32 usp_pff; // of the physical upstream port
    le32 vep_pff; // which PffCsr describes this partition's NT endpoint
    le32 dsp_pff[47];
    uint8_t reserved1[44];
    le16 vep_vector; // the interrupt vector of events (link, command completion)
    le16 usp_vector;
    le32 port_event_bitmap;
    uint8_t reserved2[12];
    le32 part_event_summary;
    uint8_t reserved3[12];
    EventRegisters part_reset;
    EventRegisters mrpc_comp;
    EventRegisters mrpc_comp_async;
    EventRegisters dyn_binding;
    uint8_t reserved4[636];
};
static_assert(offsetof(PartCfg, vep_pff) == 0x14 && offsetof(PartCfg, vep_vector) == 0x100);
static_assert(offsetof(PartCfg, mrpc_comp) == 0x13c && sizeof(PartCfg) == 0x400);

inline constexpr uint32_t no_pff = 0xff; // beyond the last PffCsr: "none"

// ---- NTB information: read-only
struct NtbPartition {
    le32 crosslink;
    le32 targets_low; // the partitions that this one's windows and messages may go to, by bit
    le32 targets_high;
    le32 reserved;
};
struct NtbInfo {
    uint8_t partition_count;
    uint8_t partition_id;
    le16 reserved1;
    le64 ep_map;       // the partitions that have an NT endpoint, by bit; at +4, misaligned
    le16 requester_id; // of who reads it: bus in the high byte, device and function in the low
    le16 reserved2;
    uint8_t reserved3[16];
    NtbPartition partitions[max_partitions];
};
static_assert(offsetof(NtbInfo, ep_map) == 0x4 && offsetof(NtbInfo, requester_id) == 0xc);
static_assert(offsetof(NtbInfo, partitions) == 0x20 && sizeof(NtbPartition) == 16);

// ---- NTB control: windows and requesters of one partition
//
// Write ControlOp::lock, wait for locked; write registers; write ControlOp::config, wait for normal. A
// refused configuration leaves the block locked and changes nothing that was in force: read the *_error
// registers, mend, write config again, or write ControlOp::reset, which takes every window and requester away
// and unlocks. Writes to anything but `op` without the lock are ignored. model: operations finish before the
// write of `op` does; who does not hold the lock reads `locking` while somebody else does, and its lock is
// ignored: try again.
enum class ControlOp : uint32_t { lock = 1, config = 2, reset = 3 };
enum class ControlStatus : uint16_t { normal = 1, locked = 2, locking = 3, configuring = 4, resetting = 5 };
using ControlStatusField = Field<uint32_t, ControlStatus, 0, 16>;

struct BarEntry {
    le32 ctl;
    le32 win_size; // of the direct window
    le64 xlate;
};
struct BarExtEntry {
    le32 win_size; // size[63:32] of the direct window
    uint8_t reserved[12];
};

namespace bar_ctl {
using Valid = Field<uint32_t, bool, 0, 1>; // read-only: this BAR has windows
using Direct = Field<uint32_t, bool, 4, 1>;
using Lut = Field<uint32_t, bool, 5, 1>;
using LutSizeLog2 = Field<uint32_t, unsigned, 8, 6>;     // bytes of one LUT window, 12 and up
using LutCountMinus1 = Field<uint32_t, unsigned, 14, 9>; // LUT windows of this BAR, less one
} // namespace bar_ctl

// Direct window: what is left of the BAR behind its LUT windows, or the first `size` bytes of that.
// Translation replaces the bits from XlateLog2 up, so that size, target and the window's own place must
// agree: model: size is at most 2^XlateLog2, target and place in the BAR are multiples of 2^XlateLog2.
namespace bar_win {
using XlateLog2 = Field<uint32_t, unsigned, 0, 6>;
inline constexpr uint32_t size_mask = 0xffff'f000; // size[31:12]
} // namespace bar_win
namespace bar_xlate {
using TargetPartition = Field<uint64_t, uint8_t, 0, 6>;
inline constexpr uint64_t address_mask = ~uint64_t{0xfff};
} // namespace bar_xlate

// LUT windows: entry i of a BAR is the i-th piece of 2^LutSizeLog2 bytes from the BAR's start. The BARs share
// one table of lut_entries: model: in the order of their numbers each takes as many as its LutCountMinus1
// says: if BAR 2 has 448, entry 0 of BAR 4 is lut_entry[448]. An entry's address is a multiple of its BAR's
// window size. Entries that no BAR takes are kept and do nothing.
namespace lut {
using Enable = Field<uint64_t, bool, 0, 1>;
using TargetPartition = Field<uint64_t, uint8_t, 1, 6>;
inline constexpr uint64_t address_mask = ~uint64_t{0xfff};
constexpr uint64_t entry(uint8_t partition, uint64_t address) {
    return Enable::of(true) | TargetPartition::of(partition) | (address & address_mask);
}
} // namespace lut

// Requester table: who on this partition's side may send through its windows; others' packets are dropped.
// The proxy is the device and function number that the packet carries on the far side.
namespace requester {
using Enable = Field<uint32_t, bool, 0, 1>;
using Proxy = Field<uint32_t, uint8_t, 1, 8>; // read-only, filled in when the entry is written
using Id = Field<uint32_t, uint16_t, 16, 16>;
} // namespace requester

namespace partition_ctrl {
// Set by Linux before it writes the requester table. model: stored, changes nothing: the table is always
// obeyed.
using IdProtectionDisable = Field<uint32_t, bool, 0, 1>;
} // namespace partition_ctrl

// model: what a refused configuration complains about.
namespace control_error {
using Bars = Field<uint32_t, uint8_t, 0, 6>;    // bar_error: the slots that are wrong, by bit
using Entry = Field<uint32_t, uint16_t, 0, 10>; // lut_error, req_id_error: the first entry that is wrong
using EntryValid = Field<uint32_t, bool, 31, 1>;
} // namespace control_error

struct ControlBlock {
    le32 status;
    le32 op;
    le32 partition_ctrl;
    le32 bar_setup;
    le32 bar_error; // read-only, as all sizes, offsets and errors here
    le16 lut_entries;
    le16 lut_offset; // of lut_entry in this block
    le32 lut_error;
    le16 requesters;
    le16 requester_offset;
    le32 requester_error;
    uint8_t reserved1[28];
    BarEntry bar_entry[bar_slots];
    BarExtEntry bar_ext_entry[bar_slots];
    uint8_t reserved2[768];
    le32 requester_entry[max_requesters];
    uint8_t reserved3[1024];
    le64 lut_entry[max_lut_entries];
};
static_assert(offsetof(ControlBlock, bar_error) == 0x10 && offsetof(ControlBlock, lut_entries) == 0x14);
static_assert(offsetof(ControlBlock, lut_error) == 0x18 && offsetof(ControlBlock, requesters) == 0x1c);
static_assert(offsetof(ControlBlock, bar_entry) == 0x40 && offsetof(ControlBlock, bar_ext_entry) == 0xa0);
static_assert(offsetof(ControlBlock, requester_entry) == 0x400 &&
              offsetof(ControlBlock, lut_entry) == 0x1000);
static_assert(sizeof(ControlBlock) == 0x2000);

// ---- Doorbells and messages of one partition
//
// Doorbells: bits written to odb that odb_mask has are set in idb of every other partition in the sender's
// target vector; idb & idb_mask raise vector vec_map[bit]. Writing 1 to a bit of idb clears it. In all masks,
// 1 means "enabled". Messages: writing omsg[i].msg sends to register `Index` of partition `Partition` in byte
// i of msg_map. imsg[k] raises vector vec_map[60 + k] while its mask bit and bit 60 + k of idb_mask are set.
// Its status is set until 1 is written to it; until then nothing else arrives there. model: omsg[i].status
// says what became of the last one.
struct OutMessage {
    le32 msg;
    le32 status;
};
struct InMessage {
    le32 msg;
    uint8_t status; // bit 0: a message is here; writing 1 takes it
    uint8_t mask;   // bit 0: interrupt enabled
    uint8_t source; // partition
    uint8_t reserved;
};
namespace msg_map {
using Index = Field<uint8_t, uint8_t, 0, 2>;
using TargetPartition = Field<uint8_t, uint8_t, 2, 6>;
} // namespace msg_map
enum class OutStatus : uint32_t {
    delivered = 0,
    busy = 1,       // dropped: the register still holds an earlier message
    unreachable = 2 // dropped: no such partition, not in the target vector, or its link or ours is down
};
inline constexpr uint8_t in_message_status = 1;
inline constexpr uint8_t in_message_enable = 1;
inline constexpr unsigned first_message_doorbell = doorbells - message_registers;

struct MessageBlock {
    uint8_t reserved1[4096];
    le64 odb;
    le64 odb_mask;
    le64 idb;
    le64 idb_mask;
    uint8_t vec_map[doorbells];
    uint8_t msg_map[message_registers];
    le32 reserved2;
    OutMessage omsg[message_registers];
    InMessage imsg[message_registers];
    uint8_t reserved3[3928];
    uint8_t msix_table[16 * max_vectors];
    uint8_t reserved4[3072];
    uint8_t msix_pba[24];
    uint8_t reserved5[4072];
};
static_assert(offsetof(MessageBlock, odb) == 0x1000 && offsetof(MessageBlock, idb) == 0x1010);
static_assert(offsetof(MessageBlock, vec_map) == 0x1020 && offsetof(MessageBlock, msg_map) == 0x1060);
static_assert(offsetof(MessageBlock, omsg) == 0x1068 && offsetof(MessageBlock, imsg) == 0x1088);
static_assert(offsetof(MessageBlock, msix_table) == 0x2000 && offsetof(MessageBlock, msix_pba) == 0x3000);
static_assert(sizeof(MessageBlock) == 0x4000 && sizeof(OutMessage) == 8 && sizeof(InMessage) == 8);

// ---- PFF CSR: one physical or virtual port of the switch; PartCfg::vep_pff finds a partition's
//
// model: `link` is non-zero while the partition's link is up. Each change of it counts up link_state's Count
// and sets Occurred in the copy that every partition has; with EnableIrq it raises the reader's
// PartCfg::vep_vector.
struct PffCsr {
    le16 vendor_id; // 0x11f8; 0xffff behind the last one
    le16 device_id;
    uint8_t config1[112];
    le32 link;             // link control and status (PCI Express Base Specification 7.5.3.7 and .8)
    uint8_t config2[3256]; // configuration space and events that nothing here uses
    EventRegisters link_state;
    uint8_t reserved[696];
};
static_assert(offsetof(PffCsr, link) == 0x74 && offsetof(PffCsr, link_state) == 0xd30);
static_assert(sizeof(PffCsr) == 0x1000);
namespace pff_link {
using Speed = Field<uint32_t, uint8_t, 16, 4>; // 4: 16 GT/s
using Width = Field<uint32_t, uint8_t, 20, 6>; // lanes
using Active = Field<uint32_t, bool, 29, 1>;   // data link layer active
} // namespace pff_link

// ---- Where the blocks lie in BAR 0
namespace gas {
inline constexpr uint64_t size_bytes = 4 << 20;
inline constexpr uint64_t mrpc = 0x0;
inline constexpr uint64_t sys_info = 0x2000;
inline constexpr uint64_t part_cfg_base = 0x4000;
inline constexpr uint64_t ntb_info = 0x10000;
inline constexpr uint64_t control_base = 0x14000;
inline constexpr uint64_t message_base = 0x74000;
inline constexpr uint64_t pff_base = 0x134000;
inline constexpr unsigned max_pffs = 255;

constexpr uint64_t part_cfg(unsigned partition) { return part_cfg_base + partition * sizeof(PartCfg); }
constexpr uint64_t control(unsigned partition) { return control_base + partition * sizeof(ControlBlock); }
constexpr uint64_t messages(unsigned partition) { return message_base + partition * sizeof(MessageBlock); }
constexpr uint64_t pff(unsigned index) { return pff_base + index * sizeof(PffCsr); }
constexpr uint64_t partition_id(Generation generation) {
    return sys_info + (generation == Generation::gen3 ? offsetof(SysInfo, gen3_partition_id)
                                                      : offsetof(SysInfo, gen4_partition_id));
}

static_assert(part_cfg(max_partitions) <= ntb_info && control(max_partitions) == message_base);
static_assert(messages(max_partitions) == pff_base && pff(max_pffs) <= size_bytes);
} // namespace gas

} // namespace lanepool::ntb::switchtec
