// SPDX-License-Identifier: Apache-2.0
#include "nvme/model/host_for_test.h"

#include <gmock/gmock.h>

namespace lanepool::nvme::model::test {
namespace {

using Controller_ = ControllerTest;

TEST_F(Controller_, is_an_nvme_controller_in_config_space) {
    EXPECT_EQ(host_.read<uint32_t>(pci::Region::config, 8) >> 8, class_code);
    EXPECT_EQ(host_.read<uint16_t>(pci::Region::config, 0), vendor_id);
    const auto config = [&] {
        std::vector<std::byte> all(4096);
        for (size_t i = 0; i < all.size(); ++i)
            all[i] = std::byte{host_.read<uint8_t>(pci::Region::config, i)};
        return all;
    }();
    const auto list = pci::capabilities(config);
    ASSERT_TRUE(list) << list.error().message();
    std::vector<int> ids;
    for (const auto& entry : *list)
        ids.push_back(entry.id);
    EXPECT_THAT(ids, ::testing::ElementsAre(0x01, 0x05, 0x10, 0x11));
    ASSERT_TRUE(pci::extended_capabilities(config));
    EXPECT_EQ(pci::extended_capabilities(config)->size(), 1u);
}

TEST_F(Controller_, tells_the_size_of_its_bar) {
    host_.write<uint32_t>(pci::Region::config, 0x10, 0xffffffff);
    host_.write<uint32_t>(pci::Region::config, 0x14, 0xffffffff);
    const uint64_t low = host_.read<uint32_t>(pci::Region::config, 0x10) & ~0xfu;
    const uint64_t high = host_.read<uint32_t>(pci::Region::config, 0x14);
    EXPECT_EQ(~(high << 32 | low) + 1, bar0_bytes);
    EXPECT_EQ(host_.controller->region(pci::Region::bar0).size_bytes, bar0_bytes);
}

TEST(ControllerWithoutMsix, offers_msi_only) {
    const Folder folder;
    Host host({.folder = folder.path(), .msix = false});
    EXPECT_EQ(host.controller->irq(pci::Irq::msix).count, 0u);
    EXPECT_EQ(host.controller->irq(pci::Irq::msi).count, 32u);
    EXPECT_EQ(host.read<uint16_t>(pci::Region::config, 0x70) >> 8, 0); // PCI Express is the last capability
}

TEST_F(Controller_, identifies_itself) {
    host_.enable();
    const Iova page = host_.page();
    const auto answer = host_.run(host_.admin, Host::admin_command(AdminOpcode::identify, 1, page));
    ASSERT_TRUE(answer.status().ok());
    const auto& id = *host_.at<IdentifyController>(page);
    EXPECT_EQ(std::string(id.serial.data(), 8), "TEST0001");
    EXPECT_EQ(id.nn, 1u);
    EXPECT_EQ(id.version, version(1, 4));
    EXPECT_EQ(id.sqes, 0x66);
}

TEST_F(Controller_, identifies_its_namespace) {
    host_.enable();
    const Iova page = host_.page();
    ASSERT_TRUE(host_.run(host_.admin, Host::admin_command(AdminOpcode::identify, 0, page, 1)).status().ok());
    EXPECT_EQ(host_.at<IdentifyNamespace>(page)->size_blocks, Host::drive_bytes / 512);
    const auto other = host_.run(host_.admin, Host::admin_command(AdminOpcode::identify, 0, page, 2));
    EXPECT_EQ(other.status().code(), StatusCode::invalid_namespace_or_format);
}

TEST_F(Controller_, reads_what_was_written) {
    host_.enable();
    auto queue = host_.create_io_queue(1);
    const Iova page = host_.page();
    std::memset(host_.at(page), 0x5a, page_bytes);
    ASSERT_TRUE(host_.run(queue, Host::io(IoOpcode::write, 8, 8, page)).status().ok());
    std::memset(host_.at(page), 0, page_bytes);
    ASSERT_TRUE(host_.run(queue, Host::io(IoOpcode::read, 8, 8, page)).status().ok());
    EXPECT_EQ(*host_.at<uint64_t>(page + 4088), 0x5a5a5a5a5a5a5a5a);
    ASSERT_TRUE(host_.run(queue, Host::io(IoOpcode::read, 16, 8, page)).status().ok());
    EXPECT_EQ(*host_.at<uint64_t>(page), 0u);
}

TEST_F(Controller_, goes_round_its_queues_many_times) {
    host_.enable(8);
    auto queue = host_.create_io_queue(1, 5);
    const Iova page = host_.page();
    for (int i = 0; i < 100; ++i) {
        const auto answer = host_.run(queue, Host::io(IoOpcode::read, 0, 8, page));
        ASSERT_TRUE(answer.status().ok()) << i;
        ASSERT_EQ(answer.sq_head, queue.sq_tail);
    }
}

TEST_F(Controller_, refuses_blocks_behind_its_end) {
    host_.enable();
    auto queue = host_.create_io_queue(1);
    const Iova page = host_.page();
    const uint64_t blocks = Host::drive_bytes / 512;
    for (const uint64_t first : {blocks - 7, blocks, UINT64_MAX - 3, UINT64_MAX})
        EXPECT_EQ(host_.run(queue, Host::io(IoOpcode::read, first, 8, page)).status().code(),
                  StatusCode::lba_out_of_range);
    EXPECT_TRUE(host_.run(queue, Host::io(IoOpcode::read, blocks - 8, 8, page)).status().ok());
}

TEST_F(Controller_, signals_an_interrupt_for_a_completion) {
    host_.enable();
    std::vector<UniqueFd> events;
    const auto event = create_eventfd();
    events.emplace_back();
    events.push_back(*event->duplicate());
    host_.controller->set_irqs(pci::Irq::msix, 0, std::move(events), {[](Result<>) {}});
    auto queue = host_.create_io_queue(1, 32, true);
    host_.run(queue, Host::io(IoOpcode::read, 0, 1, host_.page()));
    EXPECT_EQ(drain(*event), 1u);
}

TEST_F(Controller_, does_nothing_without_bus_mastering) {
    host_.enable();
    auto queue = host_.create_io_queue(1);
    host_.master(false);
    host_.submit(queue, Host::io(IoOpcode::read, 0, 1, host_.page()));
    for (int i = 0; i < 100; ++i)
        host_.poll_once();
    EXPECT_FALSE(host_.take(queue));
    host_.master();
    EXPECT_TRUE(host_.wait(queue).status().ok());
}

} // namespace
} // namespace lanepool::nvme::model::test
