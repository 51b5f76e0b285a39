// SPDX-License-Identifier: Apache-2.0
//
// A server's answers to our client. The first byte says which answer it is (low bits) and how many
// descriptors came with it (high bits); the rest is its payload, or with the highest choice a raw stream of
// messages. What is believed must make sense.
#include "vfio_user/capabilities.h"
#include "vfio_user/server_description.h"

#include <cstdlib>

using namespace lanepool;
using namespace lanepool::vfio_user;

namespace {

void require(bool condition) {
    if (!condition) std::abort();
}

constexpr uint64_t file_bytes = 1 << 20;

void check_extents(const std::vector<pci::Extent>& extents, uint64_t offset, uint64_t size) {
    uint64_t position = offset;
    for (const auto& extent : extents) {
        require(extent.offset_bytes >= position && extent.memory.size_bytes > 0);
        position = extent.offset_bytes + extent.memory.size_bytes;
        require(position > extent.offset_bytes && position <= offset + size);
        require(extent.memory.fd && extent.memory.offset_bytes <= file_bytes &&
                extent.memory.size_bytes <= file_bytes - extent.memory.offset_bytes);
    }
}

void check_region(Message message, bool lanepool) {
    const auto needed = needed_bytes(message);
    const auto region = parse_region_info(std::move(message), 2, lanepool);
    if (!region) return;
    require(needed.has_value());
    const uint64_t bytes = region->info.size_bytes;
    uint64_t end = 0;
    for (const auto& area : region->info.mappable) {
        require(area.size_bytes > 0 && area.offset_bytes >= end);
        end = area.offset_bytes + area.size_bytes;
        require(end > area.offset_bytes && end <= bytes);
    }
    check_extents(region->memory(0, bytes), 0, bytes);
    if (bytes > 100) check_extents(region->memory(37, bytes - 50), 37, bytes - 50);
}

void read_stream(std::span<const std::byte> input) {
    FrameReader reader;
    while (!input.empty()) {
        const auto wanted = reader.wanted();
        require(!wanted.empty());
        const size_t count = std::min(wanted.size(), input.size());
        std::copy_n(input.begin(), count, wanted.begin());
        input = input.subspan(count);
        if (!reader.filled(count)) return;
        if (const auto message = reader.take())
            require(message->payload.size() + sizeof(wire::Header) == message->header.size_bytes);
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size < 1 || size > 100'000) return 0;
    static const UniqueFd file = *create_memory("fuzz", file_bytes);
    const auto payload = std::as_bytes(std::span(data, size)).subspan(1);
    Message message{};
    message.payload.assign(payload.begin(), payload.end());
    for (int i = 0; i < data[0] >> 4; ++i)
        message.fds.push_back(*file.duplicate());
    switch (data[0] & 7) {
    case 0:
        check_region(std::move(message), false);
        break;
    case 1:
        check_region(std::move(message), true);
        break;
    case 2:
        if (const auto irq = parse_irq_info(message, 1)) require(irq->count <= 2048);
        break;
    case 3: {
        const wire::RegionMemory request{4096, 2, 0x1000, 0x10000, 0, 0, 0};
        if (const auto part = parse_region_memory(std::move(message), request)) {
            check_extents(part->extents, 0x1000, 0x10000);
            require(part->next_bytes > 0x1000 && part->next_bytes <= 0x11000);
        }
        break;
    }
    case 4:
        if (const auto event = find_event(std::move(message), 2, 0x10)) require(static_cast<bool>(*event));
        break;
    case 5:
        if (const auto capabilities = parse_capabilities(payload)) {
            require(capabilities->max_data_xfer_bytes > 0 && capabilities->max_msg_fds > 0);
            const std::string again = to_json(*capabilities);
            require(parse_capabilities(std::as_bytes(std::span(again))) == *capabilities);
        }
        break;
    default:
        read_stream(payload);
    }
    return 0;
}
