// SPDX-License-Identifier: Apache-2.0
//
// Identify data structures (NVM Express Base Specification 2.0, section 5.17; NVM Command Set Specification
// 1.0, section 4.1.5). Strings are ASCII, padded with spaces, not terminated.
#pragma once

#include "base/endian.h"

#include <array>
#include <cstddef>

namespace lanepool::nvme {

inline constexpr size_t identify_bytes = 4096;

enum class Cns : uint8_t {
    name_space = 0x00,
    controller = 0x01,
    active_namespaces = 0x02,
    namespace_descriptors = 0x03,
    nvm_set_list = 0x04,
    namespace_io_set = 0x05,
    controller_io_set = 0x06,
    active_namespaces_io_set = 0x07,
    namespace_independent = 0x08,
    allocated_namespaces = 0x10,
    allocated_namespace = 0x11,
    attached_controllers = 0x12,
    subsystem_controllers = 0x13,
    primary_controller_capabilities = 0x14,
    secondary_controllers = 0x15,
    io_command_sets = 0x1c,
};

struct PowerState {
    le16 max_power; // in 10 mW, or 100 uW with MXPS
    uint8_t reserved2 = 0;
    uint8_t flags = 0; // bit 0 MXPS, bit 1 NOPS
    le32 entry_latency_us;
    le32 exit_latency_us;
    uint8_t relative_read_throughput = 0;
    uint8_t relative_read_latency = 0;
    uint8_t relative_write_throughput = 0;
    uint8_t relative_write_latency = 0;
    le16 idle_power;
    uint8_t idle_scale = 0;
    uint8_t reserved19 = 0;
    le16 active_power;
    uint8_t active_scale = 0;
    std::array<uint8_t, 9> reserved23{};
};
static_assert(sizeof(PowerState) == 32);

struct IdentifyController {
    le16 vid;
    le16 ssvid;
    std::array<char, 20> serial{};
    std::array<char, 40> model{};
    std::array<char, 8> firmware{};
    uint8_t rab = 0;
    std::array<uint8_t, 3> ieee{};
    uint8_t cmic = 0;
    uint8_t mdts = 0; // maximum transfer, 2^MDTS times CAP.MPSMIN pages; 0: no limit
    le16 cntlid;
    le32 version;
    le32 rtd3r_us;
    le32 rtd3e_us;
    le32 oaes; // optional asynchronous events
    le32 ctratt;
    le16 rrls;
    std::array<uint8_t, 9> reserved102{};
    uint8_t cntrltype = 0; // 1: I/O controller
    std::array<uint8_t, 16> fguid{};
    le16 crdt1;
    le16 crdt2;
    le16 crdt3;
    std::array<uint8_t, 119> reserved134{};
    uint8_t nvmsr = 0;
    uint8_t vwci = 0;
    uint8_t mec = 0;
    le16 oacs; // optional admin commands
    uint8_t acl = 0;
    uint8_t aerl = 0; // asynchronous event requests, 0's based
    uint8_t frmw = 0;
    uint8_t lpa = 0;
    uint8_t elpe = 0; // error log entries, 0's based
    uint8_t npss = 0; // power states, 0's based
    uint8_t avscc = 0;
    uint8_t apsta = 0;
    le16 wctemp_k;
    le16 cctemp_k;
    le16 mtfa;
    le32 hmpre;
    le32 hmmin;
    std::array<le64, 2> tnvmcap_bytes{}; // 128 bits, low half first
    std::array<le64, 2> unvmcap_bytes{};
    le32 rpmbs;
    le16 edstt;
    uint8_t dsto = 0;
    uint8_t fwug = 0;
    le16 kas;
    le16 hctma;
    le16 mntmt;
    le16 mxtmt;
    le32 sanicap;
    le32 hmminds;
    le16 hmmaxd;
    le16 nsetidmax;
    le16 endgidmax;
    uint8_t anatt = 0;
    uint8_t anacap = 0;
    le32 anagrpmax;
    le32 nanagrpid;
    le32 pels;
    le16 domain_id;
    std::array<uint8_t, 10> reserved358{};
    std::array<uint8_t, 16> megcap{};
    std::array<uint8_t, 128> reserved384{};
    uint8_t sqes = 0; // required (low nibble) and largest entry size, powers of two
    uint8_t cqes = 0;
    le16 maxcmd;
    le32 nn;   // largest namespace id
    le16 oncs; // optional NVM commands
    le16 fuses;
    uint8_t fna = 0;
    uint8_t vwc = 0;
    le16 awun;
    le16 awupf;
    uint8_t icsvscc = 0;
    uint8_t nwpc = 0;
    le16 acwu;
    le16 copy_formats;
    le32 sgls;
    le32 mnan;
    std::array<uint8_t, 16> maxdna{};
    le32 maxcna;
    std::array<uint8_t, 204> reserved564{};
    std::array<char, 256> subnqn{}; // terminated
    std::array<uint8_t, 768> reserved1024{};
    std::array<uint8_t, 256> fabrics{};
    std::array<PowerState, 32> power_states{};
    std::array<uint8_t, 1024> vendor{};
};
static_assert(sizeof(IdentifyController) == identify_bytes);
static_assert(offsetof(IdentifyController, mdts) == 77);
static_assert(offsetof(IdentifyController, cntrltype) == 111);
static_assert(offsetof(IdentifyController, oacs) == 256);
static_assert(offsetof(IdentifyController, tnvmcap_bytes) == 280);
static_assert(offsetof(IdentifyController, sanicap) == 328);
static_assert(offsetof(IdentifyController, sqes) == 512);
static_assert(offsetof(IdentifyController, nn) == 516);
static_assert(offsetof(IdentifyController, sgls) == 536);
static_assert(offsetof(IdentifyController, subnqn) == 768);
static_assert(offsetof(IdentifyController, power_states) == 2048);

namespace oacs {
inline constexpr uint16_t security = 1 << 0;
inline constexpr uint16_t format = 1 << 1;
inline constexpr uint16_t firmware = 1 << 2;
inline constexpr uint16_t namespace_management = 1 << 3;
inline constexpr uint16_t self_test = 1 << 4;
inline constexpr uint16_t directives = 1 << 5;
inline constexpr uint16_t virtualization = 1 << 7;
inline constexpr uint16_t doorbell_buffer_config = 1 << 8;
} // namespace oacs
namespace oncs {
inline constexpr uint16_t compare = 1 << 0;
inline constexpr uint16_t write_uncorrectable = 1 << 1;
inline constexpr uint16_t dataset_management = 1 << 2;
inline constexpr uint16_t write_zeroes = 1 << 3;
inline constexpr uint16_t save_select = 1 << 4;
inline constexpr uint16_t reservations = 1 << 5;
inline constexpr uint16_t timestamp = 1 << 6;
inline constexpr uint16_t verify = 1 << 7;
inline constexpr uint16_t copy = 1 << 8;
} // namespace oncs
namespace sanicap {
inline constexpr uint32_t crypto_erase = 1 << 0;
inline constexpr uint32_t block_erase = 1 << 1;
inline constexpr uint32_t overwrite = 1 << 2;
inline constexpr uint32_t no_deallocate_inhibited = 1u << 29;
} // namespace sanicap
namespace fna {
inline constexpr uint8_t format_all_namespaces = 1 << 0;
inline constexpr uint8_t erase_all_namespaces = 1 << 1;
inline constexpr uint8_t crypto_erase = 1 << 2;
inline constexpr uint8_t no_broadcast_nsid = 1 << 3;
} // namespace fna
namespace vwc {
inline constexpr uint8_t present = 1 << 0;
inline constexpr uint8_t broadcast_flush = 3 << 1; // Flush with NSID 0xffffffff is supported
} // namespace vwc
namespace lpa {
inline constexpr uint8_t smart_per_namespace = 1 << 0;
inline constexpr uint8_t effects = 1 << 1;
inline constexpr uint8_t extended = 1 << 2; // 32-bit length and offset in Get Log Page
} // namespace lpa
namespace oaes {
inline constexpr uint32_t namespace_attribute = 1 << 8;
inline constexpr uint32_t firmware_activation = 1 << 9;
} // namespace oaes

struct LbaFormat {
    le16 metadata_bytes;
    uint8_t data_shift = 0;           // block size as a power of two; 0: format not available
    uint8_t relative_performance = 0; // 0 best .. 3
};
static_assert(sizeof(LbaFormat) == 4);

struct IdentifyNamespace {
    le64 size_blocks;
    le64 capacity_blocks;
    le64 used_blocks;
    uint8_t nsfeat = 0;
    uint8_t nlbaf = 0; // formats, 0's based
    uint8_t flbas = 0; // format in use: low four bits in 3:0, high two in 6:5; bit 4: metadata in line
    uint8_t mc = 0;
    uint8_t dpc = 0;
    uint8_t dps = 0;
    uint8_t nmic = 0;
    uint8_t rescap = 0;
    uint8_t fpi = 0;
    uint8_t dlfeat = 0; // what deallocated blocks read as
    le16 nawun;
    le16 nawupf;
    le16 nacwu;
    le16 nabsn;
    le16 nabo;
    le16 nabspf;
    le16 noiob;
    std::array<le64, 2> nvmcap_bytes{};
    le16 npwg;
    le16 npwa;
    le16 npdg;
    le16 npda;
    le16 nows;
    le16 mssrl;
    le32 mcl;
    uint8_t msrc = 0;
    std::array<uint8_t, 11> reserved81{};
    le32 anagrpid;
    std::array<uint8_t, 3> reserved96{};
    uint8_t nsattr = 0;
    le16 nvmsetid;
    le16 endgid;
    std::array<uint8_t, 16> nguid{};
    std::array<uint8_t, 8> eui64{};
    std::array<LbaFormat, 64> lba_formats{};
    std::array<uint8_t, 3712> vendor{};
};
static_assert(sizeof(IdentifyNamespace) == identify_bytes);
static_assert(offsetof(IdentifyNamespace, dlfeat) == 33);
static_assert(offsetof(IdentifyNamespace, nvmcap_bytes) == 48);
static_assert(offsetof(IdentifyNamespace, nguid) == 104);
static_assert(offsetof(IdentifyNamespace, lba_formats) == 128);

namespace nsfeat {
inline constexpr uint8_t thin_provisioning = 1 << 0;
inline constexpr uint8_t deallocated_error = 1 << 2; // "Deallocated or Unwritten" error supported
inline constexpr uint8_t optimal_io = 1 << 4;        // NPWG .. NOWS are there
} // namespace nsfeat
namespace dlfeat {
inline constexpr uint8_t read_mask = 7;
inline constexpr uint8_t reads_unknown = 0;
inline constexpr uint8_t reads_zeroes = 1;
inline constexpr uint8_t reads_ones = 2;
inline constexpr uint8_t write_zeroes_deallocate = 1 << 3;
} // namespace dlfeat
// The index into lba_formats that FLBAS names.
constexpr uint8_t lba_format_index(uint8_t flbas) {
    return static_cast<uint8_t>((flbas & 0xf) | (flbas >> 1 & 0x30));
}

// CNS 03h: a list of these, each followed by LENGTH bytes; type 0 ends it.
struct NamespaceDescriptor {
    uint8_t type = 0;
    uint8_t length_bytes = 0;
    std::array<uint8_t, 2> reserved2{};
};
static_assert(sizeof(NamespaceDescriptor) == 4);
namespace namespace_descriptor {
inline constexpr uint8_t eui64 = 1; // 8 bytes
inline constexpr uint8_t nguid = 2; // 16 bytes
inline constexpr uint8_t uuid = 3;  // 16 bytes
inline constexpr uint8_t csi = 4;   // 1 byte
} // namespace namespace_descriptor

// CNS 06h with the NVM command set: the limits that Read and Write do not have.
struct IdentifyControllerNvm {
    uint8_t vsl = 0;
    uint8_t wzsl = 0; // Write Zeroes limit, 2^WZSL times CAP.MPSMIN pages; 0: none
    uint8_t wusl = 0;
    uint8_t dmrl = 0; // Dataset Management: ranges; 0: no limit
    le32 dmrsl;       // blocks in one range
    le64 dmsl;        // blocks in one command
    std::array<uint8_t, 4080> reserved16{};
};
static_assert(sizeof(IdentifyControllerNvm) == identify_bytes);

} // namespace lanepool::nvme
