// SPDX-License-Identifier: Apache-2.0
//
// The engine's part that moves a command's data: from PRPs to pieces to memory of ours.
#include "nvme/model/engine.h"

#include <algorithm>
#include <cstring>

namespace lanepool::nvme::model {

namespace {

// Reads PRP lists where they are mapped, or from what was fetched by messages before.
class ListReader final : public PrpListReader {
  public:
    ListReader(const device_model::GuestMemory& memory, const Request& request)
        : memory_(memory), request_(request) {}

    Answer read(Iova address, std::span<le64> entries) override {
        if (const auto* from = memory_.direct(address, entries.size_bytes(), false)) {
            std::memcpy(entries.data(), from, entries.size_bytes());
            return Answer::ok;
        }
        if (!memory_.find(address)) return Answer::unreachable;
        for (const auto& page : request_.prp_pages)
            if (page.address == address && page.bytes.size() == entries.size_bytes()) {
                std::memcpy(entries.data(), page.bytes.data(), entries.size_bytes());
                return Answer::ok;
            }
        missing = {address, static_cast<uint32_t>(entries.size_bytes())};
        return Answer::later;
    }

    Piece missing;

  private:
    const device_model::GuestMemory& memory_;
    const Request& request_;
};

} // namespace

bool Engine::resolve(Request& request, uint32_t size_bytes) {
    if (command_psdt.get(request.command.flags) != 0) {
        complete(request, Status(StatusCode::invalid_field, true)); // SGLs are not supported
        return false;
    }
    ListReader reader(memory_, request);
    const auto outcome =
        walk_prps(Iova{request.command.prp1}, Iova{request.command.prp2}, size_bytes, reader, request.data);
    if (outcome.later) {
        dma_.read({&reader.missing, 1},
                  [this, &request, address = reader.missing.address](Result<std::vector<std::byte>> answer) {
                      if (!answer || request.orphaned()) {
                          complete(request, StatusCode::data_transfer_error);
                          return;
                      }
                      request.prp_pages.push_back({address, std::move(*answer)});
                      executor_.execute(request);
                  });
        return false;
    }
    if (!outcome.status.ok()) {
        complete(request, outcome.status);
        return false;
    }
    return true;
}

bool Engine::make_pieces(Request& request, bool write_to_client) {
    request.piece_count = 0;
    request.first_piece = 0;
    for (const auto& piece : request.data.pieces()) {
        Iova address = piece.address;
        for (uint32_t left = piece.size_bytes; left > 0;) {
            const auto* region = memory_.find(address);
            if (!region || !(*region)->is_memory() || (write_to_client && !(*region)->writable()))
                return false;
            const uint64_t offset = address - (*region)->range().start();
            const auto size =
                static_cast<uint32_t>(std::min<uint64_t>(left, (*region)->range().size_bytes() - offset));
            if (request.piece_count == request.pieces.size()) return false;
            request.pieces[request.piece_count++] = {(*region)->data() + offset, size};
            address = address + size;
            left -= size;
        }
    }
    return true;
}

void Engine::pin(Request& request) {
    for (const auto& piece : request.data.pieces()) {
        for (uint64_t done = 0; done < piece.size_bytes;) {
            const auto* region = memory_.find(piece.address + done);
            if (!region) return; // not made into pieces either
            if (request.pins.empty() || request.pins.back() != *region) request.pins.push_back(*region);
            done += (*region)->range().last() - (piece.address + done) + 1;
        }
    }
}

void Engine::send_data(Request& request, std::span<const std::byte> data) {
    if (!mastering_) {
        complete(request, StatusCode::data_transfer_error);
        return;
    }
    dma_.write(request.data.pieces(), data, [this, &request](Result<> sent) {
        complete(request, sent ? Status() : Status(StatusCode::data_transfer_error));
    });
}

void Engine::fetch_data(Request& request, std::function<void(std::vector<std::byte>)> done) {
    dma_.read(request.data.pieces(),
              [this, &request, done = std::move(done)](Result<std::vector<std::byte>> answer) {
                  if (!answer || request.orphaned())
                      complete(request, StatusCode::data_transfer_error);
                  else
                      done(std::move(*answer));
              });
}

} // namespace lanepool::nvme::model
