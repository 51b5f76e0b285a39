// SPDX-License-Identifier: Apache-2.0
#include "nvme/io_commands.h"

#include <cstring>

namespace lanepool::nvme {

namespace {

Command make(IoOpcode opcode, const NamespaceInfo& ns) {
    Command command;
    command.opcode = static_cast<uint8_t>(opcode);
    command.nsid = ns.nsid;
    return command;
}

Result<> check_blocks(const NamespaceInfo& ns, uint64_t first_block, uint64_t blocks) {
    if (blocks == 0) return fail(Errc::invalid_argument, "a length of no blocks");
    if (first_block > ns.blocks || blocks > ns.blocks - first_block)
        return fail(Errc::out_of_range, "blocks {}..{} lie outside of namespace {} with {} blocks",
                    first_block, first_block + blocks - 1, ns.nsid, ns.blocks);
    return {};
}

Result<> set_blocks(Command& command, const NamespaceInfo& ns, uint64_t first_block, uint32_t blocks) {
    TRY(check_blocks(ns, first_block, blocks));
    if (blocks > max_blocks_per_command)
        return fail(Errc::invalid_argument, "{} blocks are more than one command can name", blocks);
    command.cdw10 = static_cast<uint32_t>(first_block);
    command.cdw11 = static_cast<uint32_t>(first_block >> 32);
    command.cdw12 = rw::nlb(blocks - 1);
    return {};
}

Result<> set_data(Command& command, Buffer buffer, uint64_t size_bytes) {
    const auto prps = TRY(buffer.memory.prps(buffer.offset_bytes, size_bytes));
    command.prp1 = prps.prp1;
    command.prp2 = prps.prp2;
    return {};
}

Result<Command> make_transfer(IoOpcode opcode, const NamespaceInfo& ns, uint64_t first_block, uint32_t blocks,
                              Buffer buffer) {
    // Metadata in line makes blocks longer; metadata apart needs a second buffer.
    if (ns.metadata_bytes != 0)
        return fail(Errc::not_supported,
                    "namespace {} has blocks with {} bytes of metadata: format it without", ns.nsid,
                    ns.metadata_bytes);
    if (uint64_t{blocks} * ns.block_bytes > ns.max_transfer_bytes)
        return fail(Errc::invalid_argument,
                    "{} blocks are more than the {} bytes that one command may transfer", blocks,
                    ns.max_transfer_bytes);
    auto command = make(opcode, ns);
    TRY(set_blocks(command, ns, first_block, blocks));
    TRY(set_data(command, buffer, uint64_t{blocks} * ns.block_bytes));
    return command;
}

} // namespace

Result<Command> make_read(const NamespaceInfo& ns, uint64_t first_block, uint32_t blocks, Buffer buffer) {
    return make_transfer(IoOpcode::read, ns, first_block, blocks, buffer);
}

Result<Command> make_write(const NamespaceInfo& ns, uint64_t first_block, uint32_t blocks, Buffer buffer,
                           bool force_unit_access) {
    auto command = TRY(make_transfer(IoOpcode::write, ns, first_block, blocks, buffer));
    command.cdw12 = rw::fua.set(command.cdw12, force_unit_access ? 1 : 0);
    return command;
}

Command make_flush(const NamespaceInfo& ns) { return make(IoOpcode::flush, ns); }

Result<Command> make_write_zeroes(const NamespaceInfo& ns, uint64_t first_block, uint32_t blocks,
                                  bool deallocate) {
    auto command = make(IoOpcode::write_zeroes, ns);
    TRY(set_blocks(command, ns, first_block, blocks));
    command.cdw12 = rw::deac.set(command.cdw12, deallocate ? 1 : 0);
    return command;
}

Result<Command> make_deallocate(const NamespaceInfo& ns, std::span<const DsmRange> ranges, Buffer buffer) {
    if (ranges.empty() || ranges.size() > dsm::max_ranges)
        return fail(Errc::invalid_argument, "{} ranges are not in 1..{}", ranges.size(), dsm::max_ranges);
    for (const auto& range : ranges)
        TRY(check_blocks(ns, range.first_block, range.blocks));
    auto command = make(IoOpcode::dataset_management, ns);
    TRY(set_data(command, buffer, ranges.size_bytes()));
    std::memcpy(buffer.memory.bytes().data() + buffer.offset_bytes, ranges.data(), ranges.size_bytes());
    command.cdw10 = dsm::nr(static_cast<uint32_t>(ranges.size() - 1));
    command.cdw11 = dsm::ad(1);
    return command;
}

} // namespace lanepool::nvme
