// SPDX-License-Identifier: Apache-2.0
#include "vfio/open.h"

#include "vfio/function.h"

namespace lanepool::vfio {

Result<std::unique_ptr<pci::Function>> open(const pci::Address& address, const Paths& paths) {
    // Functions may live until the process ends: so does what they share.
    static auto& groups = *new Groups(system_kernel());
    return KernelFunction::open(system_kernel(), groups, paths, address);
}

} // namespace lanepool::vfio
