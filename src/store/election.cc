// SPDX-License-Identifier: Apache-2.0
#include "store/election.h"

#include <random>
#include <spdlog/spdlog.h>
#include <store/etcd_records.pb.h>

namespace lanepool::store {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds shortest_ttl{100};
constexpr milliseconds longest_ttl{60'000};
// For a last word when we go.
constexpr milliseconds farewell{1000};

// Two controllers of one name, or one before and after its restart, must not take each other's key for
// theirs.
std::string value_of(const ElectionOptions& options) {
    std::random_device random;
    v1::Leader me;
    me.set_name(options.name);
    me.set_endpoint(options.endpoint);
    me.set_nonce((static_cast<uint64_t>(random()) << 32) | random());
    return me.SerializeAsString();
}

void compare_created(etcdserverpb::TxnRequest& request, const std::string& key, int64_t create_revision) {
    auto& compare = *request.add_compare();
    compare.set_key(key);
    compare.set_target(etcdserverpb::Compare::CREATE);
    compare.set_create_revision(create_revision);
}

void put(etcdserverpb::TxnRequest& request, const std::string& key, const std::string& value) {
    auto& put = *request.add_success()->mutable_request_put();
    put.set_key(key);
    put.set_value(value);
}

// The key as a transaction has found it that was refused; null: it is not there.
Result<const mvccpb::KeyValue*> found(const etcdserverpb::TxnResponse& response) {
    if (response.responses_size() != 1)
        return fail(Errc::protocol, "etcd answered a part of what it was asked");
    const auto& kvs = response.responses(0).response_range().kvs();
    return kvs.empty() ? nullptr : &kvs[0];
}

} // namespace

Result<std::unique_ptr<Election>> Election::start(const std::vector<std::string>& endpoints,
                                                  const ElectionOptions& options,
                                                  std::function<void()> changed) {
    if (options.ttl < shortest_ttl || options.ttl > longest_ttl)
        return fail(Errc::invalid_argument,
                    "an election after {} ms without a sign of the leader: choose {} ms to {} s",
                    options.ttl.count(), shortest_ttl.count(), longest_ttl.count() / 1000);
    if (options.name.empty())
        return fail(Errc::invalid_argument, "a controller that is to be elected needs a name");
    EtcdOptions etcd;
    etcd.endpoints = endpoints;
    // A member that does not answer leaves time to ask another one, before the leader's time is over.
    etcd.member_timeout = options.ttl / 3;
    etcd.call_timeout = options.ttl * 2 / 3;
    auto client = TRY(EtcdClient::create(etcd));
    std::unique_ptr<Election> election(new Election(std::move(client), options, std::move(changed)));
    election->thread_ = std::thread([self = election.get()] { self->run(); });
    return election;
}

Election::Election(std::shared_ptr<EtcdClient> client, const ElectionOptions& options,
                   std::function<void()> changed)
    : client_(std::move(client)), options_(options), key_(EtcdKeys(options.prefix).leader()),
      value_(value_of(options)), changed_(std::move(changed)) {}

Election::~Election() { resign(); }

std::optional<Leadership> Election::leadership() const {
    const std::lock_guard lock(mutex_);
    if (leading_ == 0 || Clock::now() >= believed_until_) return std::nullopt;
    return Leadership{key_, leading_};
}

std::optional<milliseconds> Election::doubt() const {
    const std::lock_guard lock(mutex_);
    const auto now = Clock::now();
    if (leading_ == 0 || now < believed_until_) return std::nullopt;
    return std::chrono::floor<milliseconds>(now - believed_until_);
}

std::optional<Leader> Election::leader() const {
    const std::lock_guard lock(mutex_);
    return leader_;
}

std::optional<Leadership> Election::wait_until_leading(milliseconds timeout) const {
    std::unique_lock lock(mutex_);
    wake_.wait_for(lock, timeout,
                   [&] { return (leading_ != 0 && Clock::now() < believed_until_) || stopping_; });
    lock.unlock();
    return leadership();
}

void Election::resign() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_all();
    if (thread_.joinable()) thread_.join();
}

void Election::stand_aside(milliseconds time) {
    const std::lock_guard lock(mutex_);
    aside_until_ = Clock::now() + time;
}

bool Election::stands_aside() const {
    const std::lock_guard lock(mutex_);
    return Clock::now() < aside_until_;
}

// ---- the thread

void Election::run() {
    bool well = false;
    do {
        const auto done = step();
        well = done.has_value();
        if (!well && !complained_)
            spdlog::warn("election of controller {}: {}", options_.name, done.error().message());
        if (well && complained_) spdlog::info("election of controller {}: etcd answers again", options_.name);
        complained_ = !well;
        tell();
    } while (sleep(next_step(well)));
    give_up();
}

Election::Clock::time_point Election::next_step(bool well) const {
    const auto now = Clock::now();
    if (!well) return now + interval() / 2;
    if (leading_ != 0 && now >= believed_until_) return now; // a key of ours that needs a beat
    auto next = now + interval();
    // Not later than the moment in which the leader may be deposed.
    if (leading_ == 0 && seen_ != 0) next = std::min(next, std::max(now, seen_since_ + options_.ttl));
    return next;
}

bool Election::sleep(Clock::time_point until) {
    for (;;) {
        std::unique_lock lock(mutex_);
        const bool believes = told_.leading && believed_until_ < until;
        if (wake_.wait_until(lock, believes ? believed_until_ : until, [&] { return stopping_; }))
            return false;
        if (!believes) return true;
        lock.unlock();
        tell();
    }
}

void Election::tell() {
    View now{leader(), leadership().has_value()};
    if (now == told_) return;
    told_ = std::move(now);
    wake_.notify_all();
    if (changed_) changed_();
}

Result<> Election::step() {
    if (leading_ == 0) return follow();
    if (!stands_aside()) return beat();
    give_up();
    return {};
}

// ---- leading

void Election::lead(int64_t create_revision, Clock::time_point began) {
    const std::lock_guard lock(mutex_);
    seen_ = 0;
    leading_ = create_revision;
    believed_until_ = began + options_.ttl;
    leader_ = Leader{options_.name, options_.endpoint, create_revision};
}

void Election::lose() {
    const std::lock_guard lock(mutex_);
    leading_ = 0;
    leader_.reset();
}

Result<> Election::beat() {
    etcdserverpb::TxnRequest request;
    compare_created(request, key_, leading_);
    put(request, key_, value_);
    request.add_failure()->mutable_request_range()->set_key(key_);
    const auto began = Clock::now();
    // Not for longer than we believe: it is told in time.
    auto timeout = client_->options().call_timeout;
    if (began < believed_until_)
        timeout = std::min(timeout, std::chrono::ceil<milliseconds>(believed_until_ - began));
    const auto response = TRY(client_->txn(request, timeout));
    if (response.succeeded()) {
        lead(leading_, began);
        return {};
    }
    const auto* key = TRY(found(response));
    spdlog::warn("controller {} has been deposed: for {} ms etcd got no sign of it", options_.name,
                 options_.ttl.count());
    lose();
    learn(key);
    return {};
}

// So that the next one need not wait.
void Election::give_up() {
    const int64_t ours = leading_;
    {
        const std::lock_guard lock(mutex_);
        leading_ = 0;
        leader_.reset();
    }
    if (ours == 0) return;
    etcdserverpb::TxnRequest request;
    compare_created(request, key_, ours);
    request.add_success()->mutable_request_delete_range()->set_key(key_);
    static_cast<void>(client_->txn(request, farewell));
}

// ---- following

Result<> Election::follow() {
    etcdserverpb::RangeRequest request;
    request.set_key(key_);
    const auto began = Clock::now();
    const auto response = client_->range(request);
    // Where etcd, or we, have not been there for a while, the leader may have had no chance to write: it gets
    // one. If it had written, the revision would be another one.
    const auto patience = options_.ttl / 2;
    const auto now = Clock::now();
    if (!response || now - began > patience || began - read_ > patience) not_before_ = now + patience;
    if (!response) return tl::unexpected<Error>(response.error());
    read_ = now;
    const auto* key = response->kvs().empty() ? nullptr : &response->kvs(0);
    learn(key);
    if (leading_ != 0 || stands_aside()) return {};
    if (!key) return campaign();
    if (key->mod_revision() != seen_) {
        seen_ = key->mod_revision();
        seen_since_ = now; // its beat was begun before
        return {};
    }
    // The read of BEGAN has to have been made after all of the time.
    if (began < std::max(seen_since_ + options_.ttl, not_before_)) return {};
    return depose(seen_);
}

Result<> Election::depose(int64_t mod_revision) {
    spdlog::warn("election of controller {}: nothing was heard of leader {} for {} ms", options_.name,
                 leader_ ? leader_->name : "", options_.ttl.count());
    etcdserverpb::TxnRequest request;
    auto& unchanged = *request.add_compare();
    unchanged.set_key(key_);
    unchanged.set_target(etcdserverpb::Compare::MOD);
    unchanged.set_mod_revision(mod_revision);
    request.add_success()->mutable_request_delete_range()->set_key(key_);
    seen_ = 0;
    TRY(client_->txn(request));
    // Where it has been written after all, the campaign finds the key.
    return campaign();
}

Result<> Election::campaign() {
    etcdserverpb::TxnRequest request;
    compare_created(request, key_, 0);
    put(request, key_, value_);
    request.add_failure()->mutable_request_range()->set_key(key_);
    const auto began = Clock::now();
    const auto response = TRY(client_->txn(request));
    if (response.succeeded())
        lead(response.header().revision(), began);
    else
        learn(TRY(found(response)));
    return {};
}

void Election::learn(const mvccpb::KeyValue* key) {
    if (key && key->value() == value_) {
        // Ours: made by a campaign whose answer was lost. Who has seen it when may remove it now: believe
        // nothing before the first beat.
        const std::lock_guard lock(mutex_);
        leading_ = key->create_revision();
        believed_until_ = {};
        return;
    }
    std::optional<Leader> leader;
    v1::Leader stored;
    if (key && stored.ParseFromString(key->value()))
        leader = Leader{stored.name(), stored.endpoint(), key->create_revision()};
    const std::lock_guard lock(mutex_);
    leader_ = std::move(leader);
}

} // namespace lanepool::store
