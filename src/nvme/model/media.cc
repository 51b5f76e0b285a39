// SPDX-License-Identifier: Apache-2.0
#include "nvme/model/media.h"

#include "io/replace_file.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>
#include <sstream>

namespace lanepool::nvme::model {

namespace {

using Json = nlohmann::json;
constexpr int state_version = 1;

// The counters by name, in one place for reading and writing.
template <class C, class Visit>
void visit_counters(C& c, Visit visit) {
    visit("blocks_read_512", c.blocks_read_512);
    visit("blocks_written_512", c.blocks_written_512);
    visit("reads", c.reads);
    visit("writes", c.writes);
    visit("media_errors", c.media_errors);
    visit("power_cycles", c.power_cycles);
    visit("unsafe_shutdowns", c.unsafe_shutdowns);
    visit("busy_us", c.busy_us);
    visit("powered_s", c.powered_s);
}

// What a Sanitize command asks for, as passes over the image (section 5.24; 8.21 for the patterns).
std::vector<EraseJob::Pass> sanitize_passes(uint32_t dword10, uint32_t dword11) {
    using namespace sanitize_command;
    std::vector<EraseJob::Pass> passes;
    if (sanact.get(dword10) == static_cast<uint32_t>(SanitizeAction::block_erase)) {
        // Asked not to deallocate: zeroes in place.
        passes.push_back({no_deallocate.get(dword10) == 0, 0});
        return passes;
    }
    const unsigned count = owpass.get(dword10) == 0 ? 16 : owpass.get(dword10);
    for (unsigned i = 0; i < count; ++i) {
        // With OIPBP each pass inverts the one before, and the last one is the pattern itself.
        const bool invert = oipbp.get(dword10) && (count - 1 - i) % 2 == 1;
        passes.push_back({false, invert ? ~dword11 : dword11});
    }
    return passes;
}

} // namespace

Result<std::unique_ptr<Media>> Media::open(const Options& options) {
    auto image = TRY(FileImage::open(options.file, options.size_bytes));
    if (!options.at_once) image.never_at_once();
    auto files = TRY(options.make_queue(image.fd()));
    std::unique_ptr<Media> media(
        new Media(options.file.string() + ".state", std::move(image), std::move(files)));
    TRY(media->load());
    ++media->counters_.power_cycles;
    ++media->counters_.unsafe_shutdowns; // taken back by an orderly end
    TRY(media->save());
    if ((media->sanitize_status_ & sanitize_status::outcome_mask) == sanitize_status::in_progress)
        media->start_sanitize();
    return media;
}

Media::~Media() { files_.reset(); } // first of all: it may hold operations of ours

Result<> Media::load() {
    std::ifstream file(state_path_);
    if (!file) return {}; // a new drive
    std::stringstream text;
    text << file.rdbuf();
    const Json json = Json::parse(text.str(), nullptr, false);
    const auto number = [&](const Json& from, const char* name) -> uint64_t {
        const auto found = from.is_object() ? from.find(name) : from.end();
        return found != from.end() && found->is_number_unsigned() ? found->get<uint64_t>() : 0;
    };
    if (!json.is_object() || number(json, "version") != state_version)
        return fail(
            Errc::failed_precondition,
            "{} is not a state file of this version; remove it to start with a drive of 512-byte blocks",
            state_path_.string());
    lba_format_ = static_cast<uint8_t>(std::min<uint64_t>(number(json, "lba_format"), lba_shifts.size() - 1));
    format_failed_ = number(json, "format_failed") != 0;
    // Since then somebody may have written to the file.
    sanitize_status_ = static_cast<uint16_t>(number(json, "sanitize_status") &
                                             ~uint64_t{sanitize_status::global_data_erased});
    sanitize_failure_left_ = number(json, "sanitize_failure_left") != 0;
    sanitize_dword10_ = static_cast<uint32_t>(number(json, "sanitize_dword10"));
    sanitize_dword11_ = static_cast<uint32_t>(number(json, "sanitize_dword11"));
    const Json counters = json.value("counters", Json::object());
    visit_counters(counters_, [&](const char* name, uint64_t& value) { value = number(counters, name); });
    return {};
}

Result<> Media::save() {
    Json json = {{"version", state_version},
                 {"lba_format", lba_format_},
                 {"format_failed", format_failed_ ? 1 : 0},
                 {"sanitize_status", sanitize_status_},
                 {"sanitize_failure_left", sanitize_failure_left_ ? 1 : 0},
                 {"sanitize_dword10", sanitize_dword10_},
                 {"sanitize_dword11", sanitize_dword11_}};
    visit_counters(counters_,
                   [&](const char* name, const uint64_t& value) { json["counters"][name] = value; });
    return io::replace_file(state_path_, json.dump(1) + "\n");
}

StatusCode Media::availability() const {
    if (formatting_) return StatusCode::format_in_progress;
    if (format_failed_) return StatusCode::namespace_not_ready;
    switch (sanitize_status_ & sanitize_status::outcome_mask) {
    case sanitize_status::in_progress:
        return StatusCode::sanitize_in_progress;
    case sanitize_status::failed:
        return sanitize_failure_left_ ? StatusCode::success : StatusCode::sanitize_failed;
    default:
        return StatusCode::success;
    }
}

void Media::format(uint8_t lba_format, std::function<void(Result<>)> done) {
    formatting_ = true;
    format_failed_ = true; // until it has succeeded, also for who finds the state file after a crash
    if (auto saved = save(); !saved) {
        formatting_ = format_failed_ = false;
        done(std::move(saved));
        return;
    }
    job_ = std::make_unique<EraseJob>(image_, *files_, std::vector<EraseJob::Pass>(1),
                                      [this, lba_format, done](Result<> outcome) {
                                          const auto job = std::move(job_); // we are inside of it
                                          formatting_ = false;
                                          if (outcome) {
                                              lba_format_ = lba_format;
                                              format_failed_ = false;
                                              outcome = save();
                                              if (!outcome) format_failed_ = true;
                                          }
                                          done(std::move(outcome));
                                      });
    job_->start();
}

Result<> Media::sanitize(uint32_t dword10, uint32_t dword11) {
    const auto before = std::tuple(sanitize_status_, sanitize_dword10_, sanitize_dword11_);
    sanitize_status_ = sanitize_status::in_progress;
    sanitize_failure_left_ = false;
    sanitize_dword10_ = dword10;
    sanitize_dword11_ = dword11;
    // On record before it starts: a drive that loses power in the middle goes on when it is back.
    if (auto saved = save(); !saved) {
        std::tie(sanitize_status_, sanitize_dword10_, sanitize_dword11_) = before;
        return saved;
    }
    start_sanitize();
    return {};
}

void Media::start_sanitize() {
    job_ = std::make_unique<EraseJob>(image_, *files_, sanitize_passes(sanitize_dword10_, sanitize_dword11_),
                                      [this](Result<> outcome) { sanitized(std::move(outcome)); });
    job_->start();
}

void Media::sanitized(Result<> outcome) {
    const auto job = std::move(job_);
    uint16_t status = sanitize_status::failed;
    if (outcome) {
        status = sanitize_status::completed | sanitize_status::global_data_erased;
        if (sanitize_command::sanact.get(sanitize_dword10_) ==
            static_cast<uint32_t>(SanitizeAction::overwrite))
            status = static_cast<uint16_t>(status | std::min(job->passes_done(), 31u)
                                                        << sanitize_status::passes_shift);
        format_failed_ = false;
    } else {
        spdlog::error("sanitize: {}", outcome.error().message());
    }
    sanitize_status_ = status;
    if (auto saved = save(); !saved) spdlog::error("sanitize: {}", saved.error().message());
    if (on_sanitized_) on_sanitized_();
}

bool Media::leave_sanitize_failure() {
    if (availability() != StatusCode::sanitize_failed) return true;
    if (!sanitize_command::ause.get(sanitize_dword10_)) return false;
    sanitize_failure_left_ = true;
    if (auto saved = save(); !saved) spdlog::error("sanitize: {}", saved.error().message());
    return true;
}

SanitizeStatusLog Media::sanitize_log() const {
    SanitizeStatusLog log;
    const bool running = (sanitize_status_ & sanitize_status::outcome_mask) == sanitize_status::in_progress;
    log.progress = running && job_ ? job_->progress() : sanitize_status::idle_progress;
    log.status = sanitize_status_;
    log.command_dword10 = sanitize_dword10_;
    constexpr uint32_t not_known = 0xffffffff;
    log.overwrite_estimate_s = not_known;
    log.block_erase_estimate_s = not_known;
    log.crypto_erase_estimate_s = not_known;
    log.overwrite_no_deallocate_estimate_s = not_known;
    log.block_erase_no_deallocate_estimate_s = not_known;
    log.crypto_erase_no_deallocate_estimate_s = not_known;
    return log;
}

} // namespace lanepool::nvme::model
