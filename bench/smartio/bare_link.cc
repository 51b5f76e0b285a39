// SPDX-License-Identifier: Apache-2.0
#include "base/mapping.h"
#include "base/unique_fd.h"
#include "smartio/link.h"

#include <poll.h>

namespace lanepool::bench {

struct BareLinks::Shared {
    Mapping memory[2];
    UniqueFd wake[2];
};

namespace {

class BareLink final : public Link {
  public:
    BareLink(std::span<std::byte> here, std::span<std::byte> there, const UniqueFd& own,
             const UniqueFd& other)
        : here_(here), there_(there), own_(own), other_(other) {}
    std::span<std::byte> here() const override { return here_; }
    std::span<std::byte> there() const override { return there_; }
    Result<> wake() override {
        signal(other_);
        return {};
    }
    Result<> wait(std::chrono::milliseconds timeout) override {
        pollfd waited{own_.get(), POLLIN, 0};
        while (drain(own_) == 0)
            if (::poll(&waited, 1, static_cast<int>(timeout.count())) == 0)
                return fail(Errc::timeout, "nobody woke this end");
        return {};
    }

  private:
    std::span<std::byte> here_, there_;
    const UniqueFd& own_;
    const UniqueFd& other_;
};

} // namespace

BareLinks::BareLinks(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}
BareLinks::BareLinks(BareLinks&&) noexcept = default;
BareLinks::~BareLinks() = default;

Result<BareLinks> BareLinks::create() {
    auto shared = std::make_shared<Shared>();
    for (int side = 0; side < 2; ++side) {
        shared->memory[side] =
            TRY(Mapping::create(TRY(create_memory("bench", link_bytes)).get(), 0, link_bytes));
        shared->wake[side] = TRY(create_eventfd());
    }
    return BareLinks(std::move(shared));
}

std::unique_ptr<Link> BareLinks::end(bool first) const {
    const int own = first ? 0 : 1;
    return std::make_unique<BareLink>(shared_->memory[own].bytes(), shared_->memory[1 - own].bytes(),
                                      shared_->wake[own], shared_->wake[1 - own]);
}

} // namespace lanepool::bench
