// SPDX-License-Identifier: Apache-2.0
#include "vfio_user/handler.h"

namespace lanepool::vfio_user {

Result<UniqueFd> Handler::event(pci::Region, uint64_t offset_bytes) {
    return fail(Errc::not_supported, "there is no eventfd behind offset {:#x}", offset_bytes);
}

} // namespace lanepool::vfio_user
