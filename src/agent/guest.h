// SPDX-License-Identifier: Apache-2.0
//
// A guest of this host as the receiver of lent functions: the exporter that uses QEMU's hot-plug.
#pragma once

#include "agent/qmp.h"
#include "base/result.h"
#include "io/clock.h"

#include <condition_variable>
#include <deque>
#include <filesystem>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

namespace lanepool::agent {

// Works on a thread of its own, one operation after the other, because QEMU's monitor is a conversation.
// Answers are called on that thread.
class Guest {
  public:
    // MONITOR: the path of a QMP socket of the guest's QEMU that is for us alone.
    Guest(std::string name, std::filesystem::path monitor);
    ~Guest(); // operations that have not begun are answered `cancelled`

    const std::string& name() const { return name_; }

    // The id of a loan's device in the guest.
    static std::string device_id(uint64_t loan_id);

    // Takes away what an earlier agent left plugged: functions whose sockets nobody serves any more.
    void remove_leftovers();
    // Hot-adds the function served at SOCKET as device ID, behind the first free root port.
    void plug(std::string id, std::filesystem::path socket, io::Duration timeout,
              std::function<void(Result<>)> answer);
    // Asks the guest to let device ID go and waits until it has. A guest that is gone, or has no such device,
    // has let go. Errors: timeout: the guest still holds it (and may let go later).
    void unplug(std::string id, io::Duration timeout, std::function<void(Result<>)> answer);

  private:
    struct Job {
        std::function<Result<>(Qmp&)> work;
        bool gone_is_success; // when nobody answers at the monitor
        std::function<void(Result<>)> answer;
    };
    void add(Job job);
    void run();
    Result<> perform(const Job& job);

    const std::string name_;
    const std::filesystem::path monitor_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<Job> jobs_;
    bool stopping_ = false;
    std::thread thread_;
};

} // namespace lanepool::agent
