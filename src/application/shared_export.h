// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "application/fabric.h"

#include <functional>
#include <memory>
#include <optional>
#include <vector>

namespace lanepool::application {

// Memory of a process that lies on the fabric for as long as somebody needs it there: other hosts, or a
// device. On the loop's thread. Held by a shared_ptr.
class SharedExport : public std::enable_shared_from_this<SharedExport> {
  public:
    SharedExport(Fabric& fabric, MemoryRef memory)
        : fabric_(fabric), alive_(fabric.alive), memory_(std::move(memory)) {}
    ~SharedExport();

    // THEN has where it lies, or why it does not. Success: release() it again.
    void acquire(std::function<void(Result<ntb::Target>)> then);
    // Where it lies, if it does now.
    std::optional<ntb::Target> target() const {
        if (!export_) return std::nullopt;
        return ntb::Target{fabric_.own, export_.address(), export_.size_bytes()};
    }
    // THEN: nobody reaches it any more, or somebody else still needs it.
    void release(std::function<void(Result<>)> then);

  private:
    void made(Result<ntb::Export> exported);

    Fabric& fabric_;
    const std::weak_ptr<bool> alive_;
    const MemoryRef memory_;
    size_t needs_ = 0; // those that wait included
    bool exporting_ = false;
    std::vector<std::function<void(Result<ntb::Target>)>> waiting_;
    ntb::Export export_;
};

} // namespace lanepool::application
