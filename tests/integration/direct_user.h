// SPDX-License-Identifier: Apache-2.0
//
// For tests: who uses a lent device directly, without a guest.
#pragma once

#include "integration/lending_hosts.h"
#include "smartio/direct_device.h"

namespace lanepool::test {

using Body = std::vector<std::byte>;

inline constexpr uint64_t ram_bytes = 0x10000;
inline constexpr size_t max_places = 8;

// Some memory of HOST's that others may reach.
struct Memory {
    explicit Memory(Host& host)
        : ref{share(must(create_memory("application", ram_bytes))), 0, ram_bytes},
          bytes(must(Mapping::create(ref))),
          exported(must(host.adapter().export_memory(ref, Access::read_write))) {}
    MemoryRef ref;
    Mapping bytes;
    ntb::Export exported;
};

// Who uses a device on HOST directly, with some memory: an application unless ENABLE is false. The device's
// methods, waited for.
class Application {
  public:
    Application(Host& host, Host& lender, uint64_t loan, uint64_t epoch, bool shared, bool enable = true)
        : memory(host), host_(host), setup_{&host.thread.loop(),
                                            &host.adapter(),
                                            &host.channel(),
                                            lender.partition(),
                                            {test_fdid, loan, epoch},
                                            shared,
                                            enable,
                                            smartio::DirectDeviceOptions{.max_places = max_places}} {}
    ~Application() {
        host_.thread.run([&] { device.reset(); });
    }

    Result<> attach() {
        return await(host_.thread, [&](auto done) {
            device = must(smartio::DirectDevice::attach(setup_, {done, [this](const Error& why) {
                                                                     const std::lock_guard lock(mutex_);
                                                                     failure_ = why;
                                                                 }}));
        });
    }
    Result<> detach() {
        return wait<void>([&](auto done) { device->detach(done); });
    }
    // Calls START with a callback, on the host's thread, and waits for it.
    template <class T>
    Result<T> wait(const std::function<void(std::function<void(Result<T>)>)>& start) {
        const auto answer = std::make_shared<std::promise<Result<T>>>();
        host_.thread.run(
            [&] { start([answer](Result<T> result) { answer->set_value(std::move(result)); }); });
        return answer->get_future().get();
    }
    Result<Body> read(unsigned bar, uint64_t offset, size_t size) {
        return wait<Body>([&](auto done) { device->read(bar, offset, size, done); });
    }
    template <class T>
    Result<> write(unsigned bar, uint64_t offset, T value) {
        return wait<void>(
            [&](auto done) { device->write(bar, offset, std::as_bytes(std::span(&value, 1)), done); });
    }
    Result<Iova> place(ntb::Partition partition, BusAddress address, uint64_t size,
                       Access access = Access::read_write) {
        return wait<Iova>([&](auto done) { device->place(partition, address, size, access, done); });
    }
    Result<Iova> place(const ntb::Target& target) {
        return place(target.partition, target.address, target.size_bytes);
    }
    Result<Iova> place_memory() { return place(host_.partition(), memory.exported.address(), ram_bytes); }
    Result<> unmap(Iova iova) {
        return wait<void>([&](auto done) { device->unmap(iova, done); });
    }
    Result<> create_segment(uint32_t id, uint64_t size, smartio::SegmentScope scope) {
        return wait<void>([&](auto done) { device->create_segment(id, size, scope, done); });
    }
    Result<ntb::Target> connect_segment(uint32_t id, smartio::SegmentScope scope) {
        return wait<ntb::Target>([&](auto done) { device->connect_segment(id, scope, done); });
    }
    Result<> remove_segment(uint32_t id, smartio::SegmentScope scope) {
        return wait<void>([&](auto done) { device->remove_segment(id, scope, done); });
    }
    Result<> map(Iova iova, BusAddress address, uint64_t size, Access access = Access::read_write) {
        return wait<void>(
            [&](auto done) { device->map(*Range<Iova>::create(iova, size), address, access, done); });
    }
    // Exactly these are there, from vector 0 on.
    Result<> set_interrupts(const std::vector<UniqueFd>& eventfds) {
        auto copies = std::make_shared<std::vector<UniqueFd>>();
        for (const auto& eventfd : eventfds)
            copies->push_back(eventfd ? must(eventfd.duplicate()) : UniqueFd());
        return wait<void>([&](auto done) { device->set_interrupts(std::move(*copies), done); });
    }
    Result<> set_command(uint16_t command) {
        return wait<void>([&](auto done) { device->set_command(command, done); });
    }
    Result<> set_power_state(unsigned state) {
        return wait<void>([&](auto done) { device->set_power_state(state, done); });
    }
    Result<Body> reset() {
        return wait<Body>([&](auto done) { device->reset(done); });
    }
    Result<> set_interrupt(uint32_t vector, UniqueFd eventfd) {
        const auto fd = std::make_shared<UniqueFd>(std::move(eventfd));
        return wait<void>([&](auto done) { device->set_interrupt(vector, std::move(*fd), done); });
    }

    uint32_t counter(uint64_t reg) {
        uint32_t value;
        std::memcpy(&value, must(read(0, reg, 4)).data(), 4);
        return value;
    }
    void set_registers(Iova from, Iova to, uint32_t size) {
        must(write(0, copy_engine::source, from.value));
        must(write(0, copy_engine::destination, to.value));
        must(write(0, copy_engine::size, size));
    }
    void ring() {
        const auto mapped = must(Mapping::create(device->bars()[0].memory[0].memory));
        uint32_t rung;
        std::memcpy(&rung, mapped.data(), sizeof rung);
        ++rung;
        std::memcpy(mapped.data(), &rung, sizeof rung);
    }
    bool copy(Iova from, Iova to, uint32_t size) {
        set_registers(from, to, size);
        const uint32_t copies = counter(copy_engine::copies), failures = counter(copy_engine::failures);
        ring();
        eventually([&] {
            return counter(copy_engine::copies) != copies || counter(copy_engine::failures) != failures;
        });
        return counter(copy_engine::copies) != copies;
    }
    std::optional<Error> failure() {
        const std::lock_guard lock(mutex_);
        return failure_;
    }

    Memory memory;
    std::unique_ptr<smartio::DirectDevice> device;

  private:
    Host& host_;
    const smartio::DirectDeviceSetup setup_;
    std::mutex mutex_;
    std::optional<Error> failure_;
};

} // namespace lanepool::test
