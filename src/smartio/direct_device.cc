// SPDX-License-Identifier: Apache-2.0
#include "smartio/direct_device.h"

#include "pci/config_space.h"
#include "smartio/client_irqs.h"
#include "smartio/config_shadow.h"
#include "smartio/device_config.h"
#include "smartio/errands.h"
#include "smartio/loan_link.h"
#include "smartio/register_windows.h"

#include <map>
#include <utility>

namespace lanepool::smartio {

namespace {

using Body = std::vector<std::byte>;

constexpr size_t max_access_bytes = 4096;
// Interrupts are messages; the line would be other devices' as well.
constexpr uint16_t enabled =
    pci::command::memory_space | pci::command::bus_master | pci::command::interrupt_disable;

// The lender's kernel looks at each page of a card's window that its device is to reach: at those of 1 GiB
// for 0.4 to 3 s in an emulated machine.
io::Duration time_to_map(uint64_t size_bytes) { return std::chrono::microseconds(size_bytes / 4096 * 2); }

auto without_body(DirectDevice::Done done) {
    return [done = std::move(done)](Result<Body> answer) { done(answer.map([](auto&&) {})); };
}

} // namespace

class DirectDevice::Impl : public std::enable_shared_from_this<Impl> {
  public:
    Impl(DirectDeviceSetup setup, DirectDeviceEvents events)
        : setup_(std::move(setup)), events_(std::move(events)), errands_(*setup_.loop),
          link_(*setup_.channel, setup_.lender, setup_.key, setup_.options.request_timeout,
                [this](const Error& why) { broken(why); }),
          irqs_(errands_, *setup_.adapter, link_) {}

    void attach();
    void detach(Done done);
    void lender_lost();
    bool attached() const { return attached_; }
    const std::array<DirectBar, pci::bar_count>& bars() const { return bars_; }
    std::span<const std::byte> config() const { return opened_.config; }
    uint32_t interrupts() const;
    bool interrupts_by_msix() const { return vectors(pci::Irq::msix) != 0; }
    bool msix_table_apart() const { return opened_.msix_table_apart; }
    void read(unsigned bar, uint64_t offset_bytes, size_t size_bytes, Got<Body> done);
    void write(unsigned bar, uint64_t offset_bytes, std::span<const std::byte> data, Done done);
    void place(ntb::Partition partition, BusAddress address, uint64_t size_bytes, Access access,
               Got<Iova> done);
    void map(Range<Iova> range, BusAddress address, Access access, Done done);
    void unmap(Iova iova, Done done);
    void create_segment(uint32_t id, uint64_t size_bytes, SegmentScope scope, Done done);
    void connect_segment(uint32_t id, SegmentScope scope, Got<ntb::Target> done);
    void remove_segment(uint32_t id, SegmentScope scope, Done done);
    void set_interrupt(uint32_t vector, UniqueFd eventfd, Done done);
    void set_interrupts(std::vector<UniqueFd> eventfds, Done done);
    void write_config(size_t offset_bytes, uint16_t value, Done done);
    void set_power_state(unsigned state, Done done);
    void reset(Got<Body> done);

  private:
    void opened(Result<Body> answer);
    void windows_open(Result<std::shared_ptr<const RegisterWindows>> windows);
    void finish_attach(Result<> result);
    void broken(const Error& why);
    void tell(std::function<void(const DirectDeviceEvents&)> event);
    Result<> check_access(unsigned bar, uint64_t offset_bytes, size_t size_bytes) const;
    Result<> check_room() const;
    Result<> remember(Range<Iova> range);
    Result<Iova> placed(uint64_t size_bytes, Result<Body> answer);
    uint32_t vectors(pci::Irq index) const { return opened_.vectors[static_cast<size_t>(index)]; }
    pci::Irq interrupt_index() const { return interrupts_by_msix() ? pci::Irq::msix : pci::Irq::msi; }
    Result<> check_vectors(uint64_t end) const;
    Result<Body> after_reset(Result<Body> answer) const;

    const DirectDeviceSetup setup_;
    DirectDeviceEvents events_;
    io::EventLoop::Registration attach_deadline_;
    bool attaching_ = true;
    bool attached_ = false;
    Opened opened_;
    std::array<DirectBar, pci::bar_count> bars_;
    std::shared_ptr<const RegisterWindows> windows_;
    std::map<Iova, Range<Iova>> places_; // by start
    Errands errands_;
    LoanLink link_;
    ClientIrqs irqs_;
};

// From the loop, never from inside of the channel: who is told may destroy us.
void DirectDevice::Impl::tell(std::function<void(const DirectDeviceEvents&)> event) {
    setup_.loop->post([weak = weak_from_this(), event = std::move(event)] {
        if (const auto self = weak.lock()) event(self->events_);
    });
}

// ---- Attaching

void DirectDevice::Impl::attach() {
    attach_deadline_ = setup_.loop->after(setup_.options.attach_deadline, [this] {
        finish_attach(fail(Errc::timeout, "the device could not be opened on its lender in time"));
    });
    link_.send_bare(LoanRequest::open, [this](auto answer) { opened(std::move(answer)); });
}

void DirectDevice::Impl::opened(Result<Body> answer) {
    if (!attaching_) return;
    auto decoded = answer.and_then([](const auto& body) { return decode_opened(body); });
    if (!decoded) return finish_attach(tl::unexpected<Error>(decoded.error().within("opening the device")));
    opened_ = std::move(*decoded);
    errands_.run([&adapter = *setup_.adapter, lender = setup_.lender,
                  what = opened_] { return RegisterWindows::open(adapter, lender, what); },
                 [this](auto windows) { windows_open(std::move(windows)); });
}

void DirectDevice::Impl::windows_open(Result<std::shared_ptr<const RegisterWindows>> windows) {
    if (!windows) return finish_attach(tl::unexpected<Error>(windows.error().within("opening windows")));
    if (!attaching_) return errands_.dispose(std::move(*windows));
    windows_ = std::move(*windows);
    for (size_t i = 0; i < bars_.size(); ++i) {
        const auto& bar = opened_.bars[i];
        if (bar.size_bytes == 0) continue;
        const auto region = static_cast<pci::Region>(i);
        bars_[i] = {bar.size_bytes,
                    bar.readable,
                    bar.writable,
                    windows_->memory(region, 0, bar.size_bytes),
                    windows_->card_memory(region),
                    ntb::Target{setup_.lender, bar.address, bar.size_bytes}};
    }
    if (!setup_.enable) return finish_attach({});
    write_config(pci::config::command, enabled, [this](Result<> done) {
        if (!done) return finish_attach(tl::unexpected<Error>(done.error().within("turning the device on")));
        finish_attach({});
    });
}

void DirectDevice::Impl::finish_attach(Result<> result) {
    if (!std::exchange(attaching_, false)) return;
    attach_deadline_.reset();
    attached_ = result.has_value();
    tell([result = std::move(result)](auto& events) {
        if (events.attached) events.attached(result);
    });
}

void DirectDevice::Impl::broken(const Error& why) {
    if (!attached_) return; // `attached` says it
    tell([why](auto& events) {
        if (events.failed) events.failed(why);
    });
}

void DirectDevice::Impl::lender_lost() {
    const Error why(Errc::disconnected,
                    fmt::format("the lender (partition {}) is gone", setup_.lender.value));
    link_.break_with(why);
    finish_attach(tl::unexpected(why));
}

// Windows and exports go when the lender has closed its ends, or is given up.
void DirectDevice::Impl::detach(Done done) {
    events_ = {};
    attaching_ = false;
    attach_deadline_.reset();
    if (!windows_) return errands_.flush([done = std::move(done)] { done({}); });
    auto exports = std::make_shared<std::vector<ntb::Export>>(irqs_.forget());
    link_.send_bare(LoanRequest::close, [this, exports, done = std::move(done)](Result<Body> answer) {
        errands_.dispose(std::move(*exports));
        bars_ = {};
        errands_.dispose(std::exchange(windows_, nullptr));
        errands_.flush([done, result = answer.map([](auto&&) {})] { done(result); });
    });
}

// ---- Registers

Result<> DirectDevice::Impl::check_access(unsigned bar, uint64_t offset_bytes, size_t size_bytes) const {
    if (link_.broken()) return tl::unexpected<Error>(*link_.broken());
    if (!attached_ || !windows_) return fail(Errc::failed_precondition, "the device is not attached");
    if (bar >= bars_.size() || offset_bytes > bars_[bar].size_bytes ||
        size_bytes > bars_[bar].size_bytes - offset_bytes || size_bytes == 0 || size_bytes > max_access_bytes)
        return fail(Errc::out_of_range,
                    "an access of {} bytes at {:#x} of BAR {}: it lies outside, or is none of 1 to {} "
                    "bytes",
                    size_bytes, offset_bytes, bar, max_access_bytes);
    if (errands_.waiting() >= setup_.options.max_waiting_accesses)
        return fail(Errc::busy, "{} accesses wait for the adapter already",
                    setup_.options.max_waiting_accesses);
    return {};
}

void DirectDevice::Impl::read(unsigned bar, uint64_t offset_bytes, size_t size_bytes, Got<Body> done) {
    if (auto allowed = check_access(bar, offset_bytes, size_bytes); !allowed)
        return done(tl::unexpected<Error>(allowed.error()));
    errands_.run(
        [windows = windows_, bar, offset_bytes, size_bytes]() -> Result<Body> {
            Body data(size_bytes);
            TRY(windows->read(static_cast<pci::Region>(bar), offset_bytes, data));
            return data;
        },
        std::move(done));
}

void DirectDevice::Impl::write(unsigned bar, uint64_t offset_bytes, std::span<const std::byte> data,
                               Done done) {
    if (auto allowed = check_access(bar, offset_bytes, data.size()); !allowed) return done(allowed);
    errands_.run(
        [windows = windows_, bar, offset_bytes, bytes = Body(data.begin(), data.end())] {
            return windows->write(static_cast<pci::Region>(bar), offset_bytes, bytes);
        },
        std::move(done));
}

// ---- Memory

void DirectDevice::Impl::place(ntb::Partition partition, BusAddress address, uint64_t size_bytes,
                               Access access, Got<Iova> done) {
    if (const auto range = Range<BusAddress>::create(address, size_bytes); !range)
        return done(tl::unexpected<Error>(range.error()));
    if (auto room = check_room(); !room) return done(tl::unexpected<Error>(room.error()));
    link_.send(LoanRequest::place, encode(PlaceRequest{setup_.key, partition, address, size_bytes, access}),
               [this, size_bytes, done = std::move(done)](Result<Body> answer) {
                   done(placed(size_bytes, std::move(answer)));
               });
}

Result<> DirectDevice::Impl::check_room() const {
    if (places_.size() < setup_.options.max_places) return {};
    return fail(Errc::no_space, "the device reaches {} places already", places_.size());
}

Result<> DirectDevice::Impl::remember(Range<Iova> range) {
    const auto next = places_.upper_bound(range.last());
    if (next != places_.begin() && std::prev(next)->second.overlaps(range))
        return fail(Errc::protocol, "the lender has placed two things at {:#x}", range.start().value);
    places_.emplace(range.start(), range);
    return {};
}

Result<Iova> DirectDevice::Impl::placed(uint64_t size_bytes, Result<Body> answer) {
    const auto iova = TRY(decode_placed(TRY(std::move(answer)))).iova;
    const auto range = TRY(Range<Iova>::create(iova, size_bytes));
    TRY(remember(range));
    return iova;
}

void DirectDevice::Impl::map(Range<Iova> range, BusAddress address, Access access, Done done) {
    if (const auto exported = Range<BusAddress>::create(address, range.size_bytes()); !exported)
        return done(tl::unexpected<Error>(exported.error()));
    if (auto room = check_room(); !room) return done(room);
    link_.send(
        LoanRequest::map, encode(MapRequest{setup_.key, range, address, access}),
        [this, range, done = std::move(done)](Result<Body> answer) {
            done(answer.and_then([&](const auto&) { return remember(range); }));
        },
        time_to_map(range.size_bytes()));
}

void DirectDevice::Impl::unmap(Iova iova, Done done) {
    const auto found = places_.find(iova);
    if (found == places_.end())
        return done(fail(Errc::not_found, "nothing was placed for the device at {:#x}", iova.value));
    link_.send(LoanRequest::unmap, encode(UnmapRequest{setup_.key, found->second}),
               [this, iova, done = std::move(done)](Result<Body> answer) {
                   if (answer) places_.erase(iova);
                   done(answer.map([](auto&&) {}));
               });
}

void DirectDevice::Impl::create_segment(uint32_t id, uint64_t size_bytes, SegmentScope scope, Done done) {
    if (size_bytes == 0) return done(fail(Errc::invalid_argument, "a device segment of no size"));
    link_.send(LoanRequest::create_segment, encode(CreateSegmentRequest{setup_.key, id, scope, size_bytes}),
               without_body(std::move(done)));
}

void DirectDevice::Impl::connect_segment(uint32_t id, SegmentScope scope, Got<ntb::Target> done) {
    link_.send(LoanRequest::connect_segment, encode(SegmentRequest{setup_.key, id, scope}),
               [lender = setup_.lender, done = std::move(done)](Result<Body> answer) {
                   const auto segment =
                       answer.and_then([](const auto& body) { return decode_connected_segment(body); });
                   if (!segment) return done(tl::unexpected<Error>(segment.error()));
                   done(ntb::Target{lender, segment->address, segment->size_bytes});
               });
}

void DirectDevice::Impl::remove_segment(uint32_t id, SegmentScope scope, Done done) {
    link_.send(LoanRequest::remove_segment, encode(SegmentRequest{setup_.key, id, scope}),
               without_body(std::move(done)));
}

// ---- Interrupts

uint32_t DirectDevice::Impl::interrupts() const { return setup_.shared ? 0 : vectors(interrupt_index()); }

Result<> DirectDevice::Impl::check_vectors(uint64_t end) const {
    if (interrupts() == 0)
        return fail(Errc::not_supported, "{}",
                    setup_.shared ? "a loan that shares its device has no interrupts"
                                  : "the device has neither MSI nor MSI-X");
    if (end > interrupts())
        return fail(Errc::out_of_range, "vector {} of a device that has {}", end - 1, interrupts());
    return {};
}

void DirectDevice::Impl::set_interrupt(uint32_t vector, UniqueFd eventfd, Done done) {
    if (auto allowed = check_vectors(uint64_t{vector} + 1); !allowed) return done(allowed);
    std::vector<UniqueFd> eventfds;
    eventfds.push_back(std::move(eventfd));
    irqs_.set(interrupt_index(), vector, std::move(eventfds), std::move(done));
}

void DirectDevice::Impl::set_interrupts(std::vector<UniqueFd> eventfds, Done done) {
    if (auto allowed = check_vectors(eventfds.size()); !allowed) return done(allowed);
    irqs_.replace(interrupt_index(), std::move(eventfds), std::move(done));
}

// ---- What drivers ask of its config space

void DirectDevice::Impl::write_config(size_t offset_bytes, uint16_t value, Done done) {
    link_.send(LoanRequest::config_write,
               encode(ConfigWriteRequest{setup_.key, static_cast<uint16_t>(offset_bytes), value}),
               without_body(std::move(done)));
}

void DirectDevice::Impl::set_power_state(unsigned state, Done done) {
    const size_t control = power_control_offset(opened_.config);
    if (control == 0) return done(fail(Errc::not_supported, "the device has no power management"));
    if (state != power_d0 && state != power_d3hot)
        return done(fail(Errc::not_supported, "power state D{}: a lent device has D0 and D3hot", state));
    write_config(control, static_cast<uint16_t>(state), std::move(done));
}

void DirectDevice::Impl::reset(Got<Body> done) {
    if (!opened_.memory_survives_reset)
        return done(fail(Errc::not_supported,
                         "a reset leaves other memory behind this device's registers: return it instead"));
    link_.send_bare(LoanRequest::reset, [this, done = std::move(done)](Result<Body> answer) {
        done(after_reset(std::move(answer)));
    });
}

// What was handed out leads to where the registers were.
Result<Body> DirectDevice::Impl::after_reset(Result<Body> answer) const {
    auto opened = TRY(decode_opened(TRY(std::move(answer))));
    if (!opened.memory_survives_reset || opened.bars != opened_.bars || opened.vectors != opened_.vectors ||
        opened.msix_table_apart != opened_.msix_table_apart)
        return fail(Errc::not_supported, "after its reset the device is not where it was: return it");
    return std::move(opened.config);
}

// ---- The device

Result<std::unique_ptr<DirectDevice>> DirectDevice::attach(DirectDeviceSetup setup,
                                                           DirectDeviceEvents events) {
    if (!setup.loop || !setup.adapter || !setup.channel)
        return fail(Errc::invalid_argument, "a direct device needs a loop, an adapter and a channel");
    auto impl = std::make_shared<Impl>(std::move(setup), std::move(events));
    impl->attach();
    return std::unique_ptr<DirectDevice>(new DirectDevice(std::move(impl)));
}

DirectDevice::~DirectDevice() = default;
void DirectDevice::detach(Done done) { impl_->detach(std::move(done)); }
void DirectDevice::lender_lost() { impl_->lender_lost(); }
bool DirectDevice::attached() const { return impl_->attached(); }
const std::array<DirectBar, pci::bar_count>& DirectDevice::bars() const { return impl_->bars(); }
std::span<const std::byte> DirectDevice::config() const { return impl_->config(); }
uint32_t DirectDevice::interrupts() const { return impl_->interrupts(); }
bool DirectDevice::interrupts_by_msix() const { return impl_->interrupts_by_msix(); }
bool DirectDevice::msix_table_apart() const { return impl_->msix_table_apart(); }
void DirectDevice::read(unsigned bar, uint64_t offset_bytes, size_t size_bytes,
                        Got<std::vector<std::byte>> done) {
    impl_->read(bar, offset_bytes, size_bytes, std::move(done));
}
void DirectDevice::write(unsigned bar, uint64_t offset_bytes, std::span<const std::byte> data, Done done) {
    impl_->write(bar, offset_bytes, data, std::move(done));
}
void DirectDevice::place(ntb::Partition partition, BusAddress address, uint64_t size_bytes, Access access,
                         Got<Iova> done) {
    impl_->place(partition, address, size_bytes, access, std::move(done));
}
void DirectDevice::map(Range<Iova> range, BusAddress address, Access access, Done done) {
    impl_->map(range, address, access, std::move(done));
}
void DirectDevice::unmap(Iova iova, Done done) { impl_->unmap(iova, std::move(done)); }
void DirectDevice::create_segment(uint32_t id, uint64_t size_bytes, SegmentScope scope, Done done) {
    impl_->create_segment(id, size_bytes, scope, std::move(done));
}
void DirectDevice::connect_segment(uint32_t id, SegmentScope scope, Got<ntb::Target> done) {
    impl_->connect_segment(id, scope, std::move(done));
}
void DirectDevice::remove_segment(uint32_t id, SegmentScope scope, Done done) {
    impl_->remove_segment(id, scope, std::move(done));
}
void DirectDevice::set_interrupt(uint32_t vector, UniqueFd eventfd, Done done) {
    impl_->set_interrupt(vector, std::move(eventfd), std::move(done));
}
void DirectDevice::set_interrupts(std::vector<UniqueFd> eventfds, Done done) {
    impl_->set_interrupts(std::move(eventfds), std::move(done));
}
void DirectDevice::set_command(uint16_t command, Done done) {
    impl_->write_config(pci::config::command, command & ConfigShadow::forwarded_command_bits,
                        std::move(done));
}
void DirectDevice::set_power_state(unsigned state, Done done) {
    impl_->set_power_state(state, std::move(done));
}
void DirectDevice::reset(Got<std::vector<std::byte>> done) { impl_->reset(std::move(done)); }

} // namespace lanepool::smartio
