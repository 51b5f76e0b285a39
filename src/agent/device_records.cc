// SPDX-License-Identifier: Apache-2.0
#include "agent/device_records.h"

#include "base/unique_fd.h"

#include <fcntl.h>
#include <fstream>
#include <nlohmann/json.hpp>
#include <unistd.h>

namespace lanepool::agent {

namespace {

Result<> write_durably(const std::filesystem::path& file, const std::string& text) {
    const std::filesystem::path temporary = file.string() + ".new";
    UniqueFd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!fd) return fail_errno(fmt::format("creating {}", temporary.string()));
    for (size_t done = 0; done < text.size();) {
        const ssize_t count = ::write(fd.get(), text.data() + done, text.size() - done);
        if (count < 0 && errno != EINTR) return fail_errno(fmt::format("writing {}", temporary.string()));
        if (count > 0) done += static_cast<size_t>(count);
    }
    if (::fsync(fd.get()) != 0) return fail_errno(fmt::format("flushing {}", temporary.string()));
    if (::rename(temporary.c_str(), file.c_str()) != 0)
        return fail_errno(fmt::format("replacing {}", file.string()));
    UniqueFd folder(::open(file.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!folder || ::fsync(folder.get()) != 0)
        return fail_errno(fmt::format("flushing the folder of {}", file.string()));
    return {};
}

} // namespace

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
    TRY(write_durably(file_, json.dump(2) + "\n"));
    records_ = std::move(changed);
    return {};
}

} // namespace lanepool::agent
