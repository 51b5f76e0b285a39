// SPDX-License-Identifier: Apache-2.0
//
// Resets, disconnection and unmapping with operations in flight.
#include "nvme/model/host_for_test.h"

namespace lanepool::nvme::model::test {
namespace {

class InFlight : public HeldControllerTest {
  protected:
    void SetUp() override {
        host_.enable();
        queue_pair_ = host_.create_io_queue(1);
        page_ = host_.page();
        std::memset(host_.at(page_), 0x77, page_bytes);
    }
    void submit(IoOpcode opcode) {
        const size_t before = queue_->waiting.size();
        host_.submit(queue_pair_, Host::io(opcode, 0, 8, page_));
        ASSERT_TRUE(host_.poll_until([&] { return queue_->waiting.size() > before; }));
    }
    std::array<uint8_t, 4096> on_disk() {
        std::array<uint8_t, 4096> block{};
        EXPECT_EQ(::pread(host_.media->image().fd(), block.data(), block.size(), 0), 4096);
        return block;
    }
    void finish() {
        queue_->hold = false;
        host_.poll_until([&] { return host_.controller->commands_in_flight() == 0; });
    }
    HostQueue queue_pair_;
    Iova page_;
};

TEST_F(InFlight, a_device_reset_answers_when_the_last_operation_has_ended) {
    submit(IoOpcode::write);
    const auto outcome = host_.device_reset();
    for (int i = 0; i < 10; ++i)
        host_.poll_once();
    EXPECT_FALSE(*outcome);
    EXPECT_EQ(queue_->cancels, 1u);
    finish();
    ASSERT_TRUE(*outcome);
    EXPECT_TRUE(**outcome);
    EXPECT_FALSE(host_.take(queue_pair_)) << "nobody hears of an abandoned command";
}

TEST_F(InFlight, a_device_reset_fails_when_operations_do_not_end) {
    submit(IoOpcode::write);
    const auto outcome = host_.device_reset();
    host_.clock.ahead += std::chrono::seconds(2);
    host_.poll_once();
    ASSERT_TRUE(*outcome);
    EXPECT_EQ((*outcome)->error().code(), Errc::timeout);
    finish();
}

TEST_F(InFlight, a_controller_is_not_disabled_before_the_last_operation_has_ended) {
    submit(IoOpcode::write);
    host_.write<uint32_t>(pci::Region::bar0, reg::cc, 0);
    host_.poll_once();
    EXPECT_EQ(host_.csts() & 1, 1u);
    finish();
    EXPECT_EQ(host_.csts() & 1, 0u);
    host_.enable();
    auto queue = host_.create_io_queue(1);
    EXPECT_TRUE(host_.run(queue, Host::io(IoOpcode::read, 0, 8, host_.page())).status().ok());
}

TEST_F(InFlight, a_function_level_reset_by_config_write_drops_everything) {
    submit(IoOpcode::read);
    const uint16_t control = host_.read<uint16_t>(pci::Region::config, 0x78);
    host_.write<uint16_t>(pci::Region::config, 0x78, static_cast<uint16_t>(control | 1 << 15));
    EXPECT_EQ(host_.read<uint16_t>(pci::Region::config, pci::config::command), 0);
    EXPECT_EQ(host_.read<uint32_t>(pci::Region::bar0, reg::aqa), 0u);
    EXPECT_EQ(host_.controller->io_queue_count(), 0u);
    finish();
    EXPECT_FALSE(host_.take(queue_pair_));
}

TEST_F(InFlight, what_was_cancelled_reads_nothing_into_memory) {
    queue_->cancellable = true;
    submit(IoOpcode::read);
    const auto outcome = host_.device_reset();
    queue_->hold = false;
    host_.poll_once();
    ASSERT_TRUE(*outcome && **outcome);
    EXPECT_EQ(*host_.at<uint8_t>(page_), 0x77);
}

TEST_F(InFlight, unmapping_waits_for_operations_on_the_memory) {
    const SharedFd other = share(*create_memory("other", page_bytes));
    ASSERT_TRUE(host_.map(Iova{0x50000000}, page_bytes, other));
    page_ = Iova{0x50000000};
    submit(IoOpcode::read);
    const auto outcome = host_.unmap(Iova{0x50000000}, page_bytes);
    host_.poll_once();
    EXPECT_FALSE(*outcome);
    finish();
    host_.poll_once();
    ASSERT_TRUE(*outcome);
    EXPECT_TRUE(**outcome);
}

TEST_F(InFlight, unmapping_does_not_wait_for_operations_elsewhere) {
    const SharedFd other = share(*create_memory("other", page_bytes));
    ASSERT_TRUE(host_.map(Iova{0x50000000}, page_bytes, other));
    submit(IoOpcode::read);
    const auto outcome = host_.unmap(Iova{0x50000000}, page_bytes);
    EXPECT_TRUE(*outcome && **outcome);
}

TEST_F(InFlight, after_its_deadline_unmapping_cuts_the_operation_off) {
    const SharedFd other = share(*create_memory("other", page_bytes));
    const auto seen = *Mapping::create(other->get(), 0, page_bytes);
    seen.data()[0] = std::byte{0x11};
    ASSERT_TRUE(host_.map(Iova{0x50000000}, page_bytes, other));
    page_ = Iova{0x50000000};
    submit(IoOpcode::read);
    const auto outcome = host_.unmap(Iova{0x50000000}, page_bytes);
    host_.clock.ahead += std::chrono::seconds(2);
    host_.poll_once();
    ASSERT_TRUE(*outcome && **outcome);
    queue_->hold = false;
    EXPECT_EQ(host_.wait(queue_pair_).status().code(), StatusCode::data_transfer_error);
    EXPECT_EQ(seen.data()[0], std::byte{0x11}) << "memory was reached after it was unmapped";
}

TEST_F(InFlight, who_has_gone_is_not_reached_any_more) {
    submit(IoOpcode::read);
    host_.controller->disconnected();
    finish();
    EXPECT_EQ(*host_.at<uint8_t>(page_), 0x77);
    EXPECT_EQ(host_.controller->dma_regions(), 0u);
}

TEST_F(InFlight, a_write_of_who_has_gone_does_not_reach_the_drive) {
    submit(IoOpcode::write);
    host_.controller->disconnected();
    finish();
    EXPECT_EQ(on_disk()[0], 0);
}

TEST_F(InFlight, a_command_can_be_aborted) {
    queue_->cancellable = true;
    submit(IoOpcode::write);
    const uint16_t cid = host_.at<Command>(queue_pair_.sq)->cid;
    host_.run(host_.admin, Host::admin_command(AdminOpcode::abort, 1 | uint32_t{cid} << 16));
    const auto answer = host_.wait(queue_pair_);
    EXPECT_EQ(answer.cid, cid);
    EXPECT_EQ(answer.status().code(), StatusCode::abort_requested);
    EXPECT_EQ(on_disk()[0], 0);
}

TEST_F(InFlight, deleting_a_queue_aborts_its_commands_first) {
    queue_->cancellable = true;
    submit(IoOpcode::write);
    submit(IoOpcode::write);
    const auto answer = host_.run(host_.admin, Host::admin_command(AdminOpcode::delete_io_sq, 1));
    EXPECT_TRUE(answer.status().ok());
    for (int i = 0; i < 2; ++i) {
        const auto aborted = host_.take(queue_pair_);
        ASSERT_TRUE(aborted);
        EXPECT_EQ(aborted->status().code(), StatusCode::aborted_sq_deletion);
    }
}

TEST_F(InFlight, deleting_a_queue_waits_for_what_cannot_be_stopped) {
    submit(IoOpcode::write);
    host_.submit(host_.admin, Host::admin_command(AdminOpcode::delete_io_sq, 1));
    for (int i = 0; i < 10; ++i)
        host_.poll_once();
    EXPECT_FALSE(host_.take(host_.admin));
    queue_->hold = false;
    EXPECT_TRUE(host_.wait(queue_pair_).status().ok());
    EXPECT_TRUE(host_.wait(host_.admin).status().ok());
}

TEST_F(InFlight, a_completion_waits_for_bus_mastering) {
    submit(IoOpcode::write);
    host_.master(false);
    queue_->hold = false;
    for (int i = 0; i < 1000 && queue_->in_flight() > 0; ++i) {
        host_.poll_once();
        ::usleep(1000);
    }
    EXPECT_FALSE(host_.take(queue_pair_));
    host_.master();
    EXPECT_TRUE(host_.wait(queue_pair_).status().ok());
}

TEST_F(InFlight, a_hung_controller_does_nothing_not_even_reset) {
    host_.controller->set_hung(true);
    host_.submit(queue_pair_, Host::io(IoOpcode::flush, 0, 1, {}));
    const auto outcome = host_.device_reset();
    for (int i = 0; i < 10; ++i)
        host_.poll_once();
    EXPECT_TRUE(queue_->waiting.empty());
    EXPECT_FALSE(*outcome);
    host_.controller->set_hung(false);
    EXPECT_TRUE(*outcome && !**outcome);
}

class Revocation : public ControllerTest {
  protected:
    // Another client: brings its own memory.
    void next_client() {
        old_doorbells_ = std::move(host_.doorbells);
        host_.controller->disconnected();
        host_.connect();
        host_.enable();
        queue_ = host_.create_io_queue(1);
    }
    Mapping old_doorbells_;
    HostQueue queue_;
};

TEST_F(Revocation, kept_doorbells_of_the_last_client_ring_nobody) {
    host_.enable();
    next_client();
    host_.push(queue_, Host::io(IoOpcode::flush, 0, 1, {}));
    store_word(old_doorbells_.data() + 4 * submission_doorbell(1), 1);
    for (int i = 0; i < 100; ++i)
        host_.poll_once();
    EXPECT_FALSE(host_.take(queue_));
    host_.ring(queue_);
    EXPECT_TRUE(host_.wait(queue_).status().ok());
}

TEST_F(Revocation, a_reset_gives_a_lanepool_client_fresh_doorbells) {
    const auto old = host_.doorbell_page();
    ASSERT_TRUE(**host_.device_reset());
    const auto fresh = host_.doorbell_page();
    store_word(old.data(), 7);
    EXPECT_EQ(load_word(fresh.data()), 0u);
}

TEST_F(Revocation, a_reset_keeps_the_doorbells_of_any_other_client_and_clears_them) {
    host_.client.lanepool = false;
    const auto old = host_.doorbell_page();
    store_word(old.data(), 7);
    ASSERT_TRUE(**host_.device_reset());
    EXPECT_EQ(load_word(old.data()), 0u);
    store_word(old.data(), 9);
    EXPECT_EQ(load_word(host_.doorbell_page().data()), 9u);
}

TEST_F(Revocation, unmapped_memory_is_not_reached) {
    host_.enable();
    queue_ = host_.create_io_queue(1);
    const SharedFd other = share(*create_memory("other", page_bytes));
    ASSERT_TRUE(host_.map(Iova{0x50000000}, page_bytes, other));
    EXPECT_TRUE(host_.run(queue_, Host::io(IoOpcode::read, 0, 8, Iova{0x50000000})).status().ok());
    ASSERT_TRUE(**host_.unmap(Iova{0x50000000}, page_bytes));
    EXPECT_EQ(host_.run(queue_, Host::io(IoOpcode::read, 0, 8, Iova{0x50000000})).status().code(),
              StatusCode::data_transfer_error);
}

TEST_F(Revocation, a_shutdown_is_told_when_everything_is_durable) {
    host_.enable();
    host_.write<uint32_t>(pci::Region::bar0, reg::cc, cc::en(1) | cc::shn(cc::shn_normal) | cc::iosqes(6));
    EXPECT_TRUE(host_.poll_until([&] { return csts::shst.get(host_.csts()) == csts::shst_complete; }));
}

} // namespace
} // namespace lanepool::nvme::model::test
