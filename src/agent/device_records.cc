// SPDX-License-Identifier: Apache-2.0
#include "agent/device_records.h"

#include "io/replace_file.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

namespace lanepool::agent {

namespace {

using nlohmann::json;

constexpr unsigned format = 2;
// More than a host has. Of those that have been taken out, the one that was put in first is forgotten; when
// it is back it begins anew: not clean, and with the epoch that the controller knows.
constexpr size_t most_records = 1024;

std::optional<DeviceRecord> parse_record(const json& value) {
    if (!value.is_object() || !value.contains("epoch") || !value["epoch"].is_number_unsigned() ||
        !value.contains("clean") || !value["clean"].is_boolean() || !value.contains("problem") ||
        !value["problem"].is_string())
        return std::nullopt;
    return DeviceRecord{value["epoch"], value["clean"], value["problem"]};
}

bool has_text(const json& value, const char* key) {
    return value.is_object() && value.contains(key) && value[key].is_string();
}

} // namespace

Result<DeviceRecords> DeviceRecords::open(const std::filesystem::path& file) {
    DeviceRecords records(file);
    std::ifstream stream(file);
    if (!stream) {
        if (std::filesystem::exists(file)) return fail(Errc::io, "cannot read {}", file.string());
        return records;
    }
    const auto wrong = [&] {
        return fail(Errc::protocol,
                    "{} does not hold device records; move it away and start again: every device will then "
                    "be reset and wiped first",
                    file.string());
    };
    const auto all = json::parse(stream, nullptr, false);
    if (!all.is_object()) return wrong();
    if (!all.contains("format") || !all["format"].is_number()) { // one object for each name
        for (const auto& [name, value] : all.items()) {
            auto record = parse_record(value);
            if (!record) return wrong();
            record->clean = false;
            records.entries_.push_back({name, "", false, std::move(*record)});
        }
        return records;
    }
    if (all["format"] != format || !all.contains("devices") || !all["devices"].is_array()) return wrong();
    for (const json& value : all["devices"]) {
        auto record = parse_record(value);
        const bool serial_known = value.is_object() && value.contains("serial");
        if (!record || !has_text(value, "name") || (serial_known && !has_text(value, "serial")))
            return wrong();
        records.entries_.push_back({value["name"], serial_known ? std::string(value["serial"]) : "",
                                    serial_known, std::move(*record)});
    }
    return records;
}

Result<DeviceRecord> DeviceRecords::found(const std::string& name, const std::string& serial) {
    const std::lock_guard lock(*mutex_);
    const auto here = [&](const Entry& entry) { return entry.name == name; };
    const auto last = std::find_if(entries_.rbegin(), entries_.rend(), here);
    if (last != entries_.rend() && last->serial_known && last->serial == serial && !serial.empty())
        return last->record;
    auto changed = entries_;
    DeviceRecord record;
    for (const Entry& entry : changed) {
        if (entry.name != name) continue;
        // Whose epoch it was before there were serial numbers is not known: a higher one does no harm.
        if (entry.serial_known && entry.serial == serial) record.problem = entry.record.problem;
        if (!entry.serial_known || entry.serial == serial)
            record.epoch = std::max(record.epoch, entry.record.epoch);
    }
    std::erase_if(changed, [&](const Entry& entry) {
        return entry.name == name && (!entry.serial_known || entry.serial == serial);
    });
    changed.push_back({name, serial, true, record});
    forget_the_oldest(changed);
    TRY(store(std::move(changed)));
    return record;
}

std::string DeviceRecords::last_serial(const std::string& name) const {
    const std::lock_guard lock(*mutex_);
    const auto last = std::find_if(entries_.rbegin(), entries_.rend(),
                                   [&](const Entry& entry) { return entry.name == name; });
    return last == entries_.rend() ? "" : last->serial;
}

// Of those that have been taken out, never of one that may be there.
void DeviceRecords::forget_the_oldest(std::vector<Entry>& entries) {
    if (entries.size() <= most_records) return;
    for (auto entry = entries.begin(); entry != entries.end(); ++entry)
        if (std::any_of(entry + 1, entries.end(),
                        [&](const Entry& later) { return later.name == entry->name; })) {
            entries.erase(entry);
            return;
        }
}

Result<> DeviceRecords::put(const std::string& name, const std::string& serial, const DeviceRecord& record) {
    const std::lock_guard lock(*mutex_);
    auto changed = entries_;
    const auto entry = std::find_if(changed.begin(), changed.end(), [&](const Entry& one) {
        return one.serial_known && one.name == name && one.serial == serial;
    });
    if (entry == changed.end())
        return fail(Errc::internal, "there is no record of device {} with the serial number '{}'", name,
                    serial);
    entry->record = record;
    return store(std::move(changed));
}

Result<> DeviceRecords::store(std::vector<Entry> entries) {
    if (entries == entries_) return {};
    json devices = json::array();
    for (const auto& [name, serial, serial_known, record] : entries) {
        json value = {{"name", name}, {"epoch", record.epoch}, {"clean", record.clean}};
        value["problem"] = record.problem;
        if (serial_known) value["serial"] = serial;
        devices.push_back(std::move(value));
    }
    const json all = {{"format", format}, {"devices", std::move(devices)}};
    // Texts that a device has written need not be UTF-8.
    TRY(io::replace_file(file_, all.dump(2, ' ', false, json::error_handler_t::replace) + "\n"));
    entries_ = std::move(entries);
    return {};
}

} // namespace lanepool::agent
