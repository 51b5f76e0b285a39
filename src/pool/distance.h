// SPDX-License-Identifier: Apache-2.0
//
// How far hosts are from each other, going by their locations in the site.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace lanepool::pool {

// Outermost first, as in HostRule; empty: nobody said where.
using Location = std::vector<std::string>;

// How many components, from the outermost on, two locations share.
size_t shared_components(const Location& one, const Location& other);

// From a host at NEAR to another host at OTHER: the components of NEAR that they do not share, plus 1. A host
// of which nobody said where it is is as far as one that shares nothing. To itself, a host's distance is 0.
size_t distance(const Location& near, const Location& other);

} // namespace lanepool::pool
