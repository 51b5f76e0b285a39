// SPDX-License-Identifier: Apache-2.0
#include "cli/follow.h"

#include "cli/table.h"

#include <chrono>
#include <iostream>
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

// Follows a request to its end; the last progress is what came of it.
Result<v1::Progress> follow(const Context& context, grpc::ClientReader<v1::Progress>& reader) {
    ProgressLine line(!context.json());
    v1::Progress progress, last;
    while (reader.Read(&progress)) {
        line.show(progress.step());
        last = progress;
    }
    line.clear();
    TRY(api::from_status(reader.Finish()));
    if (!last.done())
        return fail(
            Errc::disconnected,
            "the controller ended the request without a result; `lanepool loans` tells how it stands");
    return last;
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
}

} // namespace

Result<> perform(const Context& context, const StartCall& start) {
    const auto client = TRY(api::Client::connect(context.endpoint()));
    grpc::ClientContext grpc_context; // the controller's own deadlines bound each step
    client->prepare(grpc_context);
    const auto reader = start(client->pool(), &grpc_context);
    print(context, TRY(follow(context, *reader)));
    return {};
}

} // namespace lanepool::cli
