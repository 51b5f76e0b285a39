// SPDX-License-Identifier: Apache-2.0
//
// A hostile client of the DMA engine: whatever it writes into its mapped BAR, config space and descriptors,
// and whatever it maps, unmaps and resets, the engine goes on and touches nothing but mapped memory.
#include "dma_model/function.h"

#include <algorithm>
#include <cstring>

using namespace lanepool;
using namespace lanepool::dma_model;

namespace {

constexpr uint64_t memory_bytes = 16 << 12;
constexpr Iova memory_base{0x10000};
constexpr uint32_t entries = 8;

class Client final : public vfio_user::Client {
  public:
    void dma_read(Iova, size_t, std::function<void(Result<std::vector<std::byte>>)>) override {}
    void dma_write(Iova, std::span<const std::byte>, std::function<void(Result<>)>) override {}
    bool speaks_lanepool() const override { return lanepool; }
    bool lanepool = true;
};

class Session {
  public:
    Session(const uint8_t* data, size_t size) : data_(data), left_(size) { connect(); }
    bool empty() const { return left_ == 0; }

    void step() {
        switch (take<uint8_t>() % 8) {
        case 0: {
            const auto value = take<uint32_t>();
            return store(take<uint16_t>() % (bar0_bytes / 4) * 4, value);
        }
        case 1:
            return store(reg::control, take<uint8_t>() % 4);
        case 2:
            store(reg::ring_base_low, static_cast<uint32_t>(memory_base.value + take<uint8_t>() * 64u));
            store(reg::ring_entries, 1u << take<uint8_t>() % 5);
            return store(reg::control, 1);
        case 3:
            return put();
        case 4:
            return write_region();
        case 5:
            return change_map();
        case 6:
            client_.lanepool = !client_.lanepool;
            function_->reset({[](Result<>) {}});
            return map_bar();
        default:
            function_->disconnected();
            return connect();
        }
    }
    void poll() {
        for (int i = 0; i < 4; ++i)
            function_->poll();
        function_->tick();
    }

  private:
    template <class T>
    T take() {
        T value{};
        const size_t count = std::min(sizeof value, left_);
        std::memcpy(&value, data_, count);
        data_ += count;
        left_ -= count;
        return value;
    }
    void connect() {
        function_->connected(client_);
        fd_ = share(*create_memory("fuzz", memory_bytes));
        memory_ = *Mapping::create(fd_->get(), 0, memory_bytes);
        map(memory_base, Access::read_write);
        map_bar();
        const std::array command = {std::byte{6}, std::byte{0}};
        function_->write(pci::Region::config, pci::config::command, command, {[](Result<>) {}});
    }
    void map_bar() {
        bar_ = *Mapping::create(function_->memory(pci::Region::bar0, 0, bar0_bytes)->at(0).memory);
    }
    void map(Iova at, Access access) {
        function_->map_dma(
            {*Range<Iova>::create(at, memory_bytes), access, MemoryRef{fd_, 0, memory_bytes}, {}},
            {[](Result<>) {}});
    }
    void change_map() {
        const auto how = take<uint8_t>();
        const Iova at = memory_base + (how & 1 ? memory_bytes : 0);
        if (how & 2)
            function_->unmap_dma(*Range<Iova>::create(at, memory_bytes), {[](Result<>) {}});
        else
            map(at, how & 4 ? Access::read_only : Access::read_write);
    }
    void store(uint64_t offset, uint32_t value) { device_model::store_word(bar_.data() + offset, value); }
    void write_region() {
        const auto region = take<uint8_t>() & 1 ? pci::Region::bar0 : pci::Region::config;
        const uint64_t size = function_->region(region).size_bytes;
        const uint64_t offset = take<uint16_t>() % size;
        const auto value = take<uint64_t>();
        const size_t width = std::min<uint64_t>(1 + take<uint8_t>() % 8, size - offset);
        function_->write(region, offset, std::as_bytes(std::span(&value, 1)).first(width), {[](Result<>) {}});
        function_->read(region, offset, width, {[](Result<std::vector<std::byte>>) {}});
    }
    void put() {
        auto descriptor = take<Descriptor>();
        const auto how = take<uint8_t>();
        // Mostly such that something happens.
        if (how & 1) descriptor.opcode = static_cast<uint16_t>(descriptor.opcode % (opcode_count + 1));
        if (how & 2) descriptor.flags = static_cast<uint16_t>(descriptor.flags & flags::all);
        if (how & 4) descriptor.source = memory_base.value + descriptor.source % (2 * memory_bytes);
        if (how & 8) descriptor.destination = memory_base.value + descriptor.destination % (2 * memory_bytes);
        if (how & 16)
            descriptor.operand = memory_base.value + (descriptor.operand % memory_bytes & ~uint64_t{3});
        if (how & 32) descriptor.length = static_cast<uint32_t>(descriptor.length % memory_bytes);
        std::memcpy(memory_.data() + tail_ * sizeof descriptor, &descriptor, sizeof descriptor);
        tail_ = (tail_ + 1) % entries;
        store(reg::tail, tail_);
    }

    const uint8_t* data_;
    size_t left_;
    Client client_;
    std::unique_ptr<Function> function_ = *Function::create(1);
    SharedFd fd_;
    Mapping memory_, bar_;
    uint32_t tail_ = 0;
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    Session session(data, size);
    for (int steps = 0; !session.empty() && steps < 300; ++steps) {
        session.step();
        session.poll();
    }
    return 0;
}
