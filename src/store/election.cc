// SPDX-License-Identifier: Apache-2.0
#include "store/election.h"

#include <spdlog/spdlog.h>
#include <store/etcd_records.pb.h>

namespace lanepool::store {

namespace {
using std::chrono::milliseconds;
// After a failure, before the next try.
constexpr milliseconds retry_delay{100};
// For a last word when we go.
constexpr milliseconds farewell{1000};
} // namespace

Result<std::unique_ptr<Election>> Election::start(std::shared_ptr<EtcdClient> client,
                                                  const ElectionOptions& options,
                                                  std::function<void()> changed) {
    if (options.ttl < std::chrono::seconds(1) || options.ttl > std::chrono::seconds(60))
        return fail(Errc::invalid_argument, "a controller's lease of {} s: choose 1 to 60",
                    options.ttl.count());
    if (options.name.empty())
        return fail(Errc::invalid_argument, "a controller that is to be elected needs a name");
    std::unique_ptr<Election> election(new Election(std::move(client), options, std::move(changed)));
    election->keeper_ = std::thread([self = election.get()] { self->keep(); });
    election->observer_ = std::thread([self = election.get()] { self->observe(); });
    return election;
}

Election::Election(std::shared_ptr<EtcdClient> client, const ElectionOptions& options,
                   std::function<void()> changed)
    : client_(std::move(client)), options_(options), key_(EtcdKeys(options.prefix).leader()),
      changed_(std::move(changed)) {}

Election::~Election() { resign(); }

std::optional<Leadership> Election::leadership() const {
    const std::lock_guard lock(mutex_);
    if (leading_ == 0 || Clock::now() >= lease_end_) return std::nullopt;
    return Leadership{key_, leading_};
}

std::optional<Leader> Election::leader() const {
    const std::lock_guard lock(mutex_);
    return leader_;
}

std::optional<Leadership> Election::wait_until_leading(milliseconds timeout) const {
    std::unique_lock lock(mutex_);
    wake_.wait_for(lock, timeout, [&] { return (leading_ != 0 && Clock::now() < lease_end_) || stopping_; });
    lock.unlock();
    return leadership();
}

void Election::resign() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
        if (watch_) watch_->cancel();
    }
    wake_.notify_all();
    if (keeper_.joinable()) keeper_.join();
    if (observer_.joinable()) observer_.join();
}

bool Election::sleep(milliseconds time) {
    std::unique_lock lock(mutex_);
    wake_.wait_for(lock, time, [&] { return stopping_ || (vacant_ && leading_ == 0); });
    vacant_ = false;
    return !stopping_;
}

void Election::set_leading(int64_t create_revision) {
    {
        const std::lock_guard lock(mutex_);
        if (leading_ == create_revision) return;
        leading_ = create_revision;
    }
    wake_.notify_all();
    tell();
}

// ---- the lease and the campaign

void Election::keep() {
    bool well = false;
    do
        well = keep_once();
    while (sleep(well ? renewal() : retry_delay));
    give_up();
}

bool Election::keep_once() {
    auto done = keep_lease();
    if (!done && (done.error().code() == Errc::not_found || Clock::now() >= renewed_ + options_.ttl)) {
        // It may still be alive for etcd; for us it has run out as soon as it may have.
        lease_ = 0;
        set_leading(0);
    }
    if (done) done = campaign();
    if (!done) spdlog::warn("election of {}: {}", options_.name, done.error().message());
    return done.has_value();
}

Result<> Election::keep_lease() {
    const auto started = Clock::now();
    const auto timeout = std::min<milliseconds>(options_.ttl, client_->options().call_timeout);
    if (lease_ == 0)
        lease_ = TRY(client_->grant(options_.ttl.count(), timeout)).id();
    else
        TRY(client_->keep_alive(lease_, timeout));
    renewed_ = started;
    {
        const std::lock_guard lock(mutex_);
        lease_end_ = started + options_.ttl; // etcd may grant more; it never grants less
    }
    wake_.notify_all();
    return {};
}

// Makes the leader's key if there is none, and learns whose it is.
Result<> Election::campaign() {
    v1::Leader me;
    me.set_name(options_.name);
    me.set_endpoint(options_.endpoint);
    etcdserverpb::TxnRequest request;
    auto& vacant = *request.add_compare();
    vacant.set_key(key_);
    vacant.set_target(etcdserverpb::Compare::CREATE);
    vacant.set_create_revision(0);
    auto& put = *request.add_success()->mutable_request_put();
    put.set_key(key_);
    put.set_value(me.SerializeAsString());
    put.set_lease(lease_);
    request.add_failure()->mutable_request_range()->set_key(key_);
    const auto response = TRY(client_->txn(request));
    if (response.succeeded()) {
        set_leading(response.header().revision());
        return {};
    }
    if (response.responses_size() != 1)
        return fail(Errc::protocol, "etcd answered a part of what it was asked");
    const auto& found = response.responses(0).response_range().kvs();
    // Ours: we lead, also where the answer to the transaction that made it was lost.
    set_leading(!found.empty() && found[0].lease() == lease_ ? found[0].create_revision() : 0);
    return {};
}

void Election::give_up() {
    if (lease_ != 0) static_cast<void>(client_->revoke(lease_, farewell)); // the key goes with it
    lease_ = 0;
    const std::lock_guard lock(mutex_);
    leading_ = 0;
    leader_.reset();
}

// ---- who leads

void Election::observe() {
    for (;;) {
        static_cast<void>(observe_once());
        std::unique_lock lock(mutex_);
        if (wake_.wait_for(lock, retry_delay, [&] { return stopping_; })) return;
        lock.unlock();
        client_->turn();
    }
}

Result<> Election::observe_once() {
    etcdserverpb::RangeRequest request;
    request.set_key(key_);
    const auto now = TRY(client_->range(request));
    learn(now.kvs().empty() ? nullptr : &now.kvs(0), now.header().revision());
    const auto watch = client_->watch(key_, now.header().revision() + 1);
    {
        const std::lock_guard lock(mutex_);
        if (stopping_) return {};
        watch_ = watch.get();
    }
    Result<> watched;
    while (watched) {
        const auto news = watch->next();
        if (!news) watched = tl::unexpected(news.error());
        if (news)
            for (const auto& event : news->events())
                learn(event.type() == mvccpb::Event::PUT ? &event.kv() : nullptr, event.kv().mod_revision());
    }
    const std::lock_guard lock(mutex_);
    watch_ = nullptr;
    return watched;
}

void Election::learn(const mvccpb::KeyValue* leader, int64_t revision) {
    std::optional<Leader> now;
    v1::Leader stored;
    if (leader && stored.ParseFromString(leader->value()))
        now = Leader{stored.name(), stored.endpoint(), leader->create_revision()};
    {
        const std::lock_guard lock(mutex_);
        vacant_ = !leader;
        // Somebody has removed our key, or our lease has run out. What is older than our key says nothing.
        if (leading_ != 0 && revision > leading_ && (!leader || leader->create_revision() != leading_))
            leading_ = 0;
        if (now == leader_) {
            if (vacant_) wake_.notify_all();
            return;
        }
        leader_ = now;
    }
    wake_.notify_all();
    tell();
}

} // namespace lanepool::store
