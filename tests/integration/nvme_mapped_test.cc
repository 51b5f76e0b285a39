// SPDX-License-Identifier: Apache-2.0
//
// Our NVMe driver on our NVMe model with all of BAR0 mapped: no register access is a message.
#include "integration/mapped_function.h"
#include "integration/nvme_drive.h"
#include "nvme/driver.h"
#include "nvme/io_commands.h"
#include "nvme/wipe.h"

#include <poll.h>

namespace lanepool::integration {
namespace {

using namespace nvme;

constexpr uint64_t drive_bytes = 16 << 20;
constexpr io::Duration second = std::chrono::seconds(1);

class NvmeMappedTest : public testing::Test {
  protected:
    NvmeDrive drive{drive_bytes, {.serial = {}, .map_registers = true}};
    MappedFunction function{drive.connect()};
};

TEST_F(NvmeMappedTest, TheDriverWorksUnchanged) {
    auto created = Driver::create(function, io::system_clock(), {.io_queues = 64, .interrupt_vectors = 2});
    ASSERT_TRUE(created) << created.error().message();
    auto& driver = **created;
    EXPECT_EQ(driver.max_queues(), 64);
    EXPECT_EQ(driver.info().serial, "INTEGRATION1");
    auto* queue = driver.create_queue({.depth = 8, .interrupt_vector = 1}).value();
    const auto ns = driver.namespaces().at(0);
    auto memory = driver.allocate(65536).value();
    for (uint32_t i = 0; i < 100; ++i) {
        std::memset(memory.bytes().data(), static_cast<int>(i + 1), 4096);
        ASSERT_TRUE(queue->execute(make_write(ns, i * 8, 8, {memory}).value(), 10 * second).ok());
        ASSERT_TRUE(queue->execute(make_read(ns, i * 8, 8, {memory, 8192}).value(), 10 * second).ok());
        ASSERT_EQ(std::memcmp(memory.bytes().data(), memory.bytes().data() + 8192, 4096), 0);
    }
    EXPECT_GT(drain(driver.interrupt(1)), 0u);
    EXPECT_TRUE(driver.shut_down());
}

TEST_F(NvmeMappedTest, ItIsWipedAndResetAsAnyOther) {
    for (int i = 0; i < 2; ++i) {
        const auto report = wipe(function, io::system_clock(), {.seed = 3, .on_progress = {}});
        ASSERT_TRUE(report) << report.error().message();
        ASSERT_TRUE(function.reset());
        ASSERT_TRUE(verify_reset(function));
    }
}

} // namespace
} // namespace lanepool::integration
