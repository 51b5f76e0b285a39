// SPDX-License-Identifier: Apache-2.0
//
// For tests: a function of this machine's own bus that does as it is told: its host's driver, who uses it,
// how long it takes to let go. What is behind it, once it has been taken, is a device on a socket.
#pragma once

#include "agent/function_source.h"
#include "base/eventually.h"
#include "vfio_user/client.h"

#include <condition_variable>
#include <filesystem>
#include <mutex>

namespace lanepool::integration {

class FakeBusDevice final : public agent::FunctionSource, public agent::HostUse {
  public:
    explicit FakeBusDevice(std::filesystem::path socket) : socket_(std::move(socket)) {
        state_.identity.set_vendor_id(0x11f8);
        state_.identity.set_class_code(0x120000);
        state_.identity.set_kind("fpga");
        state_.identity.set_model("a card");
        state_.identity.set_serial("S1");
        state_.iommu = true;
        state_.most_functions = 4;
    }

    // What can be told to go otherwise than well; each is looked at under the lock.
    struct Script {
        bool present = true;
        std::string holder;        // refuses to be taken for him
        bool slow = false;         // take() does not return until this is false
        bool keeps = false;        // give_back() fails
        bool silent = false;       // it does not open
        bool no_functions = false; // set_functions() fails
    };
    template <class Work>
    auto script(Work work) {
        const std::lock_guard lock(mutex_);
        auto result = work(script_, state_);
        changed_.notify_all();
        return result;
    }
    template <class Work>
    void tell(Work work) {
        script([&](Script& script, agent::Sighting& state) {
            work(script, state);
            return 0;
        });
    }
    bool taken() {
        return script([](Script&, agent::Sighting& state) { return state.taken; });
    }
    size_t takes() {
        const std::lock_guard lock(mutex_);
        return takes_;
    }
    size_t gives_back() {
        const std::lock_guard lock(mutex_);
        return gives_back_;
    }

    const std::string& place() const override { return place_; }
    Result<std::unique_ptr<pci::Function>> open() override {
        {
            const std::lock_guard lock(mutex_);
            if (!state_.taken) return fail(Errc::failed_precondition, "vfio-pci does not have it");
            if (script_.silent) return fail(Errc::io, "it does not open");
        }
        return vfio_user::connect(socket_);
    }
    std::optional<pci::RequesterId> requester() const override { return pci::RequesterId{0x0300}; }
    agent::HostUse* host() override { return this; }

    Result<agent::Sighting> look() override {
        const std::lock_guard lock(mutex_);
        if (!script_.present) return fail(Errc::not_found, "it is not there");
        return state_;
    }
    Result<> take() override {
        std::unique_lock lock(mutex_);
        ++takes_;
        changed_.notify_all();
        changed_.wait_for(lock, std::chrono::seconds(20), [&] { return !script_.slow; });
        if (!script_.holder.empty()) return fail(Errc::busy, "in use: {}", script_.holder);
        state_.taken = true;
        return {};
    }
    Result<> give_back() override {
        const std::lock_guard lock(mutex_);
        if (state_.taken) ++gives_back_;
        if (script_.keeps) return fail(Errc::io, "its driver does not take it");
        state_.taken = false;
        return {};
    }
    Result<> set_functions(uint32_t count, io::Duration) override {
        const std::lock_guard lock(mutex_);
        if (script_.no_functions) return fail(Errc::not_supported, "its driver has no way");
        state_.functions.clear();
        for (uint8_t i = 0; i < count; ++i)
            state_.functions.push_back({0, 3, 0x10, i});
        return {};
    }
    Result<> clean() override { return {}; }

  private:
    const std::filesystem::path socket_;
    const std::string place_ = "pci:0000:03:00.0";
    std::mutex mutex_;
    std::condition_variable changed_;
    Script script_;
    agent::Sighting state_;
    size_t takes_ = 0;
    size_t gives_back_ = 0;
};

} // namespace lanepool::integration
