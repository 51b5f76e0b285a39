// SPDX-License-Identifier: Apache-2.0
#include "sisci/library.h"

#include <cerrno>

namespace lanepool::sisci {
namespace {

// Node ids from here on are groups of nodes, or no nodes at all.
constexpr unsigned node_id_limit = DIS_BROADCAST_NODEID_GROUP_ALL;

sci_error_t open_error(const Error& error) {
    switch (error.code()) {
    case Errc::not_found:
        errno = ENOENT;
        return SCI_ERR_SYSTEM;
    case Errc::unavailable:
        errno = ECONNREFUSED;
        return SCI_ERR_SYSTEM;
    case Errc::permission_denied:
        errno = EACCES;
        return SCI_ERR_ACCESS;
    case Errc::not_supported:
        return SCI_ERR_INCONSISTENT_VERSIONS;
    default:
        errno = EIO;
        return code_of(error);
    }
}

} // namespace

Library& Library::get() {
    // Never destroyed: threads of a program that exits may still be in a call.
    static Library& library = *new Library;
    return library;
}

Outcome<> Library::initialize() {
    std::lock_guard lifecycle(lifecycle_);
    {
        std::lock_guard lock(mutex_);
        if (initialized_ > 0) {
            ++initialized_;
            return {};
        }
    }
    auto session = Session::open();
    if (!session) return failed(open_error(session.error()));
    std::lock_guard lock(mutex_);
    session_ = std::make_shared<Session>(std::move(*session));
    initialized_ = 1;
    return {};
}

void Library::terminate() {
    std::lock_guard lifecycle(lifecycle_);
    std::shared_ptr<Session> session;
    std::unordered_map<uintptr_t, std::shared_ptr<Object>> objects;
    {
        std::lock_guard lock(mutex_);
        if (initialized_ == 0 || --initialized_ > 0) return;
        session.swap(session_);
        objects.swap(objects_);
    }
    for (auto& [number, object] : objects)
        object->cancel();
    // What is left is given back by the end of the session, at once; then there is nothing to ask the agent.
    session.reset();
    objects.clear();
}

Outcome<> Library::check_initialized() const {
    std::shared_lock lock(mutex_);
    if (initialized_ == 0) return failed(SCI_ERR_NOT_INITIALIZED);
    return {};
}

Outcome<std::shared_ptr<Session>> Library::session() {
    std::shared_lock lock(mutex_);
    if (initialized_ == 0) return failed(SCI_ERR_NOT_INITIALIZED);
    return session_;
}

Outcome<> Library::add_object(uintptr_t number, std::shared_ptr<Object> object) {
    std::lock_guard lock(mutex_);
    if (initialized_ == 0) return failed(SCI_ERR_NOT_INITIALIZED);
    objects_.emplace(number, std::move(object));
    return {};
}

Outcome<std::shared_ptr<Object>> Library::object_of(uintptr_t number) {
    std::shared_lock lock(mutex_);
    if (initialized_ == 0) return failed(SCI_ERR_NOT_INITIALIZED);
    auto found = objects_.find(number);
    if (found == objects_.end()) return failed(SCI_ERR_ILLEGAL_PARAMETER);
    return found->second;
}

void Library::forget(uintptr_t number) {
    std::shared_ptr<Object> object; // destroyed after the lock is let go
    std::lock_guard lock(mutex_);
    auto found = objects_.find(number);
    if (found == objects_.end()) return;
    object = std::move(found->second);
    objects_.erase(found);
}

Outcome<> check_node(Session& session, unsigned node) {
    if (node >= node_id_limit) return failed(SCI_ERR_ILLEGAL_NODEID);
    for (const Node& known : SCI_TAKE(outcome_of(session.nodes(), {.disconnected = SCI_ERR_NO_LINK_ACCESS})))
        if (known.number == node) return {};
    return failed(SCI_ERR_NO_SUCH_NODEID);
}

} // namespace lanepool::sisci

using namespace lanepool::sisci;

extern "C" void SCIInitialize(unsigned int flags, sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        SCI_TAKE(check_flags(flags, 0));
        return Library::get().initialize();
    });
}
SISCI_NAMES(SCIInitialize)

extern "C" void SCITerminate(void) {
    call(nullptr, []() -> Outcome<> {
        Library::get().terminate();
        return {};
    });
}
SISCI_NAMES(SCITerminate)

extern "C" void SCIOpen(sci_desc_t* sd, unsigned int flags, sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        SCI_TAKE(Library::get().check_initialized());
        if (!sd) return failed(SCI_ERR_ILLEGAL_PARAMETER);
        *sd = nullptr;
        SCI_TAKE(check_flags(flags, SCI_FLAG_THREAD_SAFE));
        auto handle = Library::get().new_handle<sci_desc_t>();
        SCI_TAKE(Library::get().add(handle, std::make_shared<Descriptor>()));
        *sd = handle;
        return {};
    });
}
SISCI_NAMES(SCIOpen)

extern "C" void SCIClose(sci_desc_t sd, unsigned int flags, sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        SCI_TAKE(Library::get().find(sd));
        SCI_TAKE(check_flags(flags, 0));
        return Library::get().remove(sd, [](Descriptor& closed) -> Outcome<> {
            std::lock_guard lock(closed.mutex);
            if (!closed.requesters.empty()) return failed(SCI_ERR_BUSY);
            return {};
        });
    });
}
SISCI_NAMES(SCIClose)
