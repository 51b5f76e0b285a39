// SPDX-License-Identifier: Apache-2.0
//
// For tests: a small function to be served, its loop on a thread, and a folder for its socket.
#pragma once

#include "base/eventually.h"
#include "base/temporary_folder.h"
#include "io/event_loop.h"
#include "vfio_user/client.h"
#include "vfio_user/server.h"

#include <cstdlib>
#include <dirent.h>
#include <future>
#include <gtest/gtest.h>
#include <map>
#include <thread>

namespace lanepool::vfio_user::testing {

inline Range<Iova> iova(uint64_t start, uint64_t size_bytes) {
    return *Range<Iova>::create(Iova{start}, size_bytes);
}

// How many descriptors this process has open.
inline size_t open_descriptors() {
    size_t count = 0;
    DIR* folder = ::opendir("/proc/self/fd");
    while (::readdir(folder))
        ++count;
    ::closedir(folder);
    return count;
}

// BAR 0: 16 KiB, of which the second and third page can be mapped; BAR 2: 4 KiB, which can be mapped whole;
// BAR 4: for reading only; config: 256 bytes. 4 MSI-X vectors, one INTx. Everything is memory.
// Members are touched on the loop's thread only (see LoopThread::run).
class TestFunction : public Handler {
  public:
    static constexpr uint64_t page = 4096;

    TestFunction() {
        regions_[0] = {4 * page, true, true, {{page, page}, {2 * page, page}}};
        regions_[2] = {page, true, true, {{0, page}}};
        regions_[4] = {page, true, false, {}};
        regions_[7] = {256, true, true, {}};
        irqs_[0] = {1, true, true};
        irqs_[2] = {4, false, false};
        renew();
    }

    const pci::RegionInfo& region(pci::Region index) const override {
        return regions_[static_cast<size_t>(index)];
    }
    const pci::IrqInfo& irq(pci::Irq index) const override { return irqs_[static_cast<size_t>(index)]; }

    void connected(Client& client) override { client_ = &client; }
    void disconnected() override {
        client_ = nullptr;
        ++disconnects;
        dma.clear();
        eventfds.clear();
        held.clear();
        held_reads.clear();
    }

    void read(pci::Region region, uint64_t offset, size_t size,
              Reply<std::vector<std::byte>> reply) override {
        if (hold) return held_reads.push_back(std::move(reply));
        const auto* from = bytes(region) + offset;
        reply(std::vector<std::byte>(from, from + size));
    }
    void write(pci::Region region, uint64_t offset, std::span<const std::byte> data,
               Reply<void> reply) override {
        std::copy(data.begin(), data.end(), bytes(region) + offset);
        done(std::move(reply));
    }
    Result<std::vector<pci::Extent>> memory(pci::Region region, uint64_t offset, uint64_t size) override {
        std::vector<pci::Extent> extents;
        for (const auto& area : regions_[static_cast<size_t>(region)].mappable) {
            const uint64_t from = std::max(offset, area.offset_bytes);
            const uint64_t to = std::min(offset + size, area.offset_bytes + area.size_bytes);
            if (from >= to) continue;
            if (only_elsewhere && area.offset_bytes != 2 * page) continue;
            if (region == pci::Region::bar0 && area.offset_bytes == 2 * page && elsewhere)
                extents.push_back({from, {elsewhere, from - 2 * page, to - from}});
            else
                extents.push_back({from, {files_.at(region), from, to - from}});
        }
        return extents;
    }
    Result<UniqueFd> event(pci::Region region, uint64_t offset) override {
        if (region != pci::Region::bar0 || offset != 0x10) return Handler::event(region, offset);
        return doorbell.duplicate();
    }
    void map_dma(DmaMap map, Reply<void> reply) override {
        const uint64_t start = map.range.start().value;
        ++maps;
        dma.insert_or_assign(start, std::move(map));
        done(std::move(reply));
    }
    void unmap_dma(Range<Iova> range, Reply<void> reply) override {
        dma.erase(range.start().value);
        done(std::move(reply));
    }
    void set_irqs(pci::Irq index, uint32_t first, std::vector<UniqueFd> fds, Reply<void> reply) override {
        if (fds.empty())
            std::erase_if(eventfds, [&](const auto& entry) { return entry.first.first == index; });
        for (auto& fd : fds)
            eventfds[{index, first++}] = std::move(fd);
        done(std::move(reply));
    }
    void mask_irq(pci::Irq, uint32_t vector, bool is_masked, Reply<void> reply) override {
        masked[vector] = is_masked;
        done(std::move(reply));
    }
    void reset(Reply<void> reply) override {
        renew();
        eventfds.clear();
        done(std::move(reply));
    }

    SharedFd file(pci::Region region) { return files_.at(region); }
    std::byte* bytes(pci::Region region) { return mappings_.at(region).data(); }
    Client* client() { return client_; }
    void release() {
        hold = false;
        for (auto& reply : std::exchange(held, {}))
            reply({});
        for (auto& reply : std::exchange(held_reads, {}))
            reply(std::vector<std::byte>(4));
    }

    SharedFd elsewhere; // if set, the third page of BAR 0
    bool only_elsewhere = false;
    bool hold = false; // replies wait for release()
    int disconnects = 0;
    int maps = 0;
    UniqueFd doorbell = *create_eventfd();
    std::map<uint64_t, DmaMap> dma;
    std::map<std::pair<pci::Irq, uint32_t>, UniqueFd> eventfds;
    std::map<uint32_t, bool> masked;
    std::vector<Reply<void>> held;
    std::vector<Reply<std::vector<std::byte>>> held_reads;

  private:
    void done(Reply<void> reply) {
        if (hold)
            held.push_back(std::move(reply));
        else
            reply({});
    }
    void renew() {
        for (const auto index :
             {pci::Region::bar0, pci::Region::bar2, pci::Region::bar4, pci::Region::config}) {
            const uint64_t size = regions_[static_cast<size_t>(index)].size_bytes;
            files_[index] = share(*create_memory("test-region", size));
            mappings_[index] = *Mapping::create(files_[index]->get(), 0, size);
        }
    }

    std::array<pci::RegionInfo, pci::region_count> regions_{};
    std::array<pci::IrqInfo, pci::irq_count> irqs_{};
    std::map<pci::Region, SharedFd> files_;
    std::map<pci::Region, Mapping> mappings_;
    Client* client_ = nullptr;
};

// An event loop on a thread of its own.
class LoopThread {
  public:
    LoopThread() : loop_(*io::EventLoop::create()), thread_([this] { loop_->run(); }) {}
    ~LoopThread() { stop(); }
    void stop() {
        if (!thread_.joinable()) return;
        loop_->stop();
        thread_.join();
    }
    io::EventLoop& loop() { return *loop_; }
    // Runs WORK on the loop's thread and waits for it.
    template <class F>
    auto run(F work) {
        std::packaged_task<std::invoke_result_t<F>()> task(std::move(work));
        auto result = task.get_future();
        loop_->post([&task] { task(); });
        return result.get();
    }

  private:
    std::unique_ptr<io::EventLoop> loop_;
    std::thread thread_;
};

// A TestFunction on a socket.
class ServedFunction {
  public:
    // Patient, as a test machine may be busy.
    explicit ServedFunction(ServerOptions options = {.reply_timeout = std::chrono::seconds(30)}) {
        thread.run([&] { server = *Server::create(thread.loop(), path(), function, options); });
    }
    ~ServedFunction() {
        thread.run([&] { server.reset(); });
        thread.stop();
    }
    std::filesystem::path path() const { return folder / "s"; }
    template <class F>
    auto run(F work) {
        return thread.run(std::move(work));
    }

    TemporaryFolder folder;
    TestFunction function;
    LoopThread thread;
    std::unique_ptr<Server> server;
};

} // namespace lanepool::vfio_user::testing
