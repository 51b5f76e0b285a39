// SPDX-License-Identifier: Apache-2.0
//
// The library's state: its one session with the agent, and all that handles stand for. A handle is a number
// that is given out once; so a stale one finds nothing.
#pragma once

#include "lanepool/smartio.h"
#include "sisci/object.h"
#include "sisci/outcome.h"

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <sisci_api.h>
#include <unordered_map>
#include <utility>
#include <vector>

namespace lanepool::sisci {

struct Descriptor final : Object {
    std::mutex mutex; // of what follows
    // PCIe functions of this host that may use the fabric, by bus and device-function number.
    std::map<std::pair<uint8_t, uint8_t>, Requester> requesters;
};

// What class a handle of type H stands for: specialised beside each class.
template <class H>
struct Named;
template <>
struct Named<sci_desc_t> {
    using type = Descriptor;
};

class Library {
  public:
    static Library& get();

    Outcome<> initialize();
    void terminate();

    // Errors: NOT_INITIALIZED.
    Outcome<std::shared_ptr<Session>> session();
    Outcome<> check_initialized() const;

    // A number for an object that is still being made; add() makes it known.
    template <class H>
    H new_handle() {
        // Handles are 16 apart, as pointers are: programs have been seen to keep flags in the low bits.
        return reinterpret_cast<H>(last_handle_.fetch_add(16) + 16); // NOLINT: a name, not an address
    }
    // Errors: NOT_INITIALIZED (it was terminated meanwhile).
    template <class H>
    Outcome<> add(H handle, std::shared_ptr<typename Named<H>::type> object) {
        return add_object(number(handle), std::move(object));
    }

    // BUILD(handle) makes what OUT names, and add()s it. OUT is set before: callbacks may come at once.
    template <class H, class Build>
    Outcome<> make(H* out, Build&& build) {
        H handle = new_handle<H>();
        *out = handle;
        Outcome<> built = build(handle);
        if (!built) *out = nullptr;
        return built;
    }

    // Errors: NOT_INITIALIZED, ILLEGAL_PARAMETER.
    template <class H>
    Outcome<std::shared_ptr<typename Named<H>::type>> find(H handle) {
        auto object = std::dynamic_pointer_cast<typename Named<H>::type>(SCI_TAKE(object_of(number(handle))));
        if (!object) return failed(SCI_ERR_ILLEGAL_PARAMETER);
        return object;
    }
    // The same, and nobody can remove it meanwhile.
    template <class H>
    Outcome<Hold<typename Named<H>::type>> hold(H handle) {
        Hold<typename Named<H>::type> hold(SCI_TAKE(find(handle)));
        if (!hold) return failed(SCI_ERR_ILLEGAL_PARAMETER);
        return hold;
    }

    // Takes the object away, if DETACH(object) lets it. Errors: BUSY (it has users), and DETACH's.
    template <class H, class Detach>
    Outcome<> remove(H handle, Detach&& detach) {
        auto object = SCI_TAKE(find(handle));
        if (!object->claim()) return failed(SCI_ERR_BUSY);
        Outcome<> detached = detach(*object);
        if (!detached) {
            object->unclaim();
            return detached;
        }
        forget(number(handle));
        object->cancel();
        return {};
    }

  private:
    template <class H>
    static uintptr_t number(H handle) {
        return reinterpret_cast<uintptr_t>(handle); // NOLINT: a name, not an address
    }
    Outcome<> add_object(uintptr_t number, std::shared_ptr<Object> object);
    Outcome<std::shared_ptr<Object>> object_of(uintptr_t number);
    void forget(uintptr_t number);

    std::mutex lifecycle_; // initialize() and terminate(), one at a time
    mutable std::shared_mutex mutex_;
    unsigned initialized_ = 0;
    std::shared_ptr<Session> session_;
    std::unordered_map<uintptr_t, std::shared_ptr<Object>> objects_;
    std::atomic<uintptr_t> last_handle_{0x1000};
};

// Adapter 0 is the one that there is.
inline Outcome<> check_adapter(unsigned number) {
    if (number >= DIS_MAX_NSCIS) return failed(SCI_ERR_ILLEGAL_ADAPTERNO);
    if (number != 0) return failed(SCI_ERR_NO_SUCH_ADAPTERNO);
    return {};
}

inline std::chrono::milliseconds timeout_of(unsigned timeout_ms) {
    return timeout_ms == SCI_INFINITE_TIMEOUT ? forever : std::chrono::milliseconds(timeout_ms);
}

// Of connects: clients pass SCI_INFINITE_TIMEOUT and expect to hear at once that there is no such segment.
inline std::chrono::milliseconds connect_timeout_of(unsigned timeout_ms) {
    return std::chrono::milliseconds(timeout_ms == SCI_INFINITE_TIMEOUT ? 0 : timeout_ms);
}

// Taking back what the other side has taken away already is no failure.
inline Outcome<> unless_gone(Result<>&& result) {
    if (!result &&
        (result.error().code() == Errc::disconnected || result.error().code() == Errc::stale_epoch ||
         result.error().code() == Errc::failed_precondition))
        return {};
    return outcome_of(std::move(result));
}

// NODE may be asked for something. Errors: ILLEGAL_NODEID, NO_SUCH_NODEID.
Outcome<> check_node(Session& session, unsigned node);

} // namespace lanepool::sisci
