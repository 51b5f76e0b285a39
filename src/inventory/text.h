// SPDX-License-Identifier: Apache-2.0
//
// A machine for people: as a tree of buses, and as the sections of a site file.
#pragma once

#include "inventory/machine.h"

#include <string>
#include <utility>
#include <vector>

namespace lanepool::inventory {

// Bridges and what is below them, a function a line, ports with their ACS.
std::string tree_text(const Machine& machine);
// A [[host]] and a [class.NAME] for each kind of device that can be lent (docs/site-file.md).
std::string site_toml(const Machine& machine);
// Everything known of a function, as lines of a heading and a text.
std::vector<std::pair<std::string, std::string>> details(const Machine& machine, const Function& function);
// The same of the host.
std::vector<std::pair<std::string, std::string>> details(const Machine& machine);

std::string bytes_text(uint64_t bytes); // "16 KiB", "64 GiB", "1000 B"

} // namespace lanepool::inventory
