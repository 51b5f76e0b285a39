// SPDX-License-Identifier: Apache-2.0
#include "nvme/model/host_for_test.h"

#include <set>

namespace lanepool::nvme::model::test {
namespace {

class Queues : public ControllerTest {
  protected:
    void SetUp() override { host_.enable(); }
    uint32_t event() { // what the next asynchronous event says
        const Completion completion = host_.wait(host_.admin);
        EXPECT_TRUE(completion.status().ok());
        return completion.dw0;
    }
    void ask_for_event() { host_.submit(host_.admin, Host::admin_command(AdminOpcode::async_event_request)); }
    void ring(size_t doorbell, uint32_t value) { store_word(host_.doorbells.data() + 4 * doorbell, value); }
};

TEST_F(Queues, a_full_completion_queue_loses_nothing) {
    // Two completion entries, of which one can be used; a submission queue of 16.
    HostQueue queue = host_.make_queue(1, 16);
    auto create = Host::admin_command(AdminOpcode::create_io_cq, 1 | 1 << 16, queue.cq);
    create.cdw11 = 1;
    ASSERT_TRUE(host_.run(host_.admin, create).status().ok());
    create = Host::admin_command(AdminOpcode::create_io_sq, 1 | 15 << 16, queue.sq);
    create.cdw11 = 1 | 1 << 16;
    ASSERT_TRUE(host_.run(host_.admin, create).status().ok());
    std::set<uint16_t> cids;
    for (int i = 0; i < 15; ++i)
        cids.insert(host_.push(queue, Host::io(IoOpcode::read, 0, 1, host_.page())));
    host_.ring(queue);
    HostQueue completions = queue;
    completions.entries = 2;
    for (int i = 0; i < 50; ++i)
        host_.poll_once();
    EXPECT_EQ(host_.at<Completion>(queue.cq)[1].phase(), false); // no second one before the first was taken
    for (int i = 0; i < 15; ++i)
        EXPECT_EQ(cids.erase(host_.wait(completions).cid), 1u);
    EXPECT_TRUE(cids.empty());
}

TEST_F(Queues, many_queues_work_side_by_side) {
    std::vector<HostQueue> queues;
    for (uint16_t id = 1; id <= 32; ++id)
        queues.push_back(host_.create_io_queue(id, 16));
    for (auto& queue : queues) {
        const Iova page = host_.page();
        *host_.at<uint16_t>(page) = queue.id;
        host_.submit(queue, Host::io(IoOpcode::write, queue.id, 1, page));
    }
    for (auto& queue : queues)
        EXPECT_TRUE(host_.wait(queue).status().ok());
    for (auto& queue : queues) {
        const Iova page = host_.page();
        EXPECT_TRUE(host_.run(queue, Host::io(IoOpcode::read, queue.id, 1, page)).status().ok());
        EXPECT_EQ(*host_.at<uint16_t>(page), queue.id);
    }
}

TEST_F(Queues, a_tail_outside_of_its_queue_is_an_event) {
    auto queue = host_.create_io_queue(1, 16);
    ask_for_event();
    ring(submission_doorbell(1), 16);
    const uint32_t dw0 = event();
    EXPECT_EQ(async_event::type.get(dw0), async_event::type_error);
    EXPECT_EQ(async_event::info.get(dw0), async_event::invalid_doorbell_value);
    EXPECT_EQ(async_event::log_page.get(dw0), static_cast<uint32_t>(LogPage::error));
    EXPECT_TRUE(host_.run(queue, Host::io(IoOpcode::read, 0, 1, host_.page())).status().ok());
}

TEST_F(Queues, a_head_before_its_completions_is_an_event) {
    auto queue = host_.create_io_queue(1, 16);
    ask_for_event();
    ring(completion_doorbell(1), 3); // nothing was completed
    EXPECT_EQ(async_event::info.get(event()), async_event::invalid_doorbell_value);
    EXPECT_EQ(host_.controller->stats().doorbell_errors, 1u);
    (void)queue;
}

TEST_F(Queues, a_doorbell_of_no_queue_is_an_event) {
    ask_for_event();
    ring(submission_doorbell(9), 1);
    EXPECT_EQ(async_event::info.get(event()), async_event::invalid_doorbell_register);
}

TEST_F(Queues, an_event_type_is_masked_until_its_log_was_read) {
    ask_for_event();
    ask_for_event();
    ring(submission_doorbell(9), 1);
    event();
    ring(submission_doorbell(10), 1);
    host_.clock.ahead += std::chrono::seconds(1);
    for (int i = 0; i < 20; ++i)
        host_.poll_once();
    EXPECT_FALSE(host_.take(host_.admin));
    const auto cid = host_.submit(host_.admin, Host::log(LogPage::error, 64, host_.page(), true));
    EXPECT_EQ(host_.wait(host_.admin).cid, cid); // retained: still masked
    host_.submit(host_.admin, Host::log(LogPage::error, 64, host_.page()));
    host_.wait(host_.admin);
    EXPECT_EQ(async_event::info.get(event()), async_event::invalid_doorbell_register);
}

TEST_F(Queues, doorbells_can_be_rung_by_message) {
    auto queue = host_.create_io_queue(1, 16);
    host_.push(queue, Host::io(IoOpcode::read, 0, 1, host_.page()));
    host_.write<uint32_t>(pci::Region::bar0, submission_doorbell_offset(1), queue.sq_tail);
    EXPECT_TRUE(host_.wait(queue).status().ok());
}

TEST_F(Queues, shadow_doorbells_replace_the_registers) {
    const Iova shadow = host_.page(), events = host_.page();
    std::memset(host_.at(shadow), 0, page_bytes);
    auto config = Host::admin_command(AdminOpcode::doorbell_buffer_config, 0, shadow);
    config.prp2 = events.value;
    ASSERT_TRUE(host_.run(host_.admin, config).status().ok());
    auto queue = host_.create_io_queue(1, 16);
    EXPECT_EQ(host_.at<uint32_t>(events)[submission_doorbell(1)], 0xffffu);
    const Iova page = host_.page();
    for (int i = 0; i < 40; ++i) {
        const uint32_t old_tail = queue.sq_tail;
        host_.push(queue, Host::io(IoOpcode::read, 0, 1, page));
        store_word(host_.at(shadow + 4 * submission_doorbell(1)), queue.sq_tail);
        // A host would ring the register only when its value wraps.
        EXPECT_EQ(shadow_needs_notify(0xffff, static_cast<uint16_t>(queue.sq_tail),
                                      static_cast<uint16_t>(old_tail)),
                  queue.sq_tail < old_tail);
        EXPECT_TRUE(host_.wait(queue).status().ok());
        store_word(host_.at(shadow + 4 * completion_doorbell(1)), queue.cq_head);
    }
    config.prp1 = 0x1000; // nowhere
    EXPECT_EQ(host_.run(host_.admin, config).status().code(), StatusCode::invalid_field);
}

TEST_F(Queues, an_admin_queue_that_vanishes_stops_the_controller) {
    const auto outcome = host_.unmap(Host::memory_base, Host::memory_bytes);
    ASSERT_TRUE(*outcome && **outcome);
    host_.submit(host_.admin, Host::admin_command(AdminOpcode::identify, 1, host_.page()));
    EXPECT_TRUE(host_.poll_until([&] { return csts::cfs.get(host_.csts()) != 0; }));
    // A controller reset brings it back.
    ASSERT_TRUE(host_.map(Host::memory_base, Host::memory_bytes, host_.fd));
    host_.disable();
    host_.enable();
    EXPECT_TRUE(
        host_.run(host_.admin, Host::admin_command(AdminOpcode::identify, 1, host_.page())).status().ok());
}

// Two hosts at one drive, each with its memory, its queue pair and nothing else. One of them dies.
class SharedDrive : public Queues {
  protected:
    static constexpr Iova other_base{0x50000000};
    static constexpr uint64_t other_bytes = 64 << 10;

    void SetUp() override {
        Queues::SetUp();
        own_ = host_.create_io_queue(1, 16);
        other_fd_ = share(*create_memory("other-host", other_bytes));
        other_memory_ = *Mapping::create(other_fd_->get(), 0, other_bytes);
        ASSERT_TRUE(host_.map(other_base, other_bytes, other_fd_));
        create(AdminOpcode::create_io_cq, other_base + 4096, 1);
        create(AdminOpcode::create_io_sq, other_base, 1 | 2 << 16);
    }
    void create(AdminOpcode opcode, Iova base, uint32_t cdw11) {
        auto command = Host::admin_command(opcode, 2 | 15 << 16, base);
        command.cdw11 = cdw11;
        ASSERT_TRUE(host_.run(host_.admin, command).status().ok());
    }
    Status destroy(AdminOpcode opcode) {
        return host_.run(host_.admin, Host::admin_command(opcode, 2)).status();
    }
    // The other host's COUNT commands, to and from DATA.
    void submit_other(uint32_t count, Iova data) {
        for (uint32_t i = 0; i < count; ++i) {
            auto command = Host::io(IoOpcode::read, 0, 8, data);
            command.cid = static_cast<uint16_t>(100 + i);
            std::memcpy(other_memory_.data() + 64 * ((other_tail_ + i) % 16), &command, sizeof command);
        }
        other_tail_ = (other_tail_ + count) % 16;
        ring(submission_doorbell(2), other_tail_);
    }
    Completion other_completion(size_t index) {
        Completion entry;
        std::memcpy(&entry, other_memory_.data() + 4096 + 16 * index, sizeof entry);
        return entry;
    }
    void die() {
        const auto outcome = host_.unmap(other_base, other_bytes);
        ASSERT_TRUE(*outcome && **outcome);
    }
    bool own_works() { return host_.run(own_, Host::io(IoOpcode::read, 0, 8, host_.page())).status().ok(); }
    void poll(int rounds = 20) {
        for (int i = 0; i < rounds; ++i)
            host_.poll_once();
    }

    HostQueue own_;
    SharedFd other_fd_;
    Mapping other_memory_;
    uint32_t other_tail_ = 0;
};

TEST_F(SharedDrive, a_host_that_dies_stops_its_own_queues_only) {
    submit_other(2, other_base + 8192);
    poll();
    EXPECT_TRUE(other_completion(1).phase());
    die();
    submit_other(3, other_base + 8192);
    poll();
    EXPECT_EQ(host_.csts(), csts::rdy(1));
    EXPECT_EQ(host_.controller->stats().lost_queues, 1u); // nothing was fetched, so nothing is to be told
    EXPECT_TRUE(own_works());
    // The queues can be taken away and their numbers given to somebody else.
    EXPECT_TRUE(destroy(AdminOpcode::delete_io_sq).ok());
    EXPECT_TRUE(destroy(AdminOpcode::delete_io_cq).ok());
    auto next = host_.create_io_queue(2, 16);
    EXPECT_TRUE(host_.run(next, Host::io(IoOpcode::read, 0, 8, host_.page())).status().ok());
}

TEST_F(SharedDrive, data_that_has_gone_fails_its_command) {
    submit_other(1, other_base + other_bytes); // mapped by nobody
    poll();
    EXPECT_EQ(other_completion(0).status().code(), StatusCode::data_transfer_error);
    submit_other(1, other_base + (other_bytes - 2048)); // its end is not
    poll();
    EXPECT_EQ(other_completion(1).status().code(), StatusCode::data_transfer_error);
    EXPECT_EQ(host_.controller->stats().lost_queues, 0u);
    EXPECT_TRUE(own_works());
}

class SharedDriveHeld : public HeldControllerTest {};

// Commands were under way when their host died: they end, and nobody is told.
TEST_F(SharedDriveHeld, completions_that_cannot_be_delivered_are_dropped) {
    host_.enable();
    auto own = host_.create_io_queue(1, 16);
    const auto other_fd = share(*create_memory("other-host", page_bytes));
    constexpr Iova other_base{0x50000000};
    ASSERT_TRUE(host_.map(other_base, page_bytes, other_fd));
    auto other = host_.make_queue(2, 16);
    auto create = Host::admin_command(AdminOpcode::create_io_cq, 2 | 15 << 16, other_base);
    create.cdw11 = 1;
    ASSERT_TRUE(host_.run(host_.admin, create).status().ok());
    create = Host::admin_command(AdminOpcode::create_io_sq, 2 | 15 << 16, other.sq);
    create.cdw11 = 1 | 2 << 16;
    ASSERT_TRUE(host_.run(host_.admin, create).status().ok());
    for (int i = 0; i < 5; ++i)
        host_.submit(other, Host::io(IoOpcode::read, 0, 8, host_.page()));
    host_.poll_once();
    ASSERT_EQ(queue_->waiting.size(), 5u);
    ASSERT_TRUE(**host_.unmap(other_base, page_bytes));
    queue_->hold = false;
    host_.submit(other, Host::io(IoOpcode::read, 0, 8, host_.page()));
    EXPECT_TRUE(host_.poll_until([&] { return host_.controller->commands_in_flight() == 0; }));
    EXPECT_GE(host_.controller->stats().dropped_completions, 5u);
    EXPECT_EQ(host_.controller->stats().lost_queues, 1u);
    EXPECT_EQ(host_.csts(), csts::rdy(1));
    EXPECT_TRUE(host_.run(own, Host::io(IoOpcode::read, 0, 8, host_.page())).status().ok());
    // Nor is whoever has that place next, and no command is done whose answer nobody would get.
    ASSERT_TRUE(host_.map(other_base, page_bytes, other_fd));
    const auto memory = Mapping::create(other_fd->get(), 0, page_bytes).value();
    const uint64_t commands = host_.controller->stats().io_commands;
    host_.submit(other, Host::io(IoOpcode::read, 0, 8, host_.page()));
    for (int i = 0; i < 20; ++i)
        host_.poll_once();
    EXPECT_EQ(host_.controller->stats().io_commands, commands);
    for (const std::byte byte : memory.bytes())
        ASSERT_EQ(byte, std::byte{0});
    for (const auto opcode : {AdminOpcode::delete_io_sq, AdminOpcode::delete_io_cq})
        EXPECT_TRUE(host_.run(host_.admin, Host::admin_command(opcode, 2)).status().ok());
}

class Signals : public Queues {
  protected:
    void listen(pci::Irq index, uint32_t vector) {
        event_ = *create_eventfd();
        std::vector<UniqueFd> events;
        events.push_back(*event_.duplicate());
        host_.controller->set_irqs(index, vector, std::move(events), {[](Result<>) {}});
    }
    UniqueFd event_;
};

TEST_F(Signals, a_host_that_is_about_to_look_is_not_signalled_again) {
    listen(pci::Irq::msix, 1);
    auto queue = host_.create_io_queue(1, 32, true);
    for (int i = 0; i < 5; ++i) {
        host_.submit(queue, Host::io(IoOpcode::read, 0, 1, host_.page()));
        host_.controller->poll();
    }
    EXPECT_EQ(drain(event_), 1u);
    // It has taken two and may have missed the others: now it must hear of them.
    ASSERT_TRUE(host_.take(queue) && host_.take(queue));
    host_.controller->poll();
    host_.controller->poll();
    EXPECT_EQ(drain(event_), 1u);
}

TEST_F(Signals, a_lost_interrupt_is_repeated) {
    listen(pci::Irq::msix, 1);
    auto queue = host_.create_io_queue(1, 32, true);
    for (int i = 0; i < 2; ++i) {
        host_.submit(queue, Host::io(IoOpcode::read, 0, 1, host_.page()));
        host_.controller->poll();
    }
    EXPECT_EQ(drain(event_), 1u);
    host_.clock.ahead += std::chrono::milliseconds(10);
    host_.poll_once();
    host_.poll_once();
    EXPECT_EQ(drain(event_), 1u);
}

TEST_F(Signals, a_masked_vector_is_signalled_when_unmasked) {
    listen(pci::Irq::msix, 1);
    auto queue = host_.create_io_queue(1, 32, true);
    host_.controller->mask_irq(pci::Irq::msix, 1, true, {[](Result<>) {}});
    host_.run(queue, Host::io(IoOpcode::read, 0, 1, host_.page()));
    EXPECT_EQ(drain(event_), 0u);
    host_.controller->mask_irq(pci::Irq::msix, 1, false, {[](Result<>) {}});
    EXPECT_EQ(drain(event_), 1u);
}

TEST_F(Signals, the_interrupt_mask_register_holds_messages_back) {
    listen(pci::Irq::msi, 1);
    auto queue = host_.create_io_queue(1, 32, true);
    host_.write<uint32_t>(pci::Region::bar0, reg::intms, 2);
    host_.submit(queue, Host::io(IoOpcode::read, 0, 1, host_.page()));
    host_.poll_once();
    host_.poll_once();
    EXPECT_EQ(drain(event_), 0u);
    host_.write<uint32_t>(pci::Region::bar0, reg::intmc, 2);
    host_.poll_once();
    EXPECT_EQ(drain(event_), 1u);
}

TEST_F(Signals, intx_is_raised_again_while_it_is_not_served) {
    listen(pci::Irq::intx, 0);
    host_.submit(host_.admin, Host::admin_command(AdminOpcode::identify, 1, host_.page()));
    host_.poll_once();
    EXPECT_EQ(drain(event_), 1u);
    EXPECT_NE(host_.read<uint16_t>(pci::Region::config, pci::config::status) & pci::status::interrupt, 0);
    for (int i = 0; i < 10; ++i)
        host_.poll_once();
    EXPECT_EQ(drain(event_), 0u); // masked by itself
    host_.controller->mask_irq(pci::Irq::intx, 0, false, {[](Result<>) {}});
    EXPECT_EQ(drain(event_), 1u); // not served
    ASSERT_TRUE(host_.take(host_.admin));
    host_.poll_once();
    host_.controller->mask_irq(pci::Irq::intx, 0, false, {[](Result<>) {}});
    EXPECT_EQ(drain(event_), 0u);
    EXPECT_EQ(host_.read<uint16_t>(pci::Region::config, pci::config::status) & pci::status::interrupt, 0);
}

TEST_F(Signals, coalescing_waits_for_more_or_for_its_time) {
    listen(pci::Irq::msix, 1);
    auto queue = host_.create_io_queue(1, 32, true);
    auto set = Host::admin_command(AdminOpcode::set_features, 8);
    set.cdw11 = 2 | 10 << 8; // three entries or a millisecond
    ASSERT_TRUE(host_.run(host_.admin, set).status().ok());
    for (int i = 0; i < 2; ++i)
        host_.submit(queue, Host::io(IoOpcode::read, 0, 1, host_.page()));
    host_.controller->poll();
    EXPECT_EQ(drain(event_), 0u);
    host_.submit(queue, Host::io(IoOpcode::read, 0, 1, host_.page()));
    host_.controller->poll();
    EXPECT_EQ(drain(event_), 1u);
    while (host_.take(queue)) {
    }
    host_.poll_once();
    host_.submit(queue, Host::io(IoOpcode::read, 0, 1, host_.page()));
    host_.controller->poll();
    EXPECT_EQ(drain(event_), 0u);
    host_.clock.ahead += std::chrono::milliseconds(2);
    host_.poll_once();
    host_.poll_once();
    EXPECT_EQ(drain(event_), 1u);
}

} // namespace
} // namespace lanepool::nvme::model::test
