// SPDX-License-Identifier: Apache-2.0
#include "control/simulated_agents.h"

#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>

namespace lanepool::bench {

namespace {
constexpr uint64_t drive_bytes = 2'000'000'000'000;
constexpr uint32_t windows = 4096;
constexpr auto heartbeat_interval = std::chrono::milliseconds(1000);
} // namespace

class SimulatedAgent final : public grpc::ClientBidiReactor<v1::AgentMessage, v1::ControllerMessage> {
  public:
    SimulatedAgent(SimulatedAgents& all, size_t number) : all_(all), number_(number) {
        for (size_t i = 0; i < all.devices_per_host_; ++i)
            devices_["nvme" + std::to_string(i)] = {};
    }
    ~SimulatedAgent() override {
        if (!context_) return; // never started
        context_->TryCancel();
        wait();
    }

    void start(api::Client& client) {
        if (context_) wait();
        const std::lock_guard lock(mutex_);
        context_ = std::make_unique<grpc::ClientContext>();
        client.prepare(*context_);
        done_ = writing_ = false;
        queue_.clear();
        client.agents().async()->Connect(context_.get(), this);
        StartRead(&in_);
        queue_.push_back(hello());
        write();
        StartCall();
    }
    void beat() {
        v1::AgentMessage message;
        message.mutable_heartbeat()->set_windows_free(windows);
        send(std::move(message));
    }

  private:
    struct Device {
        uint64_t epoch = 0;
        uint64_t loan = 0;
        bool clean = true;
    };

    void wait() {
        std::unique_lock lock(mutex_);
        ended_.wait(lock, [this] { return done_; });
    }
    void send(v1::AgentMessage message) {
        const std::lock_guard lock(mutex_);
        if (done_) return;
        queue_.push_back(std::move(message));
        write();
    }
    void write() {
        if (writing_ || queue_.empty()) return;
        writing_ = true;
        out_ = std::move(queue_.front());
        queue_.pop_front();
        StartWrite(&out_);
    }
    void OnWriteDone(bool ok) override {
        const std::lock_guard lock(mutex_);
        writing_ = false;
        if (ok) write();
    }
    void OnReadDone(bool ok) override {
        if (!ok) return;
        if (in_.has_welcome()) ++all_.welcomed_;
        if (in_.has_step()) take(in_.step());
        StartRead(&in_);
    }
    void OnDone(const grpc::Status&) override {
        const std::lock_guard lock(mutex_);
        done_ = true;
        ended_.notify_all();
    }

    void take(const v1::Step& step) {
        ++all_.steps_;
        if (all_.on_step_) all_.on_step_(step);
        v1::AgentMessage message;
        auto& done = *message.mutable_step_done();
        done.set_step_id(step.step_id());
        done.set_loan_id(step.loan_id());
        done.set_epoch(step.epoch());
        done.set_kind(step.kind());
        {
            const std::lock_guard lock(mutex_);
            done.set_ok(perform(step));
        }
        send(std::move(message));
    }
    bool perform(const v1::Step& step) {
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
        if (step.kind() == v1::STEP_PREPARE) device = {step.epoch(), step.loan_id(), false};
        if (step.kind() == v1::STEP_CUT) device.loan = 0;
        if (step.kind() == v1::STEP_SANITIZE) device.clean = true;
        return true;
    }
    v1::AgentMessage hello() {
        v1::AgentMessage message;
        auto& hello = *message.mutable_hello();
        hello.set_host(SimulatedAgents::host(number_));
        hello.set_partition(static_cast<uint32_t>(number_));
        hello.set_instance("1");
        hello.set_version("bench");
        hello.add_guests("g");
        hello.set_windows(windows);
        hello.set_windows_free(windows);
        for (const auto& [name, device] : devices_) {
            auto& observed = *hello.add_devices();
            observed.set_name(name);
            auto& identity = *observed.mutable_identity();
            identity.set_kind("nvme");
            identity.set_class_code(0x010802);
            identity.set_model("simulated drive");
            identity.set_serial("serial-" + name);
            identity.set_capacity_bytes(drive_bytes);
            observed.set_answering(true);
            observed.set_clean(device.clean);
            observed.set_epoch(device.epoch);
            observed.set_loan_id(device.loan);
        }
        for (const auto& [id, loan] : loans_)
            *hello.add_loans() = loan;
        return message;
    }

    SimulatedAgents& all_;
    const size_t number_;
    std::unique_ptr<grpc::ClientContext> context_;
    std::mutex mutex_;
    std::condition_variable ended_;
    bool done_ = true;
    bool writing_ = false;
    std::deque<v1::AgentMessage> queue_;
    v1::AgentMessage out_;
    v1::ControllerMessage in_;
    std::map<std::string, Device> devices_;
    std::map<uint64_t, v1::ObservedLoan> loans_;
};

SimulatedAgents::SimulatedAgents(std::string endpoint, size_t hosts, size_t devices_per_host, OnStep on_step)
    : endpoint_(std::move(endpoint)), devices_per_host_(devices_per_host), on_step_(std::move(on_step)) {
    for (size_t i = 0; i < hosts; ++i)
        agents_.push_back(std::make_unique<SimulatedAgent>(*this, i));
    heart_ = std::thread([this] { beat(); });
}

SimulatedAgents::~SimulatedAgents() {
    stopping_ = true;
    heart_.join();
    agents_.clear();
}

Result<> SimulatedAgents::connect(std::chrono::milliseconds timeout) {
    const auto deadline = std::chrono::steady_clock::now() + timeout;
    auto client = TRY(api::Client::connect({.endpoints = endpoint_, .timeout = timeout}));
    welcomed_ = 0;
    for (const auto& agent : agents_)
        agent->start(*client);
    client_ = std::move(client); // the streams of the one before have ended
    while (welcomed_ < agents_.size()) {
        if (std::chrono::steady_clock::now() > deadline)
            return fail(Errc::timeout, "only {} of {} agents had a welcome within {} ms", welcomed_.load(),
                        agents_.size(), timeout.count());
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return {};
}

void SimulatedAgents::beat() {
    while (!stopping_) {
        const auto next = std::chrono::steady_clock::now() + heartbeat_interval;
        for (const auto& agent : agents_)
            agent->beat();
        while (!stopping_ && std::chrono::steady_clock::now() < next)
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
}

} // namespace lanepool::bench
