// SPDX-License-Identifier: Apache-2.0
#include "api/client.h"

#include <grpcpp/grpcpp.h>

namespace lanepool::api {

Result<std::unique_ptr<Client>> Client::connect(const std::string& endpoint,
                                                std::chrono::milliseconds timeout) {
    const auto channel = grpc::CreateChannel(endpoint, grpc::InsecureChannelCredentials());
    if (!channel->WaitForConnected(std::chrono::system_clock::now() + timeout))
        return fail(Errc::unavailable,
                    "no controller answers at {}; is `lanepool controller` (or `lanepool dev up`) running? "
                    "--controller names another one",
                    endpoint);
    return std::unique_ptr<Client>(new Client(v1::Pool::NewStub(channel)));
}

} // namespace lanepool::api
