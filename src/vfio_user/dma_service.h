// SPDX-License-Identifier: Apache-2.0
//
// The thread of a client on which the function's own DMA is served and its end is told. Apart from the one
// that receives, so that a slow target does not hold up an answer.
#pragma once

#include "vfio_user/channel.h"
#include "vfio_user/dma_space.h"

#include <deque>

namespace lanepool::vfio_user {

class DmaService {
  public:
    explicit DmaService(DmaSpace& space);
    ~DmaService() { stop(); }
    // Waits for the access being served; nothing is called afterwards.
    void stop();

    // Queues a DMA_READ or DMA_WRITE that came from a channel, which must outlive the service. Errors:
    // protocol for any other command, no_space when the server sends more than is taken from it.
    Result<> queue(Message message, Channel& from);
    void on_disconnect(std::function<void()> callback);
    void disconnected();

    static constexpr size_t max_queued = 4096;
    static constexpr size_t max_queued_bytes = 64 << 20;

  private:
    void run();
    std::vector<std::byte> serve(const Message& message);
    Result<std::vector<std::byte>> access(const Message& message);

    DmaSpace& space_;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<std::pair<Message, Channel*>> queue_;
    size_t queued_bytes_ = 0;
    std::function<void()> callback_;
    bool disconnected_ = false;
    bool stopping_ = false;
    std::thread thread_;
};

} // namespace lanepool::vfio_user
