// SPDX-License-Identifier: Apache-2.0
#include "agent/device_records.h"

#include "io/replace_file.h"

#include <fstream>
#include <nlohmann/json.hpp>

namespace lanepool::agent {

Result<DeviceRecords> DeviceRecords::open(const std::filesystem::path& file) {
    DeviceRecords records(file);
    std::ifstream stream(file);
    if (!stream) {
        if (std::filesystem::exists(file)) return fail(Errc::io, "cannot read {}", file.string());
        return records;
    }
    const auto json = nlohmann::json::parse(stream, nullptr, false);
    const auto wrong = [&] {
        return fail(Errc::protocol,
                    "{} does not hold device records; move it away and start again: every device will then "
                    "be reset and wiped first",
                    file.string());
    };
    if (!json.is_object()) return wrong();
    for (const auto& [name, value] : json.items()) {
        if (!value.is_object() || !value.contains("epoch") || !value["epoch"].is_number_unsigned() ||
            !value.contains("clean") || !value["clean"].is_boolean() || !value.contains("problem") ||
            !value["problem"].is_string())
            return wrong();
        records.records_[name] = {value["epoch"], value["clean"], value["problem"]};
    }
    return records;
}

DeviceRecord DeviceRecords::get(const std::string& device) const {
    const std::lock_guard lock(*mutex_);
    const auto found = records_.find(device);
    return found == records_.end() ? DeviceRecord{} : found->second;
}

Result<> DeviceRecords::put(const std::string& device, const DeviceRecord& record) {
    const std::lock_guard lock(*mutex_);
    auto changed = records_;
    changed[device] = record;
    nlohmann::json json = nlohmann::json::object();
    for (const auto& [name, value] : changed)
        json[name] = {{"epoch", value.epoch}, {"clean", value.clean}, {"problem", value.problem}};
    TRY(io::replace_file(file_, json.dump(2) + "\n"));
    records_ = std::move(changed);
    return {};
}

} // namespace lanepool::agent
