// SPDX-License-Identifier: Apache-2.0
#include "cli/trial_pool.h"

#include "cli/follow.h"
#include "cli/table.h"
#include "cli/trial_borrower.h"
#include "cli/trial_drive.h"
#include "pci/address.h"

#include <atomic>
#include <csignal>
#include <filesystem>
#include <iostream>
#include <thread>
#include <unistd.h>

namespace lanepool::cli {

namespace {

constexpr std::chrono::milliseconds look_interval{20};
constexpr int64_t quiet_ms = 1000; // what takes less is not worth a line

std::atomic<bool> asked_to_end{false};

void ask_to_end(int) {
    asked_to_end = true;
    constexpr std::string_view text = "\nending: what was taken is given back first\n";
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text.data(), text.size());
}

int64_t now_ms() {
    return std::chrono::duration_cast<std::chrono::milliseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

} // namespace

Result<std::unique_ptr<TrialPool>> TrialPool::create(const Context& context, TrialSubject subject) {
    auto session = TRY(Session::open({.socket = subject.agent}));
    return std::unique_ptr<TrialPool>(new TrialPool(context, std::move(subject), std::move(session)));
}

TrialPool::TrialPool(const Context& context, TrialSubject subject, Session session)
    : context_(context), subject_(std::move(subject)), session_(std::move(session)), said_ms_(now_ms()) {
    asked_to_end = false;
    std::signal(SIGINT, ask_to_end);
    std::signal(SIGTERM, ask_to_end);
}

TrialPool::~TrialPool() {
    std::signal(SIGINT, SIG_DFL);
    std::signal(SIGTERM, SIG_DFL);
    if (!context_.json() && ::isatty(STDERR_FILENO)) std::cerr << "\r\033[K" << std::flush;
}

bool TrialPool::is_drive() const { return subject_.class_code == nvme_class; }

Result<qualify::TrialState> TrialPool::look() {
    v1::ShowRequest request;
    request.set_id(fdid_text(subject_.fdid));
    const auto reply =
        TRY(ask<v1::ShowReply>(context_, Nature::looks, [&](auto& pool, auto* grpc_context, auto* out) {
            return pool.Show(grpc_context, request, out);
        }));
    return qualify::TrialState{reply.device().state(), reply.device().reason()};
}

Result<> TrialPool::restore() {
    v1::RestoreRequest request;
    request.set_device(fdid_text(subject_.fdid));
    TRY(reach(context_, Goal::device_available,
              [&](auto& pool, auto* grpc_context) { return pool.Restore(grpc_context, request); }));
    return {};
}

Result<> TrialPool::reset() {
    v1::ResetRequest request;
    request.set_device(fdid_text(subject_.fdid));
    TRY(reach(context_, Goal::device_reset,
              [&](auto& pool, auto* grpc_context) { return pool.Reset(grpc_context, request); }));
    return {};
}

Result<> TrialPool::leave_local() {
    v1::KeepLocalRequest request;
    request.set_device(fdid_text(subject_.fdid));
    TRY(ask<v1::Done>(context_, Nature::changes, [&](auto& pool, auto* grpc_context, auto* out) {
        return pool.KeepLocal(grpc_context, request, out);
    }));
    const auto device = TRY(reach(context_, Goal::device_local, request.device()));
    if (device.state() != "local")
        return fail(Errc::failed_precondition, "it is {} and not its own host's{}{}", device.state(),
                    device.reason().empty() ? "" : ": ", device.reason());
    return {};
}

Result<std::string> TrialPool::host_driver() {
    if (!subject_.address) return std::string();
    const auto folder = std::filesystem::path("/sys/bus/pci/devices") / pci::to_string(*subject_.address);
    std::error_code error;
    if (!std::filesystem::exists(folder / "driver", error)) return std::string();
    const auto driver = std::filesystem::read_symlink(folder / "driver", error);
    if (error) return fail(Errc::io, "{}: {}", (folder / "driver").string(), error.message());
    return driver.filename().string();
}

Result<std::unique_ptr<qualify::TrialLoan>> TrialPool::borrow() {
    return TRY(SessionLoan::borrow(session_, subject_.fdid));
}

Result<std::unique_ptr<qualify::TrialBorrower>> TrialPool::start_borrower(uint64_t seed) {
    return TRY(BorrowerProcess::start(subject_.fdid, subject_.agent, seed));
}

void TrialPool::pause() { std::this_thread::sleep_for(look_interval); }

bool TrialPool::cancelled() const { return asked_to_end; }

void TrialPool::progress(const std::string& doing) {
    if (context_.json()) return;
    if (::isatty(STDERR_FILENO)) {
        std::cerr << "\r\033[K" << doing << std::flush;
    } else if (const auto now = now_ms(); now - said_ms_ >= quiet_ms) {
        said_ms_ = now;
        std::cerr << doing << std::endl;
    }
}

} // namespace lanepool::cli
