// SPDX-License-Identifier: Apache-2.0
//
// A controller with little patience, for tests: controller_process SOCKET STATE_FOLDER ADMIN_SOCKET, or, for
// one of several, controller_process SOCKET NAME ADMIN_SOCKET ETCD_PREFIX ETCD_MEMBER...
#include "controller/run.h"

#include <fmt/format.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

int main(int count, char** arguments) {
    if (count < 4 || count == 5) return 2;
    spdlog::set_default_logger(spdlog::stderr_logger_mt("controller"));
    lanepool::controller::ControllerOptions options;
    options.listen = arguments[1];
    options.admin = arguments[3];
    if (count == 4) {
        options.state = arguments[2];
    } else {
        options.name = arguments[2];
        options.etcd_prefix = arguments[4];
        options.etcd.assign(arguments + 5, arguments + count);
    }
    options.heartbeat_timeout = std::chrono::milliseconds(1000);
    options.pool.borrower_grace_ms = 500;
    options.pool.lender_grace_ms = 1500;
    options.pool.restart_grace_ms = 3000;
    options.pool.detach_ms = 1000;
    options.pool.margin_ms = 300;
    const auto status = lanepool::controller::run_controller(options);
    if (status) return *status;
    fmt::print(stderr, "{}\n", status.error().message());
    return 1;
}
