// SPDX-License-Identifier: Apache-2.0
#include "vfio/fake_kernel.h"
#include "vfio/info.h"
#include "vfio/interrupts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lanepool::vfio {
namespace {

using pci::Irq;
using testing::ElementsAre;

constexpr uint32_t intx = VFIO_PCI_INTX_IRQ_INDEX, msi = VFIO_PCI_MSI_IRQ_INDEX,
                   msix = VFIO_PCI_MSIX_IRQ_INDEX;

class VfioInterrupts : public testing::Test {
  protected:
    VfioInterrupts() {
        for (int i = 0; i < 4; ++i) {
            eventfds.push_back(create_eventfd().value());
            fds.push_back(eventfds.back().get());
        }
    }
    Interrupts make() {
        std::array<IrqIndex, pci::irq_count> indexes;
        for (uint32_t i = 0; i < pci::irq_count; ++i) {
            vfio_irq_info request{};
            request.index = i;
            const auto answer = ask(kernel, 0, VFIO_DEVICE_GET_IRQ_INFO, bytes_of(request), "asking").value();
            indexes[i] = parse_irq(answer, static_cast<Irq>(i)).value();
        }
        return Interrupts(kernel, 0, indexes);
    }
    std::span<const int> part(size_t first, size_t count) { return std::span(fds).subspan(first, count); }

    FakeKernel kernel;
    std::vector<UniqueFd> eventfds;
    std::vector<int> fds;
};

TEST_F(VfioInterrupts, AreEncodedAsTheKernelReadsThem) {
    const auto set = encode_irq_set(Irq::msix, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER, 3, 2,
                                    std::array{5, -1});
    std::array<uint32_t, 7> words;
    ASSERT_EQ(set.size(), sizeof words);
    std::memcpy(words.data(), set.data(), sizeof words);
    EXPECT_THAT(words, ElementsAre(28, 0x24, 2, 3, 2, 5, 0xffffffff));
}

TEST_F(VfioInterrupts, AreSetUpAndTurnedOff) {
    auto interrupts = make();
    ASSERT_TRUE(interrupts.set(Irq::msi, 0, part(0, 2)));
    EXPECT_THAT(kernel.vectors[msi], ElementsAre(fds[0], fds[1]));
    const int none = -1;
    ASSERT_TRUE(interrupts.set(Irq::msi, 1, {&none, 1}));
    EXPECT_THAT(kernel.vectors[msi], ElementsAre(fds[0], -1));
    ASSERT_TRUE(interrupts.set(Irq::msi, 0, {}));
    EXPECT_FALSE(kernel.vectors.contains(msi));
}

TEST_F(VfioInterrupts, OfOneKindTakeOverFromTheOther) {
    auto interrupts = make();
    ASSERT_TRUE(interrupts.set(Irq::intx, 0, part(0, 1)));
    ASSERT_TRUE(interrupts.set(Irq::msix, 0, part(0, 1)));
    EXPECT_FALSE(kernel.vectors.contains(intx));
    // Turning off what is off, or taking away what is not there, touches nothing.
    const int none = -1;
    ASSERT_TRUE(interrupts.set(Irq::intx, 0, {}));
    ASSERT_TRUE(interrupts.set(Irq::intx, 0, {&none, 1}));
    EXPECT_THAT(kernel.vectors[msix], ElementsAre(fds[0]));
}

TEST_F(VfioInterrupts, GrowByTurningOffAndSignalWhatWasThere) {
    auto interrupts = make();
    ASSERT_TRUE(interrupts.set(Irq::msix, 0, part(0, 1)));
    ASSERT_TRUE(interrupts.set(Irq::msix, 2, part(2, 2)));
    ASSERT_EQ(kernel.vectors[msix].size(), 4u);
    // The kernel got duplicates of what was there before.
    EXPECT_GE(kernel.vectors[msix][0], 0);
    EXPECT_EQ(kernel.vectors[msix][1], -1);
    EXPECT_EQ(kernel.vectors[msix][2], fds[2]);
    EXPECT_EQ(drain(eventfds[0]), 1u);
    EXPECT_EQ(drain(eventfds[2]), 0u);
    ASSERT_TRUE(interrupts.set(Irq::msix, 1, part(1, 1)));
    EXPECT_EQ(drain(eventfds[0]), 0u) << "there was room";
}

TEST_F(VfioInterrupts, GrowInPlaceWhereTheKernelCan) {
    kernel.resizes_msix = true;
    auto interrupts = make();
    ASSERT_TRUE(interrupts.set(Irq::msix, 0, part(0, 1)));
    ASSERT_TRUE(interrupts.set(Irq::msix, 1, part(1, 3)));
    EXPECT_EQ(drain(eventfds[0]), 0u);
    EXPECT_EQ(kernel.vectors[msix].size(), 4u);
}

TEST_F(VfioInterrupts, StayAsTheyWereWhenThereAreNoMore) {
    kernel.most_vectors = 2;
    auto interrupts = make();
    ASSERT_TRUE(interrupts.set(Irq::msix, 0, part(0, 2)));
    const auto grown = interrupts.set(Irq::msix, 2, part(2, 1));
    ASSERT_FALSE(grown);
    EXPECT_EQ(grown.error().code(), Errc::no_space);
    EXPECT_EQ(kernel.vectors[msix].size(), 2u);
    EXPECT_GE(kernel.vectors[msix][1], 0);
}

TEST_F(VfioInterrupts, RefuseWhatIsNotThere) {
    auto interrupts = make();
    EXPECT_EQ(interrupts.set(Irq::msi, 3, part(0, 2)).error().code(), Errc::out_of_range);
    EXPECT_EQ(interrupts.set(Irq::msi, 5, {}).error().code(), Errc::out_of_range);
    EXPECT_EQ(interrupts.mask(Irq::intx, 1, true).error().code(), Errc::out_of_range);
    EXPECT_EQ(interrupts.mask(Irq::msix, 0, true).error().code(), Errc::not_supported);
    EXPECT_TRUE(interrupts.mask(Irq::intx, 0, false));
}

} // namespace
} // namespace lanepool::vfio
