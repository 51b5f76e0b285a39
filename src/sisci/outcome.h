// SPDX-License-Identifier: Apache-2.0
//
// How the functions of the API fail: with a sci_error_t.
#pragma once

#include "base/result.h"

#include <new>
#include <sisci_error.h>
#include <tl/expected.hpp>
#include <utility>

namespace lanepool::sisci {

template <class T = void>
using Outcome = tl::expected<T, sci_error_t>;

inline tl::unexpected<sci_error_t> failed(sci_error_t error) { return tl::unexpected<sci_error_t>(error); }

// What a failure of the layer below means to a caller of the API. NOT_FOUND and ALREADY_EXISTS say what it
// was about.
struct Meaning {
    sci_error_t not_found = SCI_ERR_NO_SUCH_SEGMENT;
    sci_error_t already_exists = SCI_ERR_SEGMENTID_USED;
    sci_error_t busy = SCI_ERR_BUSY;
    sci_error_t permission_denied = SCI_ERR_ACCESS;
    sci_error_t unavailable = SCI_ERR_NODE_NOT_RESPONDING;
    sci_error_t disconnected = SCI_ERR_NOT_CONNECTED;
    sci_error_t invalid_argument = SCI_ERR_ILLEGAL_PARAMETER;
    sci_error_t failed_precondition = SCI_ERR_ILLEGAL_OPERATION;
};
sci_error_t code_of(const Error& error, const Meaning& meaning = {});

template <class T>
Outcome<T> outcome_of(Result<T>&& result, const Meaning& meaning = {}) {
    if (!result) return failed(code_of(result.error(), meaning));
    if constexpr (std::is_void_v<T>) {
        return {};
    } else {
        return std::move(*result);
    }
}

// A flag that the function does not know, or has and does not do.
inline Outcome<> check_flags(unsigned flags, unsigned known, unsigned not_implemented = 0) {
    if (flags & ~(known | not_implemented)) return failed(SCI_ERR_ILLEGAL_FLAG);
    if (flags & not_implemented) return failed(SCI_ERR_FLAG_NOT_IMPLEMENTED);
    return {};
}

// auto segment = SCI_TAKE(...): the value, or return the error to our caller.
#define SCI_TAKE(expression) SCI_TAKE_NAMED(expression, LANEPOOL_JOIN(take_outcome_, __COUNTER__))
#define SCI_TAKE_NAMED(expression, outcome)                                                                  \
    __extension__({                                                                                          \
        auto outcome = (expression);                                                                         \
        if (!outcome) return ::lanepool::sisci::failed(outcome.error());                                     \
        ::lanepool::sisci::take(std::move(outcome));                                                         \
    })

template <class T>
T take(Outcome<T>&& outcome) {
    if constexpr (!std::is_void_v<T>) return std::move(*outcome);
}

// What every function of the API is wrapped in: no exception leaves it, and ERROR is always set.
template <class Body>
void call(sci_error_t* error, Body&& body) {
    sci_error_t code = SCI_ERR_OK;
    try {
        Outcome<> outcome = body();
        if (!outcome) code = outcome.error();
    } catch (const std::bad_alloc&) {
        code = SCI_ERR_NOSPC;
    } catch (...) {
        code = SCI_ERR_SYSTEM;
    }
    if (error) *error = code;
}

} // namespace lanepool::sisci

// The names under which programs that were compiled against other headers look for a function.
#define SISCI_NAMES(function)                                                                                \
    extern "C" decltype(function) _SISCI_PUBLIC_FUNC_ST_##function __attribute__((alias(#function)));        \
    extern "C" decltype(function) _SISCI_PUBLIC_FUNC_MT_##function __attribute__((alias(#function)));
