// SPDX-License-Identifier: Apache-2.0
//
// The input is what people and agents send to a controller, one message after the other: which one, who says
// it, its length (two bytes), its bytes as protobuf has them. What is refused is refused with words and
// changes nothing; what is taken leads to records that can be stored, and that a restarted controller takes.
#include "api/convert.h"
#include "api/status.h"
#include "pool/pool.h"
#include "pool/test_disk.h"
#include "site/site_file.h"

#include <google/protobuf/stubs/logging.h>

#include <array>
#include <cstdlib>
#include <deque>
#include <set>

using namespace lanepool;

namespace {

constexpr std::string_view site_text = R"(
[[tenant]]
name = "red"
most_loans = 3
[[tenant]]
name = "blue"
[[user]]
name = "ann"
tenant = "red"
[[user]]
name = "bob"
tenant = "blue"
[[user]]
name = "olga"
role = "operator"
[class.drives]
any = [{ kind = "nvme" }]
[[rule]]
name = "urgent"
tenants = ["blue"]
users = "*"
hosts = "*"
classes = ["drives"]
priority = 5
preempts = true
longest = "8h"
[[rule]]
name = "all"
tenants = "*"
users = "*"
hosts = "*"
classes = ["drives"]
longest = "1h"
preemptible = true
grace = "10s"
)";

void require(bool condition, const char* what) {
    if (condition) return;
    fprintf(stderr, "this does not hold: %s\n", what);
    std::abort();
}

class Controller {
  public:
    Controller() {
        static const pool::Site site = site::parse(site_text, "site").value();
        site_ = site;
        restart();
        for (const auto& hello : {lender(), borrower("a", 1), borrower("b", 2)})
            require(pool_->hello(hello, true, now_).has_value(), "the hosts join");
        keep();
    }

    // One message; WHO chooses whose it is.
    void take(uint8_t kind, uint8_t who, const std::string& bytes) {
        now_.steady_us += 1000;
        now_.unix_us += 1000;
        const pool::Caller caller = callers[who % callers.size()];
        switch (kind % 16) {
        case 0:
            using Loans = Result<std::vector<pool::LoanId>>;
            return ask<v1::BorrowRequest>(
                bytes, caller, [&](const Result<pool::BorrowRequest>& request) -> Loans {
                    if (!request) return tl::unexpected(request.error());
                    const auto explained = pool_->explain(*request, now_);
                    require(explained.allowed || !explained.why.empty(), "an explanation says why");
                    auto loans = pool_->borrow(*request, now_);
                    require(!loans || loans->size() == request->devices.size(), "all or none");
                    return loans;
                });
        case 1:
            return ask<v1::ReturnRequest>(bytes, caller, [&](auto& r) { return pool_->give_back(r, now_); });
        case 2:
            return ask<v1::ReclaimRequest>(bytes, caller, [&](auto& r) { return pool_->reclaim(r, now_); });
        case 3:
            return ask<v1::RenewRequest>(bytes, caller, [&](auto& r) { return pool_->renew(r, now_); });
        case 4:
            return ask<v1::ReassignRequest>(bytes, caller, [&](auto& r) { return pool_->reassign(r, now_); });
        case 5:
            return ask<v1::ResetRequest>(bytes, caller, [&](auto& r) { return pool_->reset(r, now_); });
        case 6:
            return ask<v1::DrainRequest>(bytes, caller, [&](auto& r) { return pool_->drain(r, now_); });
        case 7:
            return ask<v1::QuarantineRequest>(bytes, caller,
                                              [&](auto& r) { return pool_->quarantine(r, now_); });
        case 8:
            return ask<v1::RestoreRequest>(bytes, caller, [&](auto& r) { return pool_->restore(r, now_); });
        case 9:
            if (who >= 128)
                return ask<v1::SetFunctionsRequest>(bytes, caller,
                                                    [&](auto& r) { return pool_->set_functions(r, now_); });
            return ask<v1::KeepLocalRequest>(bytes, caller,
                                             [&](auto& r) { return pool_->keep_local(r, now_); });
        case 10:
            return apply_site(bytes, caller);
        case 11:
            return agent_says(bytes, hosts[who % hosts.size()]);
        case 12: // what was asked for first is done, or fails
            return answer_first(who % 4 != 0);
        case 13: // time goes by
            now_.steady_us += int64_t{who} * who * 1'000'000;
            now_.unix_us += int64_t{who} * who * 1'000'000;
            pool_->tick(now_);
            keep();
            return;
        case 14:
            pool_->disconnected(hosts[who % hosts.size()], "gone", now_);
            keep();
            return;
        default:
            return restart();
        }
    }

    // At the end: every agent says what is there, and answers everything.
    void settle() {
        restart();
        check();
    }

  private:
    static constexpr std::array<const char*, 3> hosts = {"store", "a", "b"};
    inline static const std::array<pool::Caller, 5> callers = {
        pool::Caller{"root", true}, {"ann", false}, {"bob", false}, {"olga", false}, {"nobody", false}};

    static pool::Hello lender() {
        pool::Hello hello;
        hello.host = "store";
        hello.instance = "1";
        for (const char* name : {"nvme0", "nvme1"}) {
            pool::ObservedDevice device;
            device.name = name;
            device.identity.serial = name;
            device.identity.kind = "nvme";
            device.answering = device.clean = true;
            hello.devices.push_back(device);
        }
        return hello;
    }
    static pool::Hello borrower(const std::string& host, uint32_t partition) {
        pool::Hello hello;
        hello.host = host;
        hello.partition = partition;
        hello.instance = "1";
        hello.guests = {"g"};
        return hello;
    }

    void restart() {
        pool::Options options;
        options.ended_loans_kept = 4;
        auto made = pool::Pool::create(disk_.snapshot(), site_, options, now_);
        require(made.has_value(), "what was stored can be loaded");
        pool_ = std::move(*made);
        orders_.clear();
        keep();
    }

    // The queue is served in bounded pieces: until nothing more follows.
    pool::Outcome keep() {
        pool::Outcome first;
        for (int i = 0; i < 100; ++i) {
            auto outcome = pool_->outcome();
            require(outcome.has_value(), "no input leads to a transition that does not exist");
            disk_.apply(*outcome);
            orders_.insert(orders_.end(), outcome->orders.begin(), outcome->orders.end());
            while (orders_.size() > 256)
                orders_.pop_front();
            pool_->commit();
            if (i == 0) first = *outcome;
            if (outcome->empty()) break;
        }
        disk_.trail.clear();
        return first;
    }

    void refused(const Error& error) {
        require(!error.message().empty(), "a refusal has words");
        require(error.message().size() < 4096, "a refusal is short");
        require(!api::to_status(error).ok(), "a refusal is not taken for success");
        const auto outcome = keep();
        require(outcome.hosts.empty() && outcome.devices.empty() && outcome.loans.empty() &&
                    outcome.steps.empty() && outcome.erased_loans.empty() && outcome.erased_steps.empty() &&
                    outcome.erased_devices.empty() && outcome.usage.empty() && !outcome.site &&
                    outcome.orders.empty(),
                "what is refused changes nothing");
        require(outcome.audit.size() <= 1, "a refusal is one entry of the trail");
        for (const auto& entry : outcome.audit)
            require(entry.subject.size() <= pool::longest_text && entry.reason.size() <= pool::longest_text,
                    "an entry of the trail has bounded texts");
    }

    template <class Message, class Input>
    void ask(const std::string& bytes, const pool::Caller& caller, Input input) {
        Message message;
        if (!message.ParseFromString(bytes)) return;
        const auto request = api::from_message(message, caller);
        const auto result = input(request);
        if (!result) return refused(result.error());
        keep();
        check();
    }

    void apply_site(const std::string& bytes, const pool::Caller& caller) {
        v1::ApplySiteRequest message;
        if (!message.ParseFromString(bytes)) return;
        auto site = site::parse(message.text(), pool::limited(message.file_name()));
        if (!site) return refused(site.error());
        const auto before = site_;
        site_ = *site;
        const auto applied = pool_->apply_site(std::move(*site), message.text(), caller, now_);
        if (!applied) {
            site_ = before;
            return refused(applied.error());
        }
        keep();
        check();
    }

    void agent_says(const std::string& bytes, const std::string& host) {
        v1::AgentMessage message;
        if (!message.ParseFromString(bytes)) return;
        switch (message.what_case()) {
        case v1::AgentMessage::kHello: {
            auto hello = api::from_message(message.hello());
            hello.host = host; // whose agent it is, is known from the connection
            const auto fdids = pool_->hello(hello, true, now_);
            if (!fdids) return refused(fdids.error());
            require(fdids->size() == hello.devices.size(), "every device gets its number");
            break;
        }
        case v1::AgentMessage::kStepDone:
            if (const auto answer = api::from_message(message.step_done()))
                pool_->answered(host, *answer, now_);
            break;
        case v1::AgentMessage::kLoanLost:
            pool_->lost(host, api::from_message(message.loan_lost()), now_);
            break;
        case v1::AgentMessage::kDeviceFault:
            pool_->faulted(host, api::from_message(message.device_fault()), now_);
            break;
        case v1::AgentMessage::kHeartbeat:
            pool_->heard(host, message.heartbeat().windows_free(), now_);
            break;
        default:
            return;
        }
        keep();
        check();
    }

    void answer_first(bool ok) {
        if (orders_.empty()) return;
        const pool::Step step = orders_.front().step;
        orders_.pop_front();
        pool_->answered(step.host, {step.id, step.loan, step.epoch, step.kind, ok, ok ? "" : "io", "no"},
                        now_);
        keep();
        check();
    }

    // What every answer to a client is made of, and what holds whatever is sent.
    void check() const {
        const auto& ledger = pool_->ledger();
        std::set<pool::Fdid> held;
        for (const auto& [id, loan] : ledger.loans.all()) {
            const auto* device = ledger.devices.find(loan.fdid);
            static_cast<void>(api::to_message(loan, device).ByteSizeLong());
            if (has_ended(loan.state) || loan.state == pool::LoanState::queued) continue;
            require(device && device->loan == id, "a device knows of its loan");
            require(held.insert(loan.fdid).second, "a device has one loan");
            require(!device->clean, "a device that somebody may use is not clean");
        }
        for (const auto& [fdid, device] : ledger.devices.all()) {
            static_cast<void>(api::to_message(device, "").ByteSizeLong());
            require(device.state != pool::DeviceState::available || (device.clean && !device.loan),
                    "what is available is clean and free");
        }
        for (const auto& [name, host] : ledger.hosts.all())
            static_cast<void>(api::to_message(host, true).ByteSizeLong());
    }

    pool::Site site_;
    pool::Now now_{1'000'000, 1'700'000'000'000'000};
    pool::testing::Disk disk_;
    std::unique_ptr<pool::Pool> pool_;
    std::deque<pool::Order> orders_;
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    google::protobuf::SetLogHandler(nullptr); // what cannot be parsed is nothing to tell of
    Controller controller;
    for (int messages = 0; size >= 4 && messages < 64; ++messages) {
        const uint8_t kind = data[0];
        const uint8_t who = data[1];
        const size_t length = std::min<size_t>(data[2] | size_t{data[3]} << 8, size - 4);
        controller.take(kind, who, std::string(reinterpret_cast<const char*>(data) + 4, length));
        data += 4 + length;
        size -= 4 + length;
    }
    controller.settle();
    return 0;
}
