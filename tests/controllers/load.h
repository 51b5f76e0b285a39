// SPDX-License-Identifier: Apache-2.0
//
// A small pool whose agents only answer, and people who use it without a pause.
#pragma once

#include "controllers/journal.h"
#include "controllers/trail_check.h"
#include "controllers/worker.h"
#include "integration/fake_agent.h"

#include <nlohmann/json.hpp>

namespace lanepool::controllers_test {

struct LoadOptions {
    std::string controllers; // where they really are
    std::string for_clients; // the same through what can be cut
    std::string for_agents;
    unsigned devices = 4; // that are borrowed and returned
    unsigned workers = 6; // more than devices: some compete
};

class Load {
  public:
    explicit Load(const LoadOptions& options);

    // The first acceptance of what was asked at SINCE_S or later.
    nlohmann::json next(double since_s, bool direct);
    // Compares everything that has happened since the last check; waits for a controller that leads.
    nlohmann::json check();

  private:
    void add_agent(const std::string& host, std::vector<std::string> devices);

    const LoadOptions options_;
    Journal journal_;
    TrailCheck trail_{journal_};
    std::vector<std::unique_ptr<integration::FakeAgent>> agents_;
    std::vector<std::unique_ptr<Worker>> workers_; // go first
};

} // namespace lanepool::controllers_test
