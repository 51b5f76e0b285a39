// SPDX-License-Identifier: Apache-2.0
//
// For tests: the virtual switch in this process, on a thread of its own, with each port behind a socket.
// Hosts take their adapters as anybody would.
#pragma once

#include "base/eventually.h"
#include "base/temporary_folder.h"
#include "fabric/switch.h"
#include "ntb/adapter.h"
#include "vfio_user/client.h"
#include "vfio_user/server.h"

#include <filesystem>
#include <future>
#include <gtest/gtest.h>
#include <memory>
#include <stdlib.h>
#include <string>
#include <thread>
#include <vector>

namespace lanepool::integration {

class VirtualSwitch {
  public:
    explicit VirtualSwitch(unsigned ports) : VirtualSwitch(options(ports)) {}
    explicit VirtualSwitch(fabric::SwitchOptions options) {
        loop_ = io::EventLoop::create().value();
        fabric_ = fabric::Switch::create(*loop_, options).value();
        servers_.resize(options.ports);
        for (unsigned port = 0; port < options.ports; ++port)
            plug_in_loop(port);
        thread_ = std::thread([this] { loop_->run(); });
    }
    ~VirtualSwitch() { stop(); }
    VirtualSwitch(const VirtualSwitch&) = delete;
    VirtualSwitch& operator=(const VirtualSwitch&) = delete;

    // As when its process is killed: every client sees its connection end.
    void stop() {
        if (!thread_.joinable()) return;
        loop_->stop();
        thread_.join();
        servers_.clear();
        fabric_.reset();
    }

    // Runs WORK on the switch's thread.
    void run(const std::function<void()>& work) {
        std::promise<void> done;
        loop_->post([&] {
            work();
            done.set_value();
        });
        done.get_future().get();
    }
    fabric::Port& port(unsigned index) { return fabric_->port(index); } // inside run()
    void enable_link(unsigned index, bool enabled) {
        run([&] { port(index).enable_link(enabled); });
    }
    // The host's process has gone, or its adapter was pulled.
    void unplug(unsigned index) {
        run([&] {
            servers_[index]->drop_client();
            servers_[index].reset();
        });
    }
    void plug(unsigned index) {
        run([&] { plug_in_loop(index); });
    }

    Result<std::unique_ptr<pci::Function>> function(unsigned index,
                                                    vfio_user::ClientOptions options = {}) const {
        return vfio_user::connect(path(index), options);
    }
    std::unique_ptr<ntb::Adapter> adapter(unsigned index, ntb::AdapterEvents events = {}) const {
        auto created = ntb::Adapter::create(function(index).value(), std::move(events));
        EXPECT_TRUE(created) << created.error().message();
        return created ? std::move(*created) : nullptr;
    }

  private:
    static fabric::SwitchOptions options(unsigned ports) {
        fabric::SwitchOptions result;
        result.ports = ports;
        return result;
    }
    std::filesystem::path path(unsigned index) const {
        return folder_ / ("port" + std::to_string(index) + ".sock");
    }
    void plug_in_loop(unsigned index) {
        servers_[index] = vfio_user::Server::create(*loop_, path(index), fabric_->port(index),
                                                    {.reply_timeout = std::chrono::seconds(3)})
                              .value();
    }

    TemporaryFolder folder_;
    std::unique_ptr<io::EventLoop> loop_;
    std::unique_ptr<fabric::Switch> fabric_;
    std::vector<std::unique_ptr<vfio_user::Server>> servers_;
    std::thread thread_;
};

} // namespace lanepool::integration
