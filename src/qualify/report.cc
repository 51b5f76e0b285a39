// SPDX-License-Identifier: Apache-2.0
#include "qualify/report.h"

#include "pci/address.h"

#include <algorithm>
#include <array>
#include <ctime>
#include <fmt/format.h>

namespace lanepool::qualify {

namespace {

Verdict verdict_of(const std::vector<Check>& checks) {
    const auto any = [&](Outcome outcome) {
        return std::ranges::find(checks, outcome, &Check::result) != checks.end();
    };
    if (any(Outcome::fail)) return Verdict::unfit;
    if (any(Outcome::unknown)) return Verdict::unknown;
    return any(Outcome::limits) ? Verdict::limits : Verdict::fit;
}

std::string time_text(int64_t time_us) {
    const std::time_t seconds = time_us / 1'000'000;
    std::tm utc{};
    ::gmtime_r(&seconds, &utc);
    std::array<char, 32> text{};
    return {text.data(), std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &utc)};
}

Json checks_json(const std::vector<Check>& checks) {
    Json json = Json::array();
    for (const auto& check : checks)
        json.push_back(to_json(check));
    return json;
}

} // namespace

std::string_view name(Outcome outcome) {
    constexpr std::array names{"pass", "limits", "fail", "unknown", "skipped", "not_tested"};
    return names[static_cast<size_t>(outcome)];
}

std::string_view name(AccessModel model) {
    constexpr std::array names{"lending", "vf", "smartio"};
    return names[static_cast<size_t>(model)];
}

std::string_view name(Verdict verdict) {
    constexpr std::array names{"fit", "fit_with_limits", "not_fit", "not_known"};
    return names[static_cast<size_t>(verdict)];
}

std::string_view words_for(Verdict verdict) {
    constexpr std::array words{"fit", "fit with limits", "not fit", "not known"};
    return words[static_cast<size_t>(verdict)];
}

Verdict ModelReport::verdict() const { return verdict_of(checks); }

const ModelReport& Report::of(AccessModel model) const { return models.at(static_cast<size_t>(model)); }

Verdict Report::verdict(AccessModel model) const {
    auto checks = of(model).checks;
    checks.insert(checks.end(), active.begin(), active.end());
    return verdict_of(checks);
}

Json to_json(const Check& check) {
    Json json{{"id", check.id}, {"result", name(check.result)}, {"reason", check.reason}};
    if (!check.evidence.empty()) json["evidence"] = check.evidence;
    if (!check.remedy.empty()) json["remedy"] = check.remedy;
    return json;
}

Json to_json(const Report& report, AccessModel model) {
    Json json{{"address", pci::to_string(report.address)},
              {"vendor_id", fmt::format("{:04x}", report.vendor_id)},
              {"device_id", fmt::format("{:04x}", report.device_id)},
              {"name", report.title},
              {"serial", report.serial},
              {"firmware", report.firmware},
              {"host", report.host},
              {"kernel_release", report.kernel_release},
              {"time", time_text(report.time_us)},
              {"model", name(model)},
              {"result", name(report.verdict(model))}};
    auto checks = report.of(model).checks;
    checks.insert(checks.end(), report.active.begin(), report.active.end());
    json["checks"] = checks_json(checks);
    json["models"] = Json::array();
    for (const auto& each : report.models)
        json["models"].push_back({{"model", name(each.model)},
                                  {"result", name(report.verdict(each.model))},
                                  {"checks", checks_json(each.checks)}});
    return {{"qualification", std::move(json)}};
}

} // namespace lanepool::qualify
