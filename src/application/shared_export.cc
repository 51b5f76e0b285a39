// SPDX-License-Identifier: Apache-2.0
#include "application/shared_export.h"

namespace lanepool::application {

SharedExport::~SharedExport() {
    if (export_ && !alive_.expired()) fabric_.errands.dispose(std::move(export_));
}

void SharedExport::acquire(std::function<void(Result<ntb::Target>)> then) {
    ++needs_;
    if (export_) return then(*target());
    waiting_.push_back(std::move(then));
    if (exporting_) return;
    exporting_ = true;
    fabric_.errands.run([&adapter = fabric_.adapter,
                         memory = memory_] { return adapter.export_memory(memory, Access::read_write); },
                        [&fabric = fabric_, weak = weak_from_this()](Result<ntb::Export> exported) {
                            if (const auto self = weak.lock()) return self->made(std::move(exported));
                            if (exported) fabric.errands.dispose(std::move(*exported));
                        });
}

void SharedExport::made(Result<ntb::Export> exported) {
    exporting_ = false;
    const auto waiting = std::exchange(waiting_, {});
    if (exported)
        export_ = std::move(*exported);
    else
        needs_ -= waiting.size();
    const auto self = shared_from_this(); // who waits may let go of it
    for (const auto& then : waiting)
        then(exported ? Result<ntb::Target>(*target()) : tl::unexpected<Error>(exported.error()));
}

void SharedExport::release(std::function<void(Result<>)> then) {
    if (--needs_ > 0 || !export_ || alive_.expired()) return then({});
    fabric_.errands.run(
        [kept = std::make_shared<ntb::Export>(std::move(export_))] { return kept->withdraw(); },
        std::move(then));
}

} // namespace lanepool::application
