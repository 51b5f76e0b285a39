// SPDX-License-Identifier: Apache-2.0
//
// A client's bytes to our server, through a socket pair. The first byte says whether the client speaks our
// extension (bit 0) and whether the rest is a raw stream (bit 1). Otherwise the rest is a list of messages:
// command, flags, number of descriptors, length (16 bits), payload. Flag bit 7 makes the function answer
// later, bit 6 makes it answer what waits.
#include "io/unix_socket.h"
#include "vfio_user/session.h"

#include <cstdlib>
#include <spdlog/spdlog.h>
#include <sys/socket.h>

using namespace lanepool;
using namespace lanepool::vfio_user;

namespace {

void require(bool condition) {
    if (!condition) std::abort();
}

// Holds the server to what it promises a handler.
class Function final : public Handler {
  public:
    Function() {
        regions_[0] = {16384, true, true, {{4096, 8192}}};
        regions_[4] = {64, true, false, {}};
        regions_[7] = {256, true, true, {}};
        irqs_[0] = {1, true, true};
        irqs_[2] = {16, false, false};
    }
    const pci::RegionInfo& region(pci::Region index) const override {
        require(static_cast<uint32_t>(index) < pci::region_count);
        return regions_[static_cast<size_t>(index)];
    }
    const pci::IrqInfo& irq(pci::Irq index) const override {
        require(static_cast<uint32_t>(index) < pci::irq_count);
        return irqs_[static_cast<size_t>(index)];
    }
    void connected(Client& client) override {
        client.dma_read(Iova{0x1000}, 64, [](auto) {});
        client.dma_write(Iova{0x2000}, std::as_bytes(std::span("abc")), [](auto) {});
    }
    void disconnected() override {
        ranges_.clear();
        held_.clear();
    }
    void read(pci::Region index, uint64_t offset, size_t size, Reply<std::vector<std::byte>> reply) override {
        check(index, offset, size);
        require(region(index).readable);
        reply(std::vector<std::byte>(size));
    }
    void write(pci::Region index, uint64_t offset, std::span<const std::byte> data,
               Reply<void> reply) override {
        check(index, offset, data.size());
        require(region(index).writable);
        done(std::move(reply));
    }
    Result<std::vector<pci::Extent>> memory(pci::Region index, uint64_t offset, uint64_t size) override {
        check(index, offset, size);
        std::vector<pci::Extent> extents;
        const uint64_t from = std::max<uint64_t>(offset, 4096);
        const uint64_t to = std::min<uint64_t>(offset + size, 12288);
        if (index == pci::Region::bar0 && from < to) extents.push_back({from, {memory_, from, to - from}});
        return extents;
    }
    Result<UniqueFd> event(pci::Region index, uint64_t offset) override {
        check(index, offset, 4);
        return create_eventfd();
    }
    void map_dma(DmaMap map, Reply<void> reply) override {
        for (const auto& range : ranges_)
            require(!range.overlaps(map.range));
        require(!(map.memory && map.event));
        ranges_.push_back(map.range);
        done(std::move(reply));
    }
    void unmap_dma(Range<Iova> range, Reply<void> reply) override {
        require(std::erase(ranges_, range) == 1);
        done(std::move(reply));
    }
    void set_irqs(pci::Irq index, uint32_t first, std::vector<UniqueFd> fds, Reply<void> reply) override {
        require(first + fds.size() <= irq(index).count);
        done(std::move(reply));
    }
    void mask_irq(pci::Irq index, uint32_t vector, bool, Reply<void> reply) override {
        require(vector < irq(index).count);
        done(std::move(reply));
    }
    void reset(Reply<void> reply) override { done(std::move(reply)); }

    void release() {
        for (auto& reply : std::exchange(held_, {}))
            reply({});
    }
    bool hold = false;

  private:
    void check(pci::Region index, uint64_t offset, uint64_t size) const {
        const uint64_t bytes = region(index).size_bytes;
        require(size > 0 && offset <= bytes && size <= bytes - offset);
    }
    void done(Reply<void> reply) {
        if (hold)
            held_.push_back(std::move(reply));
        else
            reply({});
    }

    std::array<pci::RegionInfo, pci::region_count> regions_{};
    std::array<pci::IrqInfo, pci::irq_count> irqs_{};
    SharedFd memory_ = share(*create_memory("fuzz", 16384));
    std::vector<Range<Iova>> ranges_;
    std::vector<Reply<void>> held_;
};

class RawClient {
  public:
    RawClient() {
        int pair[2];
        require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
        ours_ = UniqueFd(pair[0]);
        auto session =
            Session::create({*loop_, function, options_, stats_, [](Session&) {}}, UniqueFd(pair[1]));
        require(session.has_value());
        session_ = std::move(*session);
    }
    ~RawClient() { session_->close(); }

    void send(std::span<const std::byte> bytes, std::span<const int> fds = {}) {
        while (!bytes.empty()) {
            const auto sent = io::send(ours_.get(), bytes, fds);
            run();
            if (!sent && sent.error().code() != Errc::unavailable) return;
            if (!sent) continue;
            bytes = bytes.subspan(*sent);
            fds = {};
        }
    }
    void run() {
        while (loop_->run_once(io::Duration(0))) {
        }
        std::byte buffer[65536];
        while (auto received = io::receive(ours_.get(), buffer))
            if (received->bytes == 0) break;
    }

    Function function;

  private:
    std::unique_ptr<io::EventLoop> loop_ = *io::EventLoop::create();
    ServerOptions options_;
    ServerStats stats_;
    UniqueFd ours_;
    std::shared_ptr<Session> session_;
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    spdlog::set_level(spdlog::level::off);
    if (size < 1 || size > 20'000) return 0;
    const uint8_t mode = data[0];
    auto input = std::as_bytes(std::span(data, size)).subspan(1);
    RawClient client;
    if (mode & 2) {
        client.send(input);
        return 0;
    }
    static const UniqueFd memory = *create_memory("fuzz", 1 << 20);
    const wire::Version version{0, 1};
    const std::string json =
        (mode & 1) ? R"({"capabilities":{"max_msg_fds":9,"lanepool":{"version":1}}})" : "{}";
    client.send(wire::encode_command(
        wire::Command::version, 1,
        {wire::bytes_of(version), std::as_bytes(std::span(json.c_str(), json.size() + 1))}));
    uint16_t id = 2;
    while (input.size() >= 5) {
        const auto byte = [&](size_t i) { return std::to_integer<uint8_t>(input[i]); };
        wire::Header header{};
        // The extension's numbers lie far from the others.
        header.command = static_cast<uint16_t>(byte(0) < 0xf0 ? byte(0) : 0x4c00 + (byte(0) & 0xf));
        header.flags = byte(1) & 0x3fu;
        header.id = id++;
        client.function.hold = (byte(1) & 0x80) != 0;
        if (byte(1) & 0x40) client.function.release();
        const std::vector<int> fds(byte(2) % 65, memory.get());
        const size_t length = std::min<size_t>(byte(3) | (byte(4) << 8), input.size() - 5);
        client.send(wire::encode(header, {input.subspan(5, length)}), fds);
        input = input.subspan(5 + length);
    }
    client.function.release();
    client.run();
    return 0;
}
