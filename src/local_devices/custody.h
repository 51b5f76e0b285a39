// SPDX-License-Identifier: Apache-2.0
//
// Which of this machine's functions lanepool has taken from their host's drivers, so that they can be lent,
// and the way there and back. All functions of an IOMMU group are taken, or none: the kernel gives user space
// a group only as a whole. Whoever uses one of them is named before anything is touched, because unbinding a
// driver whose device is in use may block for ever, or take the machine down.
//
// What was there before is written to a state file before anything is changed; open() finishes or rolls back
// what a crash has left half done.
//
// All calls block and may be made from any thread. take() and give_back() take a second or less where drivers
// and devices do their part, and have deadlines of 20 s for a driver and 70 s for a reset where they do not.
#pragma once

#include "base/result.h"
#include "local_devices/system.h"
#include "pci/types.h"

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace lanepool::local_devices {

// What a function is taken for. What is lent must have a way of resetting that works; an adapter is not
// reset.
enum class Purpose { lending, adapter };

class Custody {
  public:
    // Reads STATE_FILE and brings the machine in line with it: see notes(). Fails where the file cannot be
    // read or is not one of ours; not where a device cannot be recovered.
    static Result<std::unique_ptr<Custody>> open(const Paths& paths, std::filesystem::path state_file);
    static Result<std::unique_ptr<Custody>> open(std::unique_ptr<System> system,
                                                 std::filesystem::path state_file);
    virtual ~Custody() = default;

    // Unbinds the drivers of FUNCTION's whole IOMMU group and binds vfio-pci. Already taken: nothing to do.
    // Errors: not_found; busy, naming everybody who uses any function of the group; failed_precondition (no
    // IOMMU, no vfio-pci, a bridge in the group that a driver uses, no reset that works); timeout (a driver
    // that does not let go). After an error everything is as it was, or the message says what is not; then
    // the next call, or the next open(), tries to settle that first.
    virtual Result<> take(const pci::Address& function, Purpose purpose = Purpose::lending) = 0;
    // Gives FUNCTION back to the driver that it had. Where others of its IOMMU group have been taken for
    // their own sake, all of the group go back with the last of them. A function that is not taken, or has
    // vanished, is given back. Errors: busy (somebody still has it open), timeout, io (its driver does not
    // take it again: it is then without a driver).
    virtual Result<> give_back(const pci::Address& function) = 0;
    // Whether FUNCTION has been taken and really is on vfio-pci now. Does not wait for a take() under way.
    virtual bool taken(const pci::Address& function) const = 0;

    // Who uses FUNCTION or another one of its IOMMU group, each as a sentence ("/dev/nvme0n1p1 is mounted at
    // /srv (ext4)"). Empty: nobody.
    virtual Result<std::vector<std::string>> holders(const pci::Address& function) const = 0;
    // The functions that are taken together with FUNCTION, itself among them, without bridges; ascending.
    // Errors: failed_precondition where there is no IOMMU.
    virtual Result<std::vector<pci::Address>> group(const pci::Address& function) const = 0;

    // What open() found other than as it was left, and what it did about it; each is a sentence.
    virtual const std::vector<std::string>& notes() const = 0;
};

} // namespace lanepool::local_devices
