// SPDX-License-Identifier: Apache-2.0
//
// How a host takes events where its adapter cannot signal eventfds by itself, as no card can from user space.
// It exports plain memory, a word of 4 bytes an event, in a range of bus addresses that all hosts know. Who
// signals writes the word (anything but zero) and sends `event_message`; on any message the owner looks at
// all its words. A message register that is occupied will do as well: the owner looks after it has emptied
// the registers, so a word that was written while one was full is seen.
#pragma once

#include "base/address.h"
#include "base/mapping.h"
#include "base/result.h"

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

namespace lanepool::ntb {

// Behind the areas of channels (mailbox.h), below every other export.
inline constexpr BusAddress event_words_start{0x5000'0000};
inline constexpr uint64_t event_words_bytes = 0x3000'0000;
constexpr bool is_event_word(BusAddress address) {
    return address >= event_words_start && address.value - event_words_start.value < event_words_bytes;
}

// What peers send after they have written words. It is not delivered to AdapterEvents::message.
inline constexpr uint32_t event_message = 0x6c70'0002;

// Of all exports together: looking at them is the work of one message.
inline constexpr size_t max_event_words = 65536;

// Thread-safe.
class EventWords {
  public:
    // The words of one export, whole pages; taken out of the look on destruction. The words must outlive it.
    class Area {
      public:
        Area() = default;
        Area(Area&& other) noexcept;
        Area& operator=(Area&& other) noexcept;
        ~Area();
        const MemoryRef& memory() const { return memory_; }

      private:
        friend class EventWords;
        EventWords* words_ = nullptr;
        uint64_t id_ = 0;
        MemoryRef memory_;
    };

    // A word for each eventfd; null: nothing happens. Errors: no_space.
    Result<Area> add(std::vector<SharedFd> eventfds);
    // Signals the eventfds whose words were written since the last look.
    void look();

  private:
    struct Page {
        Mapping words;
        std::vector<SharedFd> eventfds;
    };
    void remove(uint64_t id);

    std::mutex mutex_;
    uint64_t next_id_ = 0;
    size_t count_ = 0;
    std::map<uint64_t, Page> pages_;
};

} // namespace lanepool::ntb
