// SPDX-License-Identifier: Apache-2.0
#include "store/etcd_client.h"

#include <charconv>
#include <grpcpp/create_channel.h>
#include <thread>

namespace lanepool::store {

namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::system_clock; // what gRPC takes deadlines of

constexpr milliseconds pause{100};
// The server refuses those that ask more often than every five seconds.
constexpr int ping_ms = 6000;
constexpr int ping_timeout_ms = 2000;

std::shared_ptr<grpc::Channel> channel_to(const std::string& endpoint) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
    arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 1000); // in fact, how long connecting may take
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 500);
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, ping_ms);
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, ping_timeout_ms);
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    // Beats do not wait behind a large transaction of the store.
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    // A page of records is below; what etcd itself takes is 1.5 MiB.
    arguments.SetMaxReceiveMessageSize(64 << 20);
    return grpc::CreateCustomChannel(endpoint, grpc::InsecureChannelCredentials(), arguments);
}

bool is_endpoint(const std::string& text) {
    const size_t colon = text.rfind(':');
    if (colon == 0 || colon == std::string::npos || text.find('/') != std::string::npos) return false;
    uint16_t port = 0;
    const char* end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data() + colon + 1, end, port);
    return parsed.ec == std::errc() && parsed.ptr == end && port != 0;
}

// Between two rounds through the members, of which CHANNEL leads to the next one. A channel that has failed
// connects again only while somebody waits for it.
void rest(grpc::Channel& channel) {
    if (channel.GetState(false) == GRPC_CHANNEL_READY)
        std::this_thread::sleep_for(pause);
    else
        channel.WaitForConnected(Clock::now() + pause);
}

// Another member may do better.
bool worth_another(const grpc::Status& status) {
    switch (status.error_code()) {
    case grpc::StatusCode::UNAVAILABLE:
    case grpc::StatusCode::DEADLINE_EXCEEDED:
    case grpc::StatusCode::CANCELLED: // the member is stopping
    case grpc::StatusCode::UNKNOWN:
    case grpc::StatusCode::INTERNAL:
        return true;
    default:
        return false;
    }
}

Errc code_of(const grpc::Status& status) {
    switch (status.error_code()) {
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
        return Errc::no_space;
    case grpc::StatusCode::NOT_FOUND:
        return Errc::not_found;
    case grpc::StatusCode::INVALID_ARGUMENT:
        return Errc::invalid_argument;
    case grpc::StatusCode::OUT_OF_RANGE:
        return Errc::out_of_range;
    case grpc::StatusCode::PERMISSION_DENIED:
    case grpc::StatusCode::UNAUTHENTICATED:
        return Errc::permission_denied;
    default:
        return Errc::unavailable;
    }
}

} // namespace

EtcdClient::Member::Member(std::shared_ptr<grpc::Channel> to)
    : channel(std::move(to)), kv(etcdserverpb::KV::NewStub(channel)),
      maintenance(etcdserverpb::Maintenance::NewStub(channel)) {}

EtcdClient::EtcdClient(const EtcdOptions& options) : options_(options) {
    for (const auto& endpoint : options.endpoints)
        members_.push_back(std::make_unique<Member>(channel_to(endpoint)));
}

Result<std::shared_ptr<EtcdClient>> EtcdClient::create(const EtcdOptions& options) {
    if (options.endpoints.empty())
        return fail(Errc::invalid_argument, "no endpoint of etcd is given: write HOST:PORT of each member");
    for (const auto& endpoint : options.endpoints)
        if (!is_endpoint(endpoint))
            return fail(Errc::invalid_argument, "'{}' is no endpoint of etcd: write HOST:PORT", endpoint);
    return std::shared_ptr<EtcdClient>(new EtcdClient(options));
}

Result<> EtcdClient::call(std::string_view what, milliseconds timeout, const Call& call,
                          bool* repeated) const {
    const auto end = Clock::now() + timeout;
    for (size_t tried = 0;; ++tried) {
        const size_t index = first_ % members_.size();
        grpc::ClientContext context;
        context.set_deadline(std::min(end, Clock::now() + options_.member_timeout));
        if (repeated) *repeated = tried > 0;
        const grpc::Status status = call(*members_[index], context);
        if (status.ok()) return {};
        if (!worth_another(status))
            return fail(code_of(status), "etcd at {} refused {}: {}", options_.endpoints[index], what,
                        status.error_message());
        ++first_;
        if (Clock::now() + pause >= end)
            return fail(
                Errc::unavailable,
                "etcd ({}) did not answer {} within {} ms ({}): look whether a majority of its members "
                "runs and can be reached",
                fmt::join(options_.endpoints, ", "), what, timeout.count(), status.error_message());
        if ((tried + 1) % members_.size() == 0) rest(*members_[first_ % members_.size()]->channel);
    }
}

Result<etcdserverpb::RangeResponse> EtcdClient::range(const etcdserverpb::RangeRequest& request) const {
    etcdserverpb::RangeResponse response;
    TRY(call("a read", options_.call_timeout, [&](Member& member, grpc::ClientContext& context) {
        return member.kv->Range(&context, request, &response);
    }));
    return response;
}

Result<etcdserverpb::TxnResponse> EtcdClient::txn(const etcdserverpb::TxnRequest& request,
                                                  std::optional<milliseconds> timeout, bool* repeated) const {
    etcdserverpb::TxnResponse response;
    TRY(call(
        "a transaction", timeout.value_or(options_.call_timeout),
        [&](Member& member, grpc::ClientContext& context) {
            return member.kv->Txn(&context, request, &response);
        },
        repeated));
    return response;
}

Result<etcdserverpb::StatusResponse> EtcdClient::status() const {
    etcdserverpb::StatusResponse response;
    TRY(call("its status", options_.call_timeout, [&](Member& member, grpc::ClientContext& context) {
        return member.maintenance->Status(&context, {}, &response);
    }));
    return response;
}

} // namespace lanepool::store
