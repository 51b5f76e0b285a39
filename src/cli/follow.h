// SPDX-License-Identifier: Apache-2.0
//
// How commands make calls: those that take steps, with a progress line, and those that are answered at once.
// All of them find the controller that leads, also when another one does on the way.
#pragma once

#include "api/client.h"
#include "cli/context.h"

#include <functional>
#include <memory>

namespace lanepool::cli {

// What becomes of a call whose answer never came: one that only looks is made again; of one that changes
// something it cannot be known whether it was carried out, and the user is told so.
enum class Nature { looks, changes };

// What a request that takes steps is for: by this it is followed where its controller went away.
enum class Goal { loans_active, loan_over, device_available, device_reset, device_local, functions_set };

using StartCall = std::function<std::unique_ptr<grpc::ClientReader<v1::Progress>>(
    v1::Pool::Stub& pool, grpc::ClientContext* grpc_context)>;

// Connects, starts the call, and shows on the terminal what is being waited for; the last progress.
Result<v1::Progress> reach(const Context& context, Goal goal, const StartCall& start);
// The same for a device to which nobody says when it is there: it is looked at until then.
Result<v1::Device> reach(const Context& context, Goal goal, const std::string& device);
// Reaches the goal, and prints what came of it.
Result<> perform(const Context& context, Goal goal, const StartCall& start);

// The connection went away, or the controller did; not what the controller said.
bool is_broken(const grpc::Status& status);

// Connects and has CALL made, again where its nature allows it, for as long as the context's timeout.
Result<> call_leader(const Context& context, Nature nature,
                     const std::function<grpc::Status(api::Client& client)>& call);

// Connects and makes a call that is answered at once: CALL(pool, grpc_context, reply).
template <class Reply, class Call>
Result<Reply> ask(const Context& context, Nature nature, Call call) {
    Reply reply;
    TRY(call_leader(context, nature, [&](api::Client& client) {
        grpc::ClientContext grpc_context;
        client.prepare_short(grpc_context);
        reply.Clear();
        return call(client.pool(), &grpc_context, &reply);
    }));
    return reply;
}

} // namespace lanepool::cli
