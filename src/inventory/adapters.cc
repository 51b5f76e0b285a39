// SPDX-License-Identifier: Apache-2.0
//
// Switchtec NT endpoints. Their registers lie in BAR 0 and are only read, by a mapping without write access:
// none of those read here changes by being read.
#include "inventory/names.h"
#include "inventory/parts.h"
#include "ntb/switchtec.h"
#include "pci/address.h"

#include <bit>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace lanepool::inventory {

namespace {

namespace switchtec = ntb::switchtec;
namespace gas = switchtec::gas;
constexpr size_t mapped_bytes = gas::message_base; // all that is read lies before it

// The registers of one endpoint, mapped to be read.
class Registers {
  public:
    explicit Registers(const std::filesystem::path& resource) {
        const UniqueFd fd(::open(resource.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
        struct stat status {};
        if (!fd || ::fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode) ||
            status.st_size < static_cast<off_t>(gas::size_bytes))
            return;
        void* memory = ::mmap(nullptr, mapped_bytes, PROT_READ, MAP_SHARED, fd.get(), 0);
        if (memory != MAP_FAILED) memory_ = static_cast<const volatile uint8_t*>(memory);
    }
    ~Registers() {
        if (memory_) ::munmap(const_cast<uint8_t*>(memory_), mapped_bytes);
    }
    Registers(const Registers&) = delete;
    Registers& operator=(const Registers&) = delete;

    explicit operator bool() const { return memory_ != nullptr; }
    // An aligned access: switches refuse others.
    uint32_t read32(uint64_t offset) const {
        return *reinterpret_cast<const volatile uint32_t*>(memory_ + (offset & ~uint64_t{3}));
    }

  private:
    const volatile uint8_t* memory_ = nullptr;
};

void read_registers(const Registers& registers, switchtec::Generation generation, NtbAdapter& adapter,
                    Function& function) {
    const uint32_t partition = registers.read32(gas::partition_id(generation));
    if (partition >= switchtec::max_partitions) {
        function.notes.push_back(fmt::format(
            "its registers say that it is partition {:#x}: they are not read further", partition));
        return;
    }
    adapter.partition = partition;
    const uint64_t map = gas::ntb_info + offsetof(switchtec::NtbInfo, ep_map);
    const uint64_t endpoints = uint64_t{registers.read32(map + 4)} << 32 | registers.read32(map);
    adapter.partitions =
        static_cast<unsigned>(std::popcount(endpoints & ((uint64_t{1} << switchtec::max_partitions) - 1)));
    const uint64_t control = gas::control(partition);
    const uint32_t entries = registers.read32(control + offsetof(switchtec::ControlBlock, lut_entries));
    const uint32_t slots = registers.read32(control + offsetof(switchtec::ControlBlock, requesters));
    if ((entries & 0xffff) <= switchtec::max_lut_entries) adapter.lut_entries = entries & 0xffff;
    if ((slots & 0xffff) <= switchtec::max_requesters) adapter.requester_slots = slots & 0xffff;
}

bool may_read(const Function& function) {
    // A card without power or with memory accesses off answers with all-ones, or with an error that takes the
    // machine down.
    return function.bars[0].address != 0 && !function.bars[0].io &&
           (function.power_state.empty() || function.power_state == "D0");
}

} // namespace

std::vector<NtbAdapter> find_adapters(Files& files, std::vector<Function>& functions,
                                      const std::optional<std::filesystem::path>& registers) {
    std::vector<NtbAdapter> adapters;
    for (auto& function : functions) {
        const auto generation = switchtec::generation(function.device_id);
        if (kind_of(function) != "ntb" || !generation) continue;
        NtbAdapter adapter;
        adapter.address = function.address;
        // BAR 0 has the registers.
        for (size_t i = 1; i < function.bars.size(); ++i)
            if (!function.bars[i].io && function.bars[i].size_bytes != 0)
                adapter.window_bar_bytes.push_back(function.bars[i].size_bytes);
        const std::string link = "/sys/bus/pci/devices/" + pci::to_string(function.address);
        const auto folder = follow(files, link);
        const bool enabled = folder && read_word(files, *folder + "/enable") != "0";
        if (registers && may_read(function) && folder && enabled) {
            const Registers mapped(*registers / folder->substr(sizeof("/sys/") - 1) / "resource0");
            if (mapped)
                read_registers(mapped, *generation, adapter, function);
            else
                function.notes.push_back(
                    "its registers could not be mapped: that takes root, a kernel that is not "
                    "locked down, and no driver that keeps them to itself");
        } else if (registers) {
            function.notes.push_back("its registers are not read: it is not enabled");
        }
        adapters.push_back(std::move(adapter));
    }
    return adapters;
}

} // namespace lanepool::inventory
