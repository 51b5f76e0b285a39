// SPDX-License-Identifier: Apache-2.0
#include "controller/trail_stream.h"

#include "api/convert.h"
#include "api/status.h"

#include <algorithm>
#include <charconv>

namespace lanepool::controller {

namespace {
constexpr uint32_t batch = 256;

Result<store::AuditFilter> filter_for(const pool::Pool& pool, const std::string& subject) {
    store::AuditFilter filter;
    if (subject.empty()) return filter;
    if (const auto fdid = pool.find_device(subject)) {
        filter.fdid = *fdid;
    } else if (subject.starts_with("loan:")) {
        uint64_t id = 0;
        const char* end = subject.data() + subject.size();
        // Also of a loan whose record is not kept any more.
        if (const auto parsed = std::from_chars(subject.data() + 5, end, id);
            parsed.ec != std::errc() || parsed.ptr != end)
            return fail(Errc::invalid_argument, "'{}' is no loan; write loan:N", pool::limited(subject, 64));
        filter.loan = pool::LoanId{id};
    } else if (pool.ledger().hosts.find(subject)) {
        filter.host = subject;
    } else {
        return fail(Errc::not_found,
                    "there is no device, loan or host '{}'; `lanepool ls` and `lanepool hosts` show those "
                    "that are there",
                    pool::limited(subject, 64));
    }
    return filter;
}
} // namespace

TrailStream* TrailStream::start(Core& core, Wish wish) {
    std::shared_ptr<TrailStream> stream(new TrailStream(core, std::move(wish)));
    stream->self_ = stream;
    if (!core.enter_stream()) {
        stream->closed_ = true;
        stream->Finish(
            {grpc::StatusCode::RESOURCE_EXHAUSTED, "the controller has as many streams as it takes"});
        return stream.get();
    }
    core.post([stream] { stream->begin(); });
    return stream.get();
}

void TrailStream::OnWriteDone(bool ok) {
    core_.post([stream = self_, ok] {
        stream->writing_ = false;
        if (!ok) return stream->close(grpc::Status::CANCELLED);
        stream->pump();
    });
}

void TrailStream::OnCancel() {
    core_.post([stream = self_] { stream->close(grpc::Status::CANCELLED); });
}

void TrailStream::OnDone() {
    core_.post([stream = std::move(self_)] { static_cast<void>(stream); });
}

void TrailStream::begin() {
    if (closed_ || !core_.add(*this)) return;
    if (const auto found = find_start(); !found) return close(api::to_status(found.error()));
    if (wish_.follow) core_.follow(*this);
    pump();
}

Result<> TrailStream::find_start() {
    filter_ = TRY(filter_for(core_.pool(), wish_.subject));
    after_ = wish_.after_sequence;
    if (wish_.last > 0) after_ = std::max(after_, TRY(core_.store().audit_before_last(filter_, wish_.last)));
    return {};
}

void TrailStream::pump() {
    if (writing_ || closed_) return;
    if (read_.empty()) {
        auto entries = core_.store().audit(filter_, after_, batch);
        if (!entries) return close(api::to_status(entries.error()));
        if (entries->empty()) {
            if (!wish_.follow) close(grpc::Status::OK);
            return;
        }
        read_.assign(std::make_move_iterator(entries->begin()), std::make_move_iterator(entries->end()));
    }
    writing_ = true;
    out_ = api::to_message(read_.front());
    after_ = read_.front().sequence;
    read_.pop_front();
    StartWrite(&out_);
}

void TrailStream::close(const grpc::Status& status) {
    if (std::exchange(closed_, true)) return;
    core_.unfollow(*this);
    core_.remove(*this);
    core_.leave_stream();
    Finish(status);
}

} // namespace lanepool::controller
