// SPDX-License-Identifier: Apache-2.0
#include "api/client.h"

#include "api/identity.h"
#include "api/leader_search.h"

namespace lanepool::api {

Result<std::unique_ptr<Client>> Client::connect(const ClientOptions& options) {
    return TRY(LeaderSearch::create(options))->find();
}

Result<std::vector<Standing>> Client::survey(const ClientOptions& options) {
    return TRY(LeaderSearch::create(options))->survey();
}

void Client::prepare(grpc::ClientContext& context) const {
    if (!token_.empty()) context.AddMetadata(token_key, token_);
}

void Client::prepare_short(grpc::ClientContext& context) const {
    prepare(context);
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
}

} // namespace lanepool::api
