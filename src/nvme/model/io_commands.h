// SPDX-License-Identifier: Apache-2.0
//
// The NVM command set (NVM Command Set Specification 1.0, section 3).
#pragma once

#include "nvme/model/context.h"

namespace lanepool::nvme::model {

class IoCommands {
  public:
    explicit IoCommands(Context& context) : context_(context) {}
    void execute(Request& request);

  private:
    void flush(Request& request);
    void transfer(Request& request);
    void compare(Request& request);
    void write_zeroes(Request& request);
    void dataset_management(Request& request);

    // The command's blocks as a range of the file, or a status; MDTS is checked where DATA is transferred.
    Status locate(Request& request, bool data);
    void transfer_now(Request& request);
    void transfer_by_message(Request& request);
    void submit_transfer(Request& request);
    void transferred(Request& request, int64_t result);
    void finish_transfer(Request& request);
    void clear_blocks(Request& request, bool deallocate, std::function<void(Status)> done);
    void write_zero_buffer(Request& request, std::function<void(Status)> done);
    void deallocate_next(Request& request, std::vector<DsmRange> ranges, size_t index);
    void file_op(Request& request, const FileOp& op, std::function<void(int64_t)> done);
    Status status_of(const Request& request, int64_t error);

    Context& context_;
};

} // namespace lanepool::nvme::model
