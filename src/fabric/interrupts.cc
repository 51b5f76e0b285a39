// SPDX-License-Identifier: Apache-2.0
#include "fabric/interrupts.h"

#include "fabric/options.h"

namespace lanepool::fabric {

Result<> Interrupts::set(pci::Irq index, uint32_t first, std::vector<UniqueFd> eventfds) {
    if (index != pci::Irq::msi && index != pci::Irq::msix)
        return fail(Errc::not_supported, "the NTB endpoint signals by MSI and MSI-X only");
    if (first > endpoint_vectors || eventfds.size() > endpoint_vectors - first)
        return fail(Errc::out_of_range, "vectors {} to {} are beyond the endpoint's {}", first,
                    first + eventfds.size(), endpoint_vectors);
    if (first == 0 && eventfds.empty()) {
        if (index == index_) vectors_.clear();
        return {};
    }
    if (index != index_) vectors_.clear();
    index_ = index;
    vectors_.resize(endpoint_vectors);
    for (size_t i = 0; i < eventfds.size(); ++i)
        vectors_[first + i] = std::move(eventfds[i]);
    return {};
}

bool Interrupts::raise(unsigned vector) const {
    if (vector >= vectors_.size() || !vectors_[vector]) return false;
    signal(vectors_[vector]);
    return true;
}

} // namespace lanepool::fabric
