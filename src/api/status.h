// SPDX-License-Identifier: Apache-2.0
//
// Errors over RPC: the gRPC code for everybody, ErrorDetail with our stable code for our own clients.
#pragma once

#include "base/result.h"

#include <grpcpp/support/status.h>
#include <string>

namespace lanepool::api {

// HOLDER: for busy, the host that holds the device.
grpc::Status to_status(const Error& error, const std::string& holder = {});

// Success, or the error that the other side named. A status that does not come from lanepool (a connection
// that broke, a deadline) gets the code that fits.
Result<> from_status(const grpc::Status& status);

// A controller that stands by has refused a call of any kind so: nothing has come of it. Where it knows who
// leads, it says where that one is.
bool does_not_lead(const grpc::Status& status);
std::string leader_of(const grpc::Status& status);

// The holder that the other side named; empty where it named none.
std::string holder_of(const grpc::Status& status);

} // namespace lanepool::api
