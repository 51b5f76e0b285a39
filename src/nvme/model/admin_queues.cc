// SPDX-License-Identifier: Apache-2.0
#include "nvme/model/admin_commands.h"

namespace lanepool::nvme::model {

namespace {

// What Create I/O Submission and Completion Queue have in common (sections 5.3 and 5.4).
Status check_queue(const Command& command) {
    const uint32_t entries = create_queue::qsize.get(command.cdw10) + 1;
    if (entries < 2 || entries > max_queue_entries) return Status(StatusCode::invalid_queue_size, true);
    if (!create_queue::pc.get(command.cdw11)) return Status(StatusCode::invalid_field, true); // CAP.CQR
    if (command.prp1 % page_bytes != 0) return Status(StatusCode::prp_offset_invalid, true);
    return {};
}

} // namespace

void AdminCommands::create_completion_queue(Request& request) {
    const Command& command = request.command;
    const auto id = static_cast<uint16_t>(create_queue::qid.get(command.cdw10));
    const auto vector = static_cast<uint16_t>(create_queue::iv.get(command.cdw11));
    const bool interrupts = create_queue::ien.get(command.cdw11) != 0;
    if (const Status status = check_queue(command); !status.ok()) return done(request, status);
    const auto& messages = context_.interrupts.info(pci::Irq::msix).count > 0
                               ? context_.interrupts.info(pci::Irq::msix)
                               : context_.interrupts.info(pci::Irq::msi);
    if (interrupts && vector >= messages.count)
        return done(request, Status(StatusCode::invalid_interrupt_vector, true));
    done(request, context_.engine.create_completion_queue(id, Iova{command.prp1},
                                                          create_queue::qsize.get(command.cdw10) + 1,
                                                          interrupts, vector));
}

void AdminCommands::create_submission_queue(Request& request) {
    const Command& command = request.command;
    const auto id = static_cast<uint16_t>(create_queue::qid.get(command.cdw10));
    const auto completion_queue = static_cast<uint16_t>(create_queue::cqid.get(command.cdw11));
    if (const Status status = check_queue(command); !status.ok()) return done(request, status);
    const auto priority = static_cast<QueuePriority>(create_queue::qprio.get(command.cdw11));
    done(request, context_.engine.create_submission_queue(id, Iova{command.prp1},
                                                          create_queue::qsize.get(command.cdw10) + 1,
                                                          completion_queue, priority));
}

} // namespace lanepool::nvme::model
