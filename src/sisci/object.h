// SPDX-License-Identifier: Apache-2.0
//
// What a handle of the SISCI API stands for, and who uses it: something that is in use cannot be removed, and
// something that is being removed cannot be used.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

namespace lanepool::sisci {

class Object {
  public:
    Object() = default;
    Object(const Object&) = delete;
    Object& operator=(const Object&) = delete;
    virtual ~Object() = default;

    // Ends waits on it: it, or the whole library, goes away.
    virtual void cancel() {}

    // One more user. False: it is being removed.
    bool hold() {
        uint32_t holds = holds_.load();
        do {
            if (holds == removing) return false;
        } while (!holds_.compare_exchange_weak(holds, holds + 1));
        return true;
    }
    void release() { --holds_; }
    // Starts its removal. False: it has users.
    bool claim() {
        uint32_t nobody = 0;
        return holds_.compare_exchange_strong(nobody, removing);
    }
    void unclaim() { holds_ = 0; }

  private:
    static constexpr uint32_t removing = UINT32_MAX;
    std::atomic<uint32_t> holds_{0};
};

// A user of an object, for as long as this lives. Empty where the object is being removed.
template <class T>
class Hold {
  public:
    Hold() = default;
    explicit Hold(std::shared_ptr<T> object) : object_(std::move(object)) {
        if (object_ && !object_->hold()) object_.reset();
    }
    Hold(Hold&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
    Hold& operator=(Hold&& other) noexcept {
        if (this == &other) return *this;
        reset();
        object_ = std::exchange(other.object_, nullptr);
        return *this;
    }
    ~Hold() { reset(); }

    T* operator->() const { return object_.get(); }
    T& operator*() const { return *object_; }
    T* get() const { return object_.get(); }
    explicit operator bool() const { return object_ != nullptr; }
    Hold again() const { return Hold(object_); }

    void reset() {
        if (object_) object_->release();
        object_.reset();
    }

  private:
    std::shared_ptr<T> object_;
};

} // namespace lanepool::sisci
