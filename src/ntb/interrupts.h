// SPDX-License-Identifier: Apache-2.0
//
// The adapter's own thread: takes its interrupts and calls the owner's AdapterEvents.
#pragma once

#include "io/event_loop.h"
#include "ntb/adapter.h"
#include "ntb/event_words.h"
#include "ntb/links.h"
#include "ntb/messages.h"

#include <memory>
#include <thread>

namespace lanepool::ntb {

class Interrupts {
  public:
    // Sets up vectors, messages and link events, and starts the thread. What is referred to must outlive it;
    // FUNCTION only until stop().
    static Result<std::unique_ptr<Interrupts>> create(pci::Function& function, const Identity& identity,
                                                      const Links& links, Messages& messages,
                                                      EventWords& words, AdapterEvents events);
    ~Interrupts() { stop(); }

    // The adapter does not answer any more: AdapterEvents::gone is called, once. From any thread.
    void report_gone();
    // Ends the thread; no event comes afterwards. Not from an event.
    void stop();
    // The thread's.
    io::EventLoop& loop() { return *loop_; }

  private:
    Interrupts(std::unique_ptr<io::EventLoop> loop, const Links& links, Messages& messages, EventWords& words,
               AdapterEvents events)
        : loop_(std::move(loop)), links_(links), messages_(messages), words_(words),
          events_(std::move(events)) {}
    Result<> set_up(pci::Function& function, const Identity& identity);
    void take_messages();
    void take_link_events();

    std::unique_ptr<io::EventLoop> loop_;
    const Links& links_;
    Messages& messages_;
    EventWords& words_;
    AdapterEvents events_;
    UniqueFd message_eventfd_;
    UniqueFd link_eventfd_;
    bool gone_ = false; // on the thread
    io::EventLoop::Registration message_watch_;
    io::EventLoop::Registration link_watch_;
    std::thread thread_;
};

} // namespace lanepool::ntb
