// SPDX-License-Identifier: Apache-2.0
//
// What a function must implement to be shown over a vfio-user socket. Server (server.h) speaks the protocol,
// checks every message against what the handler said there is, and calls the handler on its event loop's
// thread.
//
// Replies may be given later, but exactly once and on the loop's thread: a handler that waits for somebody
// else keeps the reply and returns. A reply that is destroyed without an answer answers `cancelled`; one that
// comes after the client has gone, or after the request's deadline, is dropped.
#pragma once

#include "base/address.h"
#include "base/mapping.h"
#include "base/result.h"
#include "pci/function.h"
#include "pci/types.h"

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace lanepool::vfio_user {

// A callback that is used once.
template <class T>
class Reply {
  public:
    Reply(std::function<void(Result<T>)> answer) : answer_(std::move(answer)) {}
    Reply(Reply&&) noexcept = default;
    Reply& operator=(Reply&&) = delete;
    ~Reply() {
        if (answer_) (*this)(fail(Errc::cancelled, "the request was dropped"));
    }
    void operator()(Result<T> result) { std::exchange(answer_, nullptr)(std::move(result)); }

  private:
    std::function<void(Result<T>)> answer_;
};

// The client of a served function, as far as the function may use it: valid between connected() and
// disconnected(), on the loop's thread.
class Client {
  public:
    virtual ~Client() = default;
    // Reads or writes memory of the client's that was mapped without a descriptor (VFIO_USER_DMA_READ,
    // _WRITE), at most 16 MiB at a time; in several messages where the client takes less in one. DATA is
    // copied. The answer to a write comes when the client has done it: who wants to go on at once need not
    // wait for it. Errors: timeout, disconnected, what the client answers, and, before these return,
    // out_of_range and no_space (1024 messages wait already).
    virtual void dma_read(Iova address, size_t size_bytes,
                          std::function<void(Result<std::vector<std::byte>>)> answer) = 0;
    virtual void dma_write(Iova address, std::span<const std::byte> data,
                           std::function<void(Result<>)> answer) = 0;
    // Whether the client negotiated our extension (memory behind windows, event mappings, fresh memory on
    // reset).
    virtual bool speaks_lanepool() const = 0;
};

struct DmaMap {
    Range<Iova> range;
    Access access;
    std::optional<MemoryRef> memory; // none: reached by messages only
    UniqueFd event; // of a lanepool client: each 4-byte write signals this (then there is no memory)
};

class Handler {
  public:
    virtual ~Handler() = default;

    // Constant while a client is connected.
    virtual const pci::RegionInfo& region(pci::Region index) const = 0;
    virtual const pci::IrqInfo& irq(pci::Irq index) const = 0;

    virtual void connected(Client& client) = 0;
    // The client has gone: forget its memory, interrupts and replies at once.
    virtual void disconnected() = 0;

    // The range has been checked to lie in the region, and the region to be readable or writable.
    virtual void read(pci::Region region, uint64_t offset_bytes, size_t size_bytes,
                      Reply<std::vector<std::byte>> reply) = 0;
    virtual void write(pci::Region region, uint64_t offset_bytes, std::span<const std::byte> data,
                       Reply<void> reply) = 0;

    // The memory behind a mappable area, handed to the client with the region's information: asked for at
    // connect and after each reset; and for any range on request of a lanepool client (then only what there
    // is; may be empty).
    virtual Result<std::vector<pci::Extent>> memory(pci::Region region, uint64_t offset_bytes,
                                                    uint64_t size_bytes) = 0;
    // The eventfd behind a doorbell or MSI window; not_supported by default.
    virtual Result<UniqueFd> event(pci::Region region, uint64_t offset_bytes);

    // The range does not overlap one that is mapped. Unmap ranges are exactly such that were mapped; the
    // reply says that the memory is not in use any more.
    virtual void map_dma(DmaMap map, Reply<void> reply) = 0;
    virtual void unmap_dma(Range<Iova> range, Reply<void> reply) = 0;

    // Vectors FIRST and on signal EVENTFDS (an empty descriptor: none). FIRST 0 with an empty list turns the
    // index off.
    virtual void set_irqs(pci::Irq index, uint32_t first, std::vector<UniqueFd> eventfds,
                          Reply<void> reply) = 0;
    virtual void mask_irq(pci::Irq index, uint32_t vector, bool masked, Reply<void> reply) = 0;

    // VFIO_USER_DEVICE_RESET. Fresh memory behind the regions (ServerOptions::fresh_memory_on_reset) is for a
    // client that speaks lanepool, which asks for it again; any other maps regions once (QEMU resets right
    // after it has) and must find the same memory afterwards.
    virtual void reset(Reply<void> reply) = 0;
};

} // namespace lanepool::vfio_user
