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

// Writes STATE_FOLDER/qualifications/NAME.json (of the device's agent), whole or not at all: EVIDENCE, which
// is REPORT as to_json() writes it and what else there is to say, with the result as `verdict`, and as
// `result` "fit" or "not_fit": what agents go by, together with the serial number, firmware and kernel
// release that are named. Errors: invalid_argument (NAME is no device's), not_found (no such folder), io.
Result<> store(const std::filesystem::path& state_folder, const std::string& name, const Report& report,
               AccessModel model, const Json& evidence);

} // namespace lanepool::qualify
