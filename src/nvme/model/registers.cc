// SPDX-License-Identifier: Apache-2.0
#include "nvme/model/registers.h"

#include "nvme/model/queues.h"

#include <algorithm>
#include <cstring>

namespace lanepool::nvme::model {

namespace {
// In units of 500 ms: how long RDY may take, which is how long abandoned file operations may take.
constexpr uint64_t ready_timeout = 20;
} // namespace

Registers::Registers() { reset(true); }

uint32_t Registers::get(uint64_t offset) const { return words_[offset / 4]; }
void Registers::put(uint64_t offset, uint32_t value) {
    words_[offset / 4] = value;
    ++generation_;
}

void Registers::reset(bool entire) {
    const std::array kept = {get(reg::aqa), get(reg::asq), get(reg::asq + 4), get(reg::acq),
                             get(reg::acq + 4)};
    words_.fill(0);
    interrupt_mask_ = 0;
    const uint64_t capabilities = cap::mqes(max_queue_entries - 1) | cap::cqr(1) |
                                  cap::ams(cap::ams_weighted) | cap::to(ready_timeout) |
                                  cap::css(cap::css_nvm);
    put(reg::cap, static_cast<uint32_t>(capabilities));
    put(reg::cap + 4, static_cast<uint32_t>(capabilities >> 32));
    put(reg::vs, version(1, 4));
    if (entire) return;
    put(reg::aqa, kept[0]);
    put(reg::asq, kept[1]);
    put(reg::asq + 4, kept[2]);
    put(reg::acq, kept[3]);
    put(reg::acq + 4, kept[4]);
}

std::vector<std::byte> Registers::read(uint64_t offset_bytes, size_t size) const {
    const auto bytes = std::as_bytes(std::span(words_)).subspan(offset_bytes, size);
    return {bytes.begin(), bytes.end()};
}

Registers::Written Registers::write(uint64_t offset_bytes, std::span<const std::byte> data) {
    Written written{cc(), false, false};
    // Whole words; a part of one keeps the rest, but for those where a write of zeroes means nothing.
    for (size_t done = 0; done < data.size();) {
        const uint64_t word = (offset_bytes + done) & ~uint64_t{3};
        const size_t start = (offset_bytes + done) - word;
        const size_t count = std::min<size_t>(4 - start, data.size() - done);
        uint32_t value = word == reg::intms || word == reg::intmc || word == reg::csts ? 0 : get(word);
        std::memcpy(reinterpret_cast<std::byte*>(&value) + start, data.data() + done, count);
        write32(word, value, written);
        done += count;
    }
    return written;
}

void Registers::write32(uint64_t offset, uint32_t value, Written& written) {
    const bool enabled = cc::en.get(cc()) != 0;
    switch (offset) {
    case reg::intms:
    case reg::intmc:
        interrupt_mask_ = offset == reg::intms ? interrupt_mask_ | value : interrupt_mask_ & ~value;
        put(reg::intms, interrupt_mask_);
        put(reg::intmc, interrupt_mask_);
        written.interrupt_mask = true;
        break;
    case reg::cc:
        put(reg::cc, value & 0x01fffff1);
        written.cc = true;
        break;
    case reg::aqa:
        if (!enabled) put(offset, value & 0x0fff0fff);
        break;
    case reg::asq:
    case reg::acq:
        if (!enabled) put(offset, value & ~static_cast<uint32_t>(min_page_bytes - 1));
        break;
    case reg::asq + 4:
    case reg::acq + 4:
        if (!enabled) put(offset, value);
        break;
    default:
        break; // read-only or reserved; NSSR is not supported (CAP.NSSRS)
    }
}

void Registers::write_mapped(uint64_t offset, uint32_t value, Written& written) {
    if (offset != reg::intms && offset != reg::intmc) write32(offset, value, written);
}

bool Registers::can_enable() const {
    return cc::css.get(cc()) == 0 && cc::mps.get(cc()) == 0 && cc::ams.get(cc()) <= cc::ams_weighted &&
           submission_entries() >= 2 && completion_entries() >= 2;
}

} // namespace lanepool::nvme::model
