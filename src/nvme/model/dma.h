// SPDX-License-Identifier: Apache-2.0
//
// Copies between buffers of ours and client memory of any kind: mapped, reached by messages, or an eventfd.
#pragma once

#include "device_model/guest_memory.h"
#include "nvme/model/prp.h"
#include "vfio_user/handler.h"

#include <functional>
#include <map>
#include <span>
#include <vector>

namespace lanepool::nvme::model {

class Dma {
  public:
    using ReadDone = std::function<void(Result<std::vector<std::byte>>)>;
    using WriteDone = std::function<void(Result<>)>;

    explicit Dma(const device_model::GuestMemory& memory) : memory_(memory) {}

    void connected(vfio_user::Client& client) { client_ = &client; }
    // Everything outstanding ends with `disconnected`.
    void disconnected();

    // Calls DONE exactly once, before it returns where all is mapped memory.
    void read(std::span<const Piece> pieces, ReadDone done);
    void write(std::span<const Piece> pieces, std::span<const std::byte> data, WriteDone done);

    size_t outstanding() const { return transfers_.size(); }
    uint64_t messages() const { return messages_; }

  private:
    struct Transfer {
        size_t parts = 1; // still to come, and one for whoever is still starting them
        std::vector<std::byte> data;
        Result<> outcome;
        ReadDone read_done;
        WriteDone write_done;
    };
    void read_part(uint64_t id, size_t offset, Iova address, size_t size_bytes);
    void write_part(uint64_t id, Iova address, std::span<const std::byte> data);
    void part_done(uint64_t id, Result<> outcome);

    const device_model::GuestMemory& memory_;
    vfio_user::Client* client_ = nullptr;
    std::map<uint64_t, Transfer> transfers_;
    uint64_t next_id_ = 1;
    uint64_t messages_ = 0;
    // Answers may come after this has gone.
    std::shared_ptr<Dma*> self_ = std::make_shared<Dma*>(this);
};

} // namespace lanepool::nvme::model
