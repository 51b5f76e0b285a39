// SPDX-License-Identifier: Apache-2.0
#include "nvme/model/io_commands.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace lanepool::nvme::model {

namespace {

bool is_write(const Request& request) {
    return static_cast<IoOpcode>(request.command.opcode) == IoOpcode::write;
}

bool must_be_durable(const Request& request, const Features& features) {
    return rw::fua.get(request.command.cdw12) != 0 || !features.write_cache;
}

// What is left of REQUEST's pieces after BYTES of them were transferred.
void advance(Request& request, uint64_t bytes) {
    request.offset_bytes += bytes;
    request.left_bytes -= bytes;
    while (bytes > 0) {
        auto& piece = request.pieces[request.first_piece];
        const size_t part = std::min<uint64_t>(bytes, piece.iov_len);
        piece.iov_base = static_cast<std::byte*>(piece.iov_base) + part;
        piece.iov_len -= part;
        bytes -= part;
        if (piece.iov_len == 0) ++request.first_piece;
    }
}

} // namespace

void IoCommands::execute(Request& request) {
    const auto opcode = static_cast<IoOpcode>(request.command.opcode);
    const uint32_t nsid = request.command.nsid;
    if (command_fuse.get(request.command.flags) != 0) {
        context_.engine.complete(request, Status(StatusCode::invalid_field, true)); // FUSES is 0
        return;
    }
    if (nsid != namespace_id && !(opcode == IoOpcode::flush && nsid == broadcast_nsid)) {
        context_.engine.complete(request, Status(StatusCode::invalid_namespace_or_format, true));
        return;
    }
    for (const StatusCode state : {context_.erase_waiting, context_.media.availability()})
        if (state != StatusCode::success) [[unlikely]] {
            context_.engine.complete(request, state);
            return;
        }
    switch (opcode) {
    case IoOpcode::read:
    case IoOpcode::write:
        return transfer(request);
    case IoOpcode::flush:
        return flush(request);
    case IoOpcode::compare:
        return compare(request);
    case IoOpcode::write_zeroes:
        return write_zeroes(request);
    case IoOpcode::dataset_management:
        return dataset_management(request);
    default:
        context_.engine.complete(request, Status(StatusCode::invalid_opcode, true));
    }
}

Status IoCommands::locate(Request& request, bool data) {
    const Command& command = request.command;
    const uint64_t first = uint64_t{command.cdw11} << 32 | command.cdw10;
    const uint64_t count = uint64_t{rw::nlb.get(command.cdw12)} + 1;
    const unsigned shift = context_.media.lba_shift();
    if (data && count << shift > max_transfer_bytes) return Status(StatusCode::invalid_field, true);
    if (first >= context_.media.blocks() || count > context_.media.blocks() - first)
        return Status(StatusCode::lba_out_of_range, true);
    if (rw::prinfo.get(command.cdw12) & 8) return Status(StatusCode::invalid_field, true); // no metadata
    request.offset_bytes = first << shift;
    request.left_bytes = count << shift;
    return {};
}

Status IoCommands::status_of(const Request& request, int64_t error) {
    switch (-error) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return StatusCode::capacity_exceeded;
    case EFAULT:
        return StatusCode::data_transfer_error;
    case ECANCELED:
    case EINTR:
        return StatusCode::abort_requested;
    case ENOMEM:
    case EAGAIN:
        return StatusCode::internal_error;
    default:
        ++context_.media.counters().media_errors;
        return static_cast<IoOpcode>(request.command.opcode) == IoOpcode::read ||
                       static_cast<IoOpcode>(request.command.opcode) == IoOpcode::compare
                   ? StatusCode::unrecovered_read_error
                   : StatusCode::write_fault;
    }
}

void IoCommands::file_op(Request& request, const FileOp& op, std::function<void(int64_t)> done) {
    request.ticket = context_.media.files().submit(op, [&request, done = std::move(done)](int64_t result) {
        request.ticket.reset();
        done(result);
    });
}

void IoCommands::flush(Request& request) {
    if (context_.media.image().in_memory()) {
        context_.engine.complete(request, Status());
        return;
    }
    FileOp op;
    op.kind = FileOp::Kind::sync;
    file_op(request, op, [this, &request](int64_t result) {
        context_.engine.complete(request, result < 0 ? status_of(request, result) : Status());
    });
}

void IoCommands::transfer(Request& request) {
    const Status status = locate(request, true);
    if (!status.ok()) {
        context_.engine.complete(request, status);
        return;
    }
    if (!context_.engine.resolve(request, static_cast<uint32_t>(request.left_bytes))) return;
    auto& counters = context_.media.counters();
    if (is_write(request)) {
        ++counters.writes;
        counters.blocks_written_512 += request.left_bytes >> 9;
        context_.media.will_write();
    } else {
        ++counters.reads;
        counters.blocks_read_512 += request.left_bytes >> 9;
    }
    if (context_.engine.make_pieces(request, !is_write(request)))
        transfer_now(request);
    else
        transfer_by_message(request);
}

// Straight between the file and the client's memory, at once where the file lets it.
void IoCommands::transfer_now(Request& request) {
    auto& image = context_.media.image();
    const bool write = is_write(request);
    if (!write || image.in_memory() || !must_be_durable(request, context_.features)) {
        while (request.left_bytes > 0) {
            const auto result = write ? image.write_now(request.left_pieces(), request.offset_bytes)
                                      : image.read_now(request.left_pieces(), request.offset_bytes);
            if (!result) break; // it would have to wait
            if (*result <= 0) {
                // The end of a file that somebody has truncated is a block that cannot be read.
                context_.engine.complete(request, status_of(request, *result == 0 ? -EIO : *result));
                return;
            }
            if (static_cast<uint64_t>(*result) == request.left_bytes) [[likely]] {
                context_.engine.complete(request, Status());
                return;
            }
            advance(request, static_cast<uint64_t>(*result));
        }
    }
    context_.engine.pin(request);
    submit_transfer(request);
}

void IoCommands::submit_transfer(Request& request) {
    FileOp op;
    op.kind = is_write(request) ? FileOp::Kind::write : FileOp::Kind::read;
    op.durable = is_write(request) && must_be_durable(request, context_.features);
    op.offset_bytes = request.offset_bytes;
    op.pieces = request.left_pieces().data();
    op.piece_count = static_cast<unsigned>(request.left_pieces().size());
    request.ticket =
        context_.media.files().submit(op, [this, &request](int64_t result) { transferred(request, result); });
}

void IoCommands::transferred(Request& request, int64_t result) {
    request.ticket.reset();
    if ((result == -EAGAIN || result == -EINTR) && !request.abort_requested && !request.orphaned()) {
        submit_transfer(request);
        return;
    }
    if (result <= 0) {
        context_.engine.complete(request, status_of(request, result == 0 ? -EIO : result));
        return;
    }
    advance(request, static_cast<uint64_t>(result));
    if (request.left_bytes == 0)
        finish_transfer(request);
    else if (request.abort_requested || request.orphaned())
        context_.engine.complete(request, StatusCode::abort_requested);
    else
        submit_transfer(request);
}

void IoCommands::finish_transfer(Request& request) {
    if (request.bounce.empty() || is_write(request) || request.orphaned())
        context_.engine.complete(request, Status());
    else
        context_.engine.send_data(request, request.bounce);
}

// Some of the data can only be reached by messages: through a buffer.
void IoCommands::transfer_by_message(Request& request) {
    const auto prepare = [this](Request& r) {
        r.pieces[0] = {r.bounce.data(), r.bounce.size()};
        r.piece_count = 1;
        r.first_piece = 0;
        submit_transfer(r);
    };
    if (!is_write(request)) {
        request.bounce.resize(request.left_bytes);
        prepare(request);
        return;
    }
    context_.engine.fetch_data(request, [&request, prepare](std::vector<std::byte> data) {
        request.bounce = std::move(data);
        prepare(request);
    });
}

void IoCommands::compare(Request& request) {
    const Status status = locate(request, true);
    if (!status.ok()) {
        context_.engine.complete(request, status);
        return;
    }
    if (!context_.engine.resolve(request, static_cast<uint32_t>(request.left_bytes))) return;
    context_.engine.fetch_data(request, [this, &request](std::vector<std::byte> wanted) {
        request.bounce.resize(wanted.size());
        request.pieces[0] = {request.bounce.data(), request.bounce.size()};
        FileOp op;
        op.offset_bytes = request.offset_bytes;
        op.pieces = request.pieces.data();
        op.piece_count = 1;
        file_op(request, op, [this, &request, wanted = std::move(wanted)](int64_t result) {
            if (result != static_cast<int64_t>(wanted.size()))
                context_.engine.complete(request, status_of(request, result < 0 ? result : -EIO));
            else
                context_.engine.complete(
                    request, wanted == request.bounce ? Status() : Status(StatusCode::compare_failure));
        });
    });
}

void IoCommands::write_zeroes(Request& request) {
    const Status status = locate(request, false);
    if (!status.ok()) {
        context_.engine.complete(request, status);
        return;
    }
    context_.media.will_write();
    clear_blocks(request, rw::deac.get(request.command.cdw12) != 0,
                 [this, &request](Status outcome) { context_.engine.complete(request, outcome); });
}

// Makes the request's range of the file read as zeroes.
void IoCommands::clear_blocks(Request& request, bool deallocate, std::function<void(Status)> done) {
    FileOp op;
    op.kind = deallocate ? FileOp::Kind::discard : FileOp::Kind::zero;
    op.offset_bytes = request.offset_bytes;
    op.size_bytes = request.left_bytes;
    file_op(request, op, [this, &request, deallocate, done = std::move(done)](int64_t result) {
        if (request.orphaned()) {
            done(StatusCode::abort_requested);
        } else if (result == -EOPNOTSUPP && !deallocate) {
            clear_blocks(request, true, done); // tmpfs can only punch holes
        } else if (result == -EOPNOTSUPP) {
            write_zero_buffer(request, done);
        } else if (result < 0) {
            done(status_of(request, result));
        } else if (must_be_durable(request, context_.features) && !context_.media.image().in_memory()) {
            FileOp sync;
            sync.kind = FileOp::Kind::sync;
            file_op(request, sync, [this, &request, done](int64_t synced) {
                done(synced < 0 ? status_of(request, synced) : Status());
            });
        } else {
            done(Status());
        }
    });
}

void IoCommands::write_zero_buffer(Request& request, std::function<void(Status)> done) {
    if (request.left_bytes == 0 || request.orphaned() || request.abort_requested) {
        done(request.left_bytes == 0 ? Status() : Status(StatusCode::abort_requested));
        return;
    }
    if (request.bounce.empty())
        request.bounce.resize(std::min<uint64_t>(request.left_bytes, max_transfer_bytes));
    request.pieces[0] = {request.bounce.data(),
                         std::min<uint64_t>(request.left_bytes, request.bounce.size())};
    FileOp op;
    op.kind = FileOp::Kind::write;
    op.durable = must_be_durable(request, context_.features);
    op.offset_bytes = request.offset_bytes;
    op.pieces = request.pieces.data();
    op.piece_count = 1;
    file_op(request, op, [this, &request, done = std::move(done)](int64_t result) {
        if (result <= 0) {
            done(status_of(request, result == 0 ? -EIO : result));
            return;
        }
        request.offset_bytes += static_cast<uint64_t>(result);
        request.left_bytes -= static_cast<uint64_t>(result);
        write_zero_buffer(request, done);
    });
}

void IoCommands::dataset_management(Request& request) {
    const uint32_t count = dsm::nr.get(request.command.cdw10) + 1;
    if (!dsm::ad.get(request.command.cdw11)) {
        // The other attributes are hints, and there is nothing here that they could help.
        context_.engine.complete(request, Status());
        return;
    }
    if (!context_.engine.resolve(request, count * static_cast<uint32_t>(sizeof(DsmRange)))) return;
    context_.engine.fetch_data(request, [this, &request, count](std::vector<std::byte> data) {
        std::vector<DsmRange> ranges(count);
        std::memcpy(ranges.data(), data.data(), count * sizeof(DsmRange));
        const uint64_t blocks = context_.media.blocks();
        for (const auto& range : ranges)
            if (range.first_block > blocks || range.blocks > blocks - range.first_block) {
                context_.engine.complete(request, Status(StatusCode::lba_out_of_range, true));
                return;
            }
        context_.media.will_write();
        deallocate_next(request, std::move(ranges), 0);
    });
}

void IoCommands::deallocate_next(Request& request, std::vector<DsmRange> ranges, size_t index) {
    while (index < ranges.size() && ranges[index].blocks == 0)
        ++index;
    if (index == ranges.size() || request.orphaned() || request.abort_requested) {
        context_.engine.complete(request,
                                 index == ranges.size() ? Status() : Status(StatusCode::abort_requested));
        return;
    }
    const unsigned shift = context_.media.lba_shift();
    FileOp op;
    op.kind = FileOp::Kind::discard;
    op.offset_bytes = ranges[index].first_block << shift;
    op.size_bytes = uint64_t{ranges[index].blocks} << shift;
    file_op(request, op, [this, &request, ranges = std::move(ranges), index](int64_t result) {
        // Deallocation may be declined (section 3.2.3); what cannot be punched keeps its data.
        if (result < 0 && result != -EOPNOTSUPP)
            context_.engine.complete(request, status_of(request, result));
        else
            deallocate_next(request, ranges, index + 1);
    });
}

} // namespace lanepool::nvme::model
