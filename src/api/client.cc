// SPDX-License-Identifier: Apache-2.0
#include "api/client.h"

#include <grpcpp/grpcpp.h>

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
} // namespace

Result<std::unique_ptr<Client>> Client::connect(const std::string& endpoint,
                                                std::chrono::milliseconds timeout) {
    const std::string target = endpoint.starts_with('/') ? "unix:" + endpoint : endpoint;
    const auto channel =
        grpc::CreateCustomChannel(target, grpc::InsecureChannelCredentials(), channel_arguments());
    if (!channel->WaitForConnected(std::chrono::system_clock::now() + timeout))
        return fail(Errc::unavailable,
                    "no controller answers at {}; is `lanepool controller` (or `lanepool dev up`) running? "
                    "--controller names another one",
                    endpoint);
    return std::unique_ptr<Client>(new Client(v1::Pool::NewStub(channel), v1::Agents::NewStub(channel)));
}

} // namespace lanepool::api
