// SPDX-License-Identifier: Apache-2.0
#include "vfio_user/client.h"

#include "io/unix_socket.h"
#include "vfio_user/capabilities.h"
#include "vfio_user/channel.h"
#include "vfio_user/dma_service.h"
#include "vfio_user/server_description.h"

#include <algorithm>
#include <atomic>

namespace lanepool::vfio_user {

namespace {

using wire::Command;

// Room for the answers about a region's areas and memory.
constexpr uint32_t first_argsz = 4096;
constexpr uint32_t max_argsz = 128 << 10;
// The memory behind one region in so many pieces is not believed.
constexpr size_t max_extents = 65536;

uint32_t number(pci::Region index) { return static_cast<uint32_t>(index); }
uint32_t number(pci::Irq index) { return static_cast<uint32_t>(index); }

class ClientFunction final : public pci::Function {
  public:
    explicit ClientFunction(ClientOptions options) : options_(options), service_(space_) {}
    ~ClientFunction() override;

    Result<> open(UniqueFd socket);

    const pci::RegionInfo& region(pci::Region index) const override { return regions_[number(index)].info; }
    const pci::IrqInfo& irq(pci::Irq index) const override { return irqs_[number(index)]; }
    bool can_reset() const override { return can_reset_; }
    bool fresh_memory_on_reset() const override {
        return server_.lanepool && server_.lanepool->fresh_memory_on_reset;
    }

    Result<> read(pci::Region region, uint64_t offset_bytes, std::span<std::byte> data) override;
    Result<> write(pci::Region region, uint64_t offset_bytes, std::span<const std::byte> data) override;
    Result<std::vector<pci::Extent>> memory(pci::Region region, uint64_t offset_bytes,
                                            uint64_t size_bytes) override;
    Result<UniqueFd> event(pci::Region region, uint64_t offset_bytes) override;

    Result<pci::DmaMapping> map_dma(Range<Iova> range, const MemoryRef& memory, Access access) override;
    Result<pci::DmaMapping> map_dma(Range<Iova> range, std::shared_ptr<pci::DmaTarget> target,
                                    Access access) override;
    Result<pci::DmaMapping> map_dma_event(Iova address, const UniqueFd& eventfd) override;
    Result<> unmap_dma(Range<Iova> range) override;

    Result<> set_irqs(pci::Irq index, uint32_t first, std::span<const int> eventfds) override;
    Result<> mask_irq(pci::Irq index, uint32_t vector, bool masked) override;
    Result<> reset() override;
    void on_disconnect(std::function<void()> callback) override {
        service_.on_disconnect(std::move(callback));
    }

  private:
    Result<> negotiate();
    Result<> open_twin(Message& version_reply);
    Result<> look_around();
    Result<RegionDescription> ask_region(uint32_t index);
    Result<> check(pci::Region region, uint64_t offset_bytes, uint64_t size_bytes) const;
    Result<std::vector<pci::Extent>> ask_memory(uint32_t index, uint64_t offset_bytes, uint64_t size_bytes);
    Result<pci::DmaMapping> map(Range<Iova> range, Access access, DmaSpace::Backing backing, uint32_t flags,
                                uint64_t offset_bytes, std::span<const int> fds);
    Result<> send_irqs(pci::Irq index, uint32_t first, uint32_t count, uint32_t flags,
                       std::span<const int> fds);
    size_t max_transfer() const { return std::min(server_.max_data_xfer_bytes, wire::max_data_bytes); }

    const ClientOptions options_;
    Capabilities server_;
    bool can_reset_ = false;
    std::array<RegionDescription, pci::region_count> regions_;
    std::array<pci::IrqInfo, pci::irq_count> irqs_;

    DmaSpace space_;
    DmaService service_;
    std::unique_ptr<Channel> channel_;
    std::unique_ptr<Channel> twin_; // for the server's commands, where it wants one
    std::atomic<Channel*> twin_to_close_{nullptr};
};

ClientFunction::~ClientFunction() {
    service_.on_disconnect(nullptr);
    // Nobody calls for DMA any more, then nobody serves it, then what they used goes.
    for (auto* channel : {channel_.get(), twin_.get()})
        if (channel) channel->close(Error(Errc::disconnected, "the function is being given back"));
    service_.stop();
    // Each one's end is told to the other, so both threads end before either channel goes.
    for (auto* channel : {channel_.get(), twin_.get()})
        if (channel) channel->stop();
}

Result<> ClientFunction::open(UniqueFd socket) {
    channel_ = TRY(Channel::create(
        std::move(socket), options_.timeout,
        {.command = [this](Message message) { return service_.queue(std::move(message), *channel_); },
         .lost =
             [this] {
                 service_.disconnected();
                 if (auto* twin = twin_to_close_.load())
                     twin->close(Error(Errc::disconnected, "the function is gone"));
             }}));
    channel_->start(); // only now that everybody who is called on its thread can find it
    TRY(negotiate());
    return look_around();
}

Result<> ClientFunction::negotiate() {
    const wire::Version ours{wire::version_major, wire::version_minor};
    auto capabilities = client_capabilities();
    if (!options_.extension) capabilities.lanepool.reset();
    const std::string json = to_json(capabilities);
    auto reply = channel_->call(Command::version, {wire::bytes_of(ours), std::as_bytes(std::span(json))});
    if (!reply && reply.error().code() == Errc::disconnected)
        return fail(Errc::unavailable,
                    "the server closed the connection at once; it may have another client already");
    if (!reply) return tl::unexpected<Error>(reply.error());
    std::span<const std::byte> payload = reply->payload;
    const auto version = TRY(wire::take<wire::Version>(payload));
    if (version.major != wire::version_major || version.minor > wire::version_minor)
        return fail(Errc::not_supported, "the server speaks protocol version {}.{}, supported is {}.{}",
                    uint16_t{version.major}, uint16_t{version.minor}, wire::version_major,
                    wire::version_minor);
    server_ = TRY(parse_capabilities(payload));
    if (!options_.extension) server_.lanepool.reset();
    return server_.twin_socket ? open_twin(*reply) : Result<>{};
}

// A server that waits for us while it reads one socket only (libvfio-user does) must not find our next
// command there, so it gets its answers over another.
Result<> ClientFunction::open_twin(Message& version_reply) {
    if (server_.twin_fd_index >= version_reply.fds.size())
        return fail(Errc::protocol, "the server's second socket is descriptor {}, {} came",
                    server_.twin_fd_index, version_reply.fds.size());
    twin_ = TRY(Channel::create(
        std::move(version_reply.fds[server_.twin_fd_index]), options_.timeout,
        {.command = [this](Message message) { return service_.queue(std::move(message), *twin_); },
         .lost =
             [this] { channel_->close(Error(Errc::disconnected, "the server closed its second socket")); }}));
    twin_to_close_ = twin_.get();
    twin_->start();
    return {};
}

Result<> ClientFunction::look_around() {
    const wire::DeviceInfo request{sizeof(wire::DeviceInfo), 0, 0, 0};
    const auto reply = TRY(channel_->call(Command::device_get_info, {wire::bytes_of(request)}));
    std::span<const std::byte> payload = reply.payload;
    const auto info = TRY(wire::take<wire::DeviceInfo>(payload));
    if ((info.flags & wire::device::pci) == 0)
        return fail(Errc::not_supported, "what the server shows is not a PCI function");
    can_reset_ = (info.flags & wire::device::reset) != 0;
    for (uint32_t i = 0; i < std::min(uint32_t{info.num_regions}, pci::region_count); ++i)
        regions_[i] = TRY(ask_region(i));
    for (uint32_t i = 0; i < std::min(uint32_t{info.num_irqs}, pci::irq_count); ++i) {
        const wire::IrqInfo irq_request{sizeof(wire::IrqInfo), 0, i, 0};
        // As with the kernel's VFIO, an index that the function does not have may be refused.
        auto irq_reply = channel_->call(Command::device_get_irq_info, {wire::bytes_of(irq_request)});
        if (irq_reply)
            irqs_[i] = TRY(parse_irq_info(*irq_reply, i));
        else if (irq_reply.error().code() != Errc::invalid_argument)
            return tl::unexpected<Error>(irq_reply.error());
    }
    return {};
}

Result<RegionDescription> ClientFunction::ask_region(uint32_t index) {
    uint32_t argsz = first_argsz;
    while (true) {
        wire::RegionInfo request{};
        request.argsz = argsz;
        request.index = index;
        auto reply = channel_->call(Command::device_get_region_info, {wire::bytes_of(request)});
        if (!reply && reply.error().code() == Errc::invalid_argument) return RegionDescription{};
        if (!reply) return tl::unexpected<Error>(reply.error());
        const uint32_t needed = TRY(needed_bytes(*reply));
        if (needed <= argsz) return parse_region_info(std::move(*reply), index, server_.lanepool.has_value());
        if (needed > max_argsz)
            return fail(Errc::protocol,
                        "what the server has to say of region {} takes {} bytes, allowed are {}", index,
                        needed, max_argsz);
        argsz = needed;
    }
}

Result<> ClientFunction::check(pci::Region region, uint64_t offset_bytes, uint64_t size_bytes) const {
    const uint64_t region_bytes = regions_[number(region)].info.size_bytes;
    if (offset_bytes > region_bytes || size_bytes > region_bytes - offset_bytes)
        return fail(Errc::out_of_range, "{} bytes at {:#x} lie outside of region {} with {} bytes",
                    size_bytes, offset_bytes, number(region), region_bytes);
    return {};
}

Result<> ClientFunction::read(pci::Region region, uint64_t offset_bytes, std::span<std::byte> data) {
    TRY(check(region, offset_bytes, data.size()));
    while (!data.empty()) {
        const auto part = data.first(std::min(data.size(), max_transfer()));
        const wire::RegionAccess access{offset_bytes, number(region), static_cast<uint32_t>(part.size())};
        const auto reply = TRY(channel_->call(Command::region_read, {wire::bytes_of(access)}));
        std::span<const std::byte> payload = reply.payload;
        const auto answered = TRY(wire::take<wire::RegionAccess>(payload));
        if (answered.count != access.count || payload.size() != part.size())
            return fail(Errc::protocol, "a read of {} bytes was answered with {}", part.size(),
                        payload.size());
        std::copy(payload.begin(), payload.end(), part.begin());
        data = data.subspan(part.size());
        offset_bytes += part.size();
    }
    return {};
}

Result<> ClientFunction::write(pci::Region region, uint64_t offset_bytes, std::span<const std::byte> data) {
    TRY(check(region, offset_bytes, data.size()));
    while (!data.empty()) {
        const auto part = data.first(std::min(data.size(), max_transfer()));
        const wire::RegionAccess access{offset_bytes, number(region), static_cast<uint32_t>(part.size())};
        const auto reply = TRY(channel_->call(Command::region_write, {wire::bytes_of(access), part}));
        std::span<const std::byte> payload = reply.payload;
        const auto answered = TRY(wire::take<wire::RegionAccess>(payload));
        if (answered.count != access.count)
            return fail(Errc::protocol, "a write of {} bytes was answered with {}", part.size(),
                        uint32_t{answered.count});
        data = data.subspan(part.size());
        offset_bytes += part.size();
    }
    return {};
}

Result<std::vector<pci::Extent>> ClientFunction::memory(pci::Region region, uint64_t offset_bytes,
                                                        uint64_t size_bytes) {
    TRY(check(region, offset_bytes, size_bytes));
    if (server_.lanepool) return ask_memory(number(region), offset_bytes, size_bytes);
    return regions_[number(region)].memory(offset_bytes, size_bytes);
}

Result<std::vector<pci::Extent>> ClientFunction::ask_memory(uint32_t index, uint64_t offset_bytes,
                                                            uint64_t size_bytes) {
    std::vector<pci::Extent> extents;
    const uint64_t end = offset_bytes + size_bytes;
    while (offset_bytes < end) {
        wire::RegionMemory request{};
        request.argsz = wire::max_message_bytes - sizeof(wire::Header);
        request.index = index;
        request.offset = offset_bytes;
        request.size = end - offset_bytes;
        auto reply = TRY(channel_->call(Command::lanepool_region_memory, {wire::bytes_of(request)}));
        auto part = TRY(parse_region_memory(std::move(reply), request));
        if (part.extents.size() > max_extents - extents.size())
            return fail(Errc::protocol, "the memory behind region {} is in more than {} pieces", index,
                        max_extents);
        std::move(part.extents.begin(), part.extents.end(), std::back_inserter(extents));
        offset_bytes = part.next_bytes;
    }
    return extents;
}

Result<UniqueFd> ClientFunction::event(pci::Region region, uint64_t offset_bytes) {
    TRY(check(region, offset_bytes, 4));
    if (server_.lanepool) {
        const wire::RegionEvent request{number(region), 0, offset_bytes};
        auto reply = TRY(channel_->call(Command::lanepool_region_event, {wire::bytes_of(request)}));
        if (reply.fds.size() != 1)
            return fail(Errc::protocol, "asked for one eventfd, {} came", reply.fds.size());
        return std::move(reply.fds.front());
    }
    const wire::RegionIoFds request{first_argsz, 0, number(region), 0};
    auto reply = TRY(channel_->call(Command::device_get_region_io_fds, {wire::bytes_of(request)}));
    return find_event(std::move(reply), number(region), offset_bytes);
}

Result<pci::DmaMapping> ClientFunction::map(Range<Iova> range, Access access, DmaSpace::Backing backing,
                                            uint32_t flags, uint64_t offset_bytes, std::span<const int> fds) {
    flags |= wire::dma::readable;
    if (access == Access::read_write) flags |= wire::dma::writeable;
    const wire::DmaMap request{sizeof(wire::DmaMap), flags, offset_bytes, range.start().value,
                               range.size_bytes()};
    // First, for the function may use it before its answer is here.
    TRY(space_.add(range, access, std::move(backing)));
    const auto reply = channel_->call(Command::dma_map, {wire::bytes_of(request)}, fds);
    if (reply) return pci::DmaMapping(*this, range);
    [[maybe_unused]] const auto removed = space_.remove(range, options_.timeout);
    return tl::unexpected<Error>(reply.error());
}

Result<pci::DmaMapping> ClientFunction::map_dma(Range<Iova> range, const MemoryRef& memory, Access access) {
    if (!memory.fd || memory.size_bytes < range.size_bytes())
        return fail(Errc::invalid_argument, "{} bytes are to be mapped, the memory has {}",
                    range.size_bytes(), memory.size_bytes);
    const int fd = memory.fd->get();
    return map(range, access, memory, 0, memory.offset_bytes, {&fd, 1});
}

Result<pci::DmaMapping> ClientFunction::map_dma(Range<Iova> range, std::shared_ptr<pci::DmaTarget> target,
                                                Access access) {
    return map(range, access, std::move(target), 0, 0, {});
}

Result<pci::DmaMapping> ClientFunction::map_dma_event(Iova address, const UniqueFd& eventfd) {
    if (!server_.lanepool)
        return fail(Errc::not_supported, "the server does not take eventfds for DMA; map a target instead");
    const auto range = TRY(Range<Iova>::create(address, 4));
    DmaSpace::Event event{share(TRY(eventfd.duplicate()))};
    const int fd = event.fd->get();
    return map(range, Access::read_write, event, wire::dma::event, 0, {&fd, 1});
}

Result<> ClientFunction::unmap_dma(Range<Iova> range) {
    if (!space_.contains(range))
        return fail(Errc::not_found, "{} bytes at {:#x} are not what was mapped", range.size_bytes(),
                    range.start().value);
    const wire::DmaUnmap request{sizeof(wire::DmaUnmap), 0, range.start().value, range.size_bytes()};
    const auto reply = channel_->call(Command::dma_unmap, {wire::bytes_of(request)});
    // Whatever the server says: through us it reaches the range no more.
    const auto removed = space_.remove(range, options_.timeout);
    if (!reply) return tl::unexpected<Error>(reply.error());
    return removed;
}

Result<> ClientFunction::send_irqs(pci::Irq index, uint32_t first, uint32_t count, uint32_t flags,
                                   std::span<const int> fds) {
    const wire::IrqSet set{sizeof(wire::IrqSet), flags, number(index), first, count};
    TRY(channel_->call(Command::device_set_irqs, {wire::bytes_of(set)}, fds));
    return {};
}

Result<> ClientFunction::set_irqs(pci::Irq index, uint32_t first, std::span<const int> eventfds) {
    const uint32_t vectors = irqs_[number(index)].count;
    if (first > vectors || eventfds.size() > vectors - first)
        return fail(Errc::out_of_range, "{} vectors from {}, the function has {}", eventfds.size(), first,
                    vectors);
    if (eventfds.empty()) {
        if (first != 0) return {};
        return send_irqs(index, 0, 0, wire::irq_set::data_none | wire::irq_set::trigger, {});
    }
    // A message carries descriptors for all of its vectors or for none, and not more than the server takes.
    const size_t max_fds = std::min<size_t>(server_.max_msg_fds, io::max_descriptors);
    while (!eventfds.empty()) {
        const bool assigned = eventfds.front() >= 0;
        size_t run = 1;
        while (run < eventfds.size() && run < max_fds && (eventfds[run] >= 0) == assigned)
            ++run;
        TRY(send_irqs(index, first, static_cast<uint32_t>(run),
                      wire::irq_set::data_eventfd | wire::irq_set::trigger,
                      assigned ? eventfds.first(run) : std::span<const int>()));
        first += static_cast<uint32_t>(run);
        eventfds = eventfds.subspan(run);
    }
    return {};
}

Result<> ClientFunction::mask_irq(pci::Irq index, uint32_t vector, bool masked) {
    if (vector >= irqs_[number(index)].count)
        return fail(Errc::out_of_range, "there is no vector {}, the function has {}", vector,
                    irqs_[number(index)].count);
    return send_irqs(index, vector, 1,
                     wire::irq_set::data_none | (masked ? wire::irq_set::mask : wire::irq_set::unmask), {});
}

Result<> ClientFunction::reset() {
    if (!can_reset_) return fail(Errc::not_supported, "this function cannot be reset");
    TRY(channel_->call(Command::device_reset, {}));
    return {};
}

} // namespace

Result<std::unique_ptr<pci::Function>> connect(const std::filesystem::path& path, ClientOptions options) {
    auto function = std::make_unique<ClientFunction>(options);
    if (const auto opened = function->open(TRY(io::connect_unix(path))); !opened)
        return tl::unexpected<Error>(opened.error().within(path.string()));
    return function;
}

} // namespace lanepool::vfio_user
