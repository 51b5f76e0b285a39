// SPDX-License-Identifier: Apache-2.0
#include "smartio/borrower.h"

#include "smartio/borrowed_function.h"

#include <utility>

namespace lanepool::smartio {

class Borrower::Impl : public std::enable_shared_from_this<Impl> {
  public:
    Impl(BorrowerSetup setup, BorrowerEvents events)
        : setup_(std::move(setup)), events_(std::move(events)), errands_(*setup_.loop),
          link_(*setup_.channel, setup_.lender, setup_.key, setup_.options.request_timeout,
                [this](const Error& why) { broken(why); }) {}

    void attach();
    void detach(std::function<void(Result<>)> done);
    void lender_lost();
    bool has_client() const { return server_ && server_->has_client(); }
    BorrowerStats stats() const;
    const vfio_user::ServerStats* server_stats() const { return server_ ? &server_->stats() : nullptr; }

  private:
    void opened(Result<std::vector<std::byte>> answer);
    void windows_open(const Opened& opened, Result<std::shared_ptr<const RegisterWindows>> windows);
    Result<> serve(const Opened& opened, std::shared_ptr<const RegisterWindows> windows);
    void attached(Result<> result);
    void broken(const Error& why);
    void closed(Result<> result, std::function<void(Result<>)> done);
    void tell(std::function<void(const BorrowerEvents&)> event);

    const BorrowerSetup setup_;
    BorrowerEvents events_;
    io::EventLoop::Registration attach_deadline_;
    bool attaching_ = true;
    Errands errands_;
    LoanLink link_;
    std::unique_ptr<BorrowedFunction> function_;
    std::unique_ptr<vfio_user::Server> server_; // goes first: it calls the function
};

// Events are told from the loop, never from inside of the server or the channel: who is told may destroy us.
void Borrower::Impl::tell(std::function<void(const BorrowerEvents&)> event) {
    setup_.loop->post([weak = weak_from_this(), event = std::move(event)] {
        if (const auto self = weak.lock()) event(self->events_);
    });
}

void Borrower::Impl::attach() {
    attach_deadline_ = setup_.loop->after(setup_.options.attach_deadline, [this] {
        attached(fail(Errc::timeout, "the device could not be opened on its lender in time"));
    });
    link_.send_bare(LoanRequest::open, [this](auto answer) { opened(std::move(answer)); });
}

void Borrower::Impl::opened(Result<std::vector<std::byte>> answer) {
    if (!attaching_) return;
    auto decoded = answer.and_then([](const auto& body) { return decode_opened(body); });
    if (!decoded) return attached(tl::unexpected<Error>(decoded.error().within("opening the device")));
    const auto what = std::make_shared<const Opened>(std::move(*decoded));
    errands_.run([&adapter = *setup_.adapter, lender = setup_.lender,
                  what] { return RegisterWindows::open(adapter, lender, *what); },
                 [this, what](auto windows) { windows_open(*what, std::move(windows)); });
}

void Borrower::Impl::windows_open(const Opened& opened,
                                  Result<std::shared_ptr<const RegisterWindows>> windows) {
    if (!windows) return attached(tl::unexpected<Error>(windows.error().within("opening windows")));
    if (!attaching_) return errands_.dispose(std::move(*windows));
    attached(serve(opened, std::move(*windows)));
}

Result<> Borrower::Impl::serve(const Opened& opened, std::shared_ptr<const RegisterWindows> windows) {
    ShadowSource source{opened.config, {}, opened.vectors[0], opened.vectors[1], opened.vectors[2]};
    for (size_t i = 0; i < pci::bar_count; ++i)
        source.bar_bytes[i] = opened.bars[i].size_bytes;
    auto shadow = TRY(ConfigShadow::create(source));
    function_ = std::make_unique<BorrowedFunction>(
        errands_, *setup_.adapter, setup_.lender, link_, opened, std::move(shadow), std::move(windows),
        setup_.options.max_memory_maps,
        BorrowedFunction::Events{[this](bool connected) {
                                     tell([connected](auto& events) {
                                         if (events.client_changed) events.client_changed(connected);
                                     });
                                 },
                                 [this] {
                                     tell([](auto& events) {
                                         if (events.driver_ready) events.driver_ready();
                                     });
                                 }});
    vfio_user::ServerOptions options;
    options.reply_timeout = setup_.options.client_timeout;
    options.fresh_memory_on_reset = !opened.memory_survives_reset;
    server_ = TRY(vfio_user::Server::create(*setup_.loop, setup_.socket, *function_, options));
    return {};
}

void Borrower::Impl::attached(Result<> result) {
    if (!std::exchange(attaching_, false)) return;
    attach_deadline_.reset();
    tell([result = std::move(result)](auto& events) {
        if (events.attached) events.attached(result);
    });
}

void Borrower::Impl::broken(const Error& why) {
    if (attaching_) return; // `attached` says it
    tell([why](auto& events) {
        if (events.failed) events.failed(why);
    });
}

void Borrower::Impl::lender_lost() {
    const Error why(Errc::disconnected,
                    fmt::format("the lender (partition {}) is gone", setup_.lender.value));
    link_.break_with(why);
    attached(tl::unexpected(why));
}

void Borrower::Impl::detach(std::function<void(Result<>)> done) {
    events_ = {};
    attaching_ = false;
    attach_deadline_.reset();
    server_.reset();
    if (!function_) return errands_.flush([done = std::move(done)] { done({}); });
    function_->close([this, done = std::move(done)](Result<> result) { closed(std::move(result), done); });
}

void Borrower::Impl::closed(Result<> result, std::function<void(Result<>)> done) {
    errands_.dispose(function_->take_windows());
    errands_.flush([result = std::move(result), done = std::move(done)] { done(result); });
}

BorrowerStats Borrower::Impl::stats() const {
    BorrowerStats stats;
    stats.requests = link_.sent();
    if (function_) function_->fill(stats);
    return stats;
}

Result<std::unique_ptr<Borrower>> Borrower::attach(BorrowerSetup setup, BorrowerEvents events) {
    if (!setup.loop || !setup.adapter || !setup.channel)
        return fail(Errc::invalid_argument, "a borrower needs a loop, an adapter and a channel");
    if (setup.options.request_timeout >= setup.options.client_timeout)
        return fail(Errc::invalid_argument, "the lender's time for a request must be below the client's");
    auto impl = std::make_shared<Impl>(std::move(setup), std::move(events));
    impl->attach();
    return std::unique_ptr<Borrower>(new Borrower(std::move(impl)));
}

Borrower::~Borrower() = default;
void Borrower::detach(std::function<void(Result<>)> done) { impl_->detach(std::move(done)); }
void Borrower::lender_lost() { impl_->lender_lost(); }
bool Borrower::has_client() const { return impl_->has_client(); }
BorrowerStats Borrower::stats() const { return impl_->stats(); }
const vfio_user::ServerStats* Borrower::server_stats() const { return impl_->server_stats(); }

} // namespace lanepool::smartio
