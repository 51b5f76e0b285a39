// SPDX-License-Identifier: Apache-2.0
//
// A bridge without a kernel, for tests of what uses one. Its functions refuse what the module refuses of
// descriptions and of the order of calls; the test is the kernel and its driver: it writes configuration
// space, asks for resets, leaves. Thread-safe.
#pragma once

#include "bridge/function.h"
#include "bridge/module_rules_for_test.h"
#include "pci/config_space.h"

#include <algorithm>
#include <fcntl.h>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <utility>

namespace lanepool::bridge {

// What the kernel has of a function; lives longer than the Function that describes it.
class FakeInjected {
  public:
    enum class State { empty, created, plugged, removing, removed, released };

    explicit FakeInjected(pci::Address address, UniqueFd wake) : address_(address), wake_(std::move(wake)) {}

    // --- for the test -------------------------------------------------------------------------------------
    State state() const { return get(state_); }
    // The file has been closed.
    bool closed() const { return get(closed_); }
    bool surprised() const { return get(gone_); }
    bool resetting() const { return get(resetting_); }
    pci::Address address() const { return address_; }
    // As given to create(). Its files are let go of when the function is removed.
    Description description() const { return get(description_); }
    uint64_t dma_base() const { return get(dma_base_); }
    // Descriptors given for vectors, by number, as this has them of its own; -1: none.
    std::vector<int> vectors() const {
        const std::lock_guard lock(mutex_);
        std::vector<int> numbers;
        for (const auto& vector : vectors_)
            numbers.push_back(vector ? vector->get() : -1);
        return numbers;
    }
    // Empty where there is none.
    MemoryRef pool() const {
        const std::lock_guard lock(mutex_);
        return {pool_, 0, pool_ ? description_.pool_bytes : 0};
    }
    std::vector<std::byte> config() const { return get(config_); }

    // The next call of that name fails so: create, pool, plug, unplug, set_vectors, update_config,
    // read_config, reset, stats, take_events.
    void fail_next(const std::string& call, Error error) {
        const std::lock_guard lock(mutex_);
        failures_.insert_or_assign(call, std::move(error));
    }
    // Removals end by the test's driver_leaves() and memory_released(), not at once.
    void hold_removal(bool hold) {
        const std::lock_guard lock(mutex_);
        hold_ = hold;
    }

    // A driver's write, 1, 2 or 4 bytes; nothing happens while it is reset or gone. As in the module.
    void driver_writes(uint32_t offset_bytes, uint32_t size_bytes, uint32_t value) {
        const std::lock_guard lock(mutex_);
        if (state_ != State::plugged || resetting_ || gone_) return;
        bool noticed = false;
        for (uint32_t i = 0; i < size_bytes && offset_bytes + i < config_.size(); ++i) {
            const size_t at = offset_bytes + i;
            const auto written = static_cast<std::byte>(value >> 8 * i);
            auto& byte = config_[at];
            const auto& masks = description_.config;
            byte = (byte & ~writable_[at]) | (written & writable_[at]);
            byte &= ~(written & masks.cleared[at]);
            noticed |= masks.noticed[at] != std::byte{0};
        }
        if (noticed) tell({Event::Kind::config_write, false, offset_bytes, size_bytes, value});
    }
    // It asks for a function level reset.
    void driver_resets() {
        const std::lock_guard lock(mutex_);
        if (state_ != State::plugged || resetting_ || gone_) return;
        resetting_ = true;
        tell({Event::Kind::reset});
    }
    void drivers_offered() {
        const std::lock_guard lock(mutex_);
        if (state_ == State::plugged) tell({Event::Kind::attached});
    }
    // What an unplug() has begun ends.
    void driver_leaves() {
        const std::lock_guard lock(mutex_);
        remove();
    }
    void memory_released() {
        const std::lock_guard lock(mutex_);
        release();
    }
    // Any event, whether or not it makes sense.
    void inject(Event event) {
        const std::lock_guard lock(mutex_);
        tell(event);
    }
    // No event tells of what DRIVER does.
    template <class Driver>
    void lose_events(Driver driver) {
        silence(true);
        driver(*this);
        silence(false);
    }
    void set_stats(Stats stats) {
        const std::lock_guard lock(mutex_);
        stats_ = stats;
    }

  private:
    friend class FakeFunction;

    template <class T>
    T get(const T& member) const {
        const std::lock_guard lock(mutex_);
        return member;
    }
    // --- with mutex_ --------------------------------------------------------------------------------------
    Result<> failure(const std::string& call) {
        const auto found = failures_.find(call);
        if (found == failures_.end()) return {};
        auto error = std::move(found->second);
        failures_.erase(found);
        return tl::unexpected<Error>(std::move(error));
    }
    void silence(bool silent) {
        const std::lock_guard lock(mutex_);
        silent_ = silent;
    }
    void tell(Event event) {
        if (silent_) return;
        events_.push_back(event);
        signal(wake_);
    }
    void remove() {
        if (state_ != State::removing) return;
        state_ = State::removed;
        give_back();
        tell({Event::Kind::removed});
    }
    void give_back() {
        vectors_.assign(vectors_.size(), nullptr);
        description_.held.clear();
        for (auto& bar : description_.bars)
            bar.memory.fd.reset();
    }
    void release() {
        if (state_ != State::removed) return;
        state_ = State::released;
        pool_.reset();
        tell({Event::Kind::released});
    }
    void begin_removal(bool surprise) {
        gone_ |= surprise;
        state_ = State::removing;
        if (hold_) return;
        remove();
        release();
    }

    const pci::Address address_;
    const UniqueFd wake_;
    mutable std::mutex mutex_;
    State state_ = State::empty;
    bool closed_ = false, gone_ = false, resetting_ = false, hold_ = false, silent_ = false;
    Description description_;
    SharedFd pool_;
    uint64_t dma_base_ = 0;
    std::vector<SharedFd> vectors_;
    std::vector<std::byte> config_, writable_;
    std::vector<Event> events_;
    std::map<std::string, Error> failures_;
    Stats stats_;
};

class FakeFunction final : public Function {
  public:
    using State = FakeInjected::State;

    using Created = std::function<void(const Description&)>;

    explicit FakeFunction(std::shared_ptr<FakeInjected> injected, Created created = {})
        : it_(std::move(injected)), created_(std::move(created)) {}
    ~FakeFunction() override {
        const std::lock_guard lock(it_->mutex_);
        it_->closed_ = true;
        if (it_->state_ == State::plugged || it_->state_ == State::removing) it_->begin_removal(true);
        if (it_->state_ > State::created) return;
        it_->give_back(); // it never was anybody's
        it_->pool_.reset();
    }
    FakeFunction(const FakeFunction&) = delete;
    FakeFunction& operator=(const FakeFunction&) = delete;

    Result<> create(const Description& description) override {
        const std::lock_guard lock(it_->mutex_);
        TRY(it_->failure("create"));
        if (it_->state_ != State::empty) return fail(Errc::busy, "the function is described already");
        const auto& config = description.config;
        TRY(test::module_takes_bars(description.bars));
        test::BarBytes bar_bytes{};
        std::ranges::transform(description.bars, bar_bytes.begin(),
                               [](const Bar& bar) { return bar.memory.size_bytes; });
        TRY(test::module_takes(config, bar_bytes));
        if (description.held.size() > 8) return fail(Errc::invalid_argument, "too many held files");
        TRY(check_dma(description));
        if (description.dma_mode == DmaMode::bounce)
            it_->pool_ = share(TRY(create_memory("fake bridge pool", description.pool_bytes)));
        it_->description_ = description;
        it_->config_ = config.values;
        it_->writable_ = config.writable;
        // The module serves the command register itself.
        it_->writable_[pci::config::command] |= std::byte{0x46};
        it_->writable_[pci::config::command + 1] |= std::byte{0x05};
        it_->vectors_.assign(config.vector_count, nullptr);
        it_->state_ = State::created;
        if (created_) created_(description);
        return {};
    }
    Result<MemoryRef> pool() const override {
        const std::lock_guard lock(it_->mutex_);
        TRY(it_->failure("pool"));
        if (!it_->pool_) return fail(Errc::failed_precondition, "there is no pool");
        return MemoryRef{it_->pool_, 0, it_->description_.pool_bytes};
    }
    Result<pci::Address> plug(uint64_t dma_base) override {
        const std::lock_guard lock(it_->mutex_);
        TRY(it_->failure("plug"));
        if (it_->state_ != State::created) return fail(Errc::busy, "the function cannot be plugged in now");
        if (dma_base % page_bytes != 0) return fail(Errc::invalid_argument, "{:#x} begins no page", dma_base);
        it_->dma_base_ = dma_base;
        it_->state_ = State::plugged;
        return it_->address_;
    }
    Result<> unplug(bool surprise) override {
        const std::lock_guard lock(it_->mutex_);
        TRY(it_->failure("unplug"));
        if (it_->state_ != State::plugged && it_->state_ != State::removing)
            return fail(Errc::failed_precondition, "the function is not plugged in");
        if (it_->state_ == State::removing)
            it_->gone_ |= surprise;
        else
            it_->begin_removal(surprise);
        return {};
    }
    Result<> set_vectors(uint32_t first, std::span<const int> eventfds) override {
        const std::lock_guard lock(it_->mutex_);
        TRY(it_->failure("set_vectors"));
        if (it_->state_ == State::empty || it_->state_ >= State::removed)
            return fail(Errc::failed_precondition, "the function has no vectors now");
        auto& vectors = it_->vectors_;
        if (first > vectors.size() || eventfds.size() > vectors.size() - first)
            return fail(Errc::invalid_argument, "{} vectors from {} on, of {}", eventfds.size(), first,
                        vectors.size());
        for (size_t i = 0; i < eventfds.size(); ++i)
            vectors[first + i] = eventfds[i] < 0 ? nullptr : share(TRY(own(eventfds[i])));
        return {};
    }
    Result<> update_config(uint32_t offset_bytes, std::span<const std::byte> data) override {
        const std::lock_guard lock(it_->mutex_);
        TRY(it_->failure("update_config"));
        TRY(check_config(offset_bytes, data.size()));
        std::ranges::copy(data, it_->config_.begin() + offset_bytes);
        return {};
    }
    Result<std::vector<std::byte>> read_config(uint32_t offset_bytes, size_t size_bytes) const override {
        const std::lock_guard lock(it_->mutex_);
        TRY(it_->failure("read_config"));
        TRY(check_config(offset_bytes, size_bytes));
        const auto from = it_->config_.begin() + offset_bytes;
        return std::vector<std::byte>(from, from + static_cast<std::ptrdiff_t>(size_bytes));
    }
    Result<> begin_reset() override { return reset(true); }
    Result<> end_reset() override { return reset(false); }
    Result<Stats> stats() const override {
        const std::lock_guard lock(it_->mutex_);
        TRY(it_->failure("stats"));
        return it_->stats_;
    }
    int event_fd() const override { return it_->wake_.get(); }
    Result<std::vector<Event>> take_events() override {
        const std::lock_guard lock(it_->mutex_);
        TRY(it_->failure("take_events"));
        drain(it_->wake_);
        return std::exchange(it_->events_, {});
    }

  private:
    static constexpr uint64_t page_bytes = 4096;

    static Result<UniqueFd> own(int fd) {
        const int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        if (copy < 0) return fail_errno("taking an eventfd");
        return UniqueFd(copy);
    }
    static Result<> check_dma(const Description& description) {
        if (description.dma_mode == DmaMode::bounce) {
            if (description.pool_bytes == 0 || description.pool_bytes % page_bytes != 0)
                return fail(Errc::invalid_argument, "a pool of {} bytes", description.pool_bytes);
            return {};
        }
        if (description.pool_bytes != 0 || description.iova_bytes == 0 ||
            (description.iova_base | description.iova_bytes) % page_bytes != 0 ||
            description.dma_bar >= description.bars.size() ||
            description.bars[description.dma_bar].memory.size_bytes == 0)
            return fail(Errc::invalid_argument, "DMA mode {} of {} bytes by BAR {}",
                        name(description.dma_mode), description.iova_bytes, description.dma_bar);
        return {};
    }
    Result<> check_config(uint32_t offset_bytes, size_t size_bytes) const {
        if (it_->state_ == State::empty) return fail(Errc::failed_precondition, "nothing is described");
        if (size_bytes == 0 || size_bytes > it_->config_.size() ||
            offset_bytes > it_->config_.size() - size_bytes)
            return fail(Errc::invalid_argument, "{} bytes of config at {:#x}", size_bytes, offset_bytes);
        return {};
    }
    Result<> reset(bool begin) {
        const std::lock_guard lock(it_->mutex_);
        TRY(it_->failure("reset"));
        if (it_->state_ == State::empty) return fail(Errc::failed_precondition, "nothing is described");
        it_->resetting_ = begin;
        return {};
    }

    const std::shared_ptr<FakeInjected> it_;
    const Created created_;
};

class FakeBridge final : public Bridge {
  public:
    // --- for the test: the functions that have been opened, in order; they stay.
    std::vector<std::shared_ptr<FakeInjected>> functions() const {
        const std::lock_guard lock(mutex_);
        return functions_;
    }
    // As if there were no module, or another one.
    void set_ability(Result<Ability> ability) {
        const std::lock_guard lock(mutex_);
        ability_ = std::move(ability);
    }
    // What becomes of functions opened from now on: see FakeInjected.
    void hold_removals(bool hold) {
        const std::lock_guard lock(mutex_);
        hold_ = hold;
    }

    // Maps, where the module would, what the device is to reach; on the thread that creates.
    void when_created(FakeFunction::Created created) {
        const std::lock_guard lock(mutex_);
        created_ = std::move(created);
    }
    // As FakeInjected's, of the functions opened from now on, one after the other.
    void fail_next(const std::string& call, Error error) {
        const std::lock_guard lock(mutex_);
        failures_.emplace_back(call, std::move(error));
    }

    Result<Ability> ability() const override {
        const std::lock_guard lock(mutex_);
        return ability_;
    }
    Result<std::unique_ptr<Function>> open() override {
        const std::lock_guard lock(mutex_);
        if (!ability_) return tl::unexpected<Error>(ability_.error());
        const auto domain = 0x1ff00 + static_cast<uint32_t>(functions_.size());
        auto injected = std::make_shared<FakeInjected>(pci::Address{domain, 0, 0, 0}, TRY(create_eventfd()));
        injected->hold_removal(hold_);
        if (!failures_.empty()) {
            injected->fail_next(failures_.front().first, std::move(failures_.front().second));
            failures_.erase(failures_.begin());
        }
        functions_.push_back(injected);
        return std::make_unique<FakeFunction>(std::move(injected), created_);
    }

  private:
    mutable std::mutex mutex_;
    Result<Ability> ability_ = Ability{{DmaMode::bounce, DmaMode::iommu}, 2048, uint64_t{1} << 30};
    std::vector<std::shared_ptr<FakeInjected>> functions_;
    std::vector<std::pair<std::string, Error>> failures_;
    FakeFunction::Created created_;
    bool hold_ = false;
};

} // namespace lanepool::bridge
