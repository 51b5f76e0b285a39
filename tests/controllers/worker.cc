// SPDX-License-Identifier: Apache-2.0
#include "controllers/worker.h"

namespace lanepool::controllers_test {

using namespace std::chrono_literals;

namespace {
constexpr auto search_timeout = 2s;
constexpr auto retry_delay = 10ms;
constexpr auto patience = 1s;         // for what is answered at once
constexpr auto follow_patience = 20s; // for what takes steps
constexpr int64_t loan_duration_s = 3600;

bool went_away(const Error& error) {
    return error.code() == Errc::unavailable || error.code() == Errc::timeout ||
           error.code() == Errc::disconnected || error.code() == Errc::cancelled ||
           error.code() == Errc::permission_denied; // a token of one that went away
}
} // namespace

void Worker::run() {
    while (!stopping_) {
        const auto done = round();
        if (done) {
            std::this_thread::sleep_for(job_.pause);
            continue;
        }
        journal_.failed(done.error().message());
        if (went_away(done.error())) client_.reset();
        std::this_thread::sleep_for(retry_delay);
    }
}

Result<> Worker::round() {
    if (!client_)
        client_ = TRY(api::Client::connect({.endpoints = job_.endpoints, .timeout = search_timeout}));
    if (job_.renews && loan_ != 0) {
        auto renewed = renew(loan_);
        if (!renewed && !went_away(renewed.error())) loan_ = 0; // it is over
        return renewed;
    }
    // What became of a request whose answer did not come.
    uint64_t loan = TRY(held());
    if (loan == 0) loan = TRY(borrow());
    if (job_.renews)
        loan_ = loan;
    else
        TRY(give_back(loan));
    return {};
}

Result<uint64_t> Worker::held() {
    v1::ShowRequest request;
    request.set_id(job_.device);
    grpc::ClientContext context;
    client_->prepare(context);
    context.set_deadline(std::chrono::system_clock::now() + patience);
    v1::ShowReply reply;
    TRY(api::from_status(client_->pool().Show(&context, request, &reply)));
    return reply.device().borrower() == job_.host ? reply.device().loan_id() : 0;
}

Result<uint64_t> Worker::follow(const std::function<Reader(grpc::ClientContext&)>& start, Ack accepted,
                                Ack done) {
    grpc::ClientContext context;
    client_->prepare(context);
    context.set_deadline(std::chrono::system_clock::now() + follow_patience);
    const double asked_s = now_s();
    const auto reader = start(context);
    v1::Progress progress;
    uint64_t loan = 0;
    bool ended = false;
    while (reader->Read(&progress)) {
        if (loan == 0 && progress.loans_size() > 0) {
            loan = progress.loans(0).id();
            note(accepted, loan, asked_s);
        }
        ended = progress.done();
    }
    TRY(api::from_status(reader->Finish()));
    if (!ended) return fail(Errc::disconnected, "the request ended without a result");
    note(done, loan, asked_s);
    return loan;
}

Result<uint64_t> Worker::borrow() {
    v1::BorrowRequest request;
    request.add_devices()->set_device(job_.device);
    request.set_host(job_.host);
    request.set_duration_s(loan_duration_s);
    return follow([&](grpc::ClientContext& context) { return client_->pool().Borrow(&context, request); },
                  Ack::borrowed, Ack::active);
}

Result<> Worker::give_back(uint64_t loan) {
    v1::ReturnRequest request;
    request.set_loan_or_device(fmt::format("loan:{}", loan));
    TRY(follow([&](grpc::ClientContext& context) { return client_->pool().Return(&context, request); },
               Ack::returning, Ack::returned));
    return {};
}

Result<> Worker::renew(uint64_t loan) {
    v1::RenewRequest request;
    request.set_loan_or_device(fmt::format("loan:{}", loan));
    request.set_duration_s(loan_duration_s);
    grpc::ClientContext context;
    client_->prepare(context);
    context.set_deadline(std::chrono::system_clock::now() + patience);
    const double asked_s = now_s();
    v1::Loan reply;
    TRY(api::from_status(client_->pool().Renew(&context, request, &reply)));
    note(Ack::renewed, loan, asked_s);
    return {};
}

} // namespace lanepool::controllers_test
