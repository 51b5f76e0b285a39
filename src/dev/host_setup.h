// SPDX-License-Identifier: Apache-2.0
//
// What is done in a whole host once it has booted.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace lanepool::dev {

// Where the agent in a whole host has its sockets, log and state.
inline constexpr const char* host_admin_socket = "/run/lanepool/admin.sock";
inline constexpr const char* host_application_socket = "/run/lanepool/application.sock";
inline constexpr const char* host_agent_log = "/run/lanepool/agent.log";

struct HostSetup {
    std::string host;
    std::string controllers;                               // endpoints
    std::string ca, certificate, key;                      // in PEM
    std::string adapter_port;                              // the address of its root port
    std::vector<std::pair<std::string, std::string>> lent; // names of devices, addresses of their root ports
    bool borrows = false;                                  // by its own kernel: with the bridge module
};

// A shell command that mounts the state's disk, gives the adapter to vfio-pci, loads the module and starts
// the agent: each unless it has been done, so that running it again brings back an agent that has died. It
// prints what is wrong and ends with a status other than 0.
std::string setup_command(const HostSetup& setup);

// A shell command that waits until the agent has its adapter, its devices and its controller.
std::string wait_command(unsigned timeout_s);

} // namespace lanepool::dev
