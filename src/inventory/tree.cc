// SPDX-License-Identifier: Apache-2.0
#include "inventory/tree.h"

#include <fstream>

namespace lanepool::inventory {

namespace {
constexpr size_t most_entries = 500'000;
} // namespace

void Tree::add(const std::string& path, Entry entry) {
    // Folders above it; a file or link that stands there is in the way, and wins.
    for (auto slash = path.find('/', 1); slash != std::string::npos; slash = path.find('/', slash + 1)) {
        const auto above = entries_.try_emplace(path.substr(0, slash), Entry{Kind::folder, {}}).first;
        if (above->second.kind != Kind::folder) return;
    }
    auto& place = entries_.try_emplace(path, Entry{entry.kind, {}}).first->second;
    if (place.kind == Kind::folder && entry.kind != Kind::folder) return; // what is below it would be lost
    bytes_ -= place.text.size();
    bytes_ += entry.text.size();
    place = std::move(entry);
}

void Tree::add_file(const std::string& path, std::string content) {
    add(path, {Kind::file, std::move(content)});
}

void Tree::add_link(const std::string& path, std::string target) {
    add(path, {Kind::link, std::move(target)});
}

void Tree::add_folder(const std::string& path) {
    if (!entries_.contains(path)) add(path, {Kind::folder, {}});
}

void Tree::remove(const std::string& path) {
    std::erase_if(entries_, [&](const auto& entry) {
        const bool goes = entry.first == path || entry.first.starts_with(path + "/");
        if (goes) bytes_ -= entry.second.text.size();
        return goes;
    });
}

Result<> Tree::write(const std::filesystem::path& folder) const {
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error) return fail(Errc::io, "making folder {}: {}", folder.string(), error.message());
    if (!std::filesystem::is_empty(folder, error) || error)
        return fail(Errc::already_exists, "{} is not empty: name a folder that does not exist yet",
                    folder.string());
    // Links come last, so that nothing can be written through one.
    for (const bool links : {false, true})
        for (const auto& [path, entry] : entries_) {
            if ((entry.kind == Kind::link) != links) continue;
            const auto place = folder / path.substr(1);
            if (entry.kind == Kind::folder)
                std::filesystem::create_directories(place, error);
            else if (entry.kind == Kind::link)
                std::filesystem::create_symlink(entry.text, place, error);
            else if (!(std::ofstream(place, std::ios::binary) << entry.text).flush())
                error = std::make_error_code(std::errc::io_error);
            if (error) return fail(Errc::io, "writing {}: {}", place.string(), error.message());
        }
    return {};
}

std::optional<std::string> Tree::read(const std::string& path, size_t most_bytes) {
    const auto found = entries_.find(path);
    if (found == entries_.end() || found->second.kind != Kind::file) return std::nullopt;
    return found->second.text.substr(0, most_bytes);
}

std::optional<std::string> Tree::link(const std::string& path) {
    const auto found = entries_.find(path);
    if (found == entries_.end() || found->second.kind != Kind::link) return std::nullopt;
    return found->second.text;
}

std::vector<Name> Tree::list(const std::string& path, size_t most) {
    std::vector<Name> names;
    const std::string prefix = path + "/";
    for (auto entry = entries_.lower_bound(prefix);
         entry != entries_.end() && entry->first.starts_with(prefix) && names.size() < most; ++entry)
        if (entry->first.find('/', prefix.size()) == std::string::npos)
            names.push_back({entry->first.substr(prefix.size()), entry->second.kind});
    return names;
}

bool Tree::exists(const std::string& path) { return entries_.contains(path); }

bool RecordingFiles::has_room() {
    full_ = full_ || tree_.bytes() >= most_bytes_ || tree_.entries() >= most_entries;
    return !full_;
}

std::optional<std::string> RecordingFiles::read(const std::string& path, size_t most_bytes) {
    auto text = files_.read(path, most_bytes);
    if (text && has_room()) tree_.add_file(path, *text);
    return text;
}

std::optional<std::string> RecordingFiles::link(const std::string& path) {
    auto text = files_.link(path);
    if (text && has_room()) tree_.add_link(path, *text);
    return text;
}

std::vector<Name> RecordingFiles::list(const std::string& path, size_t most) {
    auto names = files_.list(path, most);
    for (const auto& each : names) {
        if (!has_room()) break;
        const std::string place = path + "/" + each.name;
        if (each.kind == Kind::link)
            link(place);
        else if (each.kind == Kind::folder)
            tree_.add_folder(place);
        else if (!tree_.exists(place))
            tree_.add_file(place, {});
    }
    return names;
}

bool RecordingFiles::exists(const std::string& path) {
    const bool there = files_.exists(path);
    if (!there || !has_room() || tree_.exists(path)) return there;
    if (files_.read(path, 1))
        tree_.add_file(path, {});
    else
        tree_.add_folder(path);
    return there;
}

} // namespace lanepool::inventory
