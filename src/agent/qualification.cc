// SPDX-License-Identifier: Apache-2.0
#include "agent/qualification.h"

#include <fmt/format.h>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sys/utsname.h>

namespace lanepool::agent {

namespace {

using nlohmann::json;

// A result has its evidence with it.
constexpr size_t most_bytes = size_t{1} << 20;

json read(const std::filesystem::path& file) {
    std::ifstream stream(file, std::ios::binary);
    std::string text(most_bytes + 1, '\0');
    stream.read(text.data(), static_cast<std::streamsize>(text.size()));
    if (!stream.eof()) return {}; // not there, or too long
    text.resize(static_cast<size_t>(stream.gcount()));
    return json::parse(text, nullptr, false);
}

bool has(const json& value, const char* key, const std::string& text) {
    const auto found = value.find(key);
    return found != value.end() && found->is_string() && *found == text;
}

} // namespace

std::string Qualifications::running_kernel() {
    utsname names{};
    return ::uname(&names) == 0 ? names.release : "";
}

bool Qualifications::fit(const std::string& name, const v1::DeviceIdentity& identity) const {
    const json file = read(folder_ / (name + ".json"));
    if (!file.is_object() || !file.contains("qualification")) return false;
    const json& stored = file["qualification"];
    return stored.is_object() && has(stored, "result", "fit") &&
           has(stored, "vendor_id", fmt::format("{:04x}", identity.vendor_id())) &&
           has(stored, "device_id", fmt::format("{:04x}", identity.device_id())) &&
           has(stored, "serial", identity.serial()) && has(stored, "firmware", identity.firmware()) &&
           has(stored, "kernel_release", kernel_release_);
}

} // namespace lanepool::agent
