// SPDX-License-Identifier: Apache-2.0
//
// The file behind the drive: erasing it, and what goes wrong with it.
#include "nvme/model/host_for_test.h"

#include <csignal>
#include <fcntl.h>
#include <fstream>
#include <sys/resource.h>

namespace lanepool::nvme::model::test {
namespace {

class Erasing : public ControllerTest {
  protected:
    void SetUp() override {
        host_.enable();
        queue_ = host_.create_io_queue(1);
        page_ = host_.page();
        fill(0, 0xab);
        fill(Host::drive_bytes / 512 - 8, 0xab);
    }
    void fill(uint64_t block, int value) {
        std::memset(host_.at(page_), value, page_bytes);
        ASSERT_TRUE(host_.run(queue_, Host::io(IoOpcode::write, block, 8, page_)).status().ok());
    }
    uint8_t first_byte(uint64_t block) {
        EXPECT_TRUE(host_.run(queue_, Host::io(IoOpcode::read, block, 1, page_)).status().ok());
        return *host_.at<uint8_t>(page_);
    }
    bool erased(std::byte value = std::byte{0}) {
        std::ifstream file(folder_.path() / "drive", std::ios::binary);
        const std::string all((std::istreambuf_iterator<char>(file)), {});
        return all.size() == Host::drive_bytes &&
               std::ranges::all_of(all, [&](char c) { return std::byte(c) == value; });
    }
    SanitizeStatusLog sanitize_log() {
        const Iova page = host_.page();
        EXPECT_TRUE(host_.run(host_.admin, Host::log(LogPage::sanitize_status, 512, page)).status().ok());
        return *host_.at<SanitizeStatusLog>(page);
    }
    Command sanitize(SanitizeAction action, uint32_t flags = 0, uint32_t pattern = 0) {
        auto command = Host::admin_command(AdminOpcode::sanitize, static_cast<uint32_t>(action) | flags);
        command.cdw11 = pattern;
        return command;
    }
    HostQueue queue_;
    Iova page_;
};

TEST_F(Erasing, formatting_wipes_and_changes_the_block_size) {
    ASSERT_FALSE(erased());
    const auto answer = host_.run(host_.admin, Host::admin_command(AdminOpcode::format_nvm, 1, {}, 1));
    ASSERT_TRUE(answer.status().ok());
    EXPECT_TRUE(erased());
    const Iova page = host_.page();
    host_.run(host_.admin, Host::admin_command(AdminOpcode::identify, 0, page, 1));
    EXPECT_EQ(host_.at<IdentifyNamespace>(page)->size_blocks, Host::drive_bytes / 4096);
    EXPECT_EQ(host_.at<IdentifyNamespace>(page)->flbas, 1);
    host_.restart(); // it stays so
    EXPECT_EQ(host_.media->lba_format(), 1);
}

TEST_F(Erasing, impossible_formats_are_refused_and_wipe_nothing) {
    using namespace format_command;
    for (const uint32_t dw10 : {lbaf(2), pi(1), ses(ses_cryptographic)})
        EXPECT_FALSE(
            host_.run(host_.admin, Host::admin_command(AdminOpcode::format_nvm, dw10, {}, 1)).status().ok());
    EXPECT_EQ(host_.run(host_.admin, Host::admin_command(AdminOpcode::format_nvm, 0, {}, 2)).status().code(),
              StatusCode::invalid_namespace_or_format);
    EXPECT_EQ(first_byte(0), 0xab);
}

TEST_F(Erasing, block_erase_leaves_nothing) {
    host_.submit(host_.admin, Host::admin_command(AdminOpcode::async_event_request));
    ASSERT_TRUE(host_.run(host_.admin, sanitize(SanitizeAction::block_erase)).status().ok());
    const auto event = host_.wait(host_.admin);
    EXPECT_EQ(async_event::log_page.get(event.dw0), static_cast<uint32_t>(LogPage::sanitize_status));
    EXPECT_TRUE(erased());
    const auto log = sanitize_log();
    EXPECT_EQ(log.status, sanitize_status::completed | sanitize_status::global_data_erased);
    EXPECT_EQ(log.progress, sanitize_status::idle_progress);
    EXPECT_EQ(host_.media->image().allocated_bytes(), 0u);
    fill(0, 1);
    EXPECT_EQ(sanitize_log().status, uint16_t{sanitize_status::completed}) << "there is data again";
}

TEST_F(Erasing, overwriting_ends_with_the_pattern) {
    using namespace sanitize_command;
    ASSERT_TRUE(host_.run(host_.admin, sanitize(SanitizeAction::overwrite, owpass(2) | oipbp(1), 0x5c5c5c5c))
                    .status()
                    .ok());
    ASSERT_TRUE(host_.poll_until([&] { return !host_.media->busy(); }));
    EXPECT_TRUE(erased(std::byte{0x5c}));
    EXPECT_EQ(sanitize_log().status >> sanitize_status::passes_shift & 31, 2);
}

TEST_F(Erasing, crypto_erase_is_not_claimed) {
    EXPECT_EQ(host_.run(host_.admin, sanitize(SanitizeAction::crypto_erase)).status().code(),
              StatusCode::invalid_field);
    EXPECT_EQ(first_byte(0), 0xab);
}

TEST_F(Erasing, an_erasure_cut_short_by_power_loss_goes_on) {
    // What a process that was killed in the middle leaves behind.
    host_.controller.reset();
    host_.media.reset();
    std::ofstream(folder_.path() / "drive.state")
        << R"({"version":1,"lba_format":0,"sanitize_status":2,"sanitize_dword10":2,"sanitize_dword11":0})";
    host_.start();
    EXPECT_EQ(host_.media->availability(), StatusCode::sanitize_in_progress);
    ASSERT_TRUE(host_.poll_until([&] { return !host_.media->busy(); }));
    EXPECT_TRUE(erased());
    EXPECT_EQ(host_.media->availability(), StatusCode::success);
}

TEST_F(Erasing, a_format_cut_short_leaves_the_drive_not_ready) {
    host_.controller.reset();
    host_.media.reset();
    std::ofstream(folder_.path() / "drive.state") << R"({"version":1,"lba_format":0,"format_failed":1})";
    host_.start();
    host_.enable();
    queue_ = host_.create_io_queue(1);
    EXPECT_EQ(host_.run(queue_, Host::io(IoOpcode::read, 0, 1, host_.page())).status().code(),
              StatusCode::namespace_not_ready);
    ASSERT_TRUE(host_.run(host_.admin, Host::admin_command(AdminOpcode::format_nvm, 0, {}, 1)).status().ok());
    EXPECT_TRUE(host_.run(queue_, Host::io(IoOpcode::read, 0, 1, host_.page())).status().ok());
}

TEST_F(Erasing, deallocated_blocks_read_as_zeroes) {
    const Iova ranges = host_.page();
    host_.at<DsmRange>(ranges)[0] = {0, 8, 0};
    host_.at<DsmRange>(ranges)[1] = {0, 8, Host::drive_bytes / 512 - 8};
    auto command = Host::io(IoOpcode::dataset_management, 1, 1, ranges);
    command.cdw11 = 4;
    ASSERT_TRUE(host_.run(queue_, command).status().ok());
    EXPECT_TRUE(erased());
    EXPECT_EQ(host_.media->image().allocated_bytes(), 0u);
    host_.at<DsmRange>(ranges)[1] = {0, 9, Host::drive_bytes / 512 - 8};
    EXPECT_EQ(host_.run(queue_, command).status().code(), StatusCode::lba_out_of_range);
}

TEST_F(Erasing, write_zeroes_writes_zeroes) {
    auto command = Host::io(IoOpcode::write_zeroes, 0, 4, {});
    ASSERT_TRUE(host_.run(queue_, command).status().ok());
    EXPECT_EQ(first_byte(3), 0);
    EXPECT_EQ(first_byte(4), 0xab);
    command.cdw12 = 3 | 1 << 25;
    command.cdw10 = 4;
    ASSERT_TRUE(host_.run(queue_, command).status().ok());
    EXPECT_EQ(first_byte(4), 0);
}

TEST_F(Erasing, compare_tells_like_from_unlike) {
    std::memset(host_.at(page_), 0xab, page_bytes);
    EXPECT_TRUE(host_.run(queue_, Host::io(IoOpcode::compare, 0, 8, page_)).status().ok());
    *host_.at<uint8_t>(page_ + 4095) = 1;
    EXPECT_EQ(host_.run(queue_, Host::io(IoOpcode::compare, 0, 8, page_)).status().code(),
              StatusCode::compare_failure);
}

TEST_F(Erasing, a_truncated_drive_gives_read_errors_and_lives) {
    ASSERT_EQ(::ftruncate(host_.media->image().fd(), 0), 0);
    EXPECT_EQ(host_.run(queue_, Host::io(IoOpcode::read, 0, 8, page_)).status().code(),
              StatusCode::unrecovered_read_error);
    fill(0, 0x42);
    EXPECT_EQ(first_byte(0), 0x42);
}

TEST_F(Erasing, a_full_disk_refuses_a_write_and_loses_nothing) {
    // The file may not grow over half of its size; SIGXFSZ would end the process otherwise.
    std::signal(SIGXFSZ, SIG_IGN);
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
    rlimit half = before;
    half.rlim_cur = Host::drive_bytes / 2;
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &half), 0);
    const uint64_t behind = Host::drive_bytes / 2 / 512;
    std::memset(host_.at(page_), 0x99, page_bytes);
    for (const uint32_t fua : {0u, 1u << 30}) {
        auto command = Host::io(IoOpcode::write, behind, 8, page_);
        command.cdw12 = command.cdw12 | fua;
        EXPECT_EQ(host_.run(queue_, command).status().code(), StatusCode::capacity_exceeded);
    }
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
    EXPECT_EQ(first_byte(0), 0xab);
    fill(behind, 0x99);
    EXPECT_EQ(first_byte(behind), 0x99);
}

TEST_F(Erasing, a_drive_is_served_by_one_process) {
    const auto second = Media::open({.file = folder_.path() / "drive"});
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code(), Errc::busy);
}

TEST(MediaFile, another_size_than_the_file_has_is_refused) {
    const Folder folder;
    ASSERT_TRUE(Media::open({.file = folder.path() / "d", .size_bytes = 1 << 20}));
    const auto other = Media::open({.file = folder.path() / "d", .size_bytes = 2 << 20});
    ASSERT_FALSE(other);
    EXPECT_EQ(other.error().code(), Errc::failed_precondition);
    EXPECT_TRUE(Media::open({.file = folder.path() / "d"}));
    EXPECT_FALSE(Media::open({.file = folder.path() / "e", .size_bytes = 1000}));
    EXPECT_FALSE(Media::open({.file = folder.path() / "none"}));
}

TEST(MediaFile, a_foreign_state_file_is_refused) {
    const Folder folder;
    std::ofstream(folder.path() / "d.state") << R"({"version":99})";
    EXPECT_EQ(Media::open({.file = folder.path() / "d", .size_bytes = 1 << 20}).error().code(),
              Errc::failed_precondition);
}

class SanitizeHeld : public HeldControllerTest {};

TEST_F(SanitizeHeld, in_progress_keeps_everybody_out_and_outlives_resets) {
    host_.enable();
    auto queue = host_.create_io_queue(1);
    ASSERT_TRUE(host_.run(host_.admin, Host::admin_command(AdminOpcode::sanitize, 2)).status().ok());
    const auto refused = [&](HostQueue& to, const Command& command) {
        return host_.run(to, command).status().code() == StatusCode::sanitize_in_progress;
    };
    EXPECT_TRUE(refused(queue, Host::io(IoOpcode::read, 0, 1, host_.page())));
    EXPECT_TRUE(refused(host_.admin, Host::admin_command(AdminOpcode::format_nvm, 0, {}, 1)));
    EXPECT_TRUE(refused(host_.admin, Host::admin_command(AdminOpcode::sanitize, 2)));
    ASSERT_TRUE(**host_.device_reset());
    host_.doorbells = host_.doorbell_page();
    host_.enable();
    queue = host_.create_io_queue(1);
    EXPECT_TRUE(refused(queue, Host::io(IoOpcode::read, 0, 1, host_.page())));
    const Iova page = host_.page();
    host_.run(host_.admin, Host::log(LogPage::sanitize_status, 512, page));
    EXPECT_EQ(host_.at<SanitizeStatusLog>(page)->status, uint16_t{sanitize_status::in_progress});
    queue_->hold = false;
    ASSERT_TRUE(host_.poll_until([&] { return !host_.media->busy(); }));
    EXPECT_TRUE(host_.run(queue, Host::io(IoOpcode::read, 0, 1, host_.page())).status().ok());
}

TEST_F(SanitizeHeld, waits_for_writes_in_flight) {
    host_.enable();
    auto queue = host_.create_io_queue(1);
    const Iova page = host_.page();
    std::memset(host_.at(page), 0xee, page_bytes);
    host_.submit(queue, Host::io(IoOpcode::write, 0, 8, page));
    host_.poll_once();
    host_.submit(host_.admin, Host::admin_command(AdminOpcode::sanitize, 2));
    for (int i = 0; i < 10; ++i)
        host_.poll_once();
    ASSERT_EQ(queue_->waiting.size(), 1u); // the write, and no erasure
    queue_->hold = false;
    EXPECT_TRUE(host_.wait(queue).status().ok());
    EXPECT_TRUE(host_.wait(host_.admin).status().ok());
    ASSERT_TRUE(host_.poll_until([&] { return !host_.media->busy(); }));
    EXPECT_TRUE(*host_.media->image().is_empty());
}

} // namespace
} // namespace lanepool::nvme::model::test
