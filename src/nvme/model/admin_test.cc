// SPDX-License-Identifier: Apache-2.0
#include "nvme/model/host_for_test.h"

namespace lanepool::nvme::model::test {
namespace {

class Admin : public ControllerTest {
  protected:
    void SetUp() override { host_.enable(); }
    StatusCode run(const Command& command) { return host_.run(host_.admin, command).status().code(); }
    Command create(AdminOpcode opcode, uint16_t id, uint32_t entries, uint32_t dw11) {
        auto command = Host::admin_command(opcode, id | (entries - 1) << 16, host_.page());
        command.cdw11 = dw11;
        return command;
    }
};

TEST_F(Admin, unknown_commands_are_refused) {
    EXPECT_EQ(run(Host::admin_command(AdminOpcode::namespace_management)), StatusCode::invalid_opcode);
    EXPECT_EQ(run(Host::admin_command(AdminOpcode::firmware_download)), StatusCode::invalid_opcode);
    EXPECT_EQ(run(Host::admin_command(static_cast<AdminOpcode>(0xff))), StatusCode::invalid_opcode);
}

TEST_F(Admin, lists_its_one_namespace) {
    const Iova page = host_.page();
    ASSERT_EQ(run(Host::admin_command(AdminOpcode::identify, 2, page, 0)), StatusCode::success);
    EXPECT_EQ(host_.at<uint32_t>(page)[0], 1u);
    EXPECT_EQ(host_.at<uint32_t>(page)[1], 0u);
    ASSERT_EQ(run(Host::admin_command(AdminOpcode::identify, 2, page, 1)), StatusCode::success);
    EXPECT_EQ(host_.at<uint32_t>(page)[0], 0u);
    EXPECT_EQ(run(Host::admin_command(AdminOpcode::identify, 2, page, 0xfffffffe)),
              StatusCode::invalid_namespace_or_format);
}

TEST_F(Admin, names_its_namespace_for_ever) {
    const Iova page = host_.page();
    ASSERT_EQ(run(Host::admin_command(AdminOpcode::identify, 3, page, 1)), StatusCode::success);
    const std::vector<std::byte> first(host_.at(page), host_.at(page) + 64);
    EXPECT_EQ(first[0], std::byte{namespace_descriptor::eui64});
    host_.restart();
    host_.enable();
    const Iova again = host_.page();
    ASSERT_EQ(run(Host::admin_command(AdminOpcode::identify, 3, again, 1)), StatusCode::success);
    EXPECT_EQ(first, std::vector<std::byte>(host_.at(again), host_.at(again) + 64));
}

TEST_F(Admin, unknown_identify_structures_are_refused) {
    EXPECT_EQ(run(Host::admin_command(AdminOpcode::identify, 0x13, host_.page())), StatusCode::invalid_field);
}

TEST_F(Admin, queues_are_checked) {
    using enum AdminOpcode;
    EXPECT_EQ(run(create(create_io_cq, 0, 16, 1)), StatusCode::invalid_queue_identifier);
    EXPECT_EQ(run(create(create_io_cq, max_io_queues + 1, 16, 1)), StatusCode::invalid_queue_identifier);
    EXPECT_EQ(run(create(create_io_cq, 1, 1, 1)), StatusCode::invalid_queue_size);
    EXPECT_EQ(run(create(create_io_cq, 1, max_queue_entries + 1, 1)), StatusCode::invalid_queue_size);
    EXPECT_EQ(run(create(create_io_cq, 1, 16, 0)), StatusCode::invalid_field); // not contiguous
    EXPECT_EQ(run(create(create_io_cq, 1, 16, 3 | msix_vectors << 16)), StatusCode::invalid_interrupt_vector);
    EXPECT_EQ(run(create(create_io_sq, 1, 16, 1 | 1 << 16)), StatusCode::completion_queue_invalid);
    EXPECT_EQ(run(create(create_io_sq, 1, 16, 1)), StatusCode::completion_queue_invalid);
    EXPECT_EQ(run(create(create_io_cq, 1, 16, 1)), StatusCode::success);
    EXPECT_EQ(run(create(create_io_cq, 1, 16, 1)), StatusCode::invalid_queue_identifier);
    EXPECT_EQ(run(create(create_io_sq, 1, 16, 1 | 1 << 16)), StatusCode::success);
    EXPECT_EQ(run(create(create_io_sq, 1, 16, 1 | 1 << 16)), StatusCode::invalid_queue_identifier);
}

TEST_F(Admin, a_completion_queue_in_use_is_not_deleted) {
    host_.create_io_queue(1);
    EXPECT_EQ(run(Host::admin_command(AdminOpcode::delete_io_cq, 1)), StatusCode::invalid_queue_deletion);
    EXPECT_EQ(run(Host::admin_command(AdminOpcode::delete_io_sq, 1)), StatusCode::success);
    EXPECT_EQ(run(Host::admin_command(AdminOpcode::delete_io_sq, 1)), StatusCode::invalid_queue_identifier);
    EXPECT_EQ(run(Host::admin_command(AdminOpcode::delete_io_cq, 1)), StatusCode::success);
    EXPECT_EQ(run(Host::admin_command(AdminOpcode::delete_io_cq, 0)), StatusCode::invalid_queue_identifier);
    auto queue = host_.create_io_queue(1);
    EXPECT_TRUE(host_.run(queue, Host::io(IoOpcode::flush, 0, 1, {})).status().ok());
}

TEST_F(Admin, the_number_of_queues_is_agreed_once) {
    auto command = Host::admin_command(AdminOpcode::set_features, 7);
    command.cdw11 = 3 | 3 << 16;
    const auto agreed = host_.run(host_.admin, command);
    EXPECT_TRUE(agreed.status().ok());
    EXPECT_EQ(agreed.dw0, 3u | 3u << 16);
    EXPECT_EQ(run(create(AdminOpcode::create_io_cq, 5, 16, 1)), StatusCode::invalid_queue_identifier);
    host_.create_io_queue(4);
    EXPECT_EQ(run(command), StatusCode::command_sequence_error);
}

TEST_F(Admin, features_are_kept_until_a_reset) {
    auto set = Host::admin_command(AdminOpcode::set_features, 4);
    set.cdw11 = 300;
    EXPECT_EQ(run(set), StatusCode::success);
    EXPECT_EQ(host_.run(host_.admin, Host::admin_command(AdminOpcode::get_features, 4)).dw0, 300u);
    EXPECT_EQ(host_.run(host_.admin, Host::admin_command(AdminOpcode::get_features, 4 | 1 << 8)).dw0, 343u);
    host_.disable();
    host_.enable();
    EXPECT_EQ(host_.run(host_.admin, Host::admin_command(AdminOpcode::get_features, 4)).dw0, 343u);
}

TEST_F(Admin, features_cannot_be_saved) {
    EXPECT_EQ(run(Host::admin_command(AdminOpcode::set_features, 4 | 1u << 31)),
              StatusCode::feature_not_saveable);
}

TEST_F(Admin, unknown_features_are_refused) {
    EXPECT_EQ(run(Host::admin_command(AdminOpcode::get_features, 0x0d)), StatusCode::invalid_field);
    EXPECT_EQ(run(Host::admin_command(AdminOpcode::set_features, 0xff)), StatusCode::invalid_field);
}

TEST_F(Admin, a_timestamp_goes_on_from_what_was_set) {
    const Iova page = host_.page();
    *host_.at<uint64_t>(page) = 1'000'000;
    EXPECT_EQ(run(Host::admin_command(AdminOpcode::set_features, 0x0e, page)), StatusCode::success);
    host_.clock.ahead += std::chrono::seconds(5);
    EXPECT_EQ(run(Host::admin_command(AdminOpcode::get_features, 0x0e, page)), StatusCode::success);
    const uint64_t now = *host_.at<uint64_t>(page) & 0xffffffffffff;
    EXPECT_GE(now, 1'005'000u);
    EXPECT_LT(now, 1'015'000u);
}

TEST_F(Admin, log_pages_are_checked) {
    const Iova page = host_.page();
    EXPECT_EQ(run(Host::log(static_cast<LogPage>(0x77), 512, page)), StatusCode::invalid_log_page);
    auto behind = Host::log(LogPage::smart, 64, page);
    behind.cdw12 = 512;
    EXPECT_EQ(run(behind), StatusCode::invalid_field);
    behind.cdw12 = 2;
    EXPECT_EQ(run(behind), StatusCode::invalid_field);
    auto huge = Host::log(LogPage::smart, 64, page);
    huge.cdw11 = 0xffff;
    EXPECT_EQ(run(huge), StatusCode::invalid_field);
}

TEST_F(Admin, a_log_page_can_be_read_from_its_middle) {
    const Iova whole = host_.page(), part = host_.page();
    ASSERT_EQ(run(Host::log(LogPage::effects, 4096, whole)), StatusCode::success);
    auto command = Host::log(LogPage::effects, 1024, part);
    command.cdw12 = 1024;
    ASSERT_EQ(run(command), StatusCode::success);
    EXPECT_EQ(std::memcmp(host_.at(whole + 1024), host_.at(part), 1024), 0);
    EXPECT_NE(host_.at<uint32_t>(part)[0], 0u); // flush is supported
}

TEST_F(Admin, errors_are_logged) {
    auto queue = host_.create_io_queue(1);
    const auto cid = host_.submit(queue, Host::io(IoOpcode::read, UINT64_MAX, 1, host_.page()));
    host_.wait(queue);
    const Iova page = host_.page();
    ASSERT_EQ(run(Host::log(LogPage::error, 128, page)), StatusCode::success);
    const auto& entry = *host_.at<ErrorLogEntry>(page);
    EXPECT_EQ(entry.error_count, 1u);
    EXPECT_EQ(entry.sq_id, 1);
    EXPECT_EQ(entry.cid, cid);
    EXPECT_EQ(entry.lba, UINT64_MAX);
    EXPECT_EQ(Status(static_cast<uint16_t>(entry.status_phase >> 1)).code(), StatusCode::lba_out_of_range);
    EXPECT_EQ(host_.at<ErrorLogEntry>(page + 64)->error_count, 0u);
}

TEST_F(Admin, health_counts_data) {
    auto queue = host_.create_io_queue(1);
    for (int i = 0; i < 3; ++i)
        host_.run(queue, Host::io(IoOpcode::write, 0, 8, host_.page()));
    const Iova page = host_.page();
    ASSERT_EQ(run(Host::log(LogPage::smart, 512, page)), StatusCode::success);
    EXPECT_EQ(host_.at<SmartLog>(page)->host_writes[0], 3u);
    EXPECT_EQ(host_.at<SmartLog>(page)->data_units_written[0], 1u);
    EXPECT_EQ(host_.at<SmartLog>(page)->power_cycles[0], 1u);
}

TEST_F(Admin, only_so_many_events_can_be_asked_for) {
    for (unsigned i = 0; i < max_event_requests; ++i)
        host_.submit(host_.admin, Host::admin_command(AdminOpcode::async_event_request));
    EXPECT_EQ(run(Host::admin_command(AdminOpcode::async_event_request)),
              StatusCode::async_event_limit_exceeded);
}

TEST_F(Admin, an_event_request_can_be_aborted) {
    const uint16_t cid = host_.submit(host_.admin, Host::admin_command(AdminOpcode::async_event_request));
    host_.submit(host_.admin, Host::admin_command(AdminOpcode::abort, uint32_t{cid} << 16));
    const auto first = host_.wait(host_.admin), second = host_.wait(host_.admin);
    EXPECT_EQ(first.cid, cid);
    EXPECT_EQ(first.status().code(), StatusCode::abort_requested);
    EXPECT_TRUE(second.status().ok());
    EXPECT_EQ(second.dw0 & 1, 0u);
}

TEST_F(Admin, aborting_nothing_says_so) {
    const auto answer = host_.run(host_.admin, Host::admin_command(AdminOpcode::abort, 77u << 16));
    EXPECT_TRUE(answer.status().ok());
    EXPECT_EQ(answer.dw0 & 1, 1u);
}

TEST_F(Admin, data_must_be_reachable) {
    auto command = Host::admin_command(AdminOpcode::identify, 1, Iova{0x1000});
    EXPECT_EQ(run(command), StatusCode::data_transfer_error);
    command.prp1 = Host::memory_base.value + Host::memory_bytes - 2048; // its second half lies elsewhere
    command.prp2 = 0x1000;
    EXPECT_EQ(run(command), StatusCode::data_transfer_error);
    command.prp1 = host_.page().value + 1;
    EXPECT_EQ(run(command), StatusCode::prp_offset_invalid);
}

TEST_F(Admin, scatter_gather_lists_are_refused) {
    auto command = Host::admin_command(AdminOpcode::identify, 1, host_.page());
    command.flags = 1 << 6;
    EXPECT_EQ(run(command), StatusCode::invalid_field);
}

} // namespace
} // namespace lanepool::nvme::model::test
