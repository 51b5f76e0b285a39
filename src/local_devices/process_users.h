// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "local_devices/system.h"

#include <functional>
#include <string>
#include <vector>

namespace lanepool::local_devices {

// "process 4711 (postgres)"
std::string process_title(System& system, const std::string& pid);
// The process ids that /proc shows.
std::vector<std::string> processes(System& system);

// "process 4711 (postgres) has /dev/nvme0n1 open", once for each process and name. NAME_OF says what an open
// file, given by the text of its link in /proc/PID/fd and that link's path, is called; empty: not of
// interest.
std::vector<std::string>
open_files(System& system,
           const std::function<std::string(const std::string& text, const std::string& link)>& name_of);

} // namespace lanepool::local_devices
