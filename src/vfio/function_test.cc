// SPDX-License-Identifier: Apache-2.0
#include "vfio/function.h"

#include "pci/address.h"
#include "vfio/fake_kernel.h"
#include "vfio/hot_reset.h"

#include <fcntl.h>
#include <future>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lanepool::vfio {
namespace {

using pci::Region;
using testing::Contains;
using testing::HasSubstr;
using testing::Not;

constexpr uint64_t page = 4096;

class VfioFunction : public testing::Test {
  protected:
    Result<std::unique_ptr<KernelFunction>> try_open(const pci::Address& address = FakeKernel::address) {
        return KernelFunction::open(kernel, groups, kernel.paths(), address);
    }
    std::unique_ptr<KernelFunction> open() { return std::move(try_open().value()); }
    MemoryRef memory(uint64_t size_bytes) {
        return {share(create_memory("memory", size_bytes).value()), 0, size_bytes};
    }
    static Range<Iova> range(uint64_t start, uint64_t size) {
        return Range<Iova>::create({start}, size).value();
    }

    FakeKernel kernel;
    Groups groups{kernel};
};

TEST_F(VfioFunction, IsOpenedByGroupAndContainer) {
    const auto function = open();
    EXPECT_THAT(kernel.opened, testing::ElementsAre("/dev/vfio/vfio", "/dev/vfio/7"));
    EXPECT_EQ(function->region(Region::bar0).size_bytes, FakeKernel::bar_bytes);
    EXPECT_EQ(function->region(Region::vga).size_bytes, 0u);
    EXPECT_EQ(function->irq(pci::Irq::msix).count, 16u);
    EXPECT_EQ(function->irq(pci::Irq::request).count, 0u) << "that one is used here";
    EXPECT_TRUE(function->can_reset());
    EXPECT_FALSE(function->hands_out_memory());
}

TEST_F(VfioFunction, SharesItsGroupWithASiblingAndGivesItBackWithTheLast) {
    kernel.add_function("0000:03:00.1", "vfio-pci");
    auto function = open();
    auto other = try_open(FakeKernel::sibling);
    ASSERT_TRUE(other) << other.error().message();
    EXPECT_EQ(kernel.opened.size(), 2u);
    EXPECT_EQ(try_open().error().code(), Errc::busy);
    function.reset();
    EXPECT_GE(groups.descriptor(FakeKernel::group), 0);
    other->reset();
    EXPECT_EQ(groups.descriptor(FakeKernel::group), -1);
}

TEST_F(VfioFunction, SaysWhichFilesKeepItAsItIs) {
    auto function = open();
    auto files = function->lifelines();
    ASSERT_EQ(files.size(), 3u);
    EXPECT_EQ(files[0]->get(), groups.descriptor(FakeKernel::group));
    EXPECT_EQ(files[1]->get(), kernel.container);
    const auto extents = function->memory(Region::bar0, 0, page).value();
    EXPECT_EQ(files[2], extents.at(0).memory.fd);
    function.reset();
    for (const auto& file : files)
        EXPECT_GE(fcntl(file->get(), F_GETFD), 0) << "somebody still has it";
}

TEST_F(VfioFunction, IsNotHadFromAnotherDriver) {
    kernel.add_function("0000:03:00.0", "nvme");
    const auto refused = try_open();
    EXPECT_EQ(refused.error().code(), Errc::failed_precondition);
    EXPECT_EQ(refused.error().message(), "function 0000:03:00.0 is not bound to vfio-pci, nvme has it");
    EXPECT_EQ(try_open({0, 9, 0, 0}).error().code(), Errc::not_found);
    kernel.add_function("0000:03:00.0", "mlx5-vfio-pci");
    EXPECT_TRUE(try_open());
}

TEST_F(VfioFunction, NeedsItsWholeGroup) {
    kernel.viable = false;
    kernel.add_function("0000:03:00.1", "igb");
    const auto refused = try_open();
    EXPECT_EQ(refused.error().code(), Errc::failed_precondition);
    EXPECT_THAT(refused.error().message(), HasSubstr("IOMMU group 7"));
    EXPECT_THAT(refused.error().message(), HasSubstr("0000:03:00.1 (igb)"));
    EXPECT_THAT(refused.error().message(), Not(HasSubstr("0000:03:00.0")));
}

TEST_F(VfioFunction, NeedsAnIommu) {
    std::filesystem::remove(kernel.folder / "sys/bus/pci/devices/0000:03:00.0/iommu_group");
    EXPECT_THAT(try_open().error().message(), HasSubstr("intel_iommu=on"));
}

TEST_F(VfioFunction, SaysWhyTheKernelDoesNotGiveIt) {
    kernel.open_errors["/dev/vfio/7"] = EBUSY;
    EXPECT_EQ(try_open().error().code(), Errc::busy);
    kernel.open_errors["/dev/vfio/7"] = EACCES;
    EXPECT_EQ(try_open().error().code(), Errc::permission_denied);
    kernel.open_errors["/dev/vfio/vfio"] = ENOENT;
    EXPECT_EQ(try_open().error().code(), Errc::not_supported);
    kernel.open_errors.clear();
    kernel.type1 = 0;
    EXPECT_THAT(try_open().error().message(), HasSubstr("iommufd alone is not supported"));
    kernel.type1 = 1;
    kernel.errors[FakeKernel::of_container | VFIO_SET_IOMMU] = {-EPERM};
    EXPECT_THAT(try_open().error().message(), HasSubstr("interrupt remapping"));
    kernel.errors.clear();
    kernel.errors[VFIO_GROUP_GET_DEVICE_FD] = {-ENODEV};
    EXPECT_FALSE(try_open());
    EXPECT_EQ(groups.descriptor(FakeKernel::group), -1) << "what could not be opened keeps nothing";
}

TEST_F(VfioFunction, IsReadInAsManyPiecesAsTheKernelLikes) {
    const auto function = open();
    kernel.most_at_a_time = 3;
    std::array<std::byte, 11> written, read;
    for (size_t i = 0; i < written.size(); ++i)
        written[i] = static_cast<std::byte>(i + 1);
    ASSERT_TRUE(function->write(Region::bar0, 100, written));
    ASSERT_TRUE(function->read(Region::bar0, 100, read));
    EXPECT_EQ(read, written);
    EXPECT_EQ(function->read(Region::bar0, FakeKernel::bar_bytes - 4, read).error().code(),
              Errc::out_of_range);
    EXPECT_EQ(function->read(Region::bar1, 0, read).error().code(), Errc::out_of_range);
}

TEST_F(VfioFunction, SaysWhyItsRegistersCannotBeReached) {
    const auto function = open();
    kernel.io_error = EIO;
    EXPECT_THAT(pci::read32(*function, Region::bar0, 0).error().message(), HasSubstr("D3"));
    pci::set16(kernel.config, pci::config::command, 0);
    const auto off = pci::write32(*function, Region::bar0, 0, 1);
    EXPECT_EQ(off.error().code(), Errc::failed_precondition);
    EXPECT_THAT(off.error().message(), HasSubstr("memory space is off"));
    pci::set16(kernel.config, pci::config::status, 0xffff);
    EXPECT_EQ(pci::read32(*function, Region::bar0, 0).error().code(), Errc::disconnected);
}

TEST_F(VfioFunction, MapsMemoryAsItWasTold) {
    const auto function = open();
    auto mapped = function->map_dma(range(0x100000, 2 * page), memory(3 * page), Access::read_only);
    ASSERT_TRUE(mapped);
    ASSERT_EQ(kernel.maps.size(), 1u);
    EXPECT_EQ(kernel.maps[0].iova, 0x100000u);
    EXPECT_EQ(kernel.maps[0].size, 2 * page);
    EXPECT_EQ(kernel.maps[0].flags, uint32_t{VFIO_DMA_MAP_FLAG_READ});
    EXPECT_EQ(function->map_dma(range(0x101000, page), memory(page), Access::read_write).error().code(),
              Errc::already_exists);
    EXPECT_EQ(
        function->map_dma(range(0xff000, 4 * page), memory(4 * page), Access::read_write).error().code(),
        Errc::already_exists);
    EXPECT_TRUE(function->map_dma(range(0xff000, page), memory(page), Access::read_write));
    EXPECT_TRUE(function->map_dma(range(0x102000, page), memory(page), Access::read_write));
    EXPECT_EQ(function->map_dma(range(0x200000, 2 * page), memory(page), Access::read_write).error().code(),
              Errc::invalid_argument);
    auto offset = memory(2 * page);
    offset.offset_bytes = 8;
    offset.size_bytes = page;
    EXPECT_EQ(function->map_dma(range(0x200000, page), offset, Access::read_write).error().code(),
              Errc::invalid_argument);
    EXPECT_TRUE(mapped->unmap());
    EXPECT_THAT(kernel.unmaps, Contains(0x100000u));
}

TEST_F(VfioFunction, SaysWhyItCannotMap) {
    const auto function = open();
    const auto refused = [&](int error) {
        kernel.errors[FakeKernel::of_container | VFIO_IOMMU_MAP_DMA] = {error};
        return function->map_dma(range(0x100000, page), memory(page), Access::read_write).error();
    };
    EXPECT_THAT(refused(-ENOSPC).message(), HasSubstr("dma_entry_limit"));
    EXPECT_EQ(refused(-ENOSPC).code(), Errc::no_space);
    EXPECT_THAT(refused(-ENOMEM).message(), HasSubstr("RLIMIT_MEMLOCK"));
    EXPECT_EQ(refused(-ENOMEM).code(), Errc::no_space);
    EXPECT_THAT(refused(-EFAULT).message(), HasSubstr("memory space"));
    kernel.errors.clear();
    EXPECT_TRUE(function->map_dma(range(0x100000, page), memory(page), Access::read_write))
        << "what was refused is not there";
}

TEST_F(VfioFunction, KeepsWhatTheKernelDoesNotConfirmUntilTheEnd) {
    auto function = open();
    auto mapped = function->map_dma(range(0x100000, page), memory(page), Access::read_write);
    kernel.unmaps_nothing = true;
    EXPECT_EQ(mapped->unmap().error().code(), Errc::io);
    EXPECT_EQ(function->map_dma(range(0x100000, page), memory(page), Access::read_write).error().code(),
              Errc::already_exists);
    EXPECT_EQ(function->unmap_dma(range(0x100000, 2 * page)).error().code(), Errc::not_found);
    kernel.unmaps.clear();
    function.reset();
    EXPECT_EQ(kernel.unmaps.size(), 1u);
}

TEST_F(VfioFunction, MapsNothingButMemory) {
    const auto function = open();
    const auto eventfd = create_eventfd().value();
    EXPECT_EQ(function->map_dma_event({0x1000}, eventfd).error().code(), Errc::not_supported);
    EXPECT_EQ(function->map_dma(range(0, page), nullptr, Access::read_write).error().code(),
              Errc::not_supported);
    EXPECT_EQ(function->event(Region::bar0, 0).error().code(), Errc::not_supported);
}

TEST_F(VfioFunction, IsQuietAfterAReset) {
    const auto function = open();
    const auto eventfd = create_eventfd().value();
    const int fd = eventfd.get();
    ASSERT_TRUE(function->set_irqs(pci::Irq::msix, 0, {&fd, 1}));
    pci::set16(kernel.config, pci::config::command, pci::command::memory_space | pci::command::bus_master);
    kernel.errors[VFIO_DEVICE_RESET] = {-EAGAIN, -EAGAIN, 0};
    ASSERT_TRUE(function->reset());
    EXPECT_EQ(kernel.count(VFIO_DEVICE_RESET), 3u);
    EXPECT_EQ(pci::get16(kernel.config, pci::config::command), pci::command::memory_space);
    EXPECT_FALSE(kernel.vectors.contains(VFIO_PCI_MSIX_IRQ_INDEX));
}

TEST_F(VfioFunction, IsNotCalledResetWhenItIsDead) {
    const auto function = open();
    pci::set16(kernel.config, pci::config::status, 0xffff);
    const auto reset = function->reset();
    EXPECT_EQ(reset.error().code(), Errc::io);
    EXPECT_THAT(reset.error().message(), HasSubstr("dead"));
}

TEST_F(VfioFunction, IsResetWithItsBusWhenNobodyElseSuffers) {
    kernel.resets_alone = false;
    kernel.add_function("0000:03:00.1", "vfio-pci");
    const auto function = open();
    ASSERT_TRUE(function->can_reset());
    ASSERT_TRUE(function->reset());
    EXPECT_EQ(kernel.count(VFIO_DEVICE_PCI_HOT_RESET), 1u);
    EXPECT_EQ(kernel.count(VFIO_DEVICE_RESET), 0u);
    const auto other = try_open(FakeKernel::sibling);
    const auto refused = function->reset();
    EXPECT_EQ(refused.error().code(), Errc::busy);
    EXPECT_THAT(refused.error().message(), HasSubstr("0000:03:00.1"));
    EXPECT_EQ(kernel.count(VFIO_DEVICE_PCI_HOT_RESET), 1u);
}

TEST_F(VfioFunction, CannotBeResetWhenItsBusHoldsOthers) {
    EXPECT_EQ(groups_to_reset(groups, FakeKernel::address, {{9, {0, 3, 0, 2}}}).error().code(), Errc::busy);
    kernel.resets_alone = false;
    kernel.errors[VFIO_DEVICE_GET_PCI_HOT_RESET_INFO] = {-ENODEV};
    const auto function = open();
    EXPECT_FALSE(function->can_reset());
    EXPECT_EQ(function->reset().error().code(), Errc::not_supported);
}

TEST_F(VfioFunction, SaysWhenTheKernelWantsItBack) {
    const auto function = open();
    for (const uint32_t index : {VFIO_PCI_ERR_IRQ_INDEX, VFIO_PCI_REQ_IRQ_INDEX})
        ASSERT_EQ(kernel.vectors[index].size(), 1u);
    const uint64_t one = 1;
    ASSERT_EQ(::write(kernel.vectors[VFIO_PCI_REQ_IRQ_INDEX][0], &one, sizeof one), 8);
    std::promise<void> told, told_late;
    function->on_disconnect([&] { told.set_value(); });
    ASSERT_EQ(told.get_future().wait_for(std::chrono::seconds(10)), std::future_status::ready);
    function->on_disconnect([&] { told_late.set_value(); });
    ASSERT_EQ(told_late.get_future().wait_for(std::chrono::seconds(10)), std::future_status::ready);
    kernel.errors[VFIO_DEVICE_RESET] = {-EAGAIN};
    EXPECT_EQ(function->reset().error().code(), Errc::disconnected);
}

TEST_F(VfioFunction, IsQuietWhenItIsClosed) {
    auto function = open();
    const auto kept = function->memory(Region::bar0, 0, page).value();
    const auto eventfd = create_eventfd().value();
    const int fd = eventfd.get();
    ASSERT_TRUE(function->set_irqs(pci::Irq::msi, 0, {&fd, 1}));
    pci::set16(kernel.config, pci::config::command, pci::command::memory_space | pci::command::bus_master);
    function.reset();
    EXPECT_EQ(pci::get16(kernel.config, pci::config::command), pci::command::memory_space);
    EXPECT_FALSE(kernel.vectors.contains(VFIO_PCI_MSI_IRQ_INDEX));
}

} // namespace
} // namespace lanepool::vfio
