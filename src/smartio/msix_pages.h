// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"
#include "pci/types.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace lanepool::smartio {

// The parts of BAR, which has BAR_BYTES, without the pages in which CONFIG says that the MSI-X table and its
// pending bits lie, ascending. They are the lender's: a borrower never needs them, and nothing else may lie
// in their pages (PCI Express Base Specification 7.7.2). Errors: protocol for chains that are broken.
Result<std::vector<pci::Area>> without_msix_pages(std::span<const std::byte> config, unsigned bar,
                                                  uint64_t bar_bytes);

} // namespace lanepool::smartio
