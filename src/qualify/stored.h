// SPDX-License-Identifier: Apache-2.0
//
// A qualification as evidence: what an agent reads to say that a device of its host is qualified.
#pragma once

#include "base/result.h"
#include "qualify/report.h"

#include <filesystem>

namespace lanepool::qualify {

// Fit, with or without limits: nothing failed, and nothing that decides is unknown.
bool is_fit(Verdict verdict);

// Writes STATE_FOLDER/qualifications/NAME.json (of the device's agent), whole or not at all: what was
// qualified (REPORT's numbers, serial number, firmware and kernel release, as the agent says them), `result`
// ("fit" or "not_fit"), and EVIDENCE. Another firmware, device or kernel makes it void. Errors:
// invalid_argument (NAME is no device's), not_found (no such folder), io.
Result<> store(const std::filesystem::path& state_folder, const std::string& name, const Report& report,
               AccessModel model, const Json& evidence);

} // namespace lanepool::qualify
