// SPDX-License-Identifier: Apache-2.0
//
// Who is served, and how much: the arbiter alone, and a drive under load.
#include "nvme/model/arbiter.h"

#include "nvme/model/host_for_test.h"

#include <gmock/gmock.h>

namespace lanepool::nvme::model::test {
namespace {

using ::testing::ElementsAre;

class Arbitration : public ::testing::Test {
  protected:
    SubmissionQueue& add(QueuePriority priority = QueuePriority::urgent) {
        queues_.push_back(std::make_unique<SubmissionQueue>());
        queues_.back()->id = static_cast<uint16_t>(queues_.size());
        queues_.back()->priority = priority;
        arbiter_.add(*queues_.back());
        waiting_.push_back(0);
        return *queues_.back();
    }
    uint32_t serve(uint32_t limit) {
        return arbiter_.serve(dw11_, limit, [this](SubmissionQueue& sq, uint32_t most) {
            auto& waiting = waiting_[sq.id - 1u];
            Arbiter::Taken taken;
            for (; taken.count < most && waiting > 0; --waiting, ++taken.count) {
                if (room_ == 0) return Arbiter::Taken{taken.count, true};
                --room_;
                order_.push_back(sq.id);
            }
            return taken;
        });
    }
    std::vector<size_t> shares() const {
        std::vector<size_t> counts(queues_.size());
        for (const auto id : order_)
            ++counts[id - 1u];
        return counts;
    }

    Arbiter arbiter_;
    std::vector<std::unique_ptr<SubmissionQueue>> queues_;
    std::vector<uint32_t> waiting_;
    std::vector<uint16_t> order_;
    uint32_t dw11_ = arbitration::burst(1);
    uint32_t room_ = UINT32_MAX;
};

TEST_F(Arbitration, goes_round_in_bursts) {
    arbiter_.start(false);
    for (int i = 0; i < 3; ++i)
        add();
    waiting_ = {5, 1, 3};
    EXPECT_EQ(serve(100), 9u);
    EXPECT_THAT(order_, ElementsAre(1, 1, 2, 3, 3, 1, 1, 3, 1));
    EXPECT_EQ(serve(100), 0u);
}

TEST_F(Arbitration, goes_on_where_it_stopped) {
    arbiter_.start(false);
    for (int i = 0; i < 3; ++i)
        add();
    waiting_ = {100, 100, 100};
    for (int i = 0; i < 100; ++i) {
        room_ = 1; // each time only one more command can be executed
        serve(64);
    }
    EXPECT_THAT(shares(), ElementsAre(34, 34, 32));
    order_.clear();
    room_ = UINT32_MAX;
    for (int i = 0; i < 30; ++i)
        EXPECT_EQ(serve(3), 3u);
    EXPECT_THAT(shares(), ElementsAre(30, 30, 30));
}

TEST_F(Arbitration, a_queue_may_go_between_two_turns) {
    arbiter_.start(false);
    for (int i = 0; i < 3; ++i)
        add();
    waiting_ = {4, 4, 4};
    EXPECT_EQ(serve(3), 3u); // in the middle of the second one's burst
    arbiter_.remove(*queues_[0]);
    EXPECT_EQ(serve(100), 7u);
    arbiter_.remove(*queues_[2]);
    arbiter_.remove(*queues_[1]);
    EXPECT_EQ(serve(100), 0u);
    EXPECT_THAT(order_, ElementsAre(1, 1, 2, 2, 3, 3, 2, 2, 3, 3));
}

TEST_F(Arbitration, classes_get_what_they_weigh_and_urgent_ones_all) {
    arbiter_.start(true);
    dw11_ = arbitration::burst(2) | arbitration::high_weight(15) | arbitration::medium_weight(7) |
            arbitration::low_weight(3);
    add(QueuePriority::high);
    add(QueuePriority::medium);
    add(QueuePriority::low);
    add(QueuePriority::low);
    add(QueuePriority::urgent);
    waiting_ = {10000, 10000, 10000, 10000, 0};
    for (int i = 0; i < 20; ++i)
        EXPECT_EQ(serve(14), 14u);
    EXPECT_THAT(shares(), ElementsAre(160, 80, 20, 20, 0));
    waiting_[4] = 5;
    order_.clear();
    serve(6);
    EXPECT_THAT(order_, ElementsAre(5, 5, 5, 5, 5, 1));
}

// Eight hosts at one drive that does a few operations at a time, in order: shares do not go by depth.
class Load : public HeldControllerTest {
  protected:
    void start(std::span<const uint32_t> entries) {
        host_.enable();
        for (const uint32_t count : entries)
            queues_.push_back(host_.create_io_queue(static_cast<uint16_t>(queues_.size() + 1), count));
        page_ = host_.page();
        done_.assign(queues_.size(), 0);
    }
    // Every host keeps its queue full; the drive does OPERATIONS.
    void run(size_t operations) {
        for (size_t done = 0; done < operations;) {
            for (size_t i = 0; i < queues_.size(); ++i) {
                auto& queue = queues_[i];
                while (host_.take(queue)) {
                    ++done_[i];
                    --in_queue_[i];
                }
                for (; in_queue_[i] < queue.entries - 1; ++in_queue_[i])
                    host_.push(queue, Host::io(IoOpcode::write_zeroes, 0, 1, {}));
                host_.ring(queue);
            }
            for (int i = 0; i < 8 && !queue_->waiting.empty(); ++i, ++done) {
                const auto operation = std::move(queue_->waiting.front());
                queue_->waiting.pop_front();
                queue_->cancelled.push_back([finish = operation.done](int64_t) { finish(0); });
            }
            host_.poll_once();
        }
    }

    std::vector<HostQueue> queues_;
    std::array<uint32_t, 8> in_queue_{};
    std::vector<size_t> done_;
    Iova page_;
};

TEST_F(Load, a_deep_queue_takes_no_more_than_a_shallow_one) {
    start(std::array<uint32_t, 8>{1024, 33, 512, 64, 256, 33, 128, 33});
    run(400);
    done_.assign(8, 0);
    run(8000);
    for (const size_t done : done_)
        EXPECT_NEAR(static_cast<double>(done), 1000, 40) << ::testing::PrintToString(done_);
}

TEST_F(Load, sixty_four_queue_pairs_are_served) {
    host_.enable();
    for (uint16_t id = 1; id <= 64; ++id)
        queues_.push_back(host_.create_io_queue(id, 4));
    queue_->hold = false;
    for (auto& queue : queues_)
        EXPECT_TRUE(host_.run(queue, Host::io(IoOpcode::write_zeroes, 0, 1, {})).status().ok());
}

} // namespace
} // namespace lanepool::nvme::model::test
