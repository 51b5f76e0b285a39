// SPDX-License-Identifier: Apache-2.0
#include "cli/follow.h"

#include "cli/pursuit.h"
#include "cli/table.h"

#include <chrono>
#include <iostream>
#include <thread>
#include <unistd.h>

namespace lanepool::cli {

namespace {

// One line on the terminal that says what is being waited for, and for how long.
class ProgressLine {
  public:
    explicit ProgressLine(bool enabled) : enabled_(enabled && ::isatty(STDERR_FILENO)) {}
    ~ProgressLine() { clear(); }
    void show(const std::string& step) {
        if (!enabled_) return;
        const auto elapsed =
            std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - start_)
                .count();
        std::cerr << "\r\033[K" << step << " (" << duration_text(elapsed) << ")" << std::flush;
        shown_ = true;
    }
    void clear() {
        if (std::exchange(shown_, false)) std::cerr << "\r\033[K" << std::flush;
    }

  private:
    const bool enabled_;
    bool shown_ = false;
    const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds pause{50};

std::chrono::milliseconds until(Clock::time_point deadline) {
    return std::max(std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()),
                    std::chrono::milliseconds(1));
}

Result<std::unique_ptr<api::Client>> connect(const Context& context, Clock::time_point deadline) {
    auto options = context.client();
    options.timeout = until(deadline);
    return api::Client::connect(options);
}

// Nobody can say whether the request was taken before its controller went away.
tl::unexpected<Error> not_known(const api::Client& client, const grpc::Status& status) {
    return fail(
        Errc::unavailable,
        "the controller at {} went away before it answered ({}): whether the request was accepted is not "
        "known. Look before asking again: `lanepool loans` and `lanepool audit -n 20` tell",
        client.endpoint().text(), status.error_message());
}

// Reads to the end of the stream; LAST is the latest that was heard.
grpc::Status read_all(grpc::ClientReader<v1::Progress>& reader, ProgressLine& line, v1::Progress& last) {
    v1::Progress progress;
    while (reader.Read(&progress)) {
        line.show(progress.step());
        last = progress;
    }
    grpc::Status status = reader.Finish();
    if (status.ok() && !last.done())
        status = {grpc::StatusCode::UNAVAILABLE, "it ended the request without a result"};
    return status;
}

// The request was taken: its loans or device are known, and its controller is not there any more.
Result<v1::Progress> go_on(const Context& context, Goal goal, const v1::Progress& last, ProgressLine& line) {
    auto reached = pursue(context, goal, last, [&line](const std::string& step) { line.show(step); });
    if (reached || reached.error().code() != Errc::unavailable) return reached;
    const std::string what =
        last.loans_size() > 0 ? fmt::format("loan:{}", last.loans(0).id()) : fdid_text(last.device().fdid());
    return fail(Errc::unavailable,
                "the request was accepted, but the controller went away: {}. `lanepool show {}` tells how it "
                "stands when a controller is there",
                reached.error().message(), what);
}

void print(const Context& context, const v1::Progress& progress) {
    if (context.json()) {
        Json json = Json::object();
        if (progress.loans_size() == 1) json["loan"] = to_json(progress.loans(0));
        if (progress.loans_size() > 1)
            for (const auto& loan : progress.loans())
                json["loans"].push_back(to_json(loan));
        if (progress.has_device()) json["device"] = to_json(progress.device());
        std::cout << json.dump(2) << std::endl;
        return;
    }
    std::cout << progress.step() << std::endl;
    for (const auto& loan : progress.loans())
        if (const std::string text = receipt_text(loan); !text.empty()) std::cout << text << std::endl;
}

} // namespace

Result<v1::Progress> reach(const Context& context, Goal goal, const StartCall& start) {
    ProgressLine line(!context.json());
    const auto deadline = Clock::now() + context.client().timeout;
    while (true) {
        const auto client = TRY(connect(context, deadline));
        grpc::ClientContext grpc_context; // the controller's own deadlines bound each step
        client->prepare(grpc_context);
        const auto reader = start(client->pool(), &grpc_context);
        v1::Progress last;
        const grpc::Status status = read_all(*reader, line, last);
        if (status.ok()) return last;
        const bool taken = last.loans_size() > 0 || last.has_device();
        if (taken && (is_broken(status) || api::does_not_lead(status)))
            return go_on(context, goal, last, line);
        if (is_broken(status)) return not_known(*client, status);
        // Refused because it does not lead any more: another one does, or will soon.
        if (!api::does_not_lead(status) || Clock::now() >= deadline)
            return tl::unexpected(api::from_status(status).error());
        std::this_thread::sleep_for(pause);
    }
}

Result<v1::Device> reach(const Context& context, Goal goal, const std::string& device) {
    v1::ShowRequest request;
    request.set_id(device);
    const auto shown =
        TRY(ask<v1::ShowReply>(context, Nature::looks, [&](auto& pool, auto* grpc_context, auto* out) {
            return pool.Show(grpc_context, request, out);
        }));
    ProgressLine line(!context.json());
    v1::Progress progress;
    *progress.mutable_device() = shown.device();
    return TRY(pursue(context, goal, progress, [&line](const std::string& step) { line.show(step); }))
        .device();
}

bool is_broken(const grpc::Status& status) {
    if (!status.error_details().empty() || api::does_not_lead(status))
        return false; // what the controller itself said
    return status.error_code() == grpc::StatusCode::UNAVAILABLE ||
           status.error_code() == grpc::StatusCode::CANCELLED ||
           status.error_code() == grpc::StatusCode::UNKNOWN ||
           status.error_code() == grpc::StatusCode::INTERNAL;
}

Result<> call_leader(const Context& context, Nature nature,
                     const std::function<grpc::Status(api::Client& client)>& call) {
    const auto deadline = Clock::now() + context.client().timeout;
    while (true) {
        const auto client = TRY(connect(context, deadline));
        const grpc::Status status = call(*client);
        if (status.ok()) return {};
        const bool refused = api::does_not_lead(status);
        if (!refused && is_broken(status) && nature == Nature::changes) return not_known(*client, status);
        if ((!refused && !is_broken(status)) || Clock::now() >= deadline) return api::from_status(status);
        std::this_thread::sleep_for(pause);
    }
}

Result<> perform(const Context& context, Goal goal, const StartCall& start) {
    print(context, TRY(reach(context, goal, start)));
    return {};
}

} // namespace lanepool::cli
