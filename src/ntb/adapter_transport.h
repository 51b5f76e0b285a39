// SPDX-License-Identifier: Apache-2.0
//
// A channel's transport over a real adapter. Whatever asks the adapter runs on a worker thread: the channel's
// loop never waits for the switch.
#pragma once

#include "ntb/loop_gate.h"
#include "ntb/transport.h"

#include <condition_variable>
#include <deque>
#include <thread>

namespace lanepool::ntb {

// One thread that does one job after the other.
class Worker {
  public:
    Worker() : thread_([this] { run(); }) {}
    ~Worker() { stop(); }
    void post(std::function<void()> job);
    // Drops the jobs that have not begun and waits for the one that has.
    void stop();

  private:
    void run();

    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<std::function<void()>> jobs_;
    bool stopping_ = false;
    std::thread thread_;
};

class AdapterTransport final : public Transport {
  public:
    // Exports the areas and the event. LOOP and ADAPTER must outlive it. Errors: already_exists (another
    // channel on this adapter), and what the adapter reports.
    static Result<std::unique_ptr<AdapterTransport>> create(io::EventLoop& loop, Adapter& adapter);
    ~AdapterTransport() override;

    Partition own() const override { return adapter_.partition(); }
    std::vector<Partition> peers() const override { return adapter_.peers(); }
    std::span<std::byte> area(Partition peer) override;
    const UniqueFd& wake_eventfd() const override { return wake_eventfd_; }
    uint64_t wake_address() const override { return wake_export_ ? wake_export_.address().value : 0; }
    void connect(Partition peer, uint64_t wake_address, Connected connected) override;
    void check_links(std::function<void(Partition peer, bool up)> found) override;

    // What peers send to make us look.
    static constexpr uint32_t wake_message = 0x6c70'0001;

  private:
    AdapterTransport(io::EventLoop& loop, Adapter& adapter)
        : adapter_(adapter), gate_(std::make_shared<LoopGate>(loop)), worker_(std::make_shared<Worker>()) {}

    Adapter& adapter_;
    Mapping areas_;
    UniqueFd wake_eventfd_;
    Export areas_export_;
    Export wake_export_;
    std::shared_ptr<LoopGate> gate_;
    std::shared_ptr<Worker> worker_; // links keep it: they close their windows there
};

} // namespace lanepool::ntb
