// SPDX-License-Identifier: Apache-2.0
//
// How commands make calls: those that take steps, with a progress line, and those that are answered at once.
#pragma once

#include "api/client.h"
#include "cli/context.h"

#include <functional>
#include <memory>

namespace lanepool::cli {

using StartCall = std::function<std::unique_ptr<grpc::ClientReader<v1::Progress>>(
    v1::Pool::Stub& pool, grpc::ClientContext* grpc_context)>;

// Connects, starts the call, shows on the terminal what is being waited for, and prints what came of it.
Result<> perform(const Context& context, const StartCall& start);

// Connects and makes a call that is answered at once: CALL(pool, grpc_context, reply).
template <class Reply, class Call>
Result<Reply> ask(const Context& context, Call call) {
    const auto client = TRY(api::Client::connect(context.endpoint()));
    Reply reply;
    grpc::ClientContext grpc_context;
    client->prepare_short(grpc_context);
    TRY(api::from_status(call(client->pool(), &grpc_context, &reply)));
    return reply;
}

} // namespace lanepool::cli
