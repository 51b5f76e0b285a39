// SPDX-License-Identifier: Apache-2.0
#include "api/client.h"

#include "api/identity.h"
#include "io/unix_socket.h"

#include <grpcpp/grpcpp.h>
#include <poll.h>
#include <thread>

namespace lanepool::api {

namespace {
// Lists of a large pool are larger than the library's own limit of 4 MiB.
constexpr int largest_message_bytes = 64 << 20;

grpc::ChannelArguments channel_arguments() {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(largest_message_bytes);
    // A controller that was restarted is found again within a moment, not after the library's two minutes.
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
    arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 100);
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
    // Channels to the same target would otherwise share one connection, and one's end be everybody's.
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return arguments;
}

Result<std::string> read_token(const UniqueFd& socket, std::chrono::milliseconds timeout) {
    std::string token(2 * token_bytes, 0);
    size_t have = 0;
    const auto deadline = std::chrono::steady_clock::now() + timeout;
    while (have < token.size()) {
        const auto left =
            std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
        pollfd readable{socket.get(), POLLIN, 0};
        if (left.count() <= 0 || ::poll(&readable, 1, static_cast<int>(left.count())) <= 0)
            return fail(Errc::timeout, "the controller has not said who we are within {} ms",
                        timeout.count());
        const auto received =
            TRY(io::receive(socket.get(), std::as_writable_bytes(std::span(token)).subspan(have)));
        if (received.bytes == 0) return fail(Errc::disconnected, "the controller takes no more connections");
        have += received.bytes;
    }
    return token;
}

tl::unexpected<Error> nobody(const std::string& endpoint) {
    return fail(Errc::unavailable,
                "no controller answers at {}; is `lanepool controller` (or `lanepool dev up`) running? "
                "--controller names another one",
                endpoint);
}
} // namespace

Result<std::unique_ptr<Client>> Client::connect(const std::string& endpoint,
                                                std::chrono::milliseconds timeout) {
    std::unique_ptr<Client> client(new Client);
    const auto path = socket_path(endpoint);
    const auto deadline = std::chrono::steady_clock::now() + timeout;
    if (!path.empty()) {
        auto identity = io::connect_unix(identity_socket(path));
        // It may be starting.
        while (!identity && identity.error().code() != Errc::permission_denied &&
               std::chrono::steady_clock::now() < deadline) {
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
            identity = io::connect_unix(identity_socket(path));
        }
        if (!identity && identity.error().code() == Errc::permission_denied)
            return tl::unexpected<Error>(std::move(identity).error());
        if (!identity) return nobody(endpoint);
        client->token_ = TRY(read_token(*identity, timeout));
        client->identity_ = std::move(*identity);
    }
    const auto channel = grpc::CreateCustomChannel(path.empty() ? endpoint : "unix:" + path.string(),
                                                   grpc::InsecureChannelCredentials(), channel_arguments());
    if (!channel->WaitForConnected(std::chrono::system_clock::now() + timeout)) return nobody(endpoint);
    client->pool_ = v1::Pool::NewStub(channel);
    client->agents_ = v1::Agents::NewStub(channel);
    return client;
}

void Client::prepare(grpc::ClientContext& context) const {
    if (!token_.empty()) context.AddMetadata(token_key, token_);
}

void Client::prepare_short(grpc::ClientContext& context) const {
    prepare(context);
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
}

} // namespace lanepool::api
