// SPDX-License-Identifier: Apache-2.0
//
// What errors mean of interrupts, with and without data.
#pragma once

#include "sisci/library.h"

namespace lanepool::sisci {

inline constexpr Meaning create_meaning{.already_exists = SCI_ERR_INTNO_USED,
                                        .disconnected = SCI_ERR_NO_LINK_ACCESS};
inline constexpr Meaning connect_meaning{.not_found = SCI_ERR_NO_SUCH_INTNO,
                                         .permission_denied = SCI_ERR_CONNECTION_REFUSED,
                                         .disconnected = SCI_ERR_NO_LINK_ACCESS,
                                         // One of that number is of the other kind.
                                         .failed_precondition = SCI_ERR_NO_SUCH_INTNO};

} // namespace lanepool::sisci
