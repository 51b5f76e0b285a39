// SPDX-License-Identifier: Apache-2.0
//
// A host in memory: drives a Controller through the calls that vfio_user::Server makes, on one thread and
// without a socket.
#pragma once

#include "base/mapping.h"
#include "nvme/model/controller.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <filesystem>
#include <gtest/gtest.h>
#include <map>
#include <stdlib.h>
#include <unistd.h>

namespace lanepool::nvme::model::test {

// A folder that goes away again.
class Folder {
  public:
    explicit Folder(const std::string& parent = "/tmp") {
        std::string name = parent + "/lanepool-model.XXXXXX";
        EXPECT_NE(::mkdtemp(name.data()), nullptr);
        path_ = name;
    }
    ~Folder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    const std::filesystem::path& path() const { return path_; }

  private:
    std::filesystem::path path_;
};

class ManualClock final : public io::Clock {
  public:
    io::TimePoint now() const override { return io::system_clock().now() + ahead; }
    int64_t unix_time_us() const override { return io::system_clock().unix_time_us(); }
    io::Duration ahead{0};
};

// Operations on the file that do not begin before the test says so.
class HeldQueue final : public FileQueue {
  public:
    explicit HeldQueue(std::unique_ptr<FileQueue> real) : real_(std::move(real)) {}

    FileTicket submit(const FileOp& op, FileDone done) override {
        waiting.push_back({next_ticket_, op, std::move(done)});
        return next_ticket_++;
    }
    void flush() override { real_->flush(); }
    size_t poll() override {
        for (; !hold && !waiting.empty(); waiting.pop_front())
            real_->submit(waiting.front().op, std::move(waiting.front().done));
        real_->flush();
        const auto ended = std::exchange(cancelled, {});
        for (const auto& done : ended)
            done(-ECANCELED);
        return real_->poll() + ended.size();
    }
    void cancel(FileTicket ticket) override {
        ++cancels;
        if (!cancellable) return;
        const auto found = std::ranges::find(waiting, ticket, &Waiting::ticket);
        if (found == waiting.end()) return;
        cancelled.push_back(std::move(found->done));
        waiting.erase(found);
    }
    size_t in_flight() const override { return waiting.size() + real_->in_flight(); }
    int event_fd() const override { return real_->event_fd(); }
    void acknowledge() override { real_->acknowledge(); }

    struct Waiting {
        FileTicket ticket;
        FileOp op;
        FileDone done;
    };
    std::deque<Waiting> waiting;
    std::vector<FileDone> cancelled;
    bool hold = true;
    bool cancellable = false;
    unsigned cancels = 0;

  private:
    std::unique_ptr<FileQueue> real_;
    FileTicket next_ticket_ = 1;
};

// Memory that is reached by messages only: the host's half of VFIO_USER_DMA_READ and _WRITE. Answers are kept
// until deliver().
class FakeClient final : public vfio_user::Client {
  public:
    void dma_read(Iova address, size_t size_bytes,
                  std::function<void(Result<std::vector<std::byte>>)> answer) override {
        waiting_.push_back([this, address, size_bytes, answer = std::move(answer)] {
            if (!contains(address, size_bytes)) return answer(fail(Errc::out_of_range, "no such memory"));
            const auto* from = bytes.data() + (address.value - base.value);
            answer(std::vector<std::byte>(from, from + size_bytes));
        });
    }
    void dma_write(Iova address, std::span<const std::byte> data,
                   std::function<void(Result<>)> answer) override {
        waiting_.push_back(
            [this, address, copy = std::vector(data.begin(), data.end()), answer = std::move(answer)] {
                if (!contains(address, copy.size()))
                    return answer(fail(Errc::out_of_range, "no such memory"));
                std::ranges::copy(copy, bytes.data() + (address.value - base.value));
                answer({});
            });
    }
    bool speaks_lanepool() const override { return lanepool; }

    size_t deliver() {
        const auto now = std::exchange(waiting_, {});
        for (const auto& call : now)
            call();
        return now.size();
    }
    size_t waiting() const { return waiting_.size(); }

    Iova base;
    std::vector<std::byte> bytes;
    bool lanepool = true;

  private:
    bool contains(Iova address, size_t size_bytes) const {
        return address >= base && address.value - base.value + size_bytes <= bytes.size();
    }
    std::vector<std::function<void()>> waiting_;
};

// One queue pair as the host sees it.
struct HostQueue {
    uint16_t id = 0;
    Iova sq, cq;
    uint32_t entries = 0;
    uint32_t sq_tail = 0, cq_head = 0;
    bool phase = true;
};

class Host {
  public:
    static constexpr uint64_t drive_bytes = 16 << 20;
    static constexpr uint64_t memory_bytes = 8 << 20;
    static constexpr Iova memory_base{0x10000000};

    struct Options {
        std::filesystem::path folder;
        uint64_t drive_bytes = Host::drive_bytes;
        bool msix = true;
        bool map_registers = false;
        std::function<Result<std::unique_ptr<FileQueue>>(int fd)> make_queue = FileQueue::create;
        bool at_once = true;
    };

    explicit Host(Options options) : options_(std::move(options)) { start(); }

    // The process again, on the same file.
    void restart() {
        controller.reset();
        media.reset();
        start();
    }

    void start() {
        auto opened = Media::open(
            {options_.folder / "drive", options_.drive_bytes, options_.make_queue, options_.at_once});
        ASSERT_TRUE(opened) << opened.error().message();
        media = std::move(*opened);
        ControllerOptions controller_options;
        controller_options.serial = "TEST0001";
        controller_options.msix = options_.msix;
        controller_options.map_registers = options_.map_registers;
        auto created = Controller::create(controller_options, *media, clock);
        ASSERT_TRUE(created) << created.error().message();
        controller = std::move(*created);
        connect();
    }

    void connect() {
        controller->connected(client);
        fd = share(*create_memory("host", memory_bytes));
        memory = *Mapping::create(fd->get(), 0, memory_bytes);
        next_page_ = memory_base.value;
        ASSERT_TRUE(map(memory_base, memory_bytes, fd));
        doorbells = doorbell_page();
    }

    Mapping doorbell_page() {
        const auto extents = controller->memory(pci::Region::bar0, doorbell_page_offset, doorbell_page_bytes);
        EXPECT_TRUE(extents && extents->size() == 1);
        return *Mapping::create((*extents)[0].memory);
    }

    // --- what a client asks for

    Result<> map(Iova at, uint64_t size_bytes, SharedFd memory_fd, uint64_t offset = 0,
                 Access access = Access::read_write) {
        vfio_user::DmaMap request{*Range<Iova>::create(at, size_bytes), access, std::nullopt, {}};
        if (memory_fd) request.memory = MemoryRef{std::move(memory_fd), offset, size_bytes};
        Result<> outcome = fail(Errc::internal, "no answer");
        controller->map_dma(std::move(request), {[&](Result<> answer) { outcome = std::move(answer); }});
        return outcome;
    }
    // Null while there is no answer.
    std::shared_ptr<std::optional<Result<>>> unmap(Iova at, uint64_t size_bytes) {
        auto outcome = std::make_shared<std::optional<Result<>>>();
        controller->unmap_dma(*Range<Iova>::create(at, size_bytes),
                              {[outcome](Result<> answer) { *outcome = std::move(answer); }});
        return outcome;
    }
    std::shared_ptr<std::optional<Result<>>> device_reset() {
        auto outcome = std::make_shared<std::optional<Result<>>>();
        controller->reset({[outcome](Result<> answer) { *outcome = std::move(answer); }});
        return outcome;
    }
    template <class T>
    T read(pci::Region region, uint64_t offset) {
        T value{};
        controller->read(region, offset, sizeof value, {[&](Result<std::vector<std::byte>> answer) {
                             std::memcpy(&value, answer->data(), sizeof value);
                         }});
        return value;
    }
    template <class T>
    void write(pci::Region region, uint64_t offset, T value) {
        controller->write(region, offset, std::as_bytes(std::span(&value, 1)), {[](Result<>) {}});
    }
    uint32_t csts() { return read<uint32_t>(pci::Region::bar0, reg::csts); }

    // --- memory

    Iova page(size_t count = 1) {
        const Iova result{next_page_};
        next_page_ += count * page_bytes;
        EXPECT_LE(next_page_, memory_base.value + memory_bytes);
        return result;
    }
    template <class T = std::byte>
    T* at(Iova address) {
        return reinterpret_cast<T*>(memory.data() + (address.value - memory_base.value));
    }

    // --- the driver

    void master(bool on = true) { write<uint16_t>(pci::Region::config, pci::config::command, on ? 6 : 2); }

    void enable(uint32_t entries = 32) {
        master();
        admin = make_queue(0, entries);
        write<uint32_t>(pci::Region::bar0, reg::aqa, (entries - 1) | (entries - 1) << 16);
        write<uint64_t>(pci::Region::bar0, reg::asq, admin.sq.value);
        write<uint64_t>(pci::Region::bar0, reg::acq, admin.cq.value);
        write<uint32_t>(pci::Region::bar0, reg::cc, cc::en(1) | cc::iosqes(6) | cc::iocqes(4));
        poll_until([&] { return csts::rdy.get(csts()) != 0; });
        ASSERT_EQ(csts(), csts::rdy(1));
    }
    void disable() {
        write<uint32_t>(pci::Region::bar0, reg::cc, cc::iosqes(6) | cc::iocqes(4));
        poll_until([&] { return csts::rdy.get(csts()) == 0; });
    }

    HostQueue make_queue(uint16_t id, uint32_t entries) {
        HostQueue queue;
        queue.id = id;
        queue.entries = entries;
        queue.sq = page((entries * 64 + page_bytes - 1) / page_bytes);
        queue.cq = page((entries * 16 + page_bytes - 1) / page_bytes);
        std::memset(at(queue.cq), 0, entries * 16);
        return queue;
    }

    HostQueue create_io_queue(uint16_t id, uint32_t entries = 32, bool interrupts = false) {
        HostQueue queue = make_queue(id, entries);
        Command create;
        create.opcode = static_cast<uint8_t>(AdminOpcode::create_io_cq);
        create.prp1 = queue.cq.value;
        create.cdw10 = id | (entries - 1) << 16;
        create.cdw11 = 1 | (interrupts ? 2u | uint32_t{id} << 16 : 0);
        EXPECT_TRUE(run(admin, create).status().ok());
        create.opcode = static_cast<uint8_t>(AdminOpcode::create_io_sq);
        create.prp1 = queue.sq.value;
        create.cdw11 = 1 | uint32_t{id} << 16;
        EXPECT_TRUE(run(admin, create).status().ok());
        return queue;
    }

    uint16_t push(HostQueue& queue, Command command) {
        command.cid = next_cid_++;
        std::memcpy(at(queue.sq + uint64_t{queue.sq_tail} * 64), &command, sizeof command);
        queue.sq_tail = (queue.sq_tail + 1) % queue.entries;
        return command.cid;
    }
    void ring(const HostQueue& queue) {
        store_word(doorbells.data() + 4 * submission_doorbell(queue.id), queue.sq_tail);
    }
    uint16_t submit(HostQueue& queue, const Command& command) {
        const uint16_t cid = push(queue, command);
        ring(queue);
        return cid;
    }
    std::optional<Completion> take(HostQueue& queue) {
        Completion entry;
        std::memcpy(&entry, at(queue.cq + uint64_t{queue.cq_head} * 16), sizeof entry);
        if (entry.phase() != queue.phase) return std::nullopt;
        if (++queue.cq_head == queue.entries) {
            queue.cq_head = 0;
            queue.phase = !queue.phase;
        }
        store_word(doorbells.data() + 4 * completion_doorbell(queue.id), queue.cq_head);
        return entry;
    }
    Completion wait(HostQueue& queue) {
        std::optional<Completion> completion;
        poll_until([&] { return (completion = take(queue)).has_value(); });
        EXPECT_TRUE(completion) << "no completion in queue " << queue.id;
        return completion.value_or(Completion{});
    }
    Completion run(HostQueue& queue, const Command& command) {
        const uint16_t cid = submit(queue, command);
        const Completion completion = wait(queue);
        EXPECT_EQ(completion.cid, cid);
        return completion;
    }

    static Command io(IoOpcode opcode, uint64_t block, uint32_t blocks, Iova prp1, Iova prp2 = {}) {
        Command command;
        command.opcode = static_cast<uint8_t>(opcode);
        command.nsid = 1;
        command.prp1 = prp1.value;
        command.prp2 = prp2.value;
        command.cdw10 = static_cast<uint32_t>(block);
        command.cdw11 = static_cast<uint32_t>(block >> 32);
        command.cdw12 = blocks - 1;
        return command;
    }
    static Command admin_command(AdminOpcode opcode, uint32_t cdw10 = 0, Iova prp1 = {}, uint32_t nsid = 0) {
        Command command;
        command.opcode = static_cast<uint8_t>(opcode);
        command.nsid = nsid;
        command.cdw10 = cdw10;
        command.prp1 = prp1.value;
        return command;
    }
    static Command log(LogPage page, uint32_t bytes, Iova prp1, bool retain = false) {
        auto command =
            admin_command(AdminOpcode::get_log_page, static_cast<uint32_t>(page) | (bytes / 4 - 1) << 16,
                          prp1, broadcast_nsid);
        if (retain) command.cdw10 = command.cdw10 | 1u << 15;
        return command;
    }

    void poll_once() {
        controller->poll();
        controller->tick();
    }
    template <class Condition>
    bool poll_until(Condition condition, io::Duration limit = std::chrono::seconds(10)) {
        const auto deadline = io::system_clock().now() + limit;
        while (!condition()) {
            poll_once();
            if (deliver_messages) client.deliver();
            if (io::system_clock().now() > deadline) return false;
        }
        return true;
    }

    Options options_;
    ManualClock clock;
    std::unique_ptr<Media> media;
    std::unique_ptr<Controller> controller;
    FakeClient client;
    bool deliver_messages = true;
    SharedFd fd;
    Mapping memory;
    Mapping doorbells;
    HostQueue admin;

  private:
    uint64_t next_page_ = 0;
    uint16_t next_cid_ = 1;
};

// One whose file operations wait for the test.
class HeldControllerTest : public ::testing::Test {
  protected:
    ~HeldControllerTest() override { queue_->hold = false; }

    HeldQueue* queue_ = nullptr;
    Folder folder_;
    Host host_{{.folder = folder_.path(),
                .make_queue = [this](int fd) -> Result<std::unique_ptr<FileQueue>> {
                    auto queue = std::make_unique<HeldQueue>(TRY(FileQueue::create(fd)));
                    queue_ = queue.get();
                    return queue;
                },
                .at_once = false}};
};

// A controller on a fresh drive in a folder of its own.
class ControllerTest : public ::testing::Test {
  protected:
    Folder folder_;
    Host host_{{.folder = folder_.path()}};
};

} // namespace lanepool::nvme::model::test
