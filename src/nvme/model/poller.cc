// SPDX-License-Identifier: Apache-2.0
#include "nvme/model/poller.h"

#include <sys/epoll.h>

namespace lanepool::nvme::model {

Result<std::unique_ptr<Poller>> Poller::create(io::EventLoop& loop, Media& media, Controller& controller) {
    std::unique_ptr<Poller> poller(new Poller(loop, controller));
    poller->files_watch_ = TRY(loop.watch(media.files().event_fd(), EPOLLIN, [&media, &controller](uint32_t) {
        media.files().acknowledge(); // before looking: what comes in between signals again
        controller.poll();
    }));
    return poller;
}

} // namespace lanepool::nvme::model
