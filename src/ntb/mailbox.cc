// SPDX-License-Identifier: Apache-2.0
#include "ntb/mailbox.h"

#include <atomic>
#include <bit>

namespace lanepool::ntb {

// Both ends store integers as their processor does; PCIe hosts of the other byte order would need a swap.
static_assert(std::endian::native == std::endian::little);

static uint64_t load(std::span<std::byte> area, mailbox::Field field) {
    auto& word = *reinterpret_cast<uint64_t*>(area.data() + static_cast<uint64_t>(field));
    return std::atomic_ref(word).load(std::memory_order_acquire);
}

std::optional<MailboxView> read_mailbox(std::span<std::byte> area) {
    using mailbox::Field;
    if (load(area, Field::magic) != mailbox::signature) return std::nullopt;
    MailboxView view;
    view.incarnation = load(area, Field::incarnation);
    view.acknowledged = load(area, Field::acknowledged);
    view.wake = load(area, Field::wake);
    view.heartbeat = load(area, Field::heartbeat);
    view.head = load(area, Field::head);
    view.tail = load(area, Field::tail);
    if (view.incarnation == 0 || load(area, Field::incarnation) != view.incarnation ||
        load(area, Field::acknowledged) != view.acknowledged)
        return std::nullopt;
    return view;
}

} // namespace lanepool::ntb
