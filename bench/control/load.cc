// SPDX-License-Identifier: Apache-2.0
#include "control/load.h"

#include <algorithm>

namespace lanepool::bench {

double Latencies::percentile_us(double percent) const {
    if (each_us.empty()) return 0;
    std::vector<double> sorted = each_us;
    const auto index = static_cast<size_t>(percent / 100 * static_cast<double>(sorted.size() - 1));
    std::nth_element(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(index), sorted.end());
    return sorted[index];
}

Latencies Load::run(size_t at_a_time, const Make& make) {
    using Clock = std::chrono::steady_clock;
    struct Shared {
        std::mutex mutex;
        std::condition_variable changed;
        size_t under_way = 0;
        Latencies latencies;
    } shared;
    const auto start = Clock::now();
    for (size_t number = 0;; ++number) {
        {
            std::unique_lock lock(shared.mutex);
            shared.changed.wait(lock, [&] { return shared.under_way < at_a_time; });
            ++shared.under_way;
        }
        const auto asked = Clock::now();
        const bool made = make(number, [&shared, asked](bool ok) {
            const double took_us = std::chrono::duration<double, std::micro>(Clock::now() - asked).count();
            const std::lock_guard lock(shared.mutex);
            shared.latencies.each_us.push_back(took_us);
            shared.latencies.refused += ok ? 0 : 1;
            --shared.under_way;
            shared.changed.notify_one();
        });
        if (made) continue;
        std::unique_lock lock(shared.mutex);
        --shared.under_way;
        shared.changed.wait(lock, [&] { return shared.under_way == 0; });
        break;
    }
    shared.latencies.elapsed_s = std::chrono::duration<double>(Clock::now() - start).count();
    return std::move(shared.latencies);
}

namespace {
class Borrowing final : public grpc::ClientReadReactor<v1::Progress> {
  public:
    Borrowing(api::Client& client, v1::BorrowRequest request, Load::Decided decided)
        : request_(std::move(request)), decided_(std::move(decided)) {
        client.prepare(context_);
        client.pool().async()->Borrow(&context_, &request_, this);
        StartRead(&progress_);
        StartCall();
    }

  private:
    void OnReadDone(bool ok) override {
        if (!ok) return;
        tell(true);
        context_.TryCancel();
    }
    void OnDone(const grpc::Status&) override {
        tell(false); // unless it was granted
        delete this;
    }
    void tell(bool ok) {
        if (const auto decided = std::exchange(decided_, nullptr)) decided(ok);
    }

    grpc::ClientContext context_;
    const v1::BorrowRequest request_;
    v1::Progress progress_;
    Load::Decided decided_;
};

struct Renewal {
    grpc::ClientContext context;
    v1::RenewRequest request;
    v1::Loan reply;
};
} // namespace

void borrow(api::Client& client, v1::BorrowRequest request, Load::Decided decided) {
    new Borrowing(client, std::move(request), std::move(decided)); // deletes itself
}

void renew(api::Client& client, const std::string& loan, int64_t duration_s, Load::Decided decided) {
    auto call = std::make_shared<Renewal>();
    call->request.set_loan_or_device(loan);
    call->request.set_duration_s(duration_s);
    client.prepare(call->context);
    client.pool().async()->Renew(
        &call->context, &call->request, &call->reply,
        [call, decided = std::move(decided)](const grpc::Status& status) { decided(status.ok()); });
}

} // namespace lanepool::bench
