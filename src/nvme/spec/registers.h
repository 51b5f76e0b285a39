// SPDX-License-Identifier: Apache-2.0
//
// Controller properties over PCI Express: where they are, and their fields
// (NVM Express Base Specification 2.0, section 3.1.3; NVMe over PCIe Transport Specification, section 3.1).
#pragma once

#include <cstdint>

namespace lanepool::nvme {

// WIDTH bits from bit LO of a register or command word of type Raw.
template <class Raw, unsigned lo, unsigned width>
struct Field {
    static_assert(width > 0 && lo + width <= 8 * sizeof(Raw));
    static constexpr Raw max = static_cast<Raw>(~uint64_t{0} >> (64 - width));
    static constexpr Raw mask = static_cast<Raw>(static_cast<uint64_t>(max) << lo);

    constexpr Raw get(Raw raw) const { return static_cast<Raw>((raw & mask) >> lo); }
    constexpr Raw operator()(Raw value) const {
        return static_cast<Raw>((static_cast<uint64_t>(value) << lo) & mask);
    }
    constexpr Raw set(Raw raw, Raw value) const {
        return static_cast<Raw>((raw & ~static_cast<uint64_t>(mask)) | (*this)(value));
    }
};

// Offsets in BAR0.
namespace reg {
inline constexpr uint64_t cap = 0x00;   // 8 bytes: controller capabilities
inline constexpr uint64_t vs = 0x08;    // version
inline constexpr uint64_t intms = 0x0c; // interrupt mask set
inline constexpr uint64_t intmc = 0x10; // interrupt mask clear
inline constexpr uint64_t cc = 0x14;    // controller configuration
inline constexpr uint64_t csts = 0x1c;  // controller status
inline constexpr uint64_t nssr = 0x20;  // NVM subsystem reset
inline constexpr uint64_t aqa = 0x24;   // admin queue attributes
inline constexpr uint64_t asq = 0x28;   // 8 bytes: admin submission queue base
inline constexpr uint64_t acq = 0x30;   // 8 bytes: admin completion queue base
inline constexpr uint64_t cmbloc = 0x38;
inline constexpr uint64_t cmbsz = 0x3c;
inline constexpr uint64_t bpinfo = 0x40;
inline constexpr uint64_t bprsel = 0x44;
inline constexpr uint64_t bpmbl = 0x48;
inline constexpr uint64_t cmbmsc = 0x50;
inline constexpr uint64_t cmbsts = 0x58;
inline constexpr uint64_t cmbebs = 0x5c;
inline constexpr uint64_t cmbswtp = 0x60;
inline constexpr uint64_t nssd = 0x64;
inline constexpr uint64_t crto = 0x68; // controller ready time-outs
inline constexpr uint64_t pmrcap = 0xe00;
inline constexpr uint64_t pmrctl = 0xe04;
inline constexpr uint64_t pmrsts = 0xe08;
inline constexpr uint64_t doorbells = 0x1000;
} // namespace reg

// SQyTDBL and CQyHDBL; STRIDE is CAP.DSTRD.
constexpr uint64_t submission_doorbell_offset(uint16_t queue, unsigned stride = 0) {
    return reg::doorbells + 2 * uint64_t{queue} * (uint64_t{4} << stride);
}
constexpr uint64_t completion_doorbell_offset(uint16_t queue, unsigned stride = 0) {
    return reg::doorbells + (2 * uint64_t{queue} + 1) * (uint64_t{4} << stride);
}

namespace cap {
inline constexpr Field<uint64_t, 0, 16> mqes;   // maximum queue entries, 0's based
inline constexpr Field<uint64_t, 16, 1> cqr;    // contiguous queues required
inline constexpr Field<uint64_t, 17, 2> ams;    // arbitration mechanisms beyond round robin
inline constexpr Field<uint64_t, 24, 8> to;     // time-out, in 500 ms
inline constexpr Field<uint64_t, 32, 4> dstrd;  // doorbell stride, 4 << DSTRD bytes
inline constexpr Field<uint64_t, 36, 1> nssrs;  // NVM subsystem reset supported
inline constexpr Field<uint64_t, 37, 8> css;    // command sets
inline constexpr Field<uint64_t, 45, 1> bps;    // boot partitions
inline constexpr Field<uint64_t, 48, 4> mpsmin; // memory page size, 4096 << MPSMIN
inline constexpr Field<uint64_t, 52, 4> mpsmax;
inline constexpr Field<uint64_t, 56, 1> pmrs;
inline constexpr Field<uint64_t, 57, 1> cmbs;
inline constexpr Field<uint64_t, 58, 1> nsss;
inline constexpr Field<uint64_t, 59, 2> crms; // controller ready modes
inline constexpr uint64_t ams_weighted = 1;   // weighted round robin with urgent priority class
inline constexpr uint64_t css_nvm = 1 << 0;   // the NVM command set
inline constexpr uint64_t css_io_sets = 1 << 6;
inline constexpr uint64_t css_admin_only = 1 << 7;
} // namespace cap

// VS: version MAJOR.MINOR.TERTIARY.
constexpr uint32_t version(uint16_t major, uint8_t minor, uint8_t tertiary = 0) {
    return uint32_t{major} << 16 | uint32_t{minor} << 8 | tertiary;
}

namespace cc {
inline constexpr Field<uint32_t, 0, 1> en;
inline constexpr Field<uint32_t, 4, 3> css; // 000b NVM command set, 110b all, 111b admin only
inline constexpr Field<uint32_t, 7, 4> mps; // memory page size, 4096 << MPS
inline constexpr Field<uint32_t, 11, 3> ams;
inline constexpr Field<uint32_t, 14, 2> shn;
inline constexpr Field<uint32_t, 16, 4> iosqes; // entry sizes as powers of two
inline constexpr Field<uint32_t, 20, 4> iocqes;
inline constexpr Field<uint32_t, 24, 1> crime;
inline constexpr uint32_t ams_round_robin = 0;
inline constexpr uint32_t ams_weighted = 1;
inline constexpr uint32_t shn_none = 0;
inline constexpr uint32_t shn_normal = 1;
inline constexpr uint32_t shn_abrupt = 2;
} // namespace cc

namespace csts {
inline constexpr Field<uint32_t, 0, 1> rdy;
inline constexpr Field<uint32_t, 1, 1> cfs; // controller fatal status
inline constexpr Field<uint32_t, 2, 2> shst;
inline constexpr Field<uint32_t, 4, 1> nssro; // write 1 to clear
inline constexpr Field<uint32_t, 5, 1> pp;    // processing paused
inline constexpr uint32_t shst_normal = 0;
inline constexpr uint32_t shst_occurring = 1;
inline constexpr uint32_t shst_complete = 2;
} // namespace csts

inline constexpr uint32_t nssr_magic = 0x4e564d65; // "NVMe", written to NSSR

namespace aqa {
inline constexpr Field<uint32_t, 0, 12> asqs; // entries, 0's based
inline constexpr Field<uint32_t, 16, 12> acqs;
} // namespace aqa

namespace crto {
inline constexpr Field<uint32_t, 0, 16> crwmt; // ready with media, in 500 ms
inline constexpr Field<uint32_t, 16, 16> crimt;
} // namespace crto

inline constexpr uint32_t class_code = 0x010802; // mass storage, NVM, NVM Express I/O controller
inline constexpr uint64_t min_page_bytes = 4096; // CC.MPS 0
inline constexpr uint32_t max_admin_entries = 4096;

} // namespace lanepool::nvme
