// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel_memory.h"

#include <algorithm>
#include <spdlog/spdlog.h>

namespace lanepool::agent {

namespace {

constexpr uint64_t mib = 1 << 20;
constexpr uint64_t gib = 1 << 30;
constexpr uint64_t least_pool_bytes = 1 * mib;
constexpr uint64_t iommu_bytes = 512 * mib;
constexpr uint64_t least_iommu_bytes = 64 * mib;

// Above what an old device takes for its own, below what is message interrupts on x86.
constexpr Iova low_base{16 * mib};
constexpr uint64_t low_end = 0xfee00000;
constexpr Iova high_base{4 * gib};

// PCI Code and ID Assignment Specification, 1.
constexpr uint32_t nvme_subclass = 0x0108;
constexpr uint32_t network_class = 0x02;
constexpr uint32_t display_class = 0x03;
constexpr uint32_t accelerator_class = 0x12;

bool is_for_want_of_room(const Error& error) {
    return error.code() == Errc::no_space || error.code() == Errc::out_of_range;
}

} // namespace

DmaSize dma_size(bridge::DmaMode mode, uint32_t class_code, uint64_t max_pool_bytes) {
    if (mode != bridge::DmaMode::bounce) return {iommu_bytes, least_iommu_bytes};
    uint64_t bytes = 4 * mib;
    if (class_code >> 8 == nvme_subclass || class_code >> 16 == network_class) bytes = 8 * mib;
    if (class_code >> 16 == display_class || class_code >> 16 == accelerator_class) bytes = 32 * mib;
    return {std::min(bytes, std::max(max_pool_bytes, least_pool_bytes)), least_pool_bytes};
}

Iova dma_base(uint64_t bytes) { return bytes <= low_end - low_base.value ? low_base : high_base; }

KernelMemory::~KernelMemory() { adapter_gone(); }

void KernelMemory::make(bridge::Description description, uint32_t class_code,
                        std::function<void(Result<>)> done) {
    *wanted_ = true;
    done_ = std::move(done);
    description_ = std::move(description);
    using bridge::DmaMode;
    background_.run(
        [kernel = kernel_, mode = description_.dma_mode, class_code]() -> Result<DmaSize> {
            const auto ability = TRY(kernel.bridge->ability());
            if (std::ranges::find(ability.dma_modes, mode) == ability.dma_modes.end())
                return fail(Errc::not_supported, "this host's lanepool_bridge does not allow {} DMA{}",
                            name(mode), mode == DmaMode::direct ? ": load it with allow_direct=1" : "");
            if (mode != DmaMode::direct) return dma_size(mode, class_code, ability.max_pool_bytes);
            const uint64_t all = TRY(memory_end(*kernel.system));
            return DmaSize{all, all};
        },
        [this](Result<DmaSize> size) {
            if (!*wanted_) return;
            if (!size) return finish(tl::unexpected<Error>(size.error()));
            size_ = *size;
            attempt();
        });
}

void KernelMemory::stop() {
    *wanted_ = false;
    done_ = nullptr;
    description_ = {}; // and the files that it holds
}

template <class Work, class Then>
void KernelMemory::with_adapter(Work work, Then then) {
    errands_->run([&adapter = adapter_, work = std::move(work)] { return work(adapter); },
                  [wanted = wanted_, then = std::move(then)](auto result) {
                      if (*wanted) then(std::move(result));
                  });
}

void KernelMemory::attempt() {
    if (description_.dma_mode == bridge::DmaMode::bounce) return create({});
    with_adapter([bytes = size_.bytes](ntb::Adapter& adapter) { return adapter.export_addresses(bytes); },
                 [this](Result<ntb::Export> made) { exported(std::move(made)); });
}

void KernelMemory::create(BusAddress addresses) {
    if (description_.dma_mode == bridge::DmaMode::bounce) {
        description_.pool_bytes = size_.bytes;
    } else {
        description_.iova_base = addresses.value;
        description_.iova_bytes = size_.bytes;
    }
    background_.run(
        [bridge = kernel_.bridge, description = description_]() -> Result<std::shared_ptr<bridge::Function>> {
            std::shared_ptr<bridge::Function> function = TRY(bridge->open());
            TRY(function->create(description));
            return function;
        },
        [this](Result<std::shared_ptr<bridge::Function>> function) {
            if (*wanted_) created(std::move(function));
        });
}

void KernelMemory::created(Result<std::shared_ptr<bridge::Function>> function) {
    if (!function) return failed(function.error(), "describing the function to lanepool_bridge");
    function_ = std::move(*function);
    if (description_.dma_mode == bridge::DmaMode::bounce)
        export_pool();
    else
        map();
}

void KernelMemory::export_pool() {
    auto pool = function_->pool();
    if (!pool) return failed(pool.error(), "the pool");
    with_adapter([pool = std::move(*pool)](
                     ntb::Adapter& adapter) { return adapter.export_memory(pool, Access::read_write); },
                 [this](Result<ntb::Export> made) { exported(std::move(made)); });
}

void KernelMemory::exported(Result<ntb::Export> made) {
    if (!made) return failed(made.error(), "bringing memory for DMA onto the fabric");
    export_ = std::move(*made);
    if (description_.dma_mode == bridge::DmaMode::bounce)
        map();
    else
        create(export_.address());
}

void KernelMemory::map() {
    const auto range = Range<Iova>::create(base(), size_.bytes);
    if (!range) return failed(range.error(), "the device's addresses");
    device_.map(*range, export_.address(), Access::read_write, [this, wanted = wanted_](Result<> result) {
        if (!*wanted) return;
        if (!result) return failed(result.error(), "letting the device reach memory of this host");
        finish({});
    });
}

// What the lender was asked to map it has not mapped.
void KernelMemory::failed(const Error& error, const char* what) {
    function_.reset();
    if (export_ && errands_) errands_->dispose(std::move(export_));
    export_ = {};
    const auto smaller = size_.half();
    if (is_for_want_of_room(error) && smaller) {
        spdlog::info("no room for {} bytes of DMA ({}: {}): trying {}", size_.bytes, what, error.message(),
                     smaller->bytes);
        size_ = *smaller;
        return attempt();
    }
    finish(tl::unexpected(error.within(
        fmt::format("{} ({} DMA of {} bytes)", what, name(description_.dma_mode), size_.bytes))));
}

void KernelMemory::finish(Result<> result) {
    *wanted_ = false;
    description_ = {};
    std::exchange(done_, nullptr)(std::move(result));
}

void KernelMemory::withdraw(std::function<void()> done) {
    if (!errands_) return done();
    errands_->run([kept = std::make_shared<ntb::Export>(
                       std::move(export_))]() -> Result<> { return *kept ? kept->withdraw() : Result<>(); },
                  [done = std::move(done)](const Result<>& result) {
                      if (!result)
                          spdlog::warn("memory of a loan stays on the fabric: {}", result.error().message());
                      done();
                  });
}

void KernelMemory::adapter_gone() {
    stop();
    errands_.reset();
    export_ = {};
}

} // namespace lanepool::agent
