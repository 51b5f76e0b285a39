// SPDX-License-Identifier: Apache-2.0
#include "controller/run.h"

#include "controller/controller.h"
#include "io/signals.h"

#include <csignal>
#include <spdlog/spdlog.h>

namespace lanepool::controller {

Result<int> run_controller(const ControllerOptions& options) {
    const auto loop = TRY(io::EventLoop::create());
    // Before any thread is started: they inherit the mask.
    const auto signals = TRY(io::stop_on_signals(*loop));
    // A file size limit is an error of the store like any other, not the end of this process.
    ::signal(SIGXFSZ, SIG_IGN);
    const auto controller = TRY(Controller::create(*loop, options));
    spdlog::info("controller listening on {}, state in {}", controller->endpoints(),
                 options.etcd.empty() ? options.state.string()
                                      : fmt::format("etcd at {}", fmt::join(options.etcd, ", ")));
    loop->run();
    spdlog::info("controller stopping");
    return 0;
}

} // namespace lanepool::controller
