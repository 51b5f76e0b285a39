// SPDX-License-Identifier: Apache-2.0
//
// pci::Function over kernel VFIO, with a real kernel, a real IOMMU and devices that are not ours. Runs inside
// of a whole host; vfio_test.py starts it there and says in the environment where the devices are.
#include "base/mapping.h"
#include "nvme/driver.h"
#include "nvme/io_commands.h"
#include "pci/address.h"
#include "pci/config_space.h"
#include "vfio/open.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <future>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sstream>

namespace lanepool::vfio {
namespace {

using pci::Irq;
using pci::Region;
using testing::HasSubstr;

namespace fs = std::filesystem;

constexpr uint64_t page = 4096;
constexpr Iova somewhere{0x1'0000'0000};

pci::Address device(const char* name) {
    const char* text = std::getenv(name);
    return pci::parse_address(text ? text : "").value();
}

std::unique_ptr<pci::Function> open_or_fail(const pci::Address& address) {
    auto function = open(address);
    if (!function) throw std::runtime_error(function.error().message());
    return std::move(*function);
}

size_t open_files() {
    return static_cast<size_t>(
        std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator()));
}

void write_file(const fs::path& path, const std::string& text) {
    std::ofstream file(path);
    file << text << std::flush;
    if (!file) throw std::runtime_error("writing " + path.string());
}

void bind(const pci::Address& address, const std::string& driver) {
    const auto folder = fs::path("/sys/bus/pci/devices") / pci::to_string(address);
    if (fs::exists(folder / "driver")) write_file(folder / "driver/unbind", pci::to_string(address));
    write_file(folder / "driver_override", driver);
    write_file("/sys/bus/pci/drivers_probe", pci::to_string(address));
}

bool wait_for(const UniqueFd& eventfd, int timeout_ms = 5000) {
    pollfd poller{eventfd.get(), POLLIN, 0};
    return ::poll(&poller, 1, timeout_ms) == 1 && drain(eventfd) != 0;
}

struct Memory {
    explicit Memory(uint64_t size_bytes)
        : ref{share(create_memory("vfio-test", size_bytes).value()), 0, size_bytes},
          mapping(Mapping::create(ref).value()) {}
    MemoryRef ref;
    Mapping mapping;
};

Result<> set_command(pci::Function& function, uint16_t bits, bool on) {
    auto command = pci::read16(function, Region::config, pci::config::command);
    if (!command) return tl::unexpected(command.error());
    return pci::write16(function, Region::config, pci::config::command,
                        static_cast<uint16_t>(on ? *command | bits : *command & ~bits));
}

// QEMU's teaching device (docs/specs/edu.rst there): registers in BAR0, a factorial unit, a DMA engine over
// 4 KiB of its own, one MSI vector.
class Edu {
  public:
    static constexpr uint64_t id = 0x00, liveness = 0x04, factorial = 0x08, status = 0x20, raise = 0x60,
                              acknowledge = 0x64, source = 0x80, destination = 0x88, count = 0x90,
                              command = 0x98, buffer = 0x40000;
    static constexpr uint32_t run = 1, from_device = 2;

    explicit Edu(const char* name = "EDU") : function(open_or_fail(device(name))) {
        const auto extents = function->memory(Region::bar0, 0, 1 << 20).value();
        registers = Mapping::create(extents.at(0).memory).value();
        EXPECT_TRUE(set_command(*function, pci::command::bus_master, true));
    }
    template <class T>
    volatile T& at(uint64_t offset) {
        return *reinterpret_cast<volatile T*>(registers.data() + offset);
    }
    // A transfer takes a tenth of a second.
    void transfer(uint64_t from, uint64_t to, uint64_t size_bytes, uint32_t direction) {
        at<uint64_t>(source) = from;
        at<uint64_t>(destination) = to;
        at<uint64_t>(count) = size_bytes;
        at<uint64_t>(command) = run | direction;
        while (at<uint64_t>(command) & run) {
        }
    }
    void fetch(Iova from, uint64_t size_bytes) { transfer(from.value, buffer, size_bytes, 0); }
    void store(Iova to, uint64_t size_bytes) { transfer(buffer, to.value, size_bytes, from_device); }

    std::unique_ptr<pci::Function> function;
    Mapping registers;
};

TEST(VfioEdu, IsWhatItSays) {
    Edu edu;
    EXPECT_EQ(edu.function->region(Region::bar0).size_bytes, 1u << 20);
    EXPECT_EQ(edu.function->region(Region::bar1).size_bytes, 0u);
    EXPECT_GE(edu.function->region(Region::config).size_bytes, 256u);
    EXPECT_EQ(edu.function->irq(Irq::msi).count, 1u);
    EXPECT_EQ(edu.function->irq(Irq::msix).count, 0u);
    EXPECT_TRUE(edu.function->irq(Irq::intx).automasked);
    EXPECT_TRUE(edu.function->can_reset());
    EXPECT_EQ(pci::read32(*edu.function, Region::config, pci::config::vendor_id).value(), 0x11e81234u);
    EXPECT_EQ(pci::read32(*edu.function, Region::bar0, Edu::id).value(), 0x010000edu);
    EXPECT_EQ(edu.at<uint32_t>(Edu::id), 0x010000edu);
    ASSERT_TRUE(pci::write32(*edu.function, Region::bar0, Edu::liveness, 0x12345678));
    EXPECT_EQ(edu.at<uint32_t>(Edu::liveness), ~0x12345678u);
}

TEST(VfioEdu, OpensQuietAndWithRegisters) {
    const auto function = open_or_fail(device("EDU"));
    const auto command = pci::read16(*function, Region::config, pci::config::command).value();
    EXPECT_EQ(command & pci::command::bus_master, 0);
    EXPECT_NE(command & pci::command::memory_space, 0);
}

TEST(VfioEdu, SaysWhenMemorySpaceIsOff) {
    const auto function = open_or_fail(device("EDU"));
    ASSERT_TRUE(set_command(*function, pci::command::memory_space, false));
    const auto read = pci::read32(*function, Region::bar0, Edu::id);
    ASSERT_FALSE(read);
    EXPECT_EQ(read.error().code(), Errc::failed_precondition);
    EXPECT_THAT(read.error().message(), HasSubstr("memory space is off"));
    ASSERT_TRUE(set_command(*function, pci::command::memory_space, true));
    EXPECT_EQ(pci::read32(*function, Region::bar0, Edu::id).value(), 0x010000edu);
}

TEST(VfioEdu, BelongsToOneAtATime) {
    const auto first = open_or_fail(device("EDU"));
    EXPECT_EQ(open(device("EDU")).error().code(), Errc::busy);
}

TEST(VfioEdu, SignalsByMsi) {
    Edu edu;
    const auto eventfd = create_eventfd().value();
    const int fd = eventfd.get();
    ASSERT_TRUE(edu.function->set_irqs(Irq::msi, 0, {&fd, 1}));
    edu.at<uint32_t>(Edu::status) = 0x80; // tell when it is done
    edu.at<uint32_t>(Edu::factorial) = 10;
    EXPECT_TRUE(wait_for(eventfd));
    EXPECT_EQ(edu.at<uint32_t>(Edu::factorial), 3628800u);
    edu.at<uint32_t>(Edu::acknowledge) = ~0u;
    ASSERT_TRUE(edu.function->set_irqs(Irq::msi, 0, {}));
    edu.at<uint32_t>(Edu::raise) = 1;
    EXPECT_FALSE(wait_for(eventfd, 50));
    edu.at<uint32_t>(Edu::acknowledge) = ~0u;
}

TEST(VfioEdu, SignalsByIntxOnceForEachUnmasking) {
    Edu edu;
    const auto eventfd = create_eventfd().value();
    const int fd = eventfd.get();
    ASSERT_TRUE(edu.function->set_irqs(Irq::intx, 0, {&fd, 1}));
    edu.at<uint32_t>(Edu::raise) = 1;
    EXPECT_TRUE(wait_for(eventfd));
    EXPECT_FALSE(wait_for(eventfd, 50));
    ASSERT_TRUE(edu.function->mask_irq(Irq::intx, 0, false));
    EXPECT_TRUE(wait_for(eventfd)) << "the line is still up";
    edu.at<uint32_t>(Edu::acknowledge) = ~0u;
    ASSERT_TRUE(edu.function->mask_irq(Irq::intx, 0, false));
    EXPECT_FALSE(wait_for(eventfd, 50));
}

TEST(VfioEdu, OneKindOfInterruptTakesOverFromTheOther) {
    Edu edu;
    const auto line = create_eventfd().value();
    const auto message = create_eventfd().value();
    const int line_fd = line.get(), message_fd = message.get();
    ASSERT_TRUE(edu.function->set_irqs(Irq::intx, 0, {&line_fd, 1}));
    ASSERT_TRUE(edu.function->set_irqs(Irq::msi, 0, {&message_fd, 1}));
    edu.at<uint32_t>(Edu::raise) = 1;
    EXPECT_TRUE(wait_for(message));
    edu.at<uint32_t>(Edu::acknowledge) = ~0u;
    EXPECT_FALSE(wait_for(line, 20));
}

TEST(VfioEdu, ReachesWhatIsMappedAndNothingElse) {
    Edu edu;
    Memory memory(3 * page);
    std::memset(memory.mapping.data(), 0x11, 3 * page);
    const auto range = Range<Iova>::create(somewhere, page).value();
    auto mapped = edu.function->map_dma(range, {memory.ref.fd, page, page}, Access::read_write);
    ASSERT_TRUE(mapped) << mapped.error().message();
    std::memset(memory.mapping.data() + page, 0xa5, 64);
    edu.fetch(somewhere, 64);
    edu.store(somewhere + 1024, 64);
    EXPECT_EQ(memory.mapping.data()[page + 1024], std::byte{0xa5});
    EXPECT_EQ(memory.mapping.data()[page + 1024 + 63], std::byte{0xa5});
    EXPECT_EQ(memory.mapping.data()[page + 1024 + 64], std::byte{0x11});

    edu.store(somewhere + page, 64);                                     // the page behind
    edu.store({reinterpret_cast<uintptr_t>(memory.mapping.data())}, 64); // no IOVA at all
    for (uint64_t i = 0; i < page; ++i) {
        ASSERT_EQ(memory.mapping.data()[i], std::byte{0x11}) << i;
        ASSERT_EQ(memory.mapping.data()[2 * page + i], std::byte{0x11}) << i;
    }

    ASSERT_TRUE(mapped->unmap());
    std::memset(memory.mapping.data(), 0x22, 3 * page);
    edu.store(somewhere, 64);
    for (uint64_t i = 0; i < 3 * page; ++i)
        ASSERT_EQ(memory.mapping.data()[i], std::byte{0x22}) << i;
}

TEST(VfioEdu, DoesNotWriteWhereItMayOnlyRead) {
    Edu edu;
    Memory memory(page);
    std::memset(memory.mapping.data(), 0x77, page);
    const auto mapped =
        edu.function->map_dma(Range<Iova>::create(somewhere, page).value(), memory.ref, Access::read_only);
    ASSERT_TRUE(mapped) << mapped.error().message();
    edu.fetch(somewhere + 128, 64);
    std::memset(memory.mapping.data(), 0x33, page);
    edu.store(somewhere, 64);
    EXPECT_EQ(memory.mapping.data()[0], std::byte{0x33});
}

TEST(VfioEdu, DoesNothingWithoutBusMaster) {
    Edu edu;
    Memory memory(page);
    const auto mapped =
        edu.function->map_dma(Range<Iova>::create(somewhere, page).value(), memory.ref, Access::read_write);
    ASSERT_TRUE(mapped);
    std::memset(memory.mapping.data(), 0x44, page);
    edu.fetch(somewhere, 64);
    std::memset(memory.mapping.data(), 0, page);
    ASSERT_TRUE(set_command(*edu.function, pci::command::bus_master, false));
    edu.store(somewhere, 64);
    EXPECT_EQ(memory.mapping.data()[0], std::byte{0});
}

TEST(VfioEdu, RefusesWhatTheIommuCannotMap) {
    Edu edu;
    Memory memory(2 * page);
    const auto map = [&](uint64_t start, uint64_t size, uint64_t offset) {
        return edu.function->map_dma(Range<Iova>::create({start}, size).value(),
                                     {memory.ref.fd, offset, 2 * page - offset}, Access::read_write);
    };
    EXPECT_EQ(map(somewhere.value + 512, page, 0).error().code(), Errc::invalid_argument);
    EXPECT_EQ(map(somewhere.value, 100, 0).error().code(), Errc::invalid_argument);
    EXPECT_EQ(map(somewhere.value, page, 8).error().code(), Errc::invalid_argument);
    const auto reserved = map(0xfee00000, page, 0);
    EXPECT_EQ(reserved.error().code(), Errc::out_of_range);
    EXPECT_THAT(reserved.error().message(), HasSubstr("0x0-0xfedfffff"));
    const auto mapped = map(somewhere.value, 2 * page, 0);
    ASSERT_TRUE(mapped);
    EXPECT_EQ(map(somewhere.value + page, page, 0).error().code(), Errc::already_exists);
    EXPECT_EQ(edu.function->map_dma_event(somewhere, create_eventfd().value()).error().code(),
              Errc::not_supported);
}

TEST(VfioEdu, SaysWhenTheKernelHasNoMoreMappings) {
    const fs::path limit = "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit";
    std::string before;
    std::ifstream(limit) >> before;
    write_file(limit, "2");
    std::vector<pci::DmaMapping> mappings;
    Memory memory(page);
    {
        const auto function = open_or_fail(device("EDU"));
        write_file(limit, before);
        const auto map = [&](uint64_t at) {
            return function->map_dma(Range<Iova>::create(somewhere + at * page, page).value(), memory.ref,
                                     Access::read_write);
        };
        mappings.push_back(map(0).value());
        mappings.push_back(map(1).value());
        const auto refused = map(2);
        ASSERT_FALSE(refused);
        EXPECT_EQ(refused.error().code(), Errc::no_space);
        EXPECT_THAT(refused.error().message(), HasSubstr("all 2 mappings"));
        mappings.pop_back();
        EXPECT_TRUE(map(2));
        mappings.clear();
    }
}

TEST(VfioEdu, WritesIntoAnotherFunction) {
    Edu edu;
    const auto other = open_or_fail(device("MEMORY"));
    constexpr uint64_t size = 1 << 20; // BAR2 of ivshmem is its memory
    ASSERT_GE(other->region(Region::bar2).size_bytes, size);
    auto mapped = pci::map_peer(*edu.function, somewhere, *other, Region::bar2, 0, size, Access::read_write);
    ASSERT_TRUE(mapped) << mapped.error().message();
    const auto seen = Mapping::create(other->memory(Region::bar2, 0, size).value().at(0).memory).value();
    std::memset(seen.data(), 0x5a, page);
    edu.fetch(somewhere, 256);
    edu.store(somewhere + 0x80000, 256);
    EXPECT_EQ(std::memcmp(seen.data(), seen.data() + 0x80000, 256), 0);
    for (auto& mapping : *mapped)
        ASSERT_TRUE(mapping.unmap());
    std::memset(seen.data() + 0x80000, 0, 256);
    edu.store(somewhere + 0x80000, 256);
    EXPECT_EQ(seen.data()[0x80000], std::byte{0});
}

TEST(VfioEdu, LeavesNothingOpen) {
    { Edu once; } // what the library opens once
    const auto before = open_files();
    Memory memory(page);
    const auto with_memory = open_files();
    for (int i = 0; i < 3; ++i) {
        Edu edu;
        const auto eventfd = create_eventfd().value();
        const int fd = eventfd.get();
        ASSERT_TRUE(edu.function->set_irqs(Irq::msi, 0, {&fd, 1}));
        auto mapped = edu.function->map_dma(Range<Iova>::create(somewhere, page).value(), memory.ref,
                                            Access::read_write);
        ASSERT_TRUE(mapped);
        ASSERT_TRUE(mapped->unmap());
    }
    EXPECT_EQ(open_files(), with_memory);
    EXPECT_EQ(with_memory, before + 1);
}

TEST(VfioEdu, IsQuietEvenWhereItsDescriptorLivesOn) {
    std::vector<pci::Extent> kept;
    {
        Edu edu;
        kept = edu.function->memory(Region::bar0, 0, page).value();
    }
    const auto again = open(device("EDU"));
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().code(), Errc::busy);
    EXPECT_THAT(again.error().message(), HasSubstr("a mapping of a function"));
    kept.clear();
    EXPECT_TRUE(open(device("EDU")));
}

TEST(VfioEdu, HearsThatItHasToGo) {
    const auto address = device("EDU");
    auto function = open_or_fail(address);
    std::promise<void> asked;
    function->on_disconnect([&] { asked.set_value(); });
    auto unbinding = std::async(std::launch::async, [&] {
        write_file("/sys/bus/pci/drivers/vfio-pci/unbind", pci::to_string(address));
    });
    ASSERT_EQ(asked.get_future().wait_for(std::chrono::seconds(10)), std::future_status::ready);
    // The kernel waits for us: the function can still be left in order.
    EXPECT_TRUE(set_command(*function, pci::command::bus_master, false));
    EXPECT_EQ(function->reset().error().code(), Errc::disconnected);
    function.reset();
    unbinding.get();
    EXPECT_EQ(open(address).error().code(), Errc::failed_precondition);
    bind(address, "vfio-pci");
    EXPECT_TRUE(open(address));
}

class VfioNvme : public testing::Test {
  protected:
    std::unique_ptr<pci::Function> function = open_or_fail(device("NVME"));
};

TEST_F(VfioNvme, KeepsItsData) {
    nvme::DriverOptions options;
    options.io_queues = 2;
    options.interrupt_vectors = 2;
    auto driver = nvme::Driver::create(*function, io::system_clock(), options);
    ASSERT_TRUE(driver) << driver.error().message();
    EXPECT_EQ((*driver)->info().serial, "nvme0");
    EXPECT_TRUE((*driver)->doorbells_mapped());
    const auto space = (*driver)->namespaces().at(0);
    auto queue = (*driver)->create_queue({.depth = 32, .interrupt_vector = 1});
    ASSERT_TRUE(queue) << queue.error().message();
    auto memory = (*driver)->allocate(128 << 10).value();
    const auto half = memory.bytes().first(64 << 10), other_half = memory.bytes().subspan(64 << 10);
    for (size_t i = 0; i < half.size(); ++i)
        half[i] = static_cast<std::byte>(i * 7 + i / 251);
    const auto blocks = static_cast<uint32_t>(half.size() / space.block_bytes);
    const auto wait = std::chrono::seconds(10);
    const auto written = (*queue)->execute(nvme::make_write(space, 8, blocks, {memory, 0}).value(), wait);
    ASSERT_TRUE(written.ok());
    EXPECT_TRUE(wait_for((*driver)->interrupt(1)));
    const auto read =
        (*queue)->execute(nvme::make_read(space, 8, blocks, {memory, half.size()}).value(), wait);
    ASSERT_TRUE(read.ok());
    EXPECT_EQ(std::memcmp(half.data(), other_half.data(), half.size()), 0);
    memory = {};
    EXPECT_TRUE((*driver)->shut_down());
}

TEST_F(VfioNvme, ReadsIntoAnotherFunction) {
    auto driver = nvme::Driver::create(*function, io::system_clock(), {});
    ASSERT_TRUE(driver) << driver.error().message();
    const auto space = (*driver)->namespaces().at(0);
    auto queue = (*driver)->create_queue({});
    ASSERT_TRUE(queue);
    const auto other = open_or_fail(device("MEMORY"));
    const Iova window{0x10'0000'0000};
    const auto mapped =
        pci::map_peer(*function, window, *other, Region::bar2, 0, 1 << 20, Access::read_write);
    ASSERT_TRUE(mapped) << mapped.error().message();
    const auto seen = Mapping::create(other->memory(Region::bar2, 0, 1 << 20).value().at(0).memory).value();
    for (size_t i = 0; i < 2 * page; ++i)
        seen.data()[i] = static_cast<std::byte>(i * 13 + 1);
    const auto wait = std::chrono::seconds(10);
    const auto blocks = static_cast<uint32_t>(page / space.block_bytes);
    const auto run = [&](nvme::Command command, uint64_t offset) {
        command.prp1 = window.value + offset;
        command.prp2 = 0;
        return (*queue)->execute(command, wait);
    };
    auto placeholder = (*driver)->allocate(page).value();
    ASSERT_TRUE(run(nvme::make_write(space, 0, blocks, {placeholder, 0}).value(), 0).ok());
    ASSERT_TRUE(run(nvme::make_read(space, 0, blocks, {placeholder, 0}).value(), 0x40000).ok());
    EXPECT_EQ(std::memcmp(seen.data(), seen.data() + 0x40000, page), 0);
}

TEST_F(VfioNvme, IsNewAfterAReset) {
    constexpr uint64_t admin_queue_attributes = 0x24;
    const auto before = pci::read32(*function, Region::bar0, admin_queue_attributes).value();
    ASSERT_TRUE(pci::write32(*function, Region::bar0, admin_queue_attributes, 0x001f001f));
    ASSERT_EQ(pci::read32(*function, Region::bar0, admin_queue_attributes).value(), 0x001f001fu);
    ASSERT_TRUE(set_command(*function, pci::command::bus_master, true));
    const auto eventfd = create_eventfd().value();
    const int fd = eventfd.get();
    ASSERT_TRUE(function->set_irqs(Irq::msix, 0, {&fd, 1}));
    ASSERT_TRUE(function->reset());
    EXPECT_EQ(pci::read32(*function, Region::bar0, admin_queue_attributes).value(), before);
    const auto command = pci::read16(*function, Region::config, pci::config::command).value();
    EXPECT_EQ(command & pci::command::bus_master, 0);
    EXPECT_NE(command & pci::command::memory_space, 0);
    // Nothing of the interrupts is left that another kind would have to wait for.
    EXPECT_TRUE(function->set_irqs(Irq::intx, 0, {&fd, 1}));
}

TEST_F(VfioNvme, VectorsCanBeAdded) {
    std::vector<UniqueFd> eventfds;
    std::vector<int> fds;
    for (int i = 0; i < 4; ++i) {
        eventfds.push_back(create_eventfd().value());
        fds.push_back(eventfds.back().get());
    }
    ASSERT_TRUE(function->set_irqs(Irq::msix, 0, std::span(fds).first(1)));
    ASSERT_TRUE(function->set_irqs(Irq::msix, 2, std::span(fds).subspan(2, 2)));
    drain(eventfds[0]); // it may have been told that there was a gap
    ASSERT_TRUE(function->set_irqs(Irq::msix, 1, std::span(fds).subspan(1, 1)));
    ASSERT_TRUE(function->set_irqs(Irq::msix, 0, {}));
    EXPECT_EQ(
        function->set_irqs(Irq::msix, function->irq(Irq::msix).count, std::span(fds).first(1)).error().code(),
        Errc::out_of_range);
}

// Functions of the kinds that are lent, of a GPU, NICs and drives with SR-IOV.
TEST(VfioKinds, AreResetAndSignalByMsix) {
    std::istringstream addresses(std::getenv("KINDS"));
    int kinds = 0;
    for (std::string text; addresses >> text; ++kinds) {
        const auto function = open_or_fail(pci::parse_address(text).value());
        ASSERT_TRUE(function->can_reset()) << text;
        ASSERT_TRUE(set_command(*function, pci::command::bus_master, true));
        const auto eventfd = create_eventfd().value();
        const int fd = eventfd.get();
        ASSERT_GT(function->irq(Irq::msix).count, 0u) << text;
        const auto set = function->set_irqs(Irq::msix, 0, {&fd, 1});
        ASSERT_TRUE(set) << text << ": " << set.error().message();
        const auto reset = function->reset();
        ASSERT_TRUE(reset) << text << ": " << reset.error().message();
        const auto command = pci::read16(*function, Region::config, pci::config::command).value();
        EXPECT_EQ(command & pci::command::bus_master, 0) << text;
        // Registers are where they were, also of a function whose memory space bit is its parent's.
        for (const auto bar : {Region::bar0, Region::bar4}) {
            if (function->region(bar).mappable.empty()) continue;
            EXPECT_TRUE(pci::read32(*function, bar, 0)) << text;
        }
    }
    EXPECT_GE(kinds, 5);
}

// Two functions in one slot: one IOMMU group, and neither can be reset alone when it has no method of its
// own.
class VfioPair : public testing::Test {
  protected:
    const pci::Address first = device("PAIR");
    const pci::Address second = [this] {
        auto address = first;
        address.function = 1;
        return address;
    }();
    void TearDown() override { bind(second, "vfio-pci"); }
};

TEST_F(VfioPair, IsRefusedWhileTheHostHasTheOther) {
    bind(second, "nvme");
    const auto refused = open(first);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Errc::failed_precondition);
    EXPECT_THAT(refused.error().message(), HasSubstr(pci::to_string(second) + " (nvme)"));
    const auto not_ours = open(second);
    ASSERT_FALSE(not_ours);
    EXPECT_THAT(not_ours.error().message(), HasSubstr("nvme has it"));
}

TEST_F(VfioPair, IsResetTogetherUnlessTheOtherIsInUse) {
    const auto function = open_or_fail(first);
    ASSERT_TRUE(function->can_reset());
    ASSERT_TRUE(set_command(*function, pci::command::bus_master, true));
    const auto reset = function->reset();
    ASSERT_TRUE(reset) << reset.error().message();
    EXPECT_EQ(pci::read32(*function, Region::bar0, Edu::id).value(), 0x010000edu);
    EXPECT_EQ(pci::read16(*function, Region::config, pci::config::command).value() & pci::command::bus_master,
              0);
    const auto other = open_or_fail(second);
    const auto refused = function->reset();
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Errc::busy);
    EXPECT_THAT(refused.error().message(), HasSubstr(pci::to_string(second)));
}

TEST_F(VfioPair, SharesOneAddressSpace) {
    auto function = open_or_fail(first);
    const auto other = open_or_fail(second);
    Memory memory(page);
    const auto range = Range<Iova>::create(somewhere, page).value();
    auto mapped = function->map_dma(range, memory.ref, Access::read_write);
    ASSERT_TRUE(mapped);
    EXPECT_EQ(other->map_dma(range, memory.ref, Access::read_write).error().code(), Errc::already_exists);
    ASSERT_TRUE(mapped->unmap());
    function.reset();
    EXPECT_TRUE(other->map_dma(range, memory.ref, Access::read_write));
}

} // namespace
} // namespace lanepool::vfio
