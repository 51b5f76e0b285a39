// SPDX-License-Identifier: Apache-2.0
//
// When the host of a completion queue is interrupted. An interrupt costs it as much as several commands do:
// one that would fall into a burst of submissions waits until the burst pauses, one for which nothing is
// gained by waiting is sent at once. Which of the two it is is found out by trying: now and then an interrupt
// waits a little, and where more completions come meanwhile, the following ones wait too.
#pragma once

#include "io/clock.h"

#include <cstdint>

namespace lanepool::nvme::model {

class InterruptPacer {
  public:
    InterruptPacer() = default;
    // PACED false: every interrupt at once.
    explicit InterruptPacer(const io::Clock& clock, bool paced) : clock_(&clock), may_pace_(paced) {}

    // Interrupt Coalescing (NVM Express Base Specification 2.0, section 5.27.1.6): waits for more than
    // THRESHOLD entries or for TIME; zero: does not.
    void set_coalescing(uint32_t threshold, io::Duration time);

    // An entry was posted.
    void posted() {
        ++unsignalled_;
        if (mode_ != Mode::immediate || threshold_ != 0) note_time();
    }
    // The host has moved its head and left LEFT entries: they may have been posted after it looked.
    void host_looked(uint32_t left);
    // What was sent may be lost: LEFT entries need an interrupt.
    void start_over(uint32_t left);

    // Whether an interrupt is to be sent now. NOW may be some time ago: it only counts for what is lost.
    bool due(io::TimePoint now) const { return unsignalled_ > 0 && time_has_come(now); }
    // An interrupt was sent.
    void signalled(io::TimePoint now);

  private:
    // immediate: no waiting; probing: one interrupt waits; paced: all do.
    enum class Mode : uint8_t { immediate, probing, paced };
    void note_time();
    bool time_has_come(io::TimePoint now) const;

    const io::Clock* clock_ = nullptr;
    bool may_pace_ = false;
    Mode mode_ = Mode::immediate;
    uint32_t unsignalled_ = 0;
    io::TimePoint first_, last_; // of them; unless all are sent at once
    io::Duration interval_{0};   // between entries, smoothed
    static constexpr uint32_t signals_between_probes = 128;
    uint32_t until_probe_ = signals_between_probes;
    uint32_t lonely_ = 0; // interrupts in a row that waited for nothing

    // An interrupt is on its way and the host has not moved its head since: it is about to look.
    bool expecting_ = false;
    io::TimePoint expecting_since_;

    uint32_t threshold_ = 0;
    io::Duration time_{0};
};

} // namespace lanepool::nvme::model
