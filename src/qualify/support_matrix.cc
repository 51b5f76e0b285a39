// SPDX-License-Identifier: Apache-2.0
#include "qualify/support_matrix.h"

#include "site/document.h"
#include "site/site_file.h"
#include "site/table_reader.h"

#include <charconv>
#include <cstdlib>

namespace lanepool::qualify {

namespace {

using site::TableReader;
using site::Value;

constexpr size_t most_entries = 4096;
constexpr size_t longest_text = 1000;

Statement read_statement(TableReader& reader) {
    Statement says;
    says.name = reader.text("name", 200, "\"Linux 6.1\"");
    constexpr Standing standings[]{Standing::good, Standing::limits, Standing::bad};
    says.standing = standings[reader.choice("result", {"good", "limits", "bad"})];
    says.reason = reader.text("reason", longest_text, "\"tested with every release\"");
    says.remedy = reader.text("remedy", longest_text, "\"use a kernel from 6.1 on\"");
    says.source = reader.text("source", longest_text, "\"https://...\"");
    for (const char* key : {"name", "result", "reason", "source"})
        if (!reader.has(key))
            reader.problem(reader.at(), fmt::format("{} has no {}; say it", reader.what(), key));
    if (says.standing != Standing::good && says.remedy.empty())
        reader.problem(reader.at(), fmt::format("{} has no remedy; say what to do instead", reader.what()));
    return says;
}

KernelVersion read_version(TableReader& reader, const char* key, KernelVersion otherwise) {
    const auto text = reader.text(key, 32, "\"6.1\"");
    if (text.empty()) return otherwise;
    const auto version = kernel_version(text);
    if (!version)
        reader.problem(reader.at(key), fmt::format("{} is no version of a kernel; write it as \"6.1\"", key));
    return version.value_or(otherwise);
}

std::vector<uint16_t> read_ids(TableReader& reader, const char* key) {
    std::vector<uint16_t> ids;
    const auto* list = reader.find(key, Value::Kind::list, "[0x10c9, 0x10ca]");
    if (!list) return ids;
    for (const auto& item : list->items)
        if (item.kind == Value::Kind::integer && item.integer >= 0 && item.integer <= 0xffff)
            ids.push_back(static_cast<uint16_t>(item.integer));
        else
            reader.problem(item.at, fmt::format("{} has what is no id; write 0x0 to 0xffff", key));
    return ids;
}

KernelEntry read_kernel(const Value& table, site::Problems& problems) {
    TableReader reader(table, "this kernel", problems);
    KernelEntry entry;
    entry.says = read_statement(reader);
    entry.from = read_version(reader, "from", {});
    entry.below = read_version(reader, "below", {~0u, ~0u});
    reader.finish();
    return entry;
}

DeviceEntry read_device(const Value& table, site::Problems& problems) {
    TableReader reader(table, "this device", problems);
    DeviceEntry entry;
    entry.says = read_statement(reader);
    entry.vendor_id = static_cast<uint16_t>(reader.number("vendor_id", 1, 0xffff, 0));
    entry.device_ids = read_ids(reader, "device_ids");
    if (reader.has("class_code"))
        entry.class_code = static_cast<uint32_t>(reader.number("class_code", 0, 0xffff, 0));
    entry.driver = reader.text("driver", 64, "\"nvme\"");
    if (entry.vendor_id == 0 && !entry.class_code && entry.driver.empty())
        reader.problem(reader.at(),
                       "this device says neither vendor_id nor class_code nor driver; say which it is");
    reader.finish();
    return entry;
}

PlatformEntry read_platform(const Value& table, site::Problems& problems) {
    TableReader reader(table, "this platform", problems);
    PlatformEntry entry;
    entry.says = read_statement(reader);
    entry.cpu_vendor = reader.text("cpu_vendor", 64, "\"AuthenticAMD\"");
    entry.cpu_family_from = static_cast<unsigned>(reader.number("cpu_family_from", 0, 0xffff, 0));
    entry.host_bridge_vendor = static_cast<uint16_t>(reader.number("host_bridge_vendor", 1, 0xffff, 0));
    entry.host_bridges = read_ids(reader, "host_bridges");
    entry.same_socket = reader.flag("same_socket", false);
    if (entry.cpu_vendor.empty() && entry.host_bridge_vendor == 0)
        reader.problem(reader.at(),
                       "this platform says neither cpu_vendor nor host_bridge_vendor; say which it is");
    reader.finish();
    return entry;
}

} // namespace

std::optional<KernelVersion> kernel_version(std::string_view release) {
    KernelVersion version;
    const char* end = release.data() + release.size();
    const auto [dot, major_error] = std::from_chars(release.data(), end, version.major);
    if (major_error != std::errc() || dot == end || *dot != '.') return std::nullopt;
    const auto [stop, minor_error] = std::from_chars(dot + 1, end, version.minor);
    if (minor_error != std::errc()) return std::nullopt;
    return version;
}

Result<SupportMatrix> parse_matrix(std::string_view text, std::string_view file_name) {
    SupportMatrix matrix;
    site::Problems problems;
    if (const auto document = site::read_document(text, problems)) {
        TableReader reader(*document, "a support matrix", problems);
        for (const auto* table : reader.tables("kernel", most_entries, "[[kernel]] above each"))
            matrix.kernels.push_back(read_kernel(*table, problems));
        for (const auto* table : reader.tables("device", most_entries, "[[device]] above each"))
            matrix.devices.push_back(read_device(*table, problems));
        for (const auto* table : reader.tables("platform", most_entries, "[[platform]] above each"))
            matrix.platforms.push_back(read_platform(*table, problems));
        reader.finish();
    }
    if (problems.count() == 0) return matrix;
    site::Reading reading;
    reading.problems = problems.sorted();
    reading.problem_count = problems.count();
    return fail(Errc::invalid_argument, "{}", site::problem_lines(reading, file_name));
}

const SupportMatrix& built_in_matrix() {
    static const SupportMatrix matrix = [] {
        auto parsed = parse_matrix(built_in_matrix_text(), "support-matrix.toml");
        if (!parsed) std::abort(); // a test reads it
        return *std::move(parsed);
    }();
    return matrix;
}

} // namespace lanepool::qualify
