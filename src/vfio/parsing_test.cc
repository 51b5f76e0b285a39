// SPDX-License-Identifier: Apache-2.0
#include "vfio/fake_kernel.h"
#include "vfio/hot_reset.h"
#include "vfio/info.h"
#include "vfio/interrupts.h"
#include "vfio/iommu.h"
#include "vfio/regions.h"

#include <gtest/gtest.h>
#include <random>

namespace lanepool::vfio {
namespace {

using pci::Area;

// Puts a struct behind what is there, and returns where.
template <class T>
uint32_t append(std::vector<std::byte>& answer, const T& value) {
    const auto offset = static_cast<uint32_t>(answer.size());
    const auto bytes = bytes_of(value);
    answer.insert(answer.end(), bytes.begin(), bytes.end());
    return offset;
}
template <class T>
void put(std::vector<std::byte>& answer, size_t offset, const T& value) {
    std::memcpy(answer.data() + offset, &value, sizeof value);
}

struct Sparse {
    vfio_info_cap_header header;
    uint32_t count, reserved;
};

class RegionAnswer {
  public:
    explicit RegionAnswer(uint64_t size_bytes) {
        vfio_region_info info{};
        info.index = 2;
        info.size = size_bytes;
        info.offset = uint64_t{2} << 40;
        info.flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_MMAP;
        append(bytes, info);
    }
    void add_capability(uint32_t offset) {
        auto info = part_of<vfio_region_info>(bytes).value();
        info.flags |= VFIO_REGION_INFO_FLAG_CAPS;
        info.cap_offset = offset;
        put(bytes, 0, info);
    }
    void add_sparse(std::initializer_list<vfio_region_sparse_mmap_area> areas, uint32_t count) {
        // Behind another capability, as the kernel has it.
        const auto first = append(bytes, vfio_info_cap_header{VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, 1, 0});
        const auto second = append(bytes, Sparse{{VFIO_REGION_INFO_CAP_SPARSE_MMAP, 1, 0}, count, 0});
        put(bytes, first, vfio_info_cap_header{VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, 1, second});
        for (const auto& area : areas)
            append(bytes, area);
        add_capability(first);
    }
    Result<RegionPlace> parse() const { return parse_region(bytes, 2); }
    std::vector<std::byte> bytes;
};

TEST(VfioRegion, MayBeMappedAsAWholeWithoutMoreWords) {
    RegionAnswer answer(16384);
    answer.add_capability(
        append(answer.bytes, vfio_info_cap_header{VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, 1, 0}));
    const auto place = answer.parse();
    ASSERT_TRUE(place);
    EXPECT_EQ(place->info.mappable, std::vector<Area>({{0, 16384}}));
    EXPECT_TRUE(place->info.readable);
    EXPECT_FALSE(place->info.writable);
}

TEST(VfioRegion, MayBeMappedWhereItSays) {
    RegionAnswer answer(65536);
    answer.add_sparse({{32768, 4096}, {0, 8192}, {4096, 0}}, 3);
    const auto place = answer.parse();
    ASSERT_TRUE(place) << place.error().message();
    EXPECT_EQ(place->info.mappable, std::vector<Area>({{0, 8192}, {32768, 4096}}));
    const auto fd = share(create_memory("region", 4096).value());
    const auto extents = place->memory(fd, 4096, 30000);
    ASSERT_EQ(extents.size(), 2u);
    EXPECT_EQ(extents[0].offset_bytes, 4096u);
    EXPECT_EQ(extents[0].memory.offset_bytes, (uint64_t{2} << 40) + 4096);
    EXPECT_EQ(extents[0].memory.size_bytes, 4096u);
    EXPECT_EQ(extents[1].offset_bytes, 32768u);
    EXPECT_EQ(extents[1].memory.size_bytes, 4096u + 30000 - 32768);
    EXPECT_TRUE(place->memory(fd, 8192, 8192).empty());
}

TEST(VfioRegion, OfNonsenseIsRefused) {
    const auto refused = [](const RegionAnswer& answer) {
        const auto place = answer.parse();
        return !place && place.error().code() == Errc::protocol;
    };
    RegionAnswer overlapping(65536), outside(65536), too_many(65536), loop(65536), beyond(65536);
    overlapping.add_sparse({{0, 8192}, {4096, 4096}}, 2);
    EXPECT_TRUE(refused(overlapping));
    outside.add_sparse({{61440, 8192}}, 1);
    EXPECT_TRUE(refused(outside));
    too_many.add_sparse({{0, 4096}}, 0xffffffff);
    EXPECT_TRUE(refused(too_many));
    const auto at = append(loop.bytes, vfio_info_cap_header{});
    put(loop.bytes, at, vfio_info_cap_header{9, 1, at});
    loop.add_capability(at);
    EXPECT_TRUE(refused(loop));
    beyond.add_capability(4096);
    EXPECT_TRUE(refused(beyond));
    EXPECT_TRUE(refused(RegionAnswer(UINT64_MAX)));
    EXPECT_FALSE(parse_region(RegionAnswer(4096).bytes, 3));
}

TEST(VfioIommu, NamesTheAddressesThatItHas) {
    FakeKernel kernel;
    const auto container = kernel.open("/dev/vfio/vfio").value();
    vfio_iommu_type1_info request{};
    const auto answer =
        ask(kernel, container.get(), VFIO_IOMMU_GET_INFO, bytes_of(request), "asking").value();
    const auto iommu = parse_iommu(answer);
    ASSERT_TRUE(iommu);
    EXPECT_EQ(iommu->page_bytes, 4096u);
    const auto check = [&](uint64_t start, uint64_t size) {
        return iommu->check(Range<Iova>::create({start}, size).value());
    };
    EXPECT_TRUE(check(0, 0xfee00000));
    EXPECT_TRUE(check(uint64_t{1} << 32, 1 << 30));
    EXPECT_EQ(check(0xfee00000, 4096).error().message(),
              "the IOMMU has no addresses 0xfee00000-0xfee00fff for the function; it has 0x0-0xfedfffff, "
              "0xfef00000-0x7fffffffff");
    EXPECT_EQ(check(0xfedff000, 8192).error().code(), Errc::out_of_range);
    EXPECT_EQ(check(uint64_t{1} << 39, 4096).error().code(), Errc::out_of_range);
    EXPECT_EQ(check(4096, 4097).error().code(), Errc::invalid_argument);
    EXPECT_EQ(check(1, 4096).error().code(), Errc::invalid_argument);
}

TEST(VfioIommu, MayHaveNothingToSay) {
    vfio_iommu_type1_info info{};
    const auto iommu = parse_iommu(bytes_of(info));
    ASSERT_TRUE(iommu);
    EXPECT_TRUE(iommu->check(Range<Iova>::create({uint64_t{1} << 60}, 4096).value()));
    info.flags = VFIO_IOMMU_INFO_PGSIZES;
    EXPECT_EQ(parse_iommu(bytes_of(info)).error().code(), Errc::protocol);
}

TEST(VfioAnswers, AreAskedForAgainWithMoreRoomButNotForEver) {
    FakeKernel kernel;
    const auto container = kernel.open("/dev/vfio/vfio").value();
    vfio_iommu_type1_info request{};
    ASSERT_TRUE(ask(kernel, container.get(), VFIO_IOMMU_GET_INFO, bytes_of(request), "asking"));
    EXPECT_EQ(kernel.count(FakeKernel::of_container | VFIO_IOMMU_GET_INFO), 2u);

    class Boaster final : public Kernel {
      public:
        Result<UniqueFd> open(const std::filesystem::path&) override { return UniqueFd(); }
        int ioctl(int, unsigned long, void* argument) override {
            const uint32_t more = 0xffffffff;
            std::memcpy(argument, &more, sizeof more);
            return 0;
        }
        ssize_t pread(int, std::span<std::byte>, uint64_t) override { return 0; }
        ssize_t pwrite(int, std::span<const std::byte>, uint64_t) override { return 0; }
        Result<Mapping> map(const MemoryRef&, Access) override { return Mapping(); }
    } boaster;
    EXPECT_EQ(ask(boaster, 0, VFIO_IOMMU_GET_INFO, bytes_of(request), "asking").error().code(),
              Errc::protocol);
}

TEST(VfioHotReset, TellsWhomItAffects) {
    FakeKernel kernel;
    const auto affected = affected_by_hot_reset(kernel, 0);
    ASSERT_TRUE(affected);
    EXPECT_EQ(*affected, std::vector<AffectedFunction>({{7, FakeKernel::address}, {7, FakeKernel::sibling}}));
    kernel.errors[VFIO_DEVICE_GET_PCI_HOT_RESET_INFO] = {-ENODEV};
    EXPECT_EQ(affected_by_hot_reset(kernel, 0).error().code(), Errc::not_supported);
    const std::vector<std::byte> short_answer(16, std::byte{0xff});
    EXPECT_EQ(parse_affected(short_answer).error().code(), Errc::protocol);
}

TEST(VfioParsers, SurviveAnything) {
    std::mt19937 random(5);
    for (int i = 0; i < 20000; ++i) {
        std::vector<std::byte> bytes(random() % 200);
        for (auto& byte : bytes)
            byte = static_cast<std::byte>(random() % 4 == 0 ? random() : random() % 64);
        (void)parse_region(bytes, 0);
        (void)parse_iommu(bytes);
        (void)parse_affected(bytes);
        (void)parse_irq(bytes, pci::Irq::intx);
    }
}

} // namespace
} // namespace lanepool::vfio
