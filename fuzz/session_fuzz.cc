// SPDX-License-Identifier: Apache-2.0
//
// What a program gets from others: the ring of one who sends data interrupts, who writes into it what he
// likes between any two messages; and answers of an agent that are to be mapped.
#include "lanepool/extents.h"
#include "session/data_ring.h"
#include "session/message.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <sys/mman.h>

namespace {

using namespace lanepool;

class Input {
  public:
    explicit Input(std::span<const uint8_t> data) : data_(data) {}
    bool empty() const { return data_.empty(); }
    uint64_t number(size_t bytes) {
        uint64_t value = 0;
        const auto taken = take(bytes);
        std::memcpy(&value, taken.data(), taken.size());
        return value;
    }
    std::span<const std::byte> take(size_t bytes) {
        const auto taken = data_.first(std::min(bytes, data_.size()));
        data_ = data_.subspan(taken.size());
        return std::as_bytes(taken);
    }
    std::string_view rest() const { return {reinterpret_cast<const char*>(data_.data()), data_.size()}; }

  private:
    std::span<const uint8_t> data_;
};

// Exactly a ring's bytes, so that whatever lies beside them is noticed.
struct RingMemory {
    session::DataRing* ring = new (std::align_val_t(4096)) session::DataRing();
    ~RingMemory() { ::operator delete(ring, std::align_val_t(4096)); }
    std::span<std::byte> bytes() const {
        return {reinterpret_cast<std::byte*>(ring), sizeof(session::DataRing)};
    }
};

void play_ring(Input input) {
    const RingMemory memory;
    auto writer = *session::DataRingWriter::create(memory.bytes());
    auto reader = *session::DataRingReader::create(memory.bytes());
    const auto buffer = std::make_unique<std::array<std::byte, session::max_data_bytes>>();
    bool broken = false;
    for (int step = 0; step < 500 && !input.empty(); ++step) {
        switch (input.number(1) % 6) {
        case 0:
        case 1: {
            // The size need not be all of it: bytes beyond the input are zeroes.
            std::vector<std::byte> data(input.number(2) % (session::max_data_bytes + 2));
            std::ranges::copy(input.take(std::min<size_t>(data.size(), 16)), data.begin());
            (void)writer.send(data);
            break;
        }
        case 2: {
            const auto room = std::span(*buffer).first(input.number(2) % (buffer->size() + 1));
            const auto taken = reader.take(room);
            if (broken && (taken || taken.error().code() != Errc::protocol)) std::abort();
            if (taken && *taken && **taken > room.size()) std::abort();
            broken = !taken && taken.error().code() == Errc::protocol;
            break;
        }
        case 3:
            memory.ring->produced = input.number(8);
            break;
        case 4:
            memory.ring->consumed = input.number(8);
            break;
        default: {
            const size_t at = input.number(2) % memory.bytes().size();
            const auto data = input.take(std::min<size_t>(8, memory.bytes().size() - at));
            std::ranges::copy(data, memory.bytes().begin() + static_cast<ptrdiff_t>(at));
        }
        }
    }
}

void play_answer(Input input) {
    static const UniqueFd pages = create_memory("fuzz", 4 * 4096).value();
    session::Message answer;
    const size_t descriptors = input.number(1) % 4;
    for (size_t i = 0; i < descriptors; ++i)
        answer.fds.push_back(pages.duplicate().value());
    const MapOptions options{.offset_bytes = input.number(2), .size_bytes = input.number(2)};
    answer.body = session::Json::parse(input.rest(), nullptr, false);
    if (!answer.body.is_object()) return; // session::receive() lets nothing else through
    const auto extents = client::Extents::take(answer, client::Shrinkable::no);
    if (!extents) return;
    // What may be mapped can be touched, all of it.
    if (const auto mapped = extents->map(options)) {
        if (options.size_bytes && mapped->size_bytes() != options.size_bytes) std::abort();
        volatile std::byte sum{};
        for (const auto byte : mapped->bytes())
            sum = sum ^ byte;
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    Input input({data, size});
    if (input.number(1) % 2)
        play_answer(input);
    else
        play_ring(input);
    return 0;
}
