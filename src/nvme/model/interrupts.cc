// SPDX-License-Identifier: Apache-2.0
#include "nvme/model/interrupts.h"

#include "nvme/model/config_space.h"

#include <algorithm>

namespace lanepool::nvme::model {

namespace {
constexpr size_t at(pci::Irq index) { return static_cast<size_t>(index); }
} // namespace

Interrupts::Interrupts(bool msix) {
    info_[at(pci::Irq::intx)] = {1, true, true};
    info_[at(pci::Irq::msi)] = {msi_vectors, false, false};
    if (msix) info_[at(pci::Irq::msix)] = {msix_vectors, true, false};
}

void Interrupts::set(pci::Irq index, uint32_t first, std::vector<UniqueFd> eventfds) {
    auto& vectors = vectors_[at(index)];
    if (first == 0 && eventfds.empty()) {
        vectors.clear();
    } else {
        if (vectors.size() < first + eventfds.size()) vectors.resize(first + eventfds.size());
        for (size_t i = 0; i < eventfds.size(); ++i)
            vectors[first + i].event = std::move(eventfds[i]);
    }
    choose_active();
}

void Interrupts::choose_active() {
    active_ = pci::Irq::intx;
    for (const auto index : {pci::Irq::msi, pci::Irq::msix})
        if (std::ranges::any_of(vectors_[at(index)], [](const Vector& v) { return bool(v.event); }))
            active_ = index;
}

void Interrupts::mask(pci::Irq index, uint32_t number, bool masked) {
    auto& vectors = vectors_[at(index)];
    if (number >= vectors.size()) return;
    auto& vector = vectors[number];
    vector.masked = masked;
    if (masked) return;
    if (index == pci::Irq::intx) {
        set_level(level_);
    } else if (std::exchange(vector.pending, false) && index == active_) {
        signal(vector.event);
        ++raised_;
    }
}

void Interrupts::reset() {
    for (auto& vectors : vectors_)
        vectors.clear();
    active_ = pci::Irq::intx;
    register_mask_ = 0;
    level_ = false;
}

bool Interrupts::raise(uint16_t number) {
    auto& vectors = vectors_[at(active_)];
    if (active_ == pci::Irq::msi && number < 32 && (register_mask_ >> number & 1)) return false;
    if (number >= vectors.size() || !vectors[number].event) return true; // nobody listens
    if (vectors[number].masked) {
        vectors[number].pending = true; // as the pending bit array has it
        return true;
    }
    signal(vectors[number].event);
    ++raised_;
    return true;
}

void Interrupts::set_level(bool asserted) {
    level_ = asserted;
    auto& vectors = vectors_[at(pci::Irq::intx)];
    if (!asserted || vectors.empty() || !vectors[0].event || vectors[0].masked) return;
    vectors[0].masked = true; // automasked until the client has served it
    signal(vectors[0].event);
    ++raised_;
}

} // namespace lanepool::nvme::model
