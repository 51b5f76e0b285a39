// SPDX-License-Identifier: Apache-2.0
#include "controller/seat.h"

#include "api/lanepool.pb.h"
#include "store/etcd_store.h"
#include "store/sqlite_store.h"

#include <regex>
#include <spdlog/spdlog.h>

namespace lanepool::controller {

namespace {

// After what has been stored could not be read.
constexpr std::chrono::milliseconds retry_delay{200};

Result<> check(const ControllerOptions& options) {
    static const std::regex allowed("[A-Za-z0-9][A-Za-z0-9._-]{0,62}");
    if (!std::regex_match(options.name, allowed))
        return fail(Errc::invalid_argument,
                    "'{}' is no name of a controller: letters, digits, '.', '_' and '-', at most 63",
                    options.name);
    if (!options.etcd_prefix.starts_with('/') || !options.etcd_prefix.ends_with('/'))
        return fail(Errc::invalid_argument, "'{}' is no prefix in etcd: it begins and ends with '/'",
                    options.etcd_prefix);
    return {};
}

} // namespace

Result<std::unique_ptr<Seat>> Seat::create(io::EventLoop& loop, const ControllerOptions& options) {
    std::unique_ptr<Seat> seat(new Seat(loop, options));
    if (!options.etcd.empty()) {
        TRY(check(options));
        TRY(seat->campaign());
        return seat;
    }
    auto store = TRY(store::SqliteStore::open(options.state, options.audit_kept));
    seat->core_ = TRY(Core::create(loop, std::move(store), options, [] {}));
    return seat;
}

Seat::~Seat() = default;

Result<> Seat::campaign() {
    store::EtcdOptions etcd;
    etcd.endpoints = options_.etcd;
    // What is lost with a member that dies, or goes to one that does not know it yet, is tried again soon.
    etcd.member_timeout = options_.election_ttl / 3;
    etcd.call_timeout = std::max(patience(), etcd.member_timeout);
    etcd_ = TRY(store::EtcdClient::create(etcd));
    store::ElectionOptions election;
    election.prefix = options_.etcd_prefix;
    election.name = options_.name;
    election.endpoint = endpoint();
    election.ttl = options_.election_ttl;
    election_ = TRY(store::Election::start(options_.etcd, election, [this] { post([this] { look(); }); }));
    return {};
}

bool Seat::enter(std::atomic<size_t>& count, size_t limit) {
    if (++count <= limit) return true;
    --count;
    return false;
}

// ---- who leads

Seat::Leading Seat::leading() const {
    if (!election_) return {true, options_.name, endpoint()};
    const auto ours = election_->leadership();
    if (ours && ours->create_revision == serving_) return {true, options_.name, endpoint()};
    const auto leader = election_->leader();
    // We: it is not so yet, or it is not certain any more.
    if (ours || election_->doubt() || !leader) return {};
    return {false, leader->name, leader->endpoint};
}

grpc::Status Seat::elsewhere() const {
    const Leading now = leading();
    v1::ErrorDetail detail;
    detail.set_code(std::string(name(Errc::unavailable)));
    detail.set_leader(now.endpoint);
    return {grpc::StatusCode::UNAVAILABLE,
            now.name.empty() ? fmt::format("controller {} does not lead; nobody leads yet", options_.name)
                             : fmt::format("controller {} does not lead; {} leads, at {}", options_.name,
                                           now.name, now.endpoint),
            detail.SerializeAsString()};
}

bool Seat::serves() const {
    if (!core_ || !core_->store().usable()) return false;
    return !election_ || election_->leadership() == leadership_;
}

Seat::Serving Seat::core() const {
    if (stopping_)
        return tl::unexpected(grpc::Status(grpc::StatusCode::UNAVAILABLE, "the controller is stopping"));
    if (!serves()) return tl::unexpected(elsewhere());
    return std::ref(*core_);
}

void Seat::look() {
    if (stopping_) return;
    if (core_ && !serves()) {
        if (const auto left = worth_waiting()) return look_again(*left);
        stand_by();
    }
    const auto leadership = election_->leadership();
    if (!core_ && leadership) lead(*leadership);
}

void Seat::look_again(io::Duration delay) {
    retry_ = loop_.after(delay, [this] { look(); });
}

std::optional<std::chrono::milliseconds> Seat::worth_waiting() const {
    const auto doubt = election_->doubt();
    const auto most = patience() - options_.election_ttl; // it was certain for that long
    if (!core_->store().usable() || !doubt || *doubt >= most) return std::nullopt;
    return most - *doubt;
}

void Seat::lead(const store::Leadership& leadership) {
    retry_.reset();
    if (const auto loaded = load(leadership); !loaded) {
        spdlog::error("controller {} has been elected, but cannot lead: {}", options_.name,
                      loaded.error().message());
        // etcd may answer soon, or another one lead; what else there is may trouble nobody but us.
        const Errc code = loaded.error().code();
        if (code == Errc::unavailable || code == Errc::cancelled)
            look_again(retry_delay);
        else
            election_->stand_aside(3 * options_.election_ttl);
        return;
    }
    serving_ = leadership.create_revision;
    spdlog::info("controller {} leads", options_.name);
}

Result<> Seat::load(const store::Leadership& leadership) {
    store::EtcdStoreOptions where;
    where.prefix = options_.etcd_prefix;
    where.audit_kept = options_.audit_kept;
    auto store = TRY(store::EtcdStore::open(etcd_, leadership, where));
    core_ = TRY(Core::create(loop_, std::move(store), options_, [this] { post([this] { look(); }); }));
    leadership_ = leadership;
    return {};
}

void Seat::stand_by() {
    serving_ = 0;
    const grpc::Status why = elsewhere();
    spdlog::warn("controller {} leads no more: {}", options_.name, why.error_message());
    core_->close(why);
    // What it has posted comes before its end.
    post([gone = std::shared_ptr<Core>(std::move(core_))] {});
}

void Seat::stop() {
    if (core_ && serves()) core_->flush(); // what has been asked for is answered
    stopping_ = true;
    retry_.reset();
    if (core_) core_->close({grpc::StatusCode::UNAVAILABLE, "the controller is stopping"});
    if (election_) election_->resign();
}

// ---- for operators

nlohmann::json Seat::status() const {
    nlohmann::json status = core_ ? core_->status() : nlohmann::json::object();
    status["ready"] = core().has_value();
    if (!election_) return status;
    const Leading now = leading();
    status["name"] = options_.name;
    status["leads"] = now.here;
    status["leader"] = {{"name", now.name}, {"endpoint", now.endpoint}};
    return status;
}

nlohmann::json Seat::stats() const {
    nlohmann::json stats = core_ ? core_->stats() : nlohmann::json::object();
    stats["streams"] = streams_.load();
    return stats;
}

} // namespace lanepool::controller
