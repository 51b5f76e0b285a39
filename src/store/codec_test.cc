// SPDX-License-Identifier: Apache-2.0
#include "store/codec.h"
#include "store/test_records.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <store/records.pb.h>

namespace lanepool::store {
namespace {

using ::testing::HasSubstr;

template <class Record>
class CodecTest : public ::testing::Test {};
using Records = ::testing::Types<pool::Host, pool::Device, pool::Loan, pool::Step, pool::Usage,
                                 pool::Counters, pool::AuditEntry>;
TYPED_TEST_SUITE(CodecTest, Records);

TYPED_TEST(CodecTest, GivesBackEveryFieldThatIsStored) {
    TypeParam record;
    test::fill(record, 0);
    const auto back = decode<TypeParam>(encode(record));
    ASSERT_TRUE(back) << back.error().message();
    EXPECT_EQ(*back, test::as_stored(record));
}

TYPED_TEST(CodecTest, GivesBackANewRecord) {
    const auto back = decode<TypeParam>(encode(TypeParam()));
    ASSERT_TRUE(back) << back.error().message();
    EXPECT_EQ(*back, TypeParam());
}

TYPED_TEST(CodecTest, RefusesWhatIsCutOff) {
    const std::string bytes = encode(test::filled<TypeParam>());
    const auto back = decode<TypeParam>(std::string_view(bytes).substr(0, bytes.size() - 1));
    ASSERT_FALSE(back);
    EXPECT_EQ(back.error().code(), Errc::io);
}

TEST(CodecStates, EachHasItsName) {
    for (const auto state : pool::loan_states) {
        pool::Loan loan;
        loan.state = state;
        EXPECT_EQ(decode<pool::Loan>(encode(loan))->state, state);
    }
    for (const auto state : pool::device_states) {
        pool::Device device;
        device.state = state;
        EXPECT_EQ(decode<pool::Device>(encode(device))->state, state);
    }
    for (const auto mode : pool::dma_modes) {
        pool::Loan loan;
        loan.dma = mode;
        EXPECT_EQ(decode<pool::Loan>(encode(loan))->dma, mode);
    }
    for (const auto kind : pool::step_kinds) {
        pool::Step step;
        step.kind = kind;
        EXPECT_EQ(decode<pool::Step>(encode(step))->kind, kind);
    }
}

template <class Message, class Record, class Set>
void refuses(const Record& record, const Set& set) {
    Message message;
    ASSERT_TRUE(message.ParseFromString(encode(record)));
    set(message);
    const auto back = decode<Record>(message.SerializeAsString());
    ASSERT_FALSE(back);
    EXPECT_EQ(back.error().code(), Errc::io);
    EXPECT_THAT(back.error().message(), HasSubstr("'borrowed'"));
}

TEST(CodecStates, RefusesNamesThatDoNotExist) {
    refuses<v1::Device>(pool::Device(), [](auto& message) { message.set_state("borrowed"); });
    refuses<v1::Loan>(pool::Loan(), [](auto& message) { message.set_state("borrowed"); });
    refuses<v1::Loan>(pool::Loan(), [](auto& message) { message.set_access_model("borrowed"); });
    refuses<v1::Step>(pool::Step(), [](auto& message) { message.set_kind("borrowed"); });
    refuses<v1::Host>(pool::Host(), [](auto& message) { message.add_dma_modes("borrowed"); });
    refuses<v1::Loan>(pool::Loan(), [](auto& message) { message.set_dma("borrowed"); });
    v1::Loan loan;
    ASSERT_TRUE(loan.ParseFromString(encode(pool::Loan())));
    loan.add_steps()->set_step("borrowed");
    EXPECT_THAT(decode<pool::Loan>(loan.SerializeAsString()).error().message(), HasSubstr("'borrowed'"));
}

TEST(CodecSite, GivesBackItsText) {
    EXPECT_EQ(*decode_site(encode_site("[site]\n\xff")), "[site]\n\xff");
    EXPECT_FALSE(decode_site("\x0a\x7f"));
}

// A record from before there were devices of whole hosts: nothing else changes for what is in it.
TEST(CodecBytes, OfARecordWithoutLaterFieldsAreRead) {
    v1::Device old;
    old.set_fdid(0x80000);
    old.set_host("store");
    old.set_name("nvme0");
    old.set_state("available");
    old.set_clean(true);
    const auto device = decode<pool::Device>(old.SerializeAsString());
    ASSERT_TRUE(device) << device.error().message();
    pool::Device wanted;
    wanted.fdid = {0x80000};
    wanted.host = "store";
    wanted.name = "nvme0";
    wanted.state = pool::DeviceState::available;
    wanted.clean = true;
    EXPECT_EQ(*device, wanted);
}

// From before hosts borrowed with their own kernels: all that was borrowed is a guest's.
TEST(CodecBytes, OfBeforeOwnKernelsBorrowedAreRead) {
    v1::Host old_host;
    old_host.set_name("a");
    old_host.add_guests("g");
    const auto host = decode<pool::Host>(old_host.SerializeAsString());
    ASSERT_TRUE(host) << host.error().message();
    EXPECT_EQ(host->guests, std::vector<std::string>{"g"});
    EXPECT_TRUE(host->dma_modes.empty());
    v1::Loan old_loan;
    old_loan.set_id(7);
    old_loan.set_guest("g");
    old_loan.set_access_model("lending");
    old_loan.set_state("quiescing");
    const auto loan = decode<pool::Loan>(old_loan.SerializeAsString());
    ASSERT_TRUE(loan) << loan.error().message();
    EXPECT_FALSE(is_to_own_kernel(*loan));
    EXPECT_EQ(loan->dma, pool::DmaMode::none);
    v1::Step old_step;
    old_step.set_kind("detach");
    const auto step = decode<pool::Step>(old_step.SerializeAsString());
    ASSERT_TRUE(step) << step.error().message();
    EXPECT_FALSE(step->ask);
}

// What is written today is read for ever: these bytes must not change their meaning.
TEST(CodecBytes, AreStable) {
    const pool::Usage usage{"t", 5, 7};
    EXPECT_EQ(encode(usage), std::string("\x0a\x01t\x10\x05\x18\x07"));
}

} // namespace
} // namespace lanepool::store
