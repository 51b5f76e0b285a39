// SPDX-License-Identifier: Apache-2.0
//
// For tests: the drive model in this process, on a thread of its own, behind its socket.
#pragma once

#include "base/temporary_folder.h"
#include "nvme/model/poller.h"
#include "nvme/model/run.h"
#include "vfio_user/client.h"
#include "vfio_user/server.h"

#include <filesystem>
#include <future>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <string>
#include <thread>

namespace lanepool::integration {

class NvmeDrive {
  public:
    explicit NvmeDrive(uint64_t size_bytes, nvme::model::ControllerOptions options = {}) {
        loop_ = io::EventLoop::create().value();
        nvme::model::Media::Options image;
        image.file = file();
        image.size_bytes = size_bytes;
        media_ = nvme::model::Media::open(image).value();
        options.serial = "INTEGRATION1";
        controller_ = nvme::model::Controller::create(options, *media_, loop_->clock()).value();
        poller_ = nvme::model::Poller::create(*loop_, *media_, *controller_).value();
        vfio_user::ServerOptions server_options;
        server_options.fresh_memory_on_reset = true;
        server_ = vfio_user::Server::create(*loop_, socket(), *controller_, server_options).value();
        thread_ = std::thread([this] { poller_->run(); });
    }
    ~NvmeDrive() { kill(); }
    NvmeDrive(const NvmeDrive&) = delete;
    NvmeDrive& operator=(const NvmeDrive&) = delete;

    std::filesystem::path file() const { return folder_ / "drive"; }
    std::filesystem::path socket() const { return folder_ / "socket"; }
    std::unique_ptr<pci::Function> connect() { return vfio_user::connect(socket()).value(); }

    // As when its process is killed: nothing is answered any more, and the connection ends.
    void kill() {
        if (!thread_.joinable()) return;
        loop_->stop();
        thread_.join();
        server_.reset();
        poller_.reset();
        controller_.reset();
        media_.reset();
    }

    // On the drive's thread.
    template <class F>
    auto call(F function) {
        std::promise<decltype(function(std::declval<nvme::model::Controller&>()))> answer;
        loop_->post([&] { answer.set_value(function(*controller_)); });
        return answer.get_future().get();
    }
    void hang(bool on) {
        call([on](auto& controller) {
            controller.set_hung(on);
            return 0;
        });
    }
    uint64_t messages() const {
        const auto& stats = server_->stats();
        return stats.region_reads + stats.region_writes + stats.dma_reads + stats.dma_writes + stats.other;
    }

  private:
    TemporaryFolder folder_;
    std::unique_ptr<io::EventLoop> loop_;
    std::unique_ptr<nvme::model::Media> media_;
    std::unique_ptr<nvme::model::Controller> controller_;
    std::unique_ptr<nvme::model::Poller> poller_;
    std::unique_ptr<vfio_user::Server> server_;
    std::thread thread_;
};

} // namespace lanepool::integration
