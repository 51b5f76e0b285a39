// SPDX-License-Identifier: Apache-2.0
//
// Client memory of all kinds: without descriptor, vanishing, too small.
#include "nvme/model/host_for_test.h"

#include <sys/mman.h>

namespace lanepool::nvme::model::test {
namespace {

constexpr Iova elsewhere{0x50000000};

class Memory : public ControllerTest {
  protected:
    void SetUp() override {
        host_.enable();
        queue_ = host_.create_io_queue(1);
        host_.client.base = elsewhere;
        host_.client.bytes.resize(64 * page_bytes);
    }
    void map_by_messages() { ASSERT_TRUE(host_.map(elsewhere, host_.client.bytes.size(), nullptr)); }
    HostQueue queue_;
};

TEST_F(Memory, without_descriptor_is_read_and_written_by_messages) {
    map_by_messages();
    std::ranges::fill(host_.client.bytes, std::byte{0x31});
    ASSERT_TRUE(host_.run(queue_, Host::io(IoOpcode::write, 0, 8, elsewhere)).status().ok());
    std::ranges::fill(host_.client.bytes, std::byte{0});
    ASSERT_TRUE(host_.run(queue_, Host::io(IoOpcode::read, 0, 8, elsewhere + 4096)).status().ok());
    EXPECT_EQ(host_.client.bytes[4095], std::byte{0});
    EXPECT_EQ(host_.client.bytes[4096], std::byte{0x31});
    EXPECT_EQ(host_.client.bytes[8191], std::byte{0x31});
}

TEST_F(Memory, of_both_kinds_may_serve_one_command) {
    map_by_messages();
    const Iova page = host_.page();
    std::memset(host_.at(page), 0x11, page_bytes);
    std::ranges::fill(host_.client.bytes, std::byte{0x22});
    ASSERT_TRUE(host_.run(queue_, Host::io(IoOpcode::write, 0, 16, page, elsewhere)).status().ok());
    const Iova back = host_.page(2);
    ASSERT_TRUE(host_.run(queue_, Host::io(IoOpcode::read, 0, 16, back, back + 4096)).status().ok());
    EXPECT_EQ(*host_.at<uint8_t>(back), 0x11);
    EXPECT_EQ(*host_.at<uint8_t>(back + 4096), 0x22);
}

TEST_F(Memory, a_prp_list_may_lie_behind_messages) {
    map_by_messages();
    const Iova data = host_.page(4);
    std::memset(host_.at(data), 0x44, 4 * page_bytes);
    for (uint64_t i = 0; i < 3; ++i) {
        const le64 entry = data.value + (i + 1) * page_bytes;
        std::memcpy(host_.client.bytes.data() + 8 * i, &entry, 8);
    }
    ASSERT_TRUE(host_.run(queue_, Host::io(IoOpcode::write, 0, 32, data, elsewhere)).status().ok());
    std::memset(host_.at(data), 0, 4 * page_bytes);
    ASSERT_TRUE(host_.run(queue_, Host::io(IoOpcode::read, 0, 32, data, elsewhere)).status().ok());
    EXPECT_EQ(*host_.at<uint8_t>(data + (4 * 4096 - 1)), 0x44);
}

TEST_F(Memory, queues_may_lie_behind_messages) {
    map_by_messages();
    auto create = Host::admin_command(AdminOpcode::create_io_cq, 2 | 7 << 16, elsewhere + 4096);
    create.cdw11 = 1;
    ASSERT_TRUE(host_.run(host_.admin, create).status().ok());
    create = Host::admin_command(AdminOpcode::create_io_sq, 2 | 7 << 16, elsewhere);
    create.cdw11 = 1 | 2 << 16;
    ASSERT_TRUE(host_.run(host_.admin, create).status().ok());
    auto* entries = reinterpret_cast<Command*>(host_.client.bytes.data());
    for (uint16_t i = 0; i < 3; ++i) {
        entries[i] = Host::io(IoOpcode::read, 0, 8, host_.page());
        entries[i].cid = static_cast<uint16_t>(100 + i);
    }
    store_word(host_.doorbells.data() + 4 * submission_doorbell(2), 3);
    const auto* completions = reinterpret_cast<const Completion*>(host_.client.bytes.data() + 4096);
    ASSERT_TRUE(host_.poll_until([&] { return completions[2].phase(); }));
    EXPECT_EQ(completions[2].cid, 102);
    EXPECT_TRUE(completions[2].status().ok());
}

TEST_F(Memory, who_leaves_in_the_middle_of_a_transfer_is_forgotten) {
    map_by_messages();
    host_.deliver_messages = false;
    host_.submit(queue_, Host::io(IoOpcode::write, 0, 8, elsewhere));
    ASSERT_TRUE(host_.poll_until([&] { return host_.client.waiting() > 0; }));
    host_.controller->disconnected();
    EXPECT_EQ(host_.controller->commands_in_flight(), 0u);
    host_.client.deliver(); // late answers find nobody
    host_.connect();
    host_.deliver_messages = true;
    host_.enable();
    queue_ = host_.create_io_queue(1);
    EXPECT_TRUE(host_.run(queue_, Host::io(IoOpcode::read, 0, 8, host_.page())).status().ok());
}

TEST_F(Memory, an_answer_that_is_an_error_fails_the_command) {
    map_by_messages();
    host_.client.bytes.resize(100); // the client refuses what it has mapped
    EXPECT_EQ(host_.run(queue_, Host::io(IoOpcode::write, 0, 8, elsewhere)).status().code(),
              StatusCode::data_transfer_error);
}

TEST_F(Memory, an_event_behind_an_address_is_signalled) {
    const auto event = create_eventfd();
    vfio_user::DmaMap map{*Range<Iova>::create(elsewhere, 4), Access::read_write, std::nullopt,
                          *event->duplicate()};
    host_.controller->map_dma(std::move(map), {[](Result<> answer) { ASSERT_TRUE(answer); }});
    auto command = Host::log(LogPage::smart, 4, elsewhere);
    EXPECT_TRUE(host_.run(host_.admin, command).status().ok());
    EXPECT_EQ(drain(*event), 1u);
}

TEST_F(Memory, read_only_memory_is_not_written) {
    const SharedFd fd = share(*create_memory("read-only", page_bytes));
    ASSERT_TRUE(host_.map(elsewhere, page_bytes, fd, 0, Access::read_only));
    EXPECT_TRUE(host_.run(queue_, Host::io(IoOpcode::write, 0, 8, elsewhere)).status().ok());
    EXPECT_EQ(host_.run(queue_, Host::io(IoOpcode::read, 0, 8, elsewhere)).status().code(),
              StatusCode::data_transfer_error);
}

TEST_F(Memory, a_descriptor_must_cover_its_range) {
    const SharedFd fd = share(*create_memory("small", page_bytes));
    EXPECT_EQ(host_.map(elsewhere, 2 * page_bytes, fd).error().code(), Errc::invalid_argument);
    EXPECT_EQ(host_.map(elsewhere, page_bytes, fd, page_bytes).error().code(), Errc::invalid_argument);
    EXPECT_EQ(host_.map(elsewhere, page_bytes, fd, UINT64_MAX - 100).error().code(), Errc::invalid_argument);
    EXPECT_EQ(host_.map(elsewhere, page_bytes, share(*create_eventfd())).error().code(),
              Errc::invalid_argument);
    EXPECT_TRUE(host_.map(elsewhere, page_bytes, fd));
    EXPECT_EQ(host_.map(elsewhere, page_bytes, fd).error().code(), Errc::already_exists);
}

TEST_F(Memory, a_transfer_may_cross_two_mappings) {
    const SharedFd first = share(*create_memory("first", page_bytes));
    const SharedFd second = share(*create_memory("second", page_bytes));
    ASSERT_TRUE(host_.map(elsewhere, page_bytes, first));
    ASSERT_TRUE(host_.map(elsewhere + page_bytes, page_bytes, second));
    const auto view = *Mapping::create(second->get(), 0, page_bytes);
    const Iova page = host_.page(2);
    std::memset(host_.at(page), 0x66, 2 * page_bytes);
    ASSERT_TRUE(host_.run(queue_, Host::io(IoOpcode::write, 0, 16, page, page + page_bytes)).status().ok());
    ASSERT_TRUE(
        host_.run(queue_, Host::io(IoOpcode::read, 0, 16, elsewhere, elsewhere + page_bytes)).status().ok());
    EXPECT_EQ(view.data()[4095], std::byte{0x66});
}

// A memory file that its owner may cut short.
SharedFd loose_memory(uint64_t size_bytes) {
    UniqueFd fd(::memfd_create("loose", MFD_CLOEXEC));
    EXPECT_EQ(::ftruncate(fd.get(), static_cast<off_t>(size_bytes)), 0);
    return share(std::move(fd));
}

TEST_F(Memory, that_was_truncated_fails_the_command) {
    const SharedFd fd = loose_memory(page_bytes);
    ASSERT_TRUE(host_.map(elsewhere, page_bytes, fd));
    ASSERT_EQ(::ftruncate(fd->get(), 0), 0);
    EXPECT_EQ(host_.run(queue_, Host::io(IoOpcode::read, 0, 8, elsewhere)).status().code(),
              StatusCode::data_transfer_error);
}

TEST_F(Memory, that_was_truncated_under_a_queue_does_not_end_the_process) {
    const SharedFd fd = loose_memory(page_bytes);
    ASSERT_TRUE(host_.map(elsewhere, page_bytes, fd));
    auto create = Host::admin_command(AdminOpcode::create_io_sq, 2 | 7 << 16, elsewhere);
    create.cdw11 = 1 | 1 << 16;
    ASSERT_TRUE(host_.run(host_.admin, create).status().ok());
    const uint64_t lost = device_model::SigbusGuard::lost_ranges();
    ASSERT_EQ(::ftruncate(fd->get(), 0), 0);
    store_word(host_.doorbells.data() + 4 * submission_doorbell(2), 1);
    for (int i = 0; i < 20; ++i)
        host_.poll_once();
    EXPECT_EQ(device_model::SigbusGuard::lost_ranges(), lost + 1);
    // Zeroes were fetched: Flush of namespace 0.
    EXPECT_EQ(host_.wait(queue_).status().code(), StatusCode::invalid_namespace_or_format);
}

TEST_F(Memory, a_fault_elsewhere_is_not_hidden) {
    const SharedFd fd = loose_memory(page_bytes);
    const auto mine = *Mapping::create(fd->get(), 0, page_bytes);
    ASSERT_EQ(::ftruncate(fd->get(), 0), 0);
    EXPECT_DEATH({ *const_cast<volatile std::byte*>(mine.data()) = std::byte{1}; }, "");
}

} // namespace
} // namespace lanepool::nvme::model::test
