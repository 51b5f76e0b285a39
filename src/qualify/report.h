// SPDX-License-Identifier: Apache-2.0
//
// What became of qualifying a device: for each access model a verdict, and the checks that it follows from.
#pragma once

#include "pci/types.h"

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace lanepool::qualify {

using Json = nlohmann::ordered_json;

// skipped: it does not apply; unknown: what it takes could not be read; not_tested: there is no way to try
// it, or it did not come to that.
enum class Outcome { pass, limits, fail, unknown, skipped, not_tested };
std::string_view name(Outcome outcome);

struct Check {
    std::string id; // "iommu_group": stable, docs/qualify.md lists them
    Outcome result = Outcome::pass;
    std::string reason;   // a sentence
    std::string evidence; // what was seen, short; may be empty
    std::string remedy;   // of limits, fail and unknown; else empty
    bool operator==(const Check&) const = default;
};

enum class AccessModel { lending, vf, smartio };
inline constexpr AccessModel access_models[]{AccessModel::lending, AccessModel::vf, AccessModel::smartio};
std::string_view name(AccessModel model);

enum class Verdict { fit, limits, unfit, unknown };
std::string_view name(Verdict verdict);      // of JSON: "fit", "fit_with_limits", "not_fit", "not_known"
std::string_view words_for(Verdict verdict); // "fit with limits"

struct ModelReport {
    AccessModel model = AccessModel::lending;
    std::vector<Check> checks;

    // A failed check makes it unfit, else an unknown one unknown, else a limit limits.
    Verdict verdict() const;
};

struct Report {
    pci::Address address;
    uint16_t vendor_id = 0, device_id = 0;
    std::string title, serial, firmware, host, kernel_release;
    int64_t time_us = 0; // Unix time
    // The one that the device is for: vf of an SR-IOV function, else lending. It decides the report's result.
    AccessModel main_model = AccessModel::lending;
    std::vector<ModelReport> models; // in the order of access_models
    std::vector<Check> active;       // of what was tried on the device; empty: nothing was

    const ModelReport& of(AccessModel model) const;
    // Of MODEL, together with what was tried.
    Verdict verdict(AccessModel model) const;
};

// {"qualification": {address, vendor_id, device_id, name, serial, firmware, host, kernel_release, time,
// model, result, checks, models}}: `result` and `checks` are of MODEL, with what was tried.
Json to_json(const Report& report, AccessModel model);
Json to_json(const Check& check);

} // namespace lanepool::qualify
