// SPDX-License-Identifier: Apache-2.0
#include "api/leader_search.h"

#include "api/identity.h"
#include "api/keepalive.h"
#include "io/unix_socket.h"

#include <grpcpp/grpcpp.h>

namespace lanepool::api {

using std::chrono::milliseconds;

namespace {

// Lists of a large pool are larger than the library's own limit of 4 MiB.
constexpr int largest_message_bytes = 64 << 20;
// Between two questions to the same controller.
constexpr milliseconds pause{30};

grpc::ChannelArguments channel_arguments(milliseconds connecting) {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(largest_message_bytes);
    // A controller that was restarted is found again within a moment, not after the library's two minutes.
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
    // In fact, how long connecting may take. A handshake needs its time where processors are busy.
    arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, static_cast<int>(connecting.count()));
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
    // Channels to the same target would otherwise share one connection, and one's end be everybody's.
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    // While a call is under way the other end is asked whether it is there. The library's own threads answer:
    // a controller that waits for its disk is there, one that was stopped is not.
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, keepalive_time_ms);
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, keepalive_timeout_ms);
    arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
    return arguments;
}

tl::unexpected<Error> without_certificates(const Endpoint& endpoint) {
    return fail(
        Errc::invalid_argument,
        "{} is an address, and controllers on other machines are reached with certificates only: give "
        "--tls-ca, --tls-cert and --tls-key (`lanepool pki issue` makes them)",
        endpoint.text());
}

} // namespace

Result<std::unique_ptr<LeaderSearch>> LeaderSearch::create(const ClientOptions& options) {
    auto named = TRY(parse_endpoints(options.endpoints));
    std::shared_ptr<grpc::ChannelCredentials> credentials;
    if (options.tls) credentials = TRY(client_credentials(*options.tls));
    for (const auto& endpoint : named)
        if (endpoint.socket.empty() && !credentials) return without_certificates(endpoint);
    return std::unique_ptr<LeaderSearch>(
        new LeaderSearch(std::move(named), std::move(credentials), options.timeout));
}

LeaderSearch::~LeaderSearch() {
    {
        const std::lock_guard lock(mutex_); // after this no thread is added
        stop_.stop();
    }
    for (auto& one : tries_)
        one.thread.join();
}

// ---- one endpoint

Result<std::string> LeaderSearch::read_token(const UniqueFd& socket, const Endpoint& endpoint) {
    std::string token(2 * token_bytes, 0);
    for (size_t have = 0; have < token.size();) {
        if (!stop_.wait_readable(socket.get(), deadline_))
            return fail(Errc::timeout, "no answer in {} ms", timeout_.count());
        const auto received =
            TRY(io::receive(socket.get(), std::as_writable_bytes(std::span(token)).subspan(have)));
        if (received.bytes == 0)
            return fail(Errc::disconnected, "{} is served, but takes no more connections",
                        identity_socket(endpoint.socket).string());
        have += received.bytes;
    }
    return token;
}

Result<std::unique_ptr<Client>> LeaderSearch::open(const Endpoint& endpoint) {
    std::unique_ptr<Client> client(new Client);
    client->endpoint_ = endpoint;
    auto credentials = endpoint.socket.empty() ? credentials_ : grpc::InsecureChannelCredentials();
    if (!credentials) return without_certificates(endpoint);
    if (!endpoint.socket.empty()) {
        client->identity_ = TRY(io::try_connect_unix(identity_socket(endpoint.socket)));
        client->token_ = TRY(read_token(client->identity_, endpoint));
    }
    const auto channel =
        grpc::CreateCustomChannel(endpoint.target(), credentials, channel_arguments(timeout_));
    client->pool_ = v1::Pool::NewStub(channel);
    client->agents_ = v1::Agents::NewStub(channel);
    return client;
}

Result<v1::LeaderReply> LeaderSearch::ask(Client& client) {
    grpc::ClientContext context;
    const StopSignal::Call call(stop_, context);
    client.prepare(context);
    context.set_deadline(std::chrono::system_clock::now() +
                         std::chrono::ceil<milliseconds>(deadline_ - Clock::now()));
    v1::LeaderReply reply;
    TRY(from_status(client.pool().Leader(&context, {}, &reply)));
    return reply;
}

// ---- all of them

void LeaderSearch::add(const Endpoint& endpoint) { // mutex_ is held, or there is no thread yet
    for (const auto& one : tries_)
        if (one.endpoint == endpoint) return;
    if (tries_.size() >= max_endpoints) return;
    auto& one = tries_.emplace_back(endpoint);
    one.thread = std::thread([this, &one] { probe(one); });
}

void LeaderSearch::probe(Try& one) {
    std::unique_ptr<Client> client;
    while (probe_once(one, client) && Clock::now() < deadline_ && stop_.sleep(pause)) {
    }
    const std::lock_guard lock(mutex_);
    one.over = true;
    changed_.notify_all();
}

bool LeaderSearch::probe_once(Try& one, std::unique_ptr<Client>& client) {
    if (!client) {
        auto opened = open(one.endpoint);
        if (!opened) {
            const std::lock_guard lock(mutex_);
            one.error = opened.error();
            one.stands_by.clear();
            return one.error->code() != Errc::permission_denied &&
                   one.error->code() != Errc::invalid_argument;
        }
        client = std::move(*opened);
    }
    const auto reply = ask(*client);
    const std::lock_guard lock(mutex_);
    if (!reply) {
        if (!stop_.stopped()) one.error = reply.error();
        one.stands_by.clear();
        client.reset(); // it does not know us any more, or was another one's
        return true;
    }
    if (!reply->here()) {
        heard(one, *reply);
        return true;
    }
    if (!found_) found_ = std::move(client);
    changed_.notify_all();
    return false;
}

// It stands by.
void LeaderSearch::heard(Try& one, const v1::LeaderReply& reply) {
    one.error.reset();
    if (reply.name().empty()) {
        one.stands_by = "stands by; nobody leads yet";
        return;
    }
    one.stands_by = fmt::format("stands by; {} leads, at {}", reply.name(), reply.endpoint());
    if (stop_.stopped()) return;
    // What a controller says of another one may be of another machine, or wrong: then it is not found there.
    if (const auto others = parse_endpoints(reply.endpoint()))
        for (const auto& other : *others)
            add(other);
}

Result<std::unique_ptr<Client>> LeaderSearch::find() {
    std::unique_lock lock(mutex_);
    for (const auto& endpoint : named_)
        add(endpoint);
    changed_.wait_until(lock, deadline_, [this] {
        return found_ || std::all_of(tries_.begin(), tries_.end(), [](const Try& one) { return one.over; });
    });
    if (found_) return std::move(found_);
    return tl::unexpected(nobody());
}

Error LeaderSearch::nobody() const {
    std::string each;
    bool answered = false;
    bool kept_out = true;
    for (const auto& one : tries_) {
        answered = answered || !one.stands_by.empty();
        kept_out = kept_out && one.error && one.error->code() == Errc::permission_denied;
        each += fmt::format("{}{}: {}", each.empty() ? "" : "; ", one.endpoint.text(),
                            !one.stands_by.empty() ? one.stands_by
                            : one.error            ? one.error->message()
                                                   : fmt::format("no answer in {} ms", timeout_.count()));
    }
    if (kept_out) return {Errc::permission_denied, each};
    if (answered)
        return {Errc::unavailable,
                fmt::format("no controller leads ({}); an election takes some seconds, and a majority of the "
                            "etcd members: try again, and look at `lanepool controllers`",
                            each)};
    return {Errc::unavailable,
            fmt::format("no controller answers at {}; is `lanepool controller` (or `lanepool dev up`) "
                        "running? --controller names {}",
                        each, tries_.size() == 1 ? "another one" : "others")};
}

std::vector<Standing> LeaderSearch::survey() {
    std::vector<Standing> standings;
    for (const auto& endpoint : named_)
        standings.push_back({endpoint, fail(Errc::internal, "not asked"), {}});
    std::vector<std::thread> threads;
    for (auto& standing : standings)
        threads.emplace_back([this, &standing] {
            const auto started = Clock::now();
            const auto client = open(standing.endpoint);
            standing.reply = client ? ask(**client) : tl::unexpected<Error>(client.error());
            standing.took = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - started);
        });
    for (auto& thread : threads)
        thread.join();
    return standings;
}

} // namespace lanepool::api
