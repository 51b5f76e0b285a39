// SPDX-License-Identifier: Apache-2.0
#include "api/status.h"

#include "api/lanepool.pb.h"

namespace lanepool::api {

namespace {

grpc::StatusCode grpc_code(Errc code) {
    switch (code) {
    case Errc::invalid_argument:
        return grpc::StatusCode::INVALID_ARGUMENT;
    case Errc::not_found:
        return grpc::StatusCode::NOT_FOUND;
    case Errc::already_exists:
        return grpc::StatusCode::ALREADY_EXISTS;
    case Errc::permission_denied:
        return grpc::StatusCode::PERMISSION_DENIED;
    case Errc::out_of_range:
        return grpc::StatusCode::OUT_OF_RANGE;
    case Errc::no_space:
        return grpc::StatusCode::RESOURCE_EXHAUSTED;
    case Errc::timeout:
        return grpc::StatusCode::DEADLINE_EXCEEDED;
    case Errc::unavailable:
    case Errc::disconnected:
        return grpc::StatusCode::UNAVAILABLE;
    case Errc::busy:
    case Errc::failed_precondition:
        return grpc::StatusCode::FAILED_PRECONDITION;
    case Errc::stale_epoch:
    case Errc::cancelled:
        return grpc::StatusCode::ABORTED;
    case Errc::not_supported:
        return grpc::StatusCode::UNIMPLEMENTED;
    case Errc::protocol:
    case Errc::io:
    case Errc::internal:
        return grpc::StatusCode::INTERNAL;
    }
    return grpc::StatusCode::UNKNOWN;
}

Errc errc_of(grpc::StatusCode code) {
    switch (code) {
    case grpc::StatusCode::INVALID_ARGUMENT:
        return Errc::invalid_argument;
    case grpc::StatusCode::NOT_FOUND:
        return Errc::not_found;
    case grpc::StatusCode::ALREADY_EXISTS:
        return Errc::already_exists;
    case grpc::StatusCode::PERMISSION_DENIED:
        return Errc::permission_denied;
    case grpc::StatusCode::OUT_OF_RANGE:
        return Errc::out_of_range;
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
        return Errc::no_space;
    case grpc::StatusCode::DEADLINE_EXCEEDED:
        return Errc::timeout;
    case grpc::StatusCode::UNAVAILABLE:
        return Errc::unavailable;
    case grpc::StatusCode::FAILED_PRECONDITION:
        return Errc::failed_precondition;
    case grpc::StatusCode::CANCELLED:
    case grpc::StatusCode::ABORTED:
        return Errc::cancelled;
    case grpc::StatusCode::UNIMPLEMENTED:
        return Errc::not_supported;
    default:
        return Errc::internal;
    }
}

} // namespace

grpc::Status to_status(const Error& error, const std::string& holder) {
    v1::ErrorDetail detail;
    detail.set_code(std::string(name(error.code())));
    detail.set_holder(holder);
    return {grpc_code(error.code()), error.message(), detail.SerializeAsString()};
}

Result<> from_status(const grpc::Status& status) {
    if (status.ok()) return {};
    Errc code = errc_of(status.error_code());
    if (v1::ErrorDetail detail;
        !status.error_details().empty() && detail.ParseFromString(status.error_details()))
        if (const auto named = code_named(detail.code())) code = *named;
    return tl::unexpected(Error(code, status.error_message()));
}

bool does_not_lead(const grpc::Status& status) {
    return status.error_code() == grpc::StatusCode::UNAVAILABLE &&
           status.error_message().find(" does not lead; ") != std::string::npos;
}

std::string leader_of(const grpc::Status& status) {
    v1::ErrorDetail detail;
    return detail.ParseFromString(status.error_details()) ? detail.leader() : std::string();
}

std::string holder_of(const grpc::Status& status) {
    v1::ErrorDetail detail;
    return detail.ParseFromString(status.error_details()) ? detail.holder() : std::string();
}

} // namespace lanepool::api
