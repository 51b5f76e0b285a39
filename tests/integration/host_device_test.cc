// SPDX-License-Identifier: Apache-2.0
//
// A lent device that its own host can use, too: everything between the controller's steps and the host's
// kernel, on a virtual switch.
#include "agent/lent_device.h"
#include "base/temporary_folder.h"
#include "dma_model/function.h"
#include "integration/host_devices.h"
#include "integration/virtual_switch.h"
#include "vfio_user/server.h"
#include "vfio_user/test_function.h"

#include <gmock/gmock.h>

namespace lanepool::integration {
namespace {

using agent::LentDevice;
using pool::StepKind;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using vfio_user::testing::LoopThread;

constexpr uint64_t fdid = 0x80001;

class HostDevice : public testing::Test {
  protected:
    HostDevice() {
        model_thread_.run([&] {
            model_ = dma_model::Function::create(1).value();
            vfio_user::ServerOptions options;
            options.fresh_memory_on_reset = true; // the virtual switch hands out what is mapped
            server_ =
                vfio_user::Server::create(model_thread_.loop(), folder_ / "device", *model_, options).value();
        });
        source = std::make_shared<FakeBusDevice>(folder_ / "device");
        adapter_ = switch_.adapter(0);
        start();
    }
    ~HostDevice() override {
        source->tell([](auto& script, auto&) { script.slow = false; });
        stop();
        adapter_.reset();
        model_thread_.run([&] {
            server_.reset();
            model_.reset();
        });
    }

    // The agent, anew.
    void start() {
        thread.run([&] {
            records_.emplace(agent::DeviceRecords::open(folder_ / "records").value());
            agent::LentDeviceSetup setup;
            setup.loop = &thread.loop();
            setup.background = std::make_shared<agent::Background>(thread.loop());
            setup.records = &*records_;
            setup.qualifications = &qualifications_;
            setup.name = "card0";
            setup.source = source;
            setup.events.changed = [this] { ++changes; };
            setup.events.loan_lost = [this](uint64_t loan, uint64_t, const std::string&) {
                losses.push_back(loan);
            };
            setup.events.functions = [this](const auto& seen) { functions = seen; };
            device = std::make_unique<LentDevice>(std::move(setup));
            device->set_adapter(adapter_.get());
        });
        EXPECT_TRUE(eventually([&] { return thread.run([&] { return device->identified(); }); }));
        thread.run([&] { device->set_fdid(fdid); });
    }
    void stop() {
        thread.run([&] { device.reset(); });
    }

    v1::ObservedDevice observed() {
        return thread.run([&] { return device->observed(); });
    }
    // Whether it comes to that within some seconds.
    bool is_local() {
        return eventually([&] { return observed().local() && observed().answering(); });
    }
    // One step; its answer's code, or "ok".
    std::string ask(StepKind kind, uint64_t epoch, uint64_t loan = 0, uint32_t deadline_ms = 10'000) {
        std::promise<Result<>> answer;
        auto future = answer.get_future();
        begin(kind, epoch, loan, deadline_ms, [&](Result<> result) { answer.set_value(std::move(result)); });
        if (future.wait_for(std::chrono::seconds(20)) != std::future_status::ready) return "none";
        const auto result = future.get();
        message = result ? "" : result.error().message();
        return result ? "ok" : std::string(lanepool::name(result.error().code()));
    }
    void begin(StepKind kind, uint64_t epoch, uint64_t loan, uint32_t deadline_ms, LentDevice::Done done) {
        pool::Order order;
        order.step.id = {++steps_};
        order.step.kind = kind;
        order.step.fdid = {fdid};
        order.step.epoch = {epoch};
        order.step.loan = {loan};
        order.step.deadline_ms = deadline_ms;
        order.step.functions = wanted_functions;
        order.borrower_partition = 1;
        thread.run([&] { device->perform(order, std::move(done)); });
    }
    // Taken at EPOCH, and as new.
    void in_pool(uint64_t epoch) {
        ASSERT_TRUE(is_local());
        for (const StepKind kind : {StepKind::take, StepKind::cut, StepKind::reset, StepKind::sanitize})
            ASSERT_EQ(ask(kind, epoch), "ok") << pool::name(kind) << ": " << message;
        ASSERT_TRUE(observed().clean());
    }

  private:
    TemporaryFolder folder_;
    VirtualSwitch switch_{2};
    LoopThread model_thread_;
    std::unique_ptr<dma_model::Function> model_;
    std::unique_ptr<vfio_user::Server> server_;
    std::unique_ptr<ntb::Adapter> adapter_;
    std::optional<agent::DeviceRecords> records_;
    const agent::Qualifications qualifications_{folder_ / "qualifications", "6.1.0"};
    uint64_t steps_ = 0;

  protected:
    std::shared_ptr<FakeBusDevice> source;
    LoopThread thread;
    std::unique_ptr<LentDevice> device;
    std::string message; // of the last step that failed
    uint32_t wanted_functions = 0;
    std::atomic<int> changes{0};
    std::vector<uint64_t> losses; // on the loop's thread
    std::vector<pci::Address> functions;
};

class FieldComplaint : public HostDevice {};

TEST_F(HostDevice, IsSeenWhileItsHostHasIt) {
    ASSERT_TRUE(is_local());
    const auto seen = observed();
    EXPECT_EQ(seen.identity().serial(), "S1");
    EXPECT_EQ(seen.identity().model(), "a card");
    EXPECT_EQ(seen.most_functions(), 4u);
    EXPECT_TRUE(seen.iommu());
    EXPECT_FALSE(seen.clean());
    EXPECT_EQ(seen.problem(), "");
    EXPECT_EQ(source->takes(), 0u);
    EXPECT_EQ(ask(StepKind::reset, 1), "failed_precondition");
}

TEST_F(HostDevice, IsTakenLentAndGivenBack) {
    in_pool(1);
    EXPECT_FALSE(observed().local());
    EXPECT_EQ(ask(StepKind::prepare, 2, 7), "ok") << message;
    EXPECT_EQ(ask(StepKind::give_back, 3), "failed_precondition");
    EXPECT_EQ(ask(StepKind::cut, 3), "ok") << message;
    EXPECT_EQ(ask(StepKind::reset, 3), "ok") << message;
    EXPECT_EQ(ask(StepKind::give_back, 3), "ok") << message;
    EXPECT_FALSE(source->taken());
    EXPECT_TRUE(observed().local());
    EXPECT_FALSE(observed().clean());
    in_pool(4); // and again
}

TEST_F(HostDevice, IsTheSameDeviceWhoeverHasIt) {
    in_pool(1);
    EXPECT_EQ(observed().identity().serial(), "S1");
    EXPECT_EQ(observed().identity().model(), "a card");
    EXPECT_TRUE(observed().iommu());
    EXPECT_EQ(thread.run([&] { return device->fdid(); }), fdid);
}

TEST_F(HostDevice, IsItsHostsAgainWhenItCannotBeOpened) {
    ASSERT_TRUE(is_local());
    source->tell([](auto& script, auto&) { script.silent = true; });
    EXPECT_EQ(ask(StepKind::take, 1), "io");
    EXPECT_EQ(message, "it does not open");
    EXPECT_FALSE(source->taken());
    EXPECT_TRUE(is_local());
    source->tell([](auto& script, auto&) { script.silent = false; });
    in_pool(2);
}

TEST_F(HostDevice, IsNotTakenWithoutTheFabric) {
    ASSERT_TRUE(is_local());
    thread.run([&] { device->set_adapter(nullptr); });
    EXPECT_TRUE(observed().local());
    EXPECT_EQ(ask(StepKind::take, 1), "unavailable");
    EXPECT_FALSE(source->taken());
    EXPECT_TRUE(is_local());
}

// Its number is told by a driver only, and the last one that was there had another.
TEST_F(HostDevice, AnotherOneThanItWasTakenForIsGivenBackAndAnotherDevice) {
    ASSERT_TRUE(is_local());
    stop();
    source->tell([](auto&, auto& state) {
        state.serial_known = false;
        state.identity.set_serial("");
    });
    start();
    ASSERT_TRUE(is_local());
    EXPECT_EQ(observed().identity().serial(), "S1"); // as far as anybody knows
    source->tell([](auto&, auto& state) { state.identity.set_serial("S2"); });
    EXPECT_EQ(ask(StepKind::take, 1), "failed_precondition");
    EXPECT_THAT(message, HasSubstr("'S2', not 'S1'"));
    EXPECT_FALSE(source->taken());
    EXPECT_TRUE(eventually([&] { return observed().identity().serial() == "S2"; }));
    EXPECT_EQ(thread.run([&] { return device->fdid(); }), 0u);
    thread.run([&] { device->set_fdid(fdid); });
    in_pool(1);
}

TEST_F(HostDevice, OneThatIsPulledOutIsNotThere) {
    ASSERT_TRUE(is_local());
    source->tell([](auto& script, auto&) { script.present = false; });
    EXPECT_TRUE(eventually([&] { return !observed().answering() && !observed().local(); }));
    EXPECT_EQ(observed().problem(), "it is not there");
    source->tell([](auto& script, auto&) { script.present = true; });
    EXPECT_TRUE(is_local());
}

TEST_F(HostDevice, FunctionsAreMadeAndSaid) {
    ASSERT_TRUE(is_local());
    wanted_functions = 2;
    EXPECT_EQ(ask(StepKind::set_functions, 1), "ok");
    EXPECT_TRUE(eventually([&] { return observed().functions() == 2; }));
    EXPECT_THAT(thread.run([&] { return functions; }),
                ElementsAre(pci::Address{0, 3, 0x10, 0}, pci::Address{0, 3, 0x10, 1}));
    wanted_functions = 0;
    EXPECT_EQ(ask(StepKind::set_functions, 1), "ok");
    EXPECT_TRUE(eventually([&] { return thread.run([&] { return functions.empty(); }); }));
    source->tell([](auto& script, auto&) { script.no_functions = true; });
    EXPECT_EQ(ask(StepKind::set_functions, 1), "not_supported");
    EXPECT_TRUE(is_local());
}

TEST_F(HostDevice, OneThatIsRemovedLetsGoFirst) {
    in_pool(1);
    std::promise<Result<>> answer;
    thread.run([&] { device->let_go([&](Result<> result) { answer.set_value(std::move(result)); }); });
    EXPECT_TRUE(answer.get_future().get());
    EXPECT_FALSE(source->taken());
    EXPECT_FALSE(observed().local()); // nobody should want it
    EXPECT_FALSE(observed().answering());
    thread.run([&] { device->stay(); }); // the removal has failed
    EXPECT_TRUE(is_local());
}

TEST_F(HostDevice, OneThatIsLentIsNotRemoved) {
    in_pool(1);
    ASSERT_EQ(ask(StepKind::prepare, 2, 7), "ok") << message;
    const auto may = thread.run([&] { return device->may_go(); });
    ASSERT_FALSE(may);
    EXPECT_EQ(may.error().message(), "SR-IOV function card0 is lent by loan 7");
}

// ---- after a restart, in each state

TEST_F(HostDevice, AfterARestartOneOfItsHostsIsItsHosts) {
    in_pool(1);
    ASSERT_EQ(ask(StepKind::give_back, 2), "ok");
    stop();
    start();
    EXPECT_TRUE(is_local());
    EXPECT_EQ(observed().epoch(), 2u);
    EXPECT_EQ(ask(StepKind::take, 1), "stale_epoch");
}

TEST_F(HostDevice, AfterARestartATakenOneIsThereAndAsItWas) {
    in_pool(1);
    stop();
    start();
    EXPECT_TRUE(eventually([&] { return observed().answering(); }));
    EXPECT_FALSE(observed().local());
    EXPECT_TRUE(observed().clean());
    EXPECT_EQ(source->takes(), 1u);
    EXPECT_EQ(ask(StepKind::take, 2), "ok"); // nothing to do
    EXPECT_EQ(source->takes(), 1u);
}

TEST_F(HostDevice, AfterARestartALentOneIsNobodysAndNotClean) {
    in_pool(1);
    ASSERT_EQ(ask(StepKind::prepare, 2, 7), "ok") << message;
    stop();
    start();
    EXPECT_TRUE(eventually([&] { return observed().answering(); }));
    EXPECT_EQ(observed().loan_id(), 0u);
    EXPECT_FALSE(observed().clean());
    EXPECT_EQ(ask(StepKind::prepare, 3, 8), "failed_precondition");
    for (const StepKind kind : {StepKind::cut, StepKind::reset, StepKind::sanitize})
        EXPECT_EQ(ask(kind, 3), "ok") << message;
    EXPECT_EQ(ask(StepKind::prepare, 4, 8), "ok") << message;
}

// It has been taken, but nobody has heard of it.
TEST_F(HostDevice, AfterARestartInTheMiddleOfATakeItIsTakenAndNotClean) {
    ASSERT_TRUE(is_local());
    source->tell([](auto& script, auto&) { script.slow = true; });
    begin(StepKind::take, 1, 0, 10'000, [](const Result<>&) {});
    ASSERT_TRUE(eventually([&] { return source->takes() == 1; }));
    source->tell([](auto& script, auto&) { script.slow = false; });
    stop(); // its answer is not waited for
    ASSERT_TRUE(eventually([&] { return source->taken(); }));
    start();
    EXPECT_TRUE(eventually([&] { return observed().answering(); }));
    EXPECT_FALSE(observed().local());
    EXPECT_FALSE(observed().clean());
    EXPECT_EQ(observed().epoch(), 1u);
}

// The whole host was: its own driver has the device, whatever was promised about it.
TEST_F(HostDevice, AfterARebootOfItsHostALentOneIsItsHosts) {
    in_pool(1);
    ASSERT_EQ(ask(StepKind::prepare, 2, 7), "ok") << message;
    stop();
    source->tell([](auto&, auto& state) { state.taken = false; });
    start();
    EXPECT_TRUE(is_local());
    EXPECT_EQ(observed().loan_id(), 0u);
    EXPECT_FALSE(observed().clean());
    EXPECT_EQ(observed().epoch(), 2u);
    in_pool(3);
}

// ---- what users of today's systems complain about

// A device that somebody uses is unbound all the same, and he loses his data.
TEST_F(FieldComplaint, 5_WhoUsesADeviceIsNamedAndKeepsIt) {
    ASSERT_TRUE(is_local());
    source->tell([](auto& script, auto&) { script.holder = "/dev/nvme0n1p1 is mounted at /srv (ext4)"; });
    EXPECT_EQ(ask(StepKind::take, 1), "busy");
    EXPECT_EQ(message, "in use: /dev/nvme0n1p1 is mounted at /srv (ext4)");
    EXPECT_FALSE(source->taken());
    EXPECT_TRUE(is_local());
    EXPECT_EQ(source->gives_back(), 0u);
}

// An unbind that blocks hangs whoever asked for it, and ends when nobody expects it any more.
TEST_F(FieldComplaint, 5_ATakeThatEndsTooLateIsUndone) {
    ASSERT_TRUE(is_local());
    source->tell([](auto& script, auto&) { script.slow = true; });
    EXPECT_EQ(ask(StepKind::take, 1, 0, 300), "timeout");
    EXPECT_TRUE(observed().local());
    EXPECT_EQ(ask(StepKind::take, 2, 0, 300), "busy"); // one at a time
    source->tell([](auto& script, auto&) { script.slow = false; });
    EXPECT_TRUE(eventually([&] { return source->gives_back() == 1; }));
    EXPECT_FALSE(source->taken());
    in_pool(3);
}

// Its driver does not take it back: nobody knows, until a reboot.
TEST_F(FieldComplaint, 5_AGiveBackThatFailsIsSaidAndCanBeTriedAgain) {
    in_pool(1);
    source->tell([](auto& script, auto&) { script.keeps = true; });
    EXPECT_EQ(ask(StepKind::give_back, 2), "io");
    EXPECT_EQ(message, "its driver does not take it");
    EXPECT_FALSE(observed().local());
    EXPECT_FALSE(observed().clean());
    EXPECT_TRUE(eventually([&] { return observed().answering(); })); // ours again, reset
    source->tell([](auto& script, auto&) { script.keeps = false; });
    EXPECT_EQ(ask(StepKind::give_back, 3), "ok") << message;
    EXPECT_TRUE(observed().local());
}

// The fabric goes away under a loan: its device is not lost with it.
TEST_F(FieldComplaint, 3_ALostFabricEndsTheLoanAndKeepsTheDevice) {
    in_pool(1);
    ASSERT_EQ(ask(StepKind::prepare, 2, 7), "ok") << message;
    thread.run([&] { device->set_adapter(nullptr); });
    EXPECT_THAT(thread.run([&] { return losses; }), ElementsAre(7u));
    EXPECT_FALSE(observed().answering());
    EXPECT_TRUE(source->taken());
    EXPECT_EQ(ask(StepKind::give_back, 3), "ok") << message;
    EXPECT_TRUE(is_local());
}

} // namespace
} // namespace lanepool::integration
