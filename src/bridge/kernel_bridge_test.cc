// SPDX-License-Identifier: Apache-2.0
//
// What is said to the module, and what is made of its answers; the module itself is played.
#include "bridge/module.h"
#include "pci/config_space.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <functional>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <lanepool_bridge.h>
#include <map>
#include <sys/eventfd.h>

namespace lanepool::bridge {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

// Answers each call as it is told, by default with success, and keeps the arguments of the last of each.
class PlayedModule final : public Module {
  public:
    PlayedModule() {
        info.version = LANEPOOL_BRIDGE_VERSION;
        info.dma_modes = 3;
        info.max_vectors = 2048;
        info.max_pool_bytes = 1 << 20;
    }
    int open(const std::filesystem::path&) override {
        return open_error ? -open_error : ::eventfd(0, EFD_CLOEXEC); // any descriptor
    }
    int ioctl(int, unsigned long request, void* argument) override {
        const auto bytes = _IOC_SIZE(request);
        uint32_t size = 0;
        std::memcpy(&size, argument, sizeof(size));
        if (size != bytes) return -EINVAL;
        auto& kept = calls[request];
        kept.resize(bytes);
        std::memcpy(kept.data(), argument, bytes);
        if (const auto found = errors.find(request); found != errors.end()) return -found->second;
        if (request == LANEPOOL_BRIDGE_INFO) {
            info.size = size;
            std::memcpy(argument, &info, sizeof(info));
        }
        if (answers.contains(request)) answers[request](argument);
        return 0;
    }
    ssize_t read(int, std::span<std::byte> data) override {
        if (events.empty()) return -EAGAIN;
        const size_t whole = std::min(data.size() / sizeof(events[0]), events.size());
        std::memcpy(data.data(), events.data(), whole * sizeof(events[0]));
        events.erase(events.begin(), events.begin() + static_cast<std::ptrdiff_t>(whole));
        return static_cast<ssize_t>(whole * sizeof(events[0]) + torn_bytes);
    }

    template <class T>
    T last(unsigned long request) {
        T arguments{};
        const auto& kept = calls[request];
        EXPECT_EQ(kept.size(), sizeof(T)) << "not called";
        std::memcpy(&arguments, kept.data(), std::min(kept.size(), sizeof(T)));
        return arguments;
    }

    int open_error = 0;
    lanepool_bridge_info info{};
    std::map<unsigned long, int> errors;
    std::map<unsigned long, std::function<void(void*)>> answers;
    std::map<unsigned long, std::vector<std::byte>> calls;
    std::vector<lanepool_bridge_event> events;
    size_t torn_bytes = 0;
};

Description drive() {
    Description description;
    auto& config = description.config;
    for (auto* bytes : {&config.values, &config.writable, &config.cleared, &config.noticed})
        bytes->resize(pci::extended_config_bytes);
    pci::set16(config.values, pci::config::vendor_id, 0x1b36);
    pci::set16(config.values, pci::config::device_id, 0x0010);
    config.vectors = ShownConfig::Vectors::msi;
    config.vector_count = 4;
    const auto adapter = share(*create_memory("adapter", 65536));
    description.bars[0] = {{adapter, 16384, 16384}, true, false};
    description.bars[3] = {{adapter, 4096, 4096}, false, true};
    description.pool_bytes = 8192;
    description.held = {share(*create_memory("group", 4096)), share(*create_memory("container", 4096))};
    return description;
}

class KernelBridgeTest : public testing::Test {
  protected:
    PlayedModule module;
    std::unique_ptr<Bridge> bridge = kernel_bridge(module, "/dev/lanepool_bridge");
    std::unique_ptr<Function> open() {
        auto function = bridge->open();
        EXPECT_TRUE(function) << function.error().message();
        return *std::move(function);
    }
    // How a call fails when the module says so.
    template <class Call>
    Error failing(unsigned long request, int error_number, Call call) {
        module.errors[request] = error_number;
        const auto result = call();
        module.errors.erase(request);
        EXPECT_FALSE(result);
        return result ? Error(Errc::internal, "it succeeded") : result.error();
    }
};

TEST_F(KernelBridgeTest, SaysWhatTheModuleCan) {
    auto ability = bridge->ability();
    ASSERT_TRUE(ability) << ability.error().message();
    EXPECT_THAT(ability->dma_modes, ElementsAre(DmaMode::bounce, DmaMode::iommu));
    EXPECT_EQ(ability->max_vectors, 2048u);
    EXPECT_EQ(ability->max_pool_bytes, 1u << 20);
    module.info.dma_modes = 7; // asked anew
    EXPECT_THAT(bridge->ability()->dma_modes, ElementsAre(DmaMode::bounce, DmaMode::iommu, DmaMode::direct));
}

TEST_F(KernelBridgeTest, WithoutAModuleItSaysHowToGetOne) {
    module.open_error = ENOENT;
    const auto ability = bridge->ability();
    ASSERT_FALSE(ability);
    EXPECT_EQ(ability.error().code(), Errc::not_supported);
    EXPECT_THAT(ability.error().message(), HasSubstr("/dev/lanepool_bridge is not there"));
    EXPECT_THAT(ability.error().message(), HasSubstr("modprobe lanepool_bridge"));
    EXPECT_EQ(bridge->open().error().code(), Errc::not_supported);
}

TEST_F(KernelBridgeTest, WithoutPrivilegeItSaysWhichOneIsMissing) {
    module.open_error = EPERM;
    const auto ability = bridge->ability();
    EXPECT_EQ(ability.error().code(), Errc::permission_denied);
    EXPECT_THAT(ability.error().message(), HasSubstr("CAP_SYS_ADMIN"));
}

TEST_F(KernelBridgeTest, TooManyFunctionsAreNoSpace) {
    module.open_error = EMFILE;
    EXPECT_EQ(bridge->open().error().code(), Errc::no_space);
}

TEST_F(KernelBridgeTest, AnotherVersionIsNamed) {
    module.info.version = 7;
    const auto function = bridge->open();
    ASSERT_FALSE(function);
    EXPECT_EQ(function.error().code(), Errc::not_supported);
    EXPECT_THAT(function.error().message(), HasSubstr("version 7"));
    EXPECT_THAT(function.error().message(), HasSubstr("version 1"));
}

TEST_F(KernelBridgeTest, AModuleThatDoesNotKnowTheCallIsAnotherVersion) {
    for (const int error : {ENOTTY, EINVAL})
        EXPECT_EQ(failing(LANEPOOL_BRIDGE_INFO, error, [&] { return bridge->ability(); }).code(),
                  Errc::not_supported);
}

TEST_F(KernelBridgeTest, DescribesAFunction) {
    const auto function = open();
    const auto description = drive();
    ASSERT_TRUE(function->create(description));
    const auto args = module.last<lanepool_bridge_create>(LANEPOOL_BRIDGE_CREATE);
    EXPECT_EQ(args.config_space, reinterpret_cast<uint64_t>(description.config.values.data()));
    EXPECT_EQ(args.write_mask, reinterpret_cast<uint64_t>(description.config.writable.data()));
    EXPECT_EQ(args.clear_mask, reinterpret_cast<uint64_t>(description.config.cleared.data()));
    EXPECT_EQ(args.notify_mask, reinterpret_cast<uint64_t>(description.config.noticed.data()));
    EXPECT_EQ(args.bars[0].vfio_fd, description.bars[0].memory.fd->get());
    EXPECT_EQ(args.bars[0].flags, LANEPOOL_BRIDGE_BAR_64BIT);
    EXPECT_EQ(args.bars[0].offset, 16384u);
    EXPECT_EQ(args.bars[0].size, 16384u);
    EXPECT_EQ(args.bars[1].vfio_fd, -1);
    EXPECT_EQ(args.bars[1].size, 0u);
    EXPECT_EQ(args.bars[3].flags, LANEPOOL_BRIDGE_BAR_PREFETCH);
    EXPECT_EQ(args.vector_kind, uint32_t{LANEPOOL_BRIDGE_VECTORS_MSI});
    EXPECT_EQ(args.vectors, 4u);
    EXPECT_EQ(args.pool_bytes, 8192u);
    EXPECT_EQ(args.held_fds[1], description.held[1]->get());
    EXPECT_EQ(args.held_fds[2], -1);
}

TEST_F(KernelBridgeTest, DescribesMemoryByTheIommu) {
    const auto function = open();
    auto description = drive();
    description.dma_mode = DmaMode::iommu;
    description.dma_bar = 3;
    description.iova_base = 1 << 30;
    description.iova_bytes = 64 << 20;
    ASSERT_TRUE(function->create(description));
    const auto args = module.last<lanepool_bridge_create>(LANEPOOL_BRIDGE_CREATE);
    EXPECT_EQ(args.dma_mode, uint32_t{LANEPOOL_BRIDGE_DMA_IOMMU});
    EXPECT_EQ(args.pool_bytes, 0u);
    EXPECT_EQ(args.dma_bar, 3u);
    EXPECT_EQ(args.iova_base, 1u << 30);
    EXPECT_EQ(args.iova_bytes, 64u << 20);
    EXPECT_FALSE(function->pool());
}

TEST_F(KernelBridgeTest, RefusalsNameWhatWasAskedFor) {
    const auto function = open();
    const auto create = [&] { return function->create(drive()); };
    for (const auto& [number, code] : {std::pair{EINVAL, Errc::invalid_argument},
                                       {EBADF, Errc::invalid_argument},
                                       {EOPNOTSUPP, Errc::not_supported},
                                       {EBUSY, Errc::busy},
                                       {ENOSPC, Errc::no_space},
                                       {ENOMEM, Errc::no_space},
                                       {EPERM, Errc::failed_precondition},
                                       {ENODEV, Errc::failed_precondition},
                                       {ERANGE, Errc::out_of_range}}) {
        const auto error = failing(LANEPOOL_BRIDGE_CREATE, number, create);
        EXPECT_EQ(error.code(), code) << error.message();
        EXPECT_THAT(error.message(), HasSubstr("1b36:0010"));
        EXPECT_THAT(error.message(), HasSubstr("2 BARs and 4 vectors"));
        EXPECT_THAT(error.message(), HasSubstr("bounce of 8192 bytes"));
    }
}

TEST_F(KernelBridgeTest, DirectNeedsTheParameter) {
    const auto function = open();
    const auto error = failing(LANEPOOL_BRIDGE_CREATE, EPERM, [&] { return function->create(drive()); });
    EXPECT_THAT(error.message(), HasSubstr("allow_direct"));
}

TEST_F(KernelBridgeTest, DescriptionsThatCannotBeAreNotAskedFor) {
    const auto function = open();
    const auto refused = [&](const Description& description) {
        const auto result = function->create(description);
        return !result && result.error().code() == Errc::invalid_argument;
    };
    auto description = drive();
    description.config.noticed.resize(256);
    EXPECT_TRUE(refused(description));
    description = drive();
    description.held.resize(9, description.held[0]);
    EXPECT_TRUE(refused(description));
    description = drive();
    description.held.push_back(nullptr);
    EXPECT_TRUE(refused(description));
    description = drive();
    description.bars[0].memory.fd.reset();
    EXPECT_TRUE(refused(description));
    EXPECT_FALSE(module.calls.contains(LANEPOOL_BRIDGE_CREATE));
}

TEST_F(KernelBridgeTest, ThePoolIsTheFileItself) {
    const auto function = open();
    EXPECT_EQ(function->pool().error().code(), Errc::failed_precondition);
    ASSERT_TRUE(function->create(drive()));
    const auto pool = function->pool();
    ASSERT_TRUE(pool);
    EXPECT_EQ(pool->fd->get(), function->event_fd());
    EXPECT_EQ(pool->offset_bytes, 0u);
    EXPECT_EQ(pool->size_bytes, 8192u);
}

TEST_F(KernelBridgeTest, PlugsInAndSaysWhere) {
    const auto function = open();
    module.answers[LANEPOOL_BRIDGE_PLUG] = [](void* argument) {
        auto* plug = static_cast<lanepool_bridge_plug*>(argument);
        plug->domain = 0x1ff03;
        plug->bus = 1;
        plug->devfn = 0x2b;
    };
    const auto where = function->plug(16 << 20);
    ASSERT_TRUE(where);
    EXPECT_EQ(*where, (pci::Address{0x1ff03, 1, 5, 3}));
    EXPECT_EQ(module.last<lanepool_bridge_plug>(LANEPOOL_BRIDGE_PLUG).dma_base, 16u << 20);
    const auto error = failing(LANEPOOL_BRIDGE_PLUG, EBUSY, [&] { return function->plug(0x1000); });
    EXPECT_EQ(error.code(), Errc::busy);
    EXPECT_THAT(error.message(), HasSubstr("0x1000"));
}

TEST_F(KernelBridgeTest, UnplugsInOrderOrBySurprise) {
    const auto function = open();
    ASSERT_TRUE(function->unplug(false));
    EXPECT_EQ(module.last<lanepool_bridge_unplug>(LANEPOOL_BRIDGE_UNPLUG).flags, 0u);
    ASSERT_TRUE(function->unplug(true));
    EXPECT_EQ(module.last<lanepool_bridge_unplug>(LANEPOOL_BRIDGE_UNPLUG).flags,
              LANEPOOL_BRIDGE_UNPLUG_SURPRISE);
    EXPECT_EQ(failing(LANEPOOL_BRIDGE_UNPLUG, ENODEV, [&] { return function->unplug(false); }).code(),
              Errc::failed_precondition);
}

// The pool's descriptor may outlive it, and then the file is not closed.
TEST_F(KernelBridgeTest, WhatIsDestroyedGoesBySurprise) {
    auto function = open();
    ASSERT_TRUE(function->create(drive()));
    const auto pool = *function->pool();
    function.reset();
    EXPECT_EQ(module.last<lanepool_bridge_unplug>(LANEPOOL_BRIDGE_UNPLUG).flags,
              LANEPOOL_BRIDGE_UNPLUG_SURPRISE);
    EXPECT_GE(::fcntl(pool.fd->get(), F_GETFD), 0);
}

TEST_F(KernelBridgeTest, ConnectsVectors) {
    const auto function = open();
    const std::array fds{7, -1};
    ASSERT_TRUE(function->set_vectors(2, fds));
    const auto args = module.last<lanepool_bridge_vectors>(LANEPOOL_BRIDGE_SET_VECTORS);
    EXPECT_EQ(args.start, 2u);
    EXPECT_EQ(args.count, 2u);
    EXPECT_EQ(args.fds, reinterpret_cast<uint64_t>(fds.data()));
    EXPECT_TRUE(function->set_vectors(0, {})); // nothing to do, which the module would refuse
    EXPECT_EQ(function->set_vectors(0, std::vector<int>(2049, -1)).error().code(), Errc::invalid_argument);
    EXPECT_EQ(
        failing(LANEPOOL_BRIDGE_SET_VECTORS, EINVAL, [&] { return function->set_vectors(2, fds); }).message(),
        "connecting 2 eventfds from vector 2 on: Invalid argument");
}

TEST_F(KernelBridgeTest, ReadsAndUpdatesConfigurationSpace) {
    const auto function = open();
    module.answers[LANEPOOL_BRIDGE_READ_CONFIG] = [](void* argument) {
        const auto* args = static_cast<lanepool_bridge_config*>(argument);
        std::memset(reinterpret_cast<void*>(args->data), static_cast<int>(args->offset), args->length);
    };
    EXPECT_THAT(*function->read_config(4, 2), ElementsAre(std::byte{4}, std::byte{4}));
    EXPECT_FALSE(function->read_config(0, 0));
    EXPECT_FALSE(function->read_config(0, 4097));
    const std::array data{std::byte{1}, std::byte{2}, std::byte{3}};
    ASSERT_TRUE(function->update_config(0x44, data));
    const auto args = module.last<lanepool_bridge_config>(LANEPOOL_BRIDGE_UPDATE_CONFIG);
    EXPECT_EQ(args.offset, 0x44u);
    EXPECT_EQ(args.length, 3u);
    EXPECT_EQ(args.data, reinterpret_cast<uint64_t>(data.data()));
    const auto error =
        failing(LANEPOOL_BRIDGE_UPDATE_CONFIG, EPERM, [&] { return function->update_config(0, data); });
    EXPECT_EQ(error.code(), Errc::permission_denied);
    EXPECT_THAT(error.message(), HasSubstr("3 bytes at 0x0"));
}

TEST_F(KernelBridgeTest, BeginsAndEndsResets) {
    const auto function = open();
    ASSERT_TRUE(function->begin_reset());
    EXPECT_EQ(module.last<lanepool_bridge_reset>(LANEPOOL_BRIDGE_RESET).action,
              uint32_t{LANEPOOL_BRIDGE_RESET_BEGIN});
    ASSERT_TRUE(function->end_reset());
    EXPECT_EQ(module.last<lanepool_bridge_reset>(LANEPOOL_BRIDGE_RESET).action,
              uint32_t{LANEPOOL_BRIDGE_RESET_END});
}

TEST_F(KernelBridgeTest, Counts) {
    const auto function = open();
    module.answers[LANEPOOL_BRIDGE_STATS] = [](void* argument) {
        auto* stats = static_cast<lanepool_bridge_stats*>(argument);
        uint64_t value = 1;
        for (auto* at :
             {&stats->config_reads, &stats->config_writes, &stats->events_lost, &stats->vectors_delivered,
              &stats->vectors_dropped, &stats->dma_maps, &stats->dma_unmaps, &stats->dma_failures,
              &stats->bytes_copied, &stats->pool_used_bytes, &stats->pool_peak_bytes})
            *at = value++;
    };
    const auto stats = *function->stats();
    EXPECT_THAT(
        (std::array{stats.config_reads, stats.config_writes, stats.events_lost, stats.vectors_delivered,
                    stats.vectors_dropped, stats.dma_maps, stats.dma_unmaps, stats.dma_failures,
                    stats.bytes_copied, stats.pool_used_bytes, stats.pool_peak_bytes}),
        ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11));
}

TEST_F(KernelBridgeTest, TakesEventsThatAreThere) {
    const auto function = open();
    EXPECT_THAT(*function->take_events(), SizeIs(0));
    module.events = {{LANEPOOL_BRIDGE_EVENT_CONFIG_WRITE, 0, 1, 4, 2, 6, 0},
                     {LANEPOOL_BRIDGE_EVENT_RESET, LANEPOOL_BRIDGE_EVENT_LOST, 9, 0, 0, 0, 0},
                     {LANEPOOL_BRIDGE_EVENT_ATTACHED, 0, 10, 0, 0, 0, 0},
                     {LANEPOOL_BRIDGE_EVENT_REMOVED, 0, 11, 0, 0, 0, 0},
                     {LANEPOOL_BRIDGE_EVENT_RELEASED, 0, 12, 0, 0, 0, 0}};
    const auto events = *function->take_events();
    ASSERT_THAT(events, SizeIs(5));
    EXPECT_EQ(events[0].kind, Event::Kind::config_write);
    EXPECT_EQ(events[0].offset_bytes, 4u);
    EXPECT_EQ(events[0].size_bytes, 2u);
    EXPECT_EQ(events[0].value, 6u);
    EXPECT_FALSE(events[0].lost_before);
    EXPECT_EQ(events[1].kind, Event::Kind::reset);
    EXPECT_TRUE(events[1].lost_before);
    EXPECT_EQ(events[2].kind, Event::Kind::attached);
    EXPECT_EQ(events[3].kind, Event::Kind::removed);
    EXPECT_EQ(events[4].kind, Event::Kind::released);
}

TEST_F(KernelBridgeTest, TakesALimitedNumberOfEventsAtATime) {
    const auto function = open();
    module.events.assign(100, {LANEPOOL_BRIDGE_EVENT_RESET, 0, 0, 0, 0, 0, 0});
    size_t taken = 0, rounds = 0;
    while (const size_t now = function->take_events()->size()) {
        taken += now;
        ++rounds;
    }
    EXPECT_EQ(taken, 100u);
    EXPECT_EQ(rounds, 2u);
}

TEST_F(KernelBridgeTest, EventsThatCannotBeAreAnError) {
    const auto function = open();
    module.events = {{77, 0, 0, 0, 0, 0, 0}};
    EXPECT_EQ(function->take_events().error().code(), Errc::protocol);
    module.events = {{LANEPOOL_BRIDGE_EVENT_RESET, 0, 0, 0, 0, 0, 0}};
    module.torn_bytes = 3;
    EXPECT_EQ(function->take_events().error().code(), Errc::protocol);
}

TEST(SystemModule, ANodeThatIsNotThere) {
    const auto ability = kernel_bridge("/nonexistent/lanepool_bridge")->ability();
    ASSERT_FALSE(ability);
    EXPECT_EQ(ability.error().code(), Errc::not_supported);
}

TEST(SystemModule, ANodeThatIsSomethingElse) {
    const auto ability = kernel_bridge("/dev/null")->ability();
    ASSERT_FALSE(ability);
    EXPECT_EQ(ability.error().code(), Errc::not_supported);
}

TEST(DmaModes, HaveNames) {
    for (const auto mode : {DmaMode::bounce, DmaMode::iommu, DmaMode::direct})
        EXPECT_EQ(dma_mode(name(mode)), mode);
    EXPECT_FALSE(dma_mode("unknown"));
}

} // namespace
} // namespace lanepool::bridge
