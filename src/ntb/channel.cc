// SPDX-License-Identifier: Apache-2.0
#include "ntb/channel.h"

#include "ntb/adapter_transport.h"
#include "ntb/channel_core.h"

#include <random>

namespace lanepool::ntb {

ChannelReply::~ChannelReply() {
    if (answer_) (*this)(fail(Errc::cancelled, "the request was dropped"));
}

void ChannelReply::operator()(Result<std::vector<std::byte>> result) {
    if (const auto answer = std::exchange(answer_, nullptr)) answer(std::move(result));
}

class Channel::Impl {
  public:
    std::unique_ptr<ChannelCore> core;
};

Channel::Channel(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Channel::~Channel() = default;

Result<std::unique_ptr<Channel>> Channel::create(io::EventLoop& loop, Adapter& adapter, ChannelEvents events,
                                                 ChannelOptions options) {
    std::random_device random;
    const uint64_t incarnation = uint64_t{random()} << 32 | random();
    auto impl = std::make_unique<Impl>();
    impl->core = TRY(ChannelCore::create(loop, TRY(AdapterTransport::create(loop, adapter)),
                                         std::move(events), options, incarnation));
    return std::unique_ptr<Channel>(new Channel(std::move(impl)));
}

void Channel::adapter_message(Partition from, uint32_t message) {
    if (message == AdapterTransport::wake_message) impl_->core->look_at(from);
}
void Channel::link_changed() { impl_->core->link_changed(); }
bool Channel::alive(Partition peer) const { return impl_->core->alive(peer); }
std::vector<Partition> Channel::alive_peers() const { return impl_->core->alive_peers(); }

void Channel::request(Partition peer, uint16_t kind, std::span<const std::byte> body, io::Duration timeout,
                      std::function<void(Result<std::vector<std::byte>>)> answer) {
    impl_->core->request(peer, kind, body, timeout, std::move(answer));
}

} // namespace lanepool::ntb
