// SPDX-License-Identifier: Apache-2.0
//
// What a drive says about itself, checked and turned into plain values.
#pragma once

#include "base/result.h"
#include "nvme/spec.h"

#include <span>
#include <string>

namespace lanepool::nvme {

struct NamespaceInfo {
    uint32_t nsid = 0;
    uint64_t blocks = 0;
    uint32_t block_bytes = 0; // of data; a power of two, 512 to 65536
    uint16_t metadata_bytes = 0;
    bool metadata_in_line = false; // a block on the wire is data and metadata
    uint8_t format = 0;            // index of the LBA format in use
    uint8_t deallocated_reads = 0; // dlfeat::reads_*
    bool write_zeroes_deallocates = false;
    uint64_t max_transfer_bytes = 0; // of one read or write, as the controller and our lists allow

    uint64_t size_bytes() const { return blocks * block_bytes; }
};

// Errors: protocol for a namespace that no drive could have (sizes that overflow, no such format).
Result<NamespaceInfo> parse_namespace(uint32_t nsid, const IdentifyNamespace& identify);

struct DriveInfo {
    std::string model;
    std::string serial;
    std::string firmware;
    uint16_t vendor_id = 0;
    uint32_t version = 0;
    uint64_t max_transfer_bytes = 0;       // of one command
    uint64_t write_zeroes_limit_bytes = 0; // 0: none
    uint32_t shutdown_timeout_us = 0;      // RTD3E; 0: not reported
    uint16_t oacs = 0;
    uint16_t oncs = 0;
    uint32_t sanicap = 0;
    uint8_t fna = 0;
    uint8_t vwc = 0;
    uint32_t max_nsid = 0;
    uint64_t capacity_bytes = 0; // TNVMCAP, or what the namespaces make together
};

// PAGE_BYTES is the smallest memory page (CAP.MPSMIN), LIMIT what our own lists can describe. Errors:
// protocol for a controller whose queue entries are not those of the NVM command set.
Result<DriveInfo> parse_controller(const IdentifyController& identify, uint64_t page_bytes,
                                   uint64_t limit_bytes);

// A padded field as text: printable ASCII only (others become '?'), without the padding.
std::string text(std::span<const char> field);

} // namespace lanepool::nvme
