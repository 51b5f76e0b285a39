// SPDX-License-Identifier: Apache-2.0
//
// A hostile client of the NVMe model, with all of BAR0 mapped for inputs of odd length: whatever it writes
// into registers, config space, doorbells and its own memory, and whatever it maps, unmaps, resets or leaves
// in the middle of, the model goes on.
#include "nvme/model/controller.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <spdlog/spdlog.h>
#include <stdlib.h>

using namespace lanepool;
using namespace lanepool::nvme;
using namespace lanepool::nvme::model;

namespace {

constexpr uint64_t drive_bytes = 256 << 10;
constexpr uint64_t memory_bytes = 64 << 12;
constexpr Iova memory_base{0x10000};
constexpr Iova message_base{0x200000};

// The input, byte by byte; zeroes behind its end.
class Input {
  public:
    Input(const uint8_t* data, size_t size) : data_(data), left_(size) {}
    bool empty() const { return left_ == 0; }
    template <class T>
    T take() {
        T value{};
        const size_t count = std::min(sizeof value, left_);
        std::memcpy(&value, data_, count);
        data_ += count;
        left_ -= count;
        return value;
    }

  private:
    const uint8_t* data_;
    size_t left_;
};

// Answers DMA messages late, with bytes of its own, wrong sizes and errors.
class HostileClient final : public vfio_user::Client {
  public:
    void dma_read(Iova address, size_t size_bytes,
                  std::function<void(Result<std::vector<std::byte>>)> answer) override {
        waiting.push_back([=](uint8_t how) {
            if (how % 4 == 0) return answer(fail(Errc::timeout, "late"));
            answer(std::vector<std::byte>(how % 4 == 1 ? size_bytes / 2 : size_bytes,
                                          static_cast<std::byte>(address.value >> 8)));
        });
    }
    void dma_write(Iova, std::span<const std::byte>, std::function<void(Result<>)> answer) override {
        waiting.push_back([=](uint8_t how) {
            if (how % 4 == 0) return answer(fail(Errc::timeout, "late"));
            answer({});
        });
    }
    bool speaks_lanepool() const override { return lanepool; }

    std::vector<std::function<void(uint8_t)>> waiting;
    bool lanepool = true;
};

class Session {
  public:
    Session(Input& input, bool map_registers) : input_(input), map_registers_(map_registers) {
        media_ = *Media::open({.file = folder() / "drive", .size_bytes = drive_bytes});
        ControllerOptions options;
        options.serial = "FUZZ";
        options.map_registers = map_registers;
        controller_ = *Controller::create(options, *media_, io::system_clock());
        connect();
    }

    ~Session() {
        controller_.reset();
        media_.reset();
        std::filesystem::remove(folder() / "drive");
        std::filesystem::remove(folder() / "drive.state");
    }

    void step() {
        switch (input_.take<uint8_t>() % 14) {
        case 0:
            return write_region(pci::Region::config, pci::extended_config_bytes);
        case 1:
            return write_region(pci::Region::bar0, bar0_bytes);
        case 2:
            return read_region();
        case 3:
            return scribble();
        case 4:
            return ring(input_.take<uint16_t>() % doorbell_count, input_.take<uint32_t>());
        case 5:
            return poll(input_.take<uint8_t>());
        case 6:
            return enable();
        case 7:
            return push(0);
        case 8:
            return push(1 + input_.take<uint8_t>() % 2);
        case 9:
            return create_queues();
        case 10:
            return change_map();
        case 11:
            return controller_->reset({[](Result<>) {}});
        case 12:
            controller_->disconnected();
            return connect();
        default:
            return answer_messages();
        }
    }

    void poll(unsigned rounds) {
        for (unsigned i = 0; i <= rounds; ++i)
            controller_->poll();
        controller_->tick();
    }

  private:
    // In memory where there is such a folder: the drive is made anew for each input.
    static const std::filesystem::path& folder() {
        static const std::filesystem::path path = [] {
            std::string name = std::filesystem::exists("/dev/shm") ? "/dev/shm/nvme-model-fuzz.XXXXXX"
                                                                   : "/tmp/nvme-model-fuzz.XXXXXX";
            if (!::mkdtemp(name.data())) std::abort();
            std::atexit([] { std::filesystem::remove_all(folder()); });
            return std::filesystem::path(name);
        }();
        return path;
    }

    void connect() {
        late_ = std::exchange(client_.waiting, {});
        client_.lanepool = !client_.lanepool;
        controller_->connected(client_);
        fd_ = share(*create_memory("fuzz", memory_bytes));
        memory_ = *Mapping::create(fd_->get(), 0, memory_bytes);
        map(memory_base, memory_bytes, fd_);
        doorbells_ = *Mapping::create(
            controller_->memory(pci::Region::bar0, doorbell_page_offset, doorbell_page_bytes)->at(0).memory);
        if (map_registers_)
            bar_ = *Mapping::create(controller_->memory(pci::Region::bar0, 0, bar0_bytes)->at(0).memory);
        std::ranges::fill(tails_, 0);
    }

    void map(Iova at, uint64_t size, SharedFd fd) {
        vfio_user::DmaMap map{*Range<Iova>::create(at, size), Access::read_write, std::nullopt, {}};
        if (fd) map.memory = MemoryRef{std::move(fd), 0, size};
        controller_->map_dma(std::move(map), {[](Result<>) {}});
    }

    void change_map() {
        const auto how = input_.take<uint8_t>();
        const Iova at = how & 1 ? message_base : memory_base;
        const auto range = *Range<Iova>::create(at, memory_bytes);
        if (how & 2)
            controller_->unmap_dma(range, {[](Result<>) {}});
        else
            map(at, memory_bytes, how & 1 ? nullptr : fd_);
    }

    void write_region(pci::Region region, uint64_t size) {
        const uint64_t offset = input_.take<uint16_t>() % size;
        const auto value = input_.take<uint64_t>();
        const size_t width = std::min<uint64_t>(1 + input_.take<uint8_t>() % 8, size - offset);
        if (map_registers_ && region == pci::Region::bar0 && width % 2 == 0)
            return store_word(bar_.data() + (offset & ~uint64_t{3}), static_cast<uint32_t>(value));
        controller_->write(region, offset, std::as_bytes(std::span(&value, 1)).first(width),
                           {[](Result<>) {}});
    }

    void read_region() {
        const auto region = input_.take<uint8_t>() & 1 ? pci::Region::bar0 : pci::Region::config;
        const uint64_t size = controller_->region(region).size_bytes;
        const uint64_t offset = input_.take<uint16_t>() % size;
        const size_t width = std::min<uint64_t>(1 + input_.take<uint8_t>(), size - offset);
        controller_->read(region, offset, width, {[](Result<std::vector<std::byte>>) {}});
    }

    void scribble() {
        const uint64_t offset = input_.take<uint32_t>() % (memory_bytes - 8) & ~uint64_t{7};
        const auto value = input_.take<uint64_t>();
        std::memcpy(memory_.data() + offset, &value, sizeof value);
    }

    void ring(size_t index, uint32_t value) { store_word(doorbells_.data() + 4 * index, value); }

    // Queue 0 lies in pages 0 and 1, queues 1 and 2 in those after; 16 entries each.
    static Iova page(uint64_t number) { return memory_base + number * page_bytes; }
    void enable() {
        const auto write = [&](uint64_t offset, uint64_t value, size_t width) {
            controller_->write(pci::Region::bar0, offset, std::as_bytes(std::span(&value, 1)).first(width),
                               {[](Result<>) {}});
        };
        const std::array command = {std::byte{6}, std::byte{0}};
        controller_->write(pci::Region::config, pci::config::command, command, {[](Result<>) {}});
        write(reg::aqa, 15 | 15 << 16, 4);
        write(reg::asq, page(0).value, 8);
        write(reg::acq, page(1).value, 8);
        write(reg::cc, cc::en(1) | cc::iosqes(6) | cc::iocqes(4), 4);
        std::ranges::fill(tails_, 0);
        poll(1);
    }

    void put(uint16_t queue, const Command& command) {
        std::memcpy(memory_.data() + (2 * queue * page_bytes + 64 * tails_[queue]), &command, sizeof command);
        tails_[queue] = (tails_[queue] + 1) % 16;
        ring(submission_doorbell(queue), tails_[queue]);
    }

    void create_queues() {
        for (uint16_t id = 1; id <= 2; ++id) {
            Command command;
            command.opcode = static_cast<uint8_t>(AdminOpcode::create_io_cq);
            command.prp1 = page(2u * id + 1).value;
            command.cdw10 = id | 15 << 16;
            command.cdw11 = 1;
            put(0, command);
            command.opcode = static_cast<uint8_t>(AdminOpcode::create_io_sq);
            command.prp1 = page(2u * id).value;
            command.cdw11 = 1 | uint32_t{id} << 16;
            put(0, command);
            tails_[id] = 0;
        }
        poll(2);
        // As a driver would: takes all completions.
        ring(completion_doorbell(0), tails_[0]);
    }

    void push(uint16_t queue) {
        auto command = input_.take<Command>();
        const auto how = input_.take<uint8_t>();
        // Mostly addresses that exist, so that something happens.
        if (how & 1) command.prp1 = memory_base.value + (command.prp1 % memory_bytes & ~uint64_t{3});
        if (how & 2) command.prp2 = memory_base.value + (command.prp2 % memory_bytes & ~uint64_t{7});
        if (how & 4) command.nsid = 1;
        if (how & 8) command.flags = 0;
        if (how & 16) command.cdw11 = 0;
        if (how & 32) command.prp2 = message_base.value + (command.prp2 % memory_bytes & ~uint64_t{7});
        if (queue != 0 && (how & 64)) command.opcode = std::array<uint8_t, 4>{1, 2, 5, 9}[command.opcode % 4];
        put(queue, command);
        poll(1);
    }

    void answer_messages() {
        const auto how = input_.take<uint8_t>();
        auto calls = std::exchange(how & 0x80 ? late_ : client_.waiting, {});
        for (const auto& call : calls)
            call(how);
    }

    Input& input_;
    const bool map_registers_;
    HostileClient client_;
    std::vector<std::function<void(uint8_t)>> late_; // answers to a client that has gone
    std::unique_ptr<Media> media_;
    std::unique_ptr<Controller> controller_;
    SharedFd fd_;
    Mapping memory_;
    Mapping doorbells_;
    Mapping bar_; // where all of it is mapped
    std::array<uint32_t, 3> tails_{};
};

} // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
    spdlog::set_level(spdlog::level::off); // a hostile client gives much to complain of
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    Input input(data, size);
    Session session(input, size % 2 != 0);
    for (int steps = 0; !input.empty() && steps < 300; ++steps)
        session.step();
    session.poll(3);
    return 0;
}
