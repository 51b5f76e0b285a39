// SPDX-License-Identifier: Apache-2.0
#include "agent/controller_calls.h"

#include <map>

namespace lanepool::agent {

using namespace std::chrono_literals;

namespace {
constexpr auto retry_interval = 50ms;
}

// One call that takes steps. Its methods are called on gRPC's threads, but it is destroyed on the loop's:
// with it may go the last that has the channel, and gRPC 1.51 does not survive that on a thread of its own
// (it deletes the completion queue that the thread runs on).
class ControllerCalls::Follower final : public grpc::ClientReadReactor<v1::Progress> {
  public:
    Follower(ControllerCalls& owner, ClientPtr client, std::function<void(const v1::Progress&)> progress,
             std::function<void(const ClientPtr&, const grpc::Status&)> done)
        : owner_(owner), client_(std::move(client)), progress_(std::move(progress)), done_(std::move(done)) {
        client_->prepare(context);
    }
    void begin() {
        StartRead(&message_);
        StartCall();
    }
    void OnReadDone(bool ok) override {
        if (!ok) return;
        owner_.post([progress = progress_, message = message_] { progress(message); });
        StartRead(&message_);
    }
    void OnDone(const grpc::Status& status) override {
        auto& owner = owner_;
        owner.loop_.post([self = std::shared_ptr<Follower>(this), alive = owner.alive_, status] {
            if (*alive) self->done_(self->client_, status);
        });
        const std::lock_guard lock(owner.mutex_);
        owner.followers_.erase(this);
        owner.changed_.notify_all(); // with the lock: afterwards the owner may be gone
    }

    grpc::ClientContext context;
    v1::BorrowRequest borrow; // the requests live as long as the call
    v1::ReturnRequest give_back;

  private:
    ControllerCalls& owner_;
    const ClientPtr client_;
    const std::function<void(const v1::Progress&)> progress_;
    const std::function<void(const ClientPtr&, const grpc::Status&)> done_;
    v1::Progress message_;
};

ControllerCalls::~ControllerCalls() {
    *alive_ = false;
    std::unique_lock lock(mutex_);
    for (auto* follower : followers_)
        follower->context.TryCancel();
    changed_.wait(lock, [&] { return followers_.empty(); });
}

void ControllerCalls::post(std::function<void()> work) {
    loop_.post([alive = alive_, work = std::move(work)] {
        if (*alive) work();
    });
}

// ---- Clients

void ControllerCalls::with_client(WithClient call) {
    if (client_) return call(client_);
    waiting_.push_back(std::move(call));
    if (waiting_.size() > 1) return; // one is being looked for
    background_.run(
        [options = controllers_]() -> Result<ClientPtr> { return TRY(api::Client::connect(options)); },
        [this](Result<ClientPtr> client) {
            if (client) client_ = *client;
            for (const auto& waiting : std::exchange(waiting_, {}))
                waiting(client);
        });
}

void ControllerCalls::forget(const ClientPtr& client) {
    if (client_ == client) client_.reset();
}

void ControllerCalls::follow(Start start, std::function<void(const v1::Progress&)> progress,
                             std::function<void(Result<>)> done, bool again) {
    with_client([this, start = std::move(start), progress = std::move(progress), done = std::move(done),
                 again](Result<ClientPtr> client) {
        if (!client) return done(tl::unexpected(std::move(client).error()));
        auto* follower = new Follower(
            *this, *client, progress,
            [this, start, progress, done, again](const ClientPtr& used, const grpc::Status& status) {
                if (status.ok()) return done({});
                const bool stands_by = api::does_not_lead(status);
                if (stands_by || status.error_code() == grpc::StatusCode::UNAVAILABLE) forget(used);
                if (stands_by && again) return follow(start, progress, done, false);
                done(api::from_status(status));
            });
        {
            const std::lock_guard lock(mutex_);
            followers_.insert(follower);
        }
        start(*(*client)->pool().async(), *follower);
        follower->begin();
    });
}

// ---- Calls

namespace {

using Devices = Result<std::vector<application::PoolDevice>>;

template <class Reply, class Call>
Result<Reply> ask(api::Client& client, Call call) {
    grpc::ClientContext context;
    client.prepare_short(context);
    Reply reply;
    TRY(api::from_status(call(&context, v1::ListRequest(), &reply)));
    return reply;
}

Devices list_devices(api::Client& client) {
    auto& pool = client.pool();
    const auto hosts = TRY(ask<v1::HostList>(client, [&](auto* context, const auto& request, auto* reply) {
        return pool.ListHosts(context, request, reply);
    }));
    const auto devices =
        TRY(ask<v1::DeviceList>(client, [&](auto* context, const auto& request, auto* reply) {
            return pool.ListDevices(context, request, reply);
        }));
    std::map<std::string, uint32_t> nodes;
    for (const auto& host : hosts.hosts())
        nodes[host.name()] = host.partition();
    std::vector<application::PoolDevice> list;
    for (const auto& device : devices.devices()) {
        const auto& identity = device.identity();
        list.push_back({device.fdid(), device.name(), device.lender(), nodes[device.lender()], device.state(),
                        device.reason(), identity.vendor_id(), identity.device_id(), identity.class_code(),
                        identity.kind(), identity.model(), identity.serial(), device.borrower()});
    }
    return list;
}

} // namespace

void ControllerCalls::list(std::function<void(Devices)> done) {
    with_client([this, done = std::move(done)](Result<ClientPtr> client) {
        if (!client) return done(tl::unexpected(std::move(client).error()));
        background_.run(
            [options = controllers_, client = *client]() mutable -> std::pair<ClientPtr, Devices> {
                auto devices = list_devices(*client);
                if (devices || devices.error().code() != Errc::unavailable)
                    return {client, std::move(devices)};
                // Another controller may lead by now; looking twice harms nobody.
                auto other = api::Client::connect(options);
                if (!other) return {nullptr, tl::unexpected(std::move(other).error())};
                client = std::move(*other);
                devices = list_devices(*client);
                return {client, std::move(devices)};
            },
            [this, done](std::pair<ClientPtr, Devices> result) {
                client_ = std::move(result.first);
                done(std::move(result.second));
            });
    });
}

void ControllerCalls::borrow(const Wish& wish, std::function<void(uint64_t loan)> begun,
                             std::function<void(Result<Loan>)> done) {
    const auto loan = std::make_shared<Loan>();
    follow(
        [wish, host = host_](auto& pool, Follower& follower) {
            auto& request = follower.borrow;
            request.add_devices()->set_device(fmt::format("{:x}", wish.fdid));
            request.set_host(host);
            request.set_access_model("smartio");
            request.set_shared(wish.shared);
            request.set_on_behalf_of(wish.user);
            pool.Borrow(&follower.context, &request, &follower);
        },
        [loan, begun](const v1::Progress& progress) {
            if (progress.loans_size() != 1) return;
            loan->due_us = static_cast<uint64_t>(std::max<int64_t>(0, progress.loans(0).due_us()));
            if (std::exchange(loan->id, progress.loans(0).id()) == 0) begun(loan->id);
        },
        [this, wish, begun, loan, done = std::move(done)](const Result<>& result) {
            if (!result && result.error().code() == Errc::busy && loan->id == 0)
                return try_again(wish, begun, done, result.error());
            if (!result) return done(tl::unexpected(result.error()));
            if (loan->id == 0)
                return done(fail(Errc::protocol, "the controller does not say which loan it is"));
            done(*loan);
        });
}

void ControllerCalls::try_again(const Wish& wish, std::function<void(uint64_t)> begun,
                                std::function<void(Result<Loan>)> done, const Error& busy) {
    if (loop_.clock().now() + retry_interval >= wish.deadline) return done(tl::unexpected<Error>(busy));
    is_ending(wish.fdid, [this, wish, begun, done, busy](bool ending) {
        if (!ending) return done(tl::unexpected<Error>(busy));
        const uint64_t id = next_retry_++;
        retries_[id] = loop_.after(retry_interval, [this, id, wish, begun, done] {
            const auto self = retries_.extract(id); // what is called lives that long
            borrow(wish, begun, done);
        });
    });
}

void ControllerCalls::is_ending(uint64_t fdid, std::function<void(bool)> answer) {
    with_client([this, fdid, answer = std::move(answer)](Result<ClientPtr> client) {
        if (!client) return answer(false);
        background_.run(
            [fdid, client = *client]() -> bool {
                const auto show = [&](const std::string& id, v1::ShowReply& reply) {
                    grpc::ClientContext context;
                    client->prepare_short(context);
                    v1::ShowRequest request;
                    request.set_id(id);
                    return client->pool().Show(&context, request, &reply).ok();
                };
                v1::ShowReply device, loan;
                if (!show(fmt::format("{:x}", fdid), device)) return false;
                if (device.device().loan_id() == 0) // meanwhile it may have become free
                    return device.device().state() == "recovering" || device.device().state() == "available";
                if (!show(fmt::format("loan:{}", device.device().loan_id()), loan)) return false;
                const std::string& state = loan.loan().state();
                return state == "quiescing" || state == "detaching" || state == "resetting";
            },
            answer);
    });
}

void ControllerCalls::due(std::function<void(Result<std::vector<Due>>)> done) {
    with_client([this, done = std::move(done)](Result<ClientPtr> client) {
        if (!client) return done(tl::unexpected(std::move(client).error()));
        background_.run(
            [client = *client]() -> Result<std::vector<Due>> {
                const auto loans =
                    TRY(ask<v1::LoanList>(*client, [&](auto* context, const auto& request, auto* reply) {
                        return client->pool().ListLoans(context, request, reply);
                    }));
                std::vector<Due> list;
                for (const auto& loan : loans.loans()) {
                    const auto due_us = static_cast<uint64_t>(std::max<int64_t>(0, loan.due_us()));
                    list.push_back({loan.id(), due_us,
                                    !loan.warned() ? ""
                                    : loan.preempted_by() != 0
                                        ? fmt::format("loan {} takes its place", loan.preempted_by())
                                        : "its time is nearly over"});
                }
                return list;
            },
            [this, used = *client, done](Result<std::vector<Due>> list) {
                if (!list && list.error().code() == Errc::unavailable) forget(used);
                done(std::move(list));
            });
    });
}

void ControllerCalls::give_back(uint64_t loan, const std::string& user, std::function<void(Result<>)> done) {
    follow(
        [loan, user](auto& pool, Follower& follower) {
            auto& request = follower.give_back;
            request.set_loan_or_device(fmt::format("loan:{}", loan));
            request.set_on_behalf_of(user);
            pool.Return(&follower.context, &request, &follower);
        },
        [](const v1::Progress&) {}, std::move(done));
}

} // namespace lanepool::agent
