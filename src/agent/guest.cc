// SPDX-License-Identifier: Apache-2.0
#include "agent/guest.h"

#include <spdlog/spdlog.h>

namespace lanepool::agent {

using namespace std::chrono_literals;

namespace {

constexpr auto monitor_timeout = 5s;
// QEMU answers device_add when it has talked to the function, in some 30 ms. If the lender dies in the
// middle, it has been seen to hang until the function's socket is closed, which happens after this.
constexpr auto plug_timeout = 8s;
constexpr unsigned max_root_ports = 32;
constexpr std::string_view id_prefix = "lanepool-loan-";
// Below QEMU's patience for one message is not needed: a message of a function of ours takes milliseconds.
// Given so that a stuck lender freezes the guest for at most this long.
constexpr unsigned message_timeout_ms = 4000;

bool is_gone(const Error& error) {
    return error.code() == Errc::not_found || error.code() == Errc::unavailable ||
           error.code() == Errc::disconnected;
}

// QEMU names devices that were given an id in this container.
Result<bool> has_device(Qmp& qmp, const std::string& id) {
    const Json list = TRY(qmp.execute("qom-list", {{"path", "/machine/peripheral"}}, monitor_timeout));
    for (const auto& entry : list)
        if (entry.is_object() && entry.value("name", "") == id) return true;
    return false;
}

Result<> plug_function(Qmp& qmp, const std::string& id, const std::filesystem::path& socket,
                       io::Duration timeout) {
    if (TRY(has_device(qmp, id))) return {};
    std::string refusals;
    for (unsigned port = 0; port < max_root_ports; ++port) {
        const auto added = qmp.execute("device_add",
                                       {{"driver", "vfio-user-pci"},
                                        {"id", id},
                                        {"bus", fmt::format("rp{}", port)},
                                        {"socket", {{"type", "unix"}, {"path", socket.string()}}},
                                        {"x-msg-timeout", message_timeout_ms}},
                                       std::min<io::Duration>(timeout, plug_timeout));
        if (added) return {};
        if (added.error().code() != Errc::failed_precondition) return tl::unexpected(added.error());
        const std::string& reason = added.error().message();
        if (reason.find("not found") !=
            std::string::npos) // there is no root port of this number: all are taken
            return fail(Errc::no_space, "all {} hot-plug slots of the guest are taken", port);
        // QEMU: "PCI: slot 0 function 0 already occupied by ...", "Slot 'x' is in use"
        if (reason.find("occupied") == std::string::npos && reason.find("in use") == std::string::npos)
            return tl::unexpected(added.error());
    }
    return fail(Errc::no_space, "all hot-plug slots of the guest are taken");
}

Result<> unplug_function(Qmp& qmp, const std::string& id, io::Duration timeout) {
    if (!TRY(has_device(qmp, id))) return {};
    qmp.clear_events();
    const auto asked = qmp.execute("device_del", {{"id", id}}, monitor_timeout);
    // A second request while the first is pending is refused; the event of the first will come all the same.
    if (!asked && asked.error().code() != Errc::failed_precondition) return tl::unexpected(asked.error());
    const auto deleted = qmp.wait_event(
        "DEVICE_DELETED", [&](const Json& data) { return data.value("device", "") == id; }, timeout);
    if (deleted) return {};
    if (deleted.error().code() != Errc::timeout) return tl::unexpected(deleted.error());
    return fail(Errc::timeout, "the guest has not let the device go within {} ms",
                std::chrono::duration_cast<std::chrono::milliseconds>(timeout).count());
}

} // namespace

Guest::Guest(std::string name, std::filesystem::path monitor)
    : name_(std::move(name)), monitor_(std::move(monitor)), thread_([this] { run(); }) {}

Guest::~Guest() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
    for (auto& job : jobs_)
        job.answer(fail(Errc::cancelled, "the agent is stopping"));
}

void Guest::add(Job job) {
    {
        const std::lock_guard lock(mutex_);
        jobs_.push_back(std::move(job));
    }
    changed_.notify_all();
}

void Guest::plug(std::string id, std::filesystem::path socket, io::Duration timeout,
                 std::function<void(Result<>)> answer) {
    add({[=](Qmp& qmp) { return plug_function(qmp, id, socket, timeout); }, false, std::move(answer)});
}

void Guest::unplug(std::string id, io::Duration timeout, std::function<void(Result<>)> answer) {
    add({[=](Qmp& qmp) { return unplug_function(qmp, id, timeout); }, true, std::move(answer)});
}

std::string Guest::device_id(uint64_t loan_id) { return fmt::format("{}{}", id_prefix, loan_id); }

void Guest::remove_leftovers() {
    add({[](Qmp& qmp) -> Result<> {
             for (const auto& entry :
                  TRY(qmp.execute("qom-list", {{"path", "/machine/peripheral"}}, monitor_timeout))) {
                 const std::string id = entry.is_object() ? entry.value("name", "") : "";
                 if (!id.starts_with(id_prefix)) continue;
                 spdlog::info("taking {} away, which an earlier agent left in the guest", id);
                 TRY(unplug_function(qmp, id, monitor_timeout));
             }
             return {};
         },
         true,
         [this](const Result<>& result) {
             if (!result)
                 spdlog::warn("guest {} may still hold a dead device: {}", name_, result.error().message());
         }});
}

void Guest::run() {
    while (true) {
        Job job;
        {
            std::unique_lock lock(mutex_);
            changed_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
            if (stopping_) return;
            job = std::move(jobs_.front());
            jobs_.pop_front();
        }
        auto result = perform(job);
        if (!result && job.gone_is_success && is_gone(result.error())) result = {};
        job.answer(std::move(result));
    }
}

// Each operation has a connection of its own: a guest may be started again at any time, and others may want
// the monitor.
Result<> Guest::perform(const Job& job) {
    auto qmp = Qmp::connect(monitor_, monitor_timeout);
    if (!qmp) return tl::unexpected(qmp.error().within(fmt::format("guest {}", name_)));
    return job.work(**qmp);
}

} // namespace lanepool::agent
