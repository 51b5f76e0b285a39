// SPDX-License-Identifier: Apache-2.0
#include "nvme/model/dma.h"

#include <algorithm>
#include <cstring>

namespace lanepool::nvme::model {

namespace {
// What goes into one message; clients need not take more (max_data_xfer_size).
constexpr size_t message_bytes = 64 * 1024;

// Calls VISIT(address, offset, size) for each stretch that lies in one region and fits a message.
template <class Visit>
void for_each_part(const device_model::GuestMemory& memory, std::span<const Piece> pieces, Visit visit) {
    size_t offset = 0;
    for (const auto& piece : pieces) {
        for (uint32_t done = 0; done < piece.size_bytes;) {
            const Iova address = piece.address + done;
            size_t size = std::min<size_t>(piece.size_bytes - done, message_bytes);
            const auto* region = memory.find(address);
            if (region) size = std::min<uint64_t>(size, ((*region)->range().last() - address) + 1);
            visit(address, offset, size, region ? region->get() : nullptr);
            done += static_cast<uint32_t>(size);
            offset += size;
        }
    }
}

tl::unexpected<Error> unmapped(Iova address) {
    return fail(Errc::out_of_range, "the client has mapped nothing for this access at {:#x}", address.value);
}
} // namespace

void Dma::disconnected() {
    client_ = nullptr;
    // What is called may start something new.
    std::vector<uint64_t> ids;
    for (const auto& [id, transfer] : transfers_)
        ids.push_back(id);
    for (const uint64_t id : ids) {
        const auto found = transfers_.find(id);
        if (found == transfers_.end()) continue;
        found->second.parts = 1;
        part_done(id, fail(Errc::disconnected, "the client has gone"));
    }
}

void Dma::part_done(uint64_t id, Result<> outcome) {
    const auto found = transfers_.find(id);
    if (found == transfers_.end()) return; // given up already
    if (!outcome) found->second.outcome = std::move(outcome);
    if (--found->second.parts > 0) return;
    Transfer transfer = std::move(found->second);
    transfers_.erase(found);
    if (transfer.write_done)
        transfer.write_done(std::move(transfer.outcome));
    else if (!transfer.outcome)
        transfer.read_done(tl::unexpected(transfer.outcome.error()));
    else
        transfer.read_done(std::move(transfer.data));
}

void Dma::read(std::span<const Piece> pieces, ReadDone done) {
    const uint64_t id = next_id_++;
    auto& transfer = transfers_[id];
    transfer.read_done = std::move(done);
    size_t total = 0;
    for (const auto& piece : pieces)
        total += piece.size_bytes;
    transfer.data.resize(total);
    for_each_part(memory_, pieces,
                  [&](Iova address, size_t offset, size_t size, const device_model::DmaRegion* region) {
                      ++transfer.parts;
                      if (const auto* from = memory_.direct(address, size, false)) {
                          std::memcpy(transfer.data.data() + offset, from, size);
                          part_done(id, {});
                      } else if (!region) {
                          part_done(id, unmapped(address));
                      } else if (region->event() || !client_) {
                          part_done(id, {}); // an eventfd reads as zeroes
                      } else {
                          read_part(id, offset, address, size);
                      }
                  });
    part_done(id, {});
}

void Dma::read_part(uint64_t id, size_t offset, Iova address, size_t size_bytes) {
    ++messages_;
    client_->dma_read(
        address, size_bytes,
        [weak = std::weak_ptr(self_), id, offset, size_bytes](Result<std::vector<std::byte>> answer) {
            const auto alive = weak.lock();
            if (!alive) return;
            auto& dma = **alive;
            const auto found = dma.transfers_.find(id);
            if (found == dma.transfers_.end()) return;
            if (answer && answer->size() == size_bytes) {
                std::ranges::copy(*answer, found->second.data.begin() + static_cast<std::ptrdiff_t>(offset));
                dma.part_done(id, {});
            } else {
                dma.part_done(id, answer ? fail(Errc::protocol, "a short DMA answer")
                                         : tl::unexpected(answer.error()));
            }
        });
}

void Dma::write(std::span<const Piece> pieces, std::span<const std::byte> data, WriteDone done) {
    const uint64_t id = next_id_++;
    auto& transfer = transfers_[id];
    transfer.write_done = std::move(done);
    for_each_part(memory_, pieces,
                  [&](Iova address, size_t offset, size_t size, const device_model::DmaRegion* region) {
                      ++transfer.parts;
                      if (auto* to = memory_.direct(address, size, true)) {
                          std::memcpy(to, data.data() + offset, size);
                          part_done(id, {});
                      } else if (!region || !region->writable()) {
                          part_done(id, unmapped(address));
                      } else if (region->event()) {
                          signal(region->event());
                          part_done(id, {});
                      } else if (!client_) {
                          part_done(id, fail(Errc::disconnected, "the client has gone"));
                      } else {
                          write_part(id, address, data.subspan(offset, size));
                      }
                  });
    part_done(id, {});
}

void Dma::write_part(uint64_t id, Iova address, std::span<const std::byte> data) {
    ++messages_;
    client_->dma_write(address, data, [weak = std::weak_ptr(self_), id](Result<> answer) {
        if (const auto alive = weak.lock()) (*alive)->part_done(id, std::move(answer));
    });
}

} // namespace lanepool::nvme::model
