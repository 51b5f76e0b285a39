// SPDX-License-Identifier: Apache-2.0
#include "nvme/drive_info.h"

#include <algorithm>

namespace lanepool::nvme {

std::string text(std::span<const char> field) {
    std::string out;
    for (const char c : field) {
        if (c == '\0') break;
        out.push_back(c >= ' ' && c <= '~' ? c : '?');
    }
    const auto first = out.find_first_not_of(' ');
    if (first == std::string::npos) return {};
    return out.substr(first, out.find_last_not_of(' ') - first + 1);
}

Result<NamespaceInfo> parse_namespace(uint32_t nsid, const IdentifyNamespace& identify) {
    NamespaceInfo info;
    info.nsid = nsid;
    info.blocks = identify.size_blocks;
    info.format = lba_format_index(identify.flbas);
    if (info.format > identify.nlbaf || info.format >= identify.lba_formats.size())
        return fail(Errc::protocol, "namespace {} is in format {}, but has {} formats", nsid, info.format,
                    identify.nlbaf + 1);
    const auto& format = identify.lba_formats[info.format];
    if (format.data_shift < 9 || format.data_shift > 16)
        return fail(Errc::protocol, "namespace {} has blocks of 2^{} bytes", nsid, format.data_shift);
    info.block_bytes = 1u << format.data_shift;
    if (info.blocks > (~uint64_t{0} >> 1) >> format.data_shift)
        return fail(Errc::protocol, "namespace {} claims {} blocks of {} bytes", nsid, info.blocks,
                    info.block_bytes);
    info.metadata_bytes = format.metadata_bytes;
    info.metadata_in_line = info.metadata_bytes != 0 && (identify.flbas & 1 << 4) != 0;
    info.deallocated_reads = identify.dlfeat & dlfeat::read_mask;
    info.write_zeroes_deallocates = (identify.dlfeat & dlfeat::write_zeroes_deallocate) != 0;
    return info;
}

Result<DriveInfo> parse_controller(const IdentifyController& identify, uint64_t page_bytes,
                                   uint64_t limit_bytes) {
    // The required entry sizes are in the low halves (SQES, CQES).
    if ((identify.sqes & 0xf) != 6 || (identify.cqes & 0xf) != 4)
        return fail(Errc::protocol, "the controller wants queue entries of 2^{} and 2^{} bytes",
                    identify.sqes & 0xf, identify.cqes & 0xf);
    DriveInfo info;
    info.model = text(identify.model);
    info.serial = text(identify.serial);
    info.firmware = text(identify.firmware);
    info.vendor_id = identify.vid;
    info.version = identify.version;
    info.max_transfer_bytes = limit_bytes;
    if (identify.mdts != 0 && identify.mdts < 32)
        info.max_transfer_bytes = std::min(limit_bytes, page_bytes << identify.mdts);
    info.shutdown_timeout_us = identify.rtd3e_us;
    info.oacs = identify.oacs;
    info.oncs = identify.oncs;
    info.sanicap = identify.sanicap;
    info.fna = identify.fna;
    info.vwc = identify.vwc;
    info.max_nsid = identify.nn;
    // More than 2^64 bytes is nobody's capacity.
    info.capacity_bytes = identify.tnvmcap_bytes[1] == 0 ? uint64_t{identify.tnvmcap_bytes[0]} : 0;
    return info;
}

} // namespace lanepool::nvme
