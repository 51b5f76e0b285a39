// SPDX-License-Identifier: Apache-2.0
#include "fabric/options.h"

namespace lanepool::fabric {

std::vector<PartitionPolicy> paired_policies(unsigned ports) {
    std::vector<PartitionPolicy> policies(ports);
    for (unsigned p = 0; p < ports; ++p) {
        const unsigned peer = p ^ 1u;
        const uint64_t peer_bit = peer < ports ? uint64_t{1} << peer : 0;
        policies[p] = {.targets = peer_bit, .control = peer_bit | uint64_t{1} << p};
    }
    return policies;
}

std::vector<PartitionPolicy> open_policies(unsigned ports) {
    std::vector<PartitionPolicy> policies(ports);
    const uint64_t all = (uint64_t{1} << ports) - 1;
    for (unsigned p = 0; p < ports; ++p) {
        const uint64_t self = uint64_t{1} << p;
        policies[p] = {.targets = all & ~self, .control = self};
    }
    return policies;
}

} // namespace lanepool::fabric
