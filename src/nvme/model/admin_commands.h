// SPDX-License-Identifier: Apache-2.0
//
// The admin command set (NVM Express Base Specification 2.0, section 5), by group in admin_*.cc.
#pragma once

#include "nvme/model/context.h"

#include <deque>
#include <optional>
#include <span>

namespace lanepool::nvme::model {

class AdminCommands {
  public:
    explicit AdminCommands(Context& context);
    void execute(Request& request);
    // The engine has stopped: commands that were kept here are gone.
    void stopped();
    // Starts an erasure that was waiting, when its turn has come.
    void poll();

  private:
    // admin_commands.cc
    void abort(Request& request);
    void doorbell_buffer_config(Request& request);
    void done(Request& request, Status status, uint32_t dw0 = 0) {
        context_.engine.complete(request, status, dw0);
    }
    void invalid_field(Request& request) { done(request, Status(StatusCode::invalid_field, true)); }

    // admin_queues.cc
    void create_completion_queue(Request& request);
    void create_submission_queue(Request& request);

    // admin_identify.cc
    void identify(Request& request);
    void send_page(Request& request, std::span<const std::byte> data);
    IdentifyController controller_page() const;
    IdentifyNamespace namespace_page() const;
    void namespace_descriptors(Request& request);

    // admin_features.cc
    void get_features(Request& request);
    void set_features(Request& request);
    std::optional<uint32_t> feature_value(Feature feature, const Features& features, uint32_t dw11) const;
    Status set_feature(Feature feature, uint32_t dw11, uint32_t& dw0);
    void set_feature_data(Request& request, Feature feature, uint32_t size_bytes);
    uint64_t timestamp_ms() const;

    // admin_logs.cc
    void get_log_page(Request& request);
    SmartLog smart_log() const;

    // admin_erase.cc
    void format(Request& request);
    void sanitize(Request& request);
    void wait_for_io(Request& request, StatusCode meanwhile);
    void start_format(Request& request);
    void start_sanitize(Request& request);

    Context& context_;
    Request* waiting_ = nullptr;     // a Format NVM or Sanitize whose turn has not come
    Request* formatting_ = nullptr;  // a Format NVM that is being done
    bool namespace_changed_ = false; // since the log page was read
};

// The I/O commands and admin commands that are supported, for the log page that says so.
EffectsLog make_effects_log();

} // namespace lanepool::nvme::model
