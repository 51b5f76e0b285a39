// SPDX-License-Identifier: Apache-2.0
//
// For tests: an agent without devices or guests, that says over gRPC what a real one would, connects again
// when its stream ends, and dies or keeps a step back when it is told to.
#pragma once

#include "api/client.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace lanepool::integration {

class FakeAgent {
    template <class Work>
    auto locked(Work&& work) {
        const std::lock_guard lock(mutex_);
        return work();
    }

  public:
    struct Device {
        uint64_t epoch = 0;
        uint64_t loan = 0;
        std::set<uint64_t> joined; // further loans, all shared
        bool clean = true;
        bool local = false;  // its own host has it
        std::string used_by; // there: it cannot be taken
        std::string parent;
        uint32_t functions = 0;
        uint32_t most_functions = 0;
    };

    // PERFORMED hears of each step that was done, in their order. PREPARE makes the devices what they are at
    // first.
    FakeAgent(std::string endpoint, std::string host, uint32_t partition, std::vector<std::string> devices,
              std::function<void(const v1::Step&)> performed = {},
              const std::function<void(std::map<std::string, Device>&)>& prepare = {})
        : endpoint_(std::move(endpoint)), host_(std::move(host)), partition_(partition),
          performed_(std::move(performed)) {
        for (auto& name : devices)
            devices_[name] = {};
        if (prepare) prepare(devices_);
        thread_ = std::thread([this] { run(); });
    }
    ~FakeAgent() {
        stopping_ = true;
        hang_up();
        thread_.join();
    }

    // Steps of this kind are taken, and neither done nor answered.
    void hold(v1::StepKind kind) {
        locked([&] { held_kinds_.insert(kind); });
    }
    // From here on they are done; those that were kept back stay so.
    void hold_nothing() {
        locked([&] { held_kinds_.clear(); });
    }
    // Does and answers those that were kept back, late.
    void release() {
        const std::lock_guard lock(mutex_);
        held_kinds_.clear();
        for (const auto& [kind, step] : last_held_)
            answer(step);
    }
    // Whether a step of KIND was asked for and kept back, within some seconds.
    bool kept_back(v1::StepKind kind) {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, std::chrono::seconds(10), [&] { return last_held_.contains(kind); });
    }
    v1::Step held(v1::StepKind kind) {
        return locked([&] { return last_held_[kind]; });
    }

    // As SIGKILL and a new start: what is only in memory is gone, what is on its disk is not.
    void die() {
        locked([&] {
            ++instance_;
            for (auto& [name, device] : devices_) {
                device.loan = 0;
                device.joined.clear();
            }
            loans_.clear();
            held_kinds_.clear();
            last_held_.clear();
        });
        hang_up();
    }
    void hang_up() {
        const std::lock_guard lock(mutex_);
        if (context_) context_->TryCancel();
    }
    // Hangs, with its connection open.
    void fall_silent(bool silent) { silent_ = silent; }
    void stay_away(bool away) {
        away_ = away;
        if (away) hang_up();
    }

    void say(const v1::AgentMessage& message) {
        const std::lock_guard lock(mutex_);
        if (stream_) stream_->Write(message);
    }
    void lose(uint64_t loan, const std::string& reason) {
        v1::AgentMessage message;
        locked([&] {
            message.mutable_loan_lost()->set_loan_id(loan);
            message.mutable_loan_lost()->set_epoch(loans_[loan].epoch());
            message.mutable_loan_lost()->set_reason(reason);
        });
        say(message);
    }

    Device device(const std::string& name) {
        return locked([&] { return devices_[name]; });
    }
    // What is so without anybody asking for it; the next Hello tells.
    void change(const std::function<void(std::map<std::string, Device>&)>& with) {
        locked([&] { with(devices_); });
    }
    size_t attached() {
        return locked([&] { return loans_.size(); });
    }
    // How often a device was prepared that had not been sanitized: never, if fencing works.
    int unclean_prepares() const { return unclean_prepares_; }

  private:
    using Stream = grpc::ClientReaderWriter<v1::AgentMessage, v1::ControllerMessage>;

    void run() {
        while (!stopping_) {
            if (!away_ && !silent_) run_stream();
            std::this_thread::sleep_for(std::chrono::milliseconds(30));
        }
    }

    void run_stream() {
        auto client =
            api::Client::connect({.endpoints = endpoint_, .timeout = std::chrono::milliseconds(300)});
        if (!client) return;
        grpc::ClientContext context;
        (*client)->prepare(context);
        const auto stream = (*client)->agents().Connect(&context);
        locked([&] {
            context_ = &context;
            stream_ = stream.get();
            if (stopping_) context.TryCancel(); // it came between a look at it and now
            stream->Write(hello());
        });
        std::atomic<bool> over{false};
        std::thread heart([&] {
            for (; !over; std::this_thread::sleep_for(std::chrono::milliseconds(100))) {
                v1::AgentMessage beat;
                beat.mutable_heartbeat()->set_windows_free(1);
                if (!silent_) say(beat);
            }
        });
        v1::ControllerMessage message;
        while (stream->Read(&message))
            if (message.has_step() && !silent_) take(message.step());
        over = true;
        heart.join();
        locked([&] {
            context_ = nullptr;
            stream_ = nullptr;
        });
        context.TryCancel();
        stream->Finish();
    }

    v1::AgentMessage hello() {
        v1::AgentMessage message;
        auto& hello = *message.mutable_hello();
        hello.set_host(host_);
        hello.set_partition(partition_);
        hello.set_instance(std::to_string(instance_));
        hello.set_version("test");
        if (devices_.empty()) hello.add_guests("g");
        for (const auto& [name, device] : devices_) {
            auto& observed = *hello.add_devices();
            observed.set_name(name);
            observed.mutable_identity()->set_serial("serial-" + name);
            observed.mutable_identity()->set_kind("nvme");
            observed.set_answering(true);
            observed.set_clean(device.clean);
            observed.set_epoch(device.epoch);
            observed.set_loan_id(device.loan);
            observed.set_local(device.local);
            observed.set_parent(device.parent);
            observed.set_functions(device.functions);
            observed.set_most_functions(device.most_functions);
            for (const uint64_t loan : device.joined)
                observed.add_joined_loan_ids(loan);
        }
        for (const auto& [id, loan] : loans_)
            *hello.add_loans() = loan;
        return message;
    }

    void take(const v1::Step& step) {
        const std::lock_guard lock(mutex_);
        if (held_kinds_.contains(step.kind())) {
            last_held_[step.kind()] = step;
            changed_.notify_all();
            return;
        }
        answer(step);
    }

    void answer(const v1::Step& step) {
        v1::AgentMessage message;
        auto& done = *message.mutable_step_done();
        done.set_step_id(step.step_id());
        done.set_loan_id(step.loan_id());
        done.set_epoch(step.epoch());
        done.set_kind(step.kind());
        done.set_ok(perform(step));
        if (!done.ok()) refuse(step, done);
        if (done.ok() && performed_) performed_(step);
        if (!stream_) return;
        stream_->Write(message);
        if (step.kind() == v1::STEP_SET_FUNCTIONS) stream_->Write(hello());
    }

    void refuse(const v1::Step& step, v1::StepDone& done) {
        const Device& device = devices_[step.device()];
        const bool in_use = step.kind() == v1::STEP_TAKE && !device.used_by.empty();
        done.set_code(in_use ? "busy" : "stale_epoch");
        done.set_message(device.used_by);
    }

    bool perform_at_home(const std::string& name, Device& device, const v1::Step& step) {
        switch (step.kind()) {
        case v1::STEP_TAKE:
            if (device.local && !device.used_by.empty()) return false;
            device.local = false;
            return true;
        case v1::STEP_GIVE_BACK:
            device.local = true;
            device.clean = false;
            return true;
        default:
            std::erase_if(devices_, [&](const auto& one) { return one.second.parent == name; });
            devices_[name].functions = step.functions();
            for (uint32_t i = 0; i < step.functions(); ++i) {
                Device& function = devices_[name + ".vf" + std::to_string(i)];
                function.parent = name;
                function.local = true;
                function.clean = false;
            }
            return true;
        }
    }

    bool perform(const v1::Step& step) {
        if (step.kind() == v1::STEP_ATTACH || step.kind() == v1::STEP_DETACH) {
            auto& highest = borrowed_epochs_[step.fdid()];
            if (step.epoch() < highest) return false;
            highest = step.epoch();
        }
        if (step.kind() == v1::STEP_ATTACH) {
            auto& loan = loans_[step.loan_id()];
            loan.set_loan_id(step.loan_id());
            loan.set_fdid(step.fdid());
            loan.set_epoch(step.epoch());
            loan.set_attached(true);
            return true;
        }
        if (step.kind() == v1::STEP_DETACH) {
            loans_.erase(step.loan_id());
            return true;
        }
        Device& device = devices_[step.device()];
        if (step.epoch() < device.epoch) return false;
        device.epoch = step.epoch();
        if (step.kind() == v1::STEP_TAKE || step.kind() == v1::STEP_GIVE_BACK ||
            step.kind() == v1::STEP_SET_FUNCTIONS)
            return perform_at_home(step.device(), device, step);
        if (device.local) return false;
        if (step.kind() == v1::STEP_PREPARE && step.shared() && device.loan != 0) {
            if (device.loan != step.loan_id()) device.joined.insert(step.loan_id());
        } else if (step.kind() == v1::STEP_PREPARE) {
            if (device.loan != step.loan_id() && !device.clean) ++unclean_prepares_;
            device.loan = step.loan_id();
            device.clean = false;
        }
        if (step.kind() == v1::STEP_EXPEL && device.joined.erase(step.loan_id()) == 0 &&
            device.loan == step.loan_id() && !device.joined.empty())
            device.loan = device.joined.extract(device.joined.begin()).value();
        if (step.kind() == v1::STEP_CUT) {
            device.loan = 0;
            device.joined.clear();
        }
        if (step.kind() == v1::STEP_SANITIZE) device.clean = true;
        return true;
    }

    const std::string endpoint_;
    const std::string host_;
    const uint32_t partition_;
    const std::function<void(const v1::Step&)> performed_;
    std::atomic<bool> stopping_{false};
    std::atomic<bool> silent_{false};
    std::atomic<bool> away_{false};
    std::atomic<int> unclean_prepares_{0};
    std::mutex mutex_;
    std::condition_variable changed_;
    int instance_ = 1;
    std::map<std::string, Device> devices_;
    std::map<uint64_t, v1::ObservedLoan> loans_;
    std::map<uint64_t, uint64_t>
        borrowed_epochs_; // the highest that a device was borrowed or given back with
    std::set<v1::StepKind> held_kinds_;
    std::map<v1::StepKind, v1::Step> last_held_;
    grpc::ClientContext* context_ = nullptr;
    Stream* stream_ = nullptr;
    std::thread thread_;
};

} // namespace lanepool::integration
