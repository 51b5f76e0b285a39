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

TEST_F(Queues, queues_that_vanish_stop_the_controller) {
    auto queue = host_.create_io_queue(1, 16);
    const auto outcome = host_.unmap(Host::memory_base, Host::memory_bytes);
    ASSERT_TRUE(*outcome && **outcome);
    host_.ring(queue);
    queue.sq_tail = 1;
    host_.ring(queue);
    EXPECT_TRUE(host_.poll_until([&] { return csts::cfs.get(host_.csts()) != 0; }));
    // A controller reset brings it back.
    ASSERT_TRUE(host_.map(Host::memory_base, Host::memory_bytes, host_.fd));
    host_.disable();
    host_.enable();
    EXPECT_TRUE(
        host_.run(host_.admin, Host::admin_command(AdminOpcode::identify, 1, host_.page())).status().ok());
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
