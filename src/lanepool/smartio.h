// SPDX-License-Identifier: Apache-2.0
//
// lanepool for programs that use remote memory, interrupts and devices themselves: the one header to include.
//
//     auto session = lanepool::Session::open();
//     auto segment = lanepool::Segment::create(*session, {.size_bytes = 1 << 20, .id = 4});
//     segment->set_available(true);
//     // on another host:
//     auto remote = lanepool::RemoteSegment::connect(*session, node, 4, std::chrono::seconds(10));
//     auto view = remote->map();
//     std::memcpy(view->data(), "hello", 5);          // lies in the first host's memory now
//
// What fails says so in a lanepool::Result (base/result.h): a value, or an Error with a code and words.
//
// All objects may be moved, and used from any thread; moving or destroying one while another thread uses it
// is a race, as with any object. What an object stands for is given back when it is destroyed. Objects may
// outlive their session: they answer `disconnected` then, and mappings stay, but lead to nobody's memory.
//
// Callbacks come on the session's event thread, one at a time; they may call everything, and destroy the very
// object that they are of. While one runs, no other comes. A callback may come before the call that made its
// object has returned. Once an object's destructor has returned, none of its callbacks runs or will come;
// so a destructor waits for a running callback to return (unless called by it).
//
// Each call that asks the host's agent has a deadline: SessionOptions::call_timeout, and in addition its own
// TIMEOUT where it has one. When the agent goes away every call answers `disconnected` at once.
//
// A child of fork() must use none of it; it may exec.
//
// Errors that every call may have: disconnected (the agent has gone, or the session was closed), timeout (the
// agent did not answer), protocol (it answered nonsense), no_space (over a limit of a session), internal.
#pragma once

#include "lanepool/device.h"    // IWYU pragma: export
#include "lanepool/interrupt.h" // IWYU pragma: export
#include "lanepool/segment.h"   // IWYU pragma: export
#include "lanepool/session.h"   // IWYU pragma: export
