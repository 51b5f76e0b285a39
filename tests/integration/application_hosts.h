// SPDX-License-Identifier: Apache-2.0
//
// Hosts of a fabric in this process, each with what its applications connect to; and a controller for them
// that lends one device to whoever asks.
#pragma once

#include "application/segment_protocol.h"
#include "application/server.h"
#include "integration/lending_hosts.h"
#include "integration/raw_session.h"
#include "smartio/worker.h"

namespace lanepool::test {

class ApplicationHost {
  public:
    ApplicationHost(Fabric& fabric, const TemporaryFolder& folder, unsigned port,
                    application::Controller* controller = nullptr)
        : host(fabric, port), port_(port), socket_(folder / ("application" + std::to_string(port))) {
        application::ServerOptions options;
        options.socket = socket_;
        options.host = "host" + std::to_string(port);
        options.controller = controller;
        options.look_interval = std::chrono::milliseconds(20);
        options.broken = [this](const smartio::LoanKey& key, const std::string&) {
            broken_loans.push_back(key.loan);
        };
        host.thread.run([&] {
            server_ = must(application::Server::create(host.thread.loop(), options));
            join();
        });
    }
    ~ApplicationHost() {
        die();
        host.thread.run([&] { server_.reset(); });
    }
    // The agent leaves the fabric without a word to anybody.
    void die() {
        host.thread.run([&] {
            host.peer_changed = nullptr;
            host.applications = nullptr;
            server_->fabric_down();
        });
        host.die();
    }
    // ... and takes its place again.
    void start() {
        host.live();
        host.thread.run([&] { join(); });
    }

    RawSession session() {
        RawSession session(socket_);
        EXPECT_TRUE(session.hello().ok());
        return session;
    }
    const std::filesystem::path& socket() const { return socket_; }
    uint64_t node() const { return port_; }
    bool sees(const ApplicationHost& other) { return host.sees(other.host); }
    Json counts() {
        return host.thread.run([&] { return server_->counts(); });
    }
    application::Server& server() { return *server_; } // on the loop's thread

    Host host;
    std::vector<uint64_t> broken_loans; // that the controller was told of; on the loop's thread

  private:
    void join() {
        server_->fabric_up(host.adapter(), host.channel());
        host.applications = [this](auto from, auto kind, auto body, auto reply) {
            server_->serve(from, kind, std::move(body), std::move(reply));
        };
        host.peer_changed = [this](auto peer, bool alive) { server_->peer_changed(peer, alive); };
    }

    const unsigned port_;
    const std::filesystem::path socket_;
    std::unique_ptr<application::Server> server_;
};

// Lends one device, as the controller would, to whoever asks: it is asked by BORROWERS' servers.
class OneDevice final : public application::Controller {
  public:
    OneDevice(Lending& lending, Host& lender) : lending_(lending), lender_(lender) {}
    ~OneDevice() override { stop(); }
    void stop() { worker_.reset(); } // before the hosts

    // Whose controller it is; of several hosts one after the other.
    ApplicationHost* borrower = nullptr;
    bool silent = false;   // it lends, but does not say so
    std::vector<Due> dues; // on the borrower's loop's thread

    void list(std::function<void(Result<std::vector<application::PoolDevice>>)> done) override {
        answer([done] {
            application::PoolDevice device;
            device.fdid = test_fdid;
            device.name = "host0/engine";
            device.class_code = 0x088000;
            done(std::vector{device});
        });
    }
    void borrow(const Wish& wish, std::function<void(uint64_t)> begun,
                std::function<void(Result<Loan>)> done) override {
        worker_->post([=, this, to = borrower] {
            const uint64_t loan = ++last_loan_;
            if (loans_.empty()) ++epoch_;
            const auto prepared = lending_.prepare(loan, epoch_, to->host, wish.shared);
            if (!prepared) return answer([=] { done(tl::unexpected(prepared.error())); });
            loans_[loan] = to;
            const application::AttachOrder order{
                {test_fdid, loan, epoch_}, lender_.partition(), wish.shared, std::chrono::seconds(5)};
            to->host.thread.run([&] { // the step comes before the answer
                to->server().attach(order, [=, this](const Result<>& attached) {
                    if (!attached) return done(tl::unexpected(attached.error()));
                    if (!silent) done(Loan{loan, 1234});
                });
                begun(loan);
            });
        });
    }
    void due(std::function<void(Result<std::vector<Due>>)> done) override {
        answer([this, done] { done(dues); });
    }
    void give_back(uint64_t loan, const std::string&, std::function<void(Result<>)> done) override {
        worker_->post([=, this] {
            const auto result = end(loan);
            answer([=] { done(result); });
        });
    }
    // The controller's own: reclaims a loan, or ends one that its borrower has reported as lost.
    Result<> end(uint64_t loan, bool cut_first = false) {
        if (!loans_.contains(loan)) return fail(Errc::not_found, "no loan {}", loan);
        ApplicationHost* from = loans_.at(loan);
        loans_.erase(loan);
        if (cut_first) TRY(close(loan));
        TRY(await(from->host.thread, [&](auto detached) { from->server().detach(loan, detached); }));
        return cut_first ? Result<>() : close(loan);
    }

  private:
    Result<> close(uint64_t loan) {
        if (!loans_.empty()) return lending_.expel(loan, epoch_);
        TRY(lending_.cut(++epoch_));
        return lending_.reset();
    }
    void answer(std::function<void()> work) { borrower->host.thread.loop().post(std::move(work)); }

    Lending& lending_;
    Host& lender_;
    uint64_t last_loan_ = 0;
    uint64_t epoch_ = 0;
    std::map<uint64_t, ApplicationHost*> loans_; // by whom
    std::unique_ptr<smartio::Worker> worker_ = std::make_unique<smartio::Worker>();
};

} // namespace lanepool::test
