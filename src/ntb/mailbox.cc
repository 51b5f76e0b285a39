// SPDX-License-Identifier: Apache-2.0
#include "ntb/mailbox.h"

#include <atomic>
#include <bit>

namespace lanepool::ntb {

// Both ends store integers as their processor does; PCIe hosts of the other byte order would need a swap.
static_assert(std::endian::native == std::endian::little);

namespace {

template <class T, class Field>
T load(std::span<std::byte> area, Field field) {
    auto& word = *reinterpret_cast<T*>(area.data() + static_cast<uint64_t>(field));
    return std::atomic_ref(word).load(std::memory_order_acquire);
}

} // namespace

namespace mailbox {

uint32_t seal(const Identity& identity) {
    // Finds halves of two identities beside each other; who writes the words can write the seal as well.
    constexpr uint64_t factor = 0x9e37'79b9'7f4a'7c15;
    uint64_t sum = 1;
    for (const uint64_t word : {identity.incarnation, identity.acknowledged, identity.wake}) {
        sum = (sum ^ word) * factor;
        sum ^= sum >> 29;
    }
    return static_cast<uint32_t>(sum >> 32) | 1;
}

Result<> store(RemoteMemory& area, const Identity& identity) {
    TRY(store(area, LongField::incarnation, identity.incarnation));
    TRY(store(area, LongField::acknowledged, identity.acknowledged));
    TRY(store(area, LongField::wake, identity.wake));
    TRY(store(area, LongField::magic, signature));
    return store(area, Field::seal, seal(identity));
}

} // namespace mailbox

std::optional<MailboxView> read_mailbox(std::span<std::byte> area) {
    using mailbox::Field;
    using mailbox::LongField;
    if (load<uint64_t>(area, LongField::magic) != mailbox::signature) return std::nullopt;
    const auto seal = load<uint32_t>(area, Field::seal);
    MailboxView view;
    view.incarnation = load<uint64_t>(area, LongField::incarnation);
    view.acknowledged = load<uint64_t>(area, LongField::acknowledged);
    view.wake = load<uint64_t>(area, LongField::wake);
    view.heartbeat = load<uint32_t>(area, Field::heartbeat);
    view.head = load<uint32_t>(area, Field::head);
    view.tail = load<uint32_t>(area, Field::tail);
    // Head and tail belong to this identity: the seal is broken before they begin anew.
    if (view.incarnation == 0 || seal != mailbox::seal(view) || load<uint32_t>(area, Field::seal) != seal)
        return std::nullopt;
    return view;
}

} // namespace lanepool::ntb
