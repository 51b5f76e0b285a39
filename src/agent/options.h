// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "api/client.h"

#include <filesystem>
#include <string>
#include <vector>

namespace lanepool::agent {

struct AgentOptions {
    struct DeviceOption {
        std::string name;  // as the pool will call it behind "HOST/"
        std::string place; // the path of a vfio-user socket, or "pci:" and the address of a function
    };
    struct GuestOption {
        std::string name;
        std::filesystem::path monitor; // a QMP socket for this agent alone
    };

    std::string host;
    std::string adapter; // the place of this host's port of the fabric
    api::ClientOptions controllers;
    std::filesystem::path state;       // a folder that survives restarts
    std::filesystem::path admin;       // administration socket
    std::filesystem::path application; // where applications connect; empty: nowhere
    std::string application_users;     // who may, as application::Users reads them
    std::vector<DeviceOption> devices;
    std::vector<GuestOption> guests;
};

} // namespace lanepool::agent
