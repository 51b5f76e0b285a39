// SPDX-License-Identifier: Apache-2.0
#include "api/convert.h"
#include "api/status.h"

#include <gtest/gtest.h>

namespace lanepool::api {
namespace {

TEST(Status, NamesTheHolder) {
    EXPECT_EQ(holder_of(to_status(Error(Errc::busy, "lent"), "a")), "a");
    EXPECT_EQ(holder_of(grpc::Status(grpc::StatusCode::NOT_FOUND, "no", "\xff\xff\xff not a message")), "");
}

TEST(Convert, ShowsADeviceWithItsHolder) {
    pool::Device device;
    device.fdid = {0x80001};
    device.host = "store";
    device.name = "nvme0";
    device.identity = {0x1b36, 0x10, 0x010802, "nvme", "model", "serial", "1.0", 4096};
    device.state = pool::DeviceState::lent;
    device.epoch = {9};
    device.loan = {7};
    const auto message = to_message(device, "a");
    EXPECT_EQ(message.fdid(), 0x80001u);
    EXPECT_EQ(message.name(), "store/nvme0");
    EXPECT_EQ(message.lender(), "store");
    EXPECT_EQ(message.state(), "lent");
    EXPECT_EQ(message.epoch(), 9u);
    EXPECT_EQ(message.loan_id(), 7u);
    EXPECT_EQ(message.borrower(), "a");
    EXPECT_EQ(message.identity().class_code(), 0x010802u);
    EXPECT_EQ(message.identity().capacity_bytes(), 4096u);
}

TEST(Convert, ShowsTheStepsOfALoan) {
    pool::Loan loan;
    loan.id = {7};
    loan.steps = {{pool::StepKind::prepare, 12}, {pool::StepKind::attach, 34}};
    const auto message = to_message(loan, nullptr);
    ASSERT_EQ(message.steps_size(), 2);
    EXPECT_EQ(message.steps(1).step(), "attach");
    EXPECT_EQ(message.steps(1).duration_us(), 34);
    EXPECT_EQ(message.access_model(), "lending");
}

TEST(Convert, TakesAnOrderThereAndBack) {
    pool::Order order;
    order.step.kind = pool::StepKind::reset;
    order.step.id = {5};
    order.step.loan = {7};
    order.step.fdid = {0x80001};
    order.step.epoch = {9};
    order.step.deadline_ms = 70'000;
    order.step.lease_ms = 11;
    order.step.suffices = true;
    order.device = "nvme0";
    order.lender_partition = 1;
    order.borrower_partition = 2;
    order.guest = "g";
    order.access_model = pool::AccessModel::smartio;
    order.shared = true;
    order.step.ask = true;
    order.dma = pool::DmaMode::iommu;
    const auto back = from_message(to_message(order));
    ASSERT_TRUE(back);
    EXPECT_EQ(back->step, order.step);
    EXPECT_EQ(back->device, "nvme0");
    EXPECT_EQ(back->lender_partition, 1u);
    EXPECT_EQ(back->borrower_partition, 2u);
    EXPECT_EQ(back->guest, "g");
    EXPECT_EQ(back->access_model, pool::AccessModel::smartio);
    EXPECT_TRUE(back->shared);
    EXPECT_EQ(back->dma, pool::DmaMode::iommu);
}

TEST(Convert, RefusesADmaModeThatDoesNotExist) {
    v1::BorrowRequest request;
    EXPECT_EQ(from_message(request, {})->dma, pool::DmaMode::none);
    request.set_dma("direct");
    EXPECT_EQ(from_message(request, {})->dma, pool::DmaMode::direct);
    request.set_dma("swiotlb");
    const auto refused = from_message(request, {});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Errc::not_supported);
    EXPECT_EQ(refused.error().message(), "there is no DMA mode 'swiotlb'; there are: bounce, iommu, direct");
    v1::Step step = to_message(pool::Order());
    step.set_dma("swiotlb");
    EXPECT_FALSE(from_message(step));
}

// A newer agent may offer more than this controller knows.
TEST(Convert, TakesTheKnownDmaModesOfAHelloOnce) {
    v1::Hello hello;
    for (const char* mode : {"iommu", "telepathy", "", "bounce", "iommu"})
        hello.add_dma_modes(mode);
    EXPECT_EQ(from_message(hello).dma_modes, (std::vector{pool::DmaMode::iommu, pool::DmaMode::bounce}));
}

TEST(Convert, ShowsHowAHostsOwnKernelCanBorrow) {
    pool::Host host;
    EXPECT_FALSE(to_message(host, false).borrows());
    host.dma_modes = {pool::DmaMode::bounce, pool::DmaMode::direct};
    const auto message = to_message(host, false);
    EXPECT_TRUE(message.borrows());
    ASSERT_EQ(message.dma_modes_size(), 2);
    EXPECT_EQ(message.dma_modes(1), "direct");
}

TEST(Convert, TakesWhatAHostsOwnKernelGot) {
    v1::StepDone done;
    done.set_kind(v1::STEP_ATTACH);
    EXPECT_FALSE(from_message(done)->attached);
    *done.mutable_attached() = to_message(pool::Attached{8 << 20, "1ff00:00:00.0", "nvme"});
    const auto attached = from_message(done)->attached;
    ASSERT_TRUE(attached);
    EXPECT_EQ(attached->dma_bytes, 8u << 20);
    EXPECT_EQ(attached->function, "1ff00:00:00.0");
    EXPECT_EQ(attached->driver, "nvme");
    pool::Loan loan;
    loan.dma = pool::DmaMode::bounce;
    loan.dma_bytes = attached->dma_bytes;
    loan.function = attached->function;
    loan.driver = attached->driver;
    const auto message = to_message(loan, nullptr);
    EXPECT_EQ(message.dma(), "bounce");
    EXPECT_EQ(message.dma_bytes(), 8u << 20);
    EXPECT_EQ(message.function(), "1ff00:00:00.0");
    EXPECT_EQ(message.driver(), "nvme");
}

TEST(Convert, TakesTheAccessModelOfARequest) {
    v1::BorrowRequest request;
    EXPECT_EQ(from_message(request, {})->access_model, pool::AccessModel::lending);
    request.set_access_model("smartio");
    request.set_shared(true);
    EXPECT_EQ(from_message(request, {})->access_model, pool::AccessModel::smartio);
    EXPECT_TRUE(from_message(request, {})->shared);
    request.set_access_model("borrowed");
    const auto refused = from_message(request, {});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Errc::not_supported);
    EXPECT_EQ(refused.error().message(), "there is no access model 'borrowed'; there are: lending, smartio");
}

TEST(Convert, ShowsHowALoanIsUsed) {
    pool::Loan loan;
    loan.access_model = pool::AccessModel::smartio;
    loan.shared = true;
    const auto message = to_message(loan, nullptr);
    EXPECT_EQ(message.access_model(), "smartio");
    EXPECT_TRUE(message.shared());
}

TEST(Convert, TakesEveryKindOfStepThereAndBack) {
    for (const pool::StepKind kind : pool::step_kinds) {
        v1::StepDone done;
        done.set_kind(to_message(kind));
        done.set_step_id(5);
        done.set_ok(true);
        const auto answer = from_message(done);
        ASSERT_TRUE(answer);
        EXPECT_EQ(answer->kind, kind);
        EXPECT_EQ(answer->step, pool::StepId{5});
    }
}

TEST(Convert, RefusesAStepThatDoesNotExist) {
    v1::StepDone done;
    done.set_kind(static_cast<v1::StepKind>(77));
    const auto answer = from_message(done);
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code(), Errc::protocol);
}

TEST(Convert, ShowsAnSrIovFunctionWithItsParent) {
    pool::Device device;
    device.host = "store";
    device.name = "nic0.vf1";
    EXPECT_EQ(to_message(device, "").parent(), "");
    device.parent = "nic0";
    device.functions = 2;
    device.most_functions = 8;
    const auto message = to_message(device, "");
    EXPECT_EQ(message.parent(), "store/nic0");
    EXPECT_EQ(message.functions(), 2u);
    EXPECT_EQ(message.most_functions(), 8u);
}

TEST(Convert, TakesWhatAHelloSaysOfAWholeHost) {
    v1::Hello hello;
    auto& device = *hello.add_devices();
    device.set_name("nic0.vf1");
    device.set_local(true);
    device.set_parent("nic0");
    device.set_functions(2);
    device.set_most_functions(8);
    const auto observed = from_message(hello).devices.at(0);
    EXPECT_TRUE(observed.local);
    EXPECT_EQ(observed.parent, "nic0");
    EXPECT_EQ(observed.functions, 2u);
    EXPECT_EQ(observed.most_functions, 8u);
}

TEST(Convert, TakesTheNumberOfFunctionsThereAndBack) {
    pool::Order order;
    order.step.kind = pool::StepKind::set_functions;
    order.step.functions = 7;
    order.access_model = pool::AccessModel::vf;
    const auto back = from_message(to_message(order));
    ASSERT_TRUE(back) << back.error().message();
    EXPECT_EQ(back->step.functions, 7u);
    EXPECT_EQ(back->access_model, pool::AccessModel::vf);
    v1::SetFunctionsRequest request;
    request.set_device("80000");
    request.set_functions(3);
    EXPECT_EQ(from_message(request, {}).device, "80000");
    EXPECT_EQ(from_message(request, {}).functions, 3u);
}

TEST(Convert, TakesAHelloWhole) {
    v1::Hello message;
    message.set_host("store");
    message.set_partition(3);
    message.set_instance("one");
    message.add_guests("g");
    auto* device = message.add_devices();
    device->set_name("nvme0");
    device->mutable_identity()->set_serial("s");
    device->set_answering(true);
    device->set_clean(true);
    device->set_epoch(4);
    device->set_loan_id(2);
    device->add_joined_loan_ids(3);
    auto* loan = message.add_loans();
    loan->set_loan_id(2);
    loan->set_attached(true);
    const auto hello = from_message(message);
    EXPECT_EQ(hello.host, "store");
    EXPECT_EQ(hello.partition, 3u);
    ASSERT_EQ(hello.devices.size(), 1u);
    EXPECT_EQ(hello.devices[0].identity.serial, "s");
    EXPECT_TRUE(hello.devices[0].answering);
    EXPECT_TRUE(hello.devices[0].clean);
    EXPECT_EQ(hello.devices[0].epoch, pool::Epoch{4});
    EXPECT_EQ(hello.devices[0].loan, pool::LoanId{2});
    EXPECT_EQ(hello.devices[0].joined, std::vector<pool::LoanId>{{3}});
    ASSERT_EQ(hello.loans.size(), 1u);
    EXPECT_TRUE(hello.loans[0].attached);
    EXPECT_EQ(hello.guests, std::vector<std::string>{"g"});
}

} // namespace
} // namespace lanepool::api
