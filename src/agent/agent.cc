// SPDX-License-Identifier: Apache-2.0
#include "agent/agent.h"

#include "api/convert.h"
#include "application/segment_protocol.h"
#include "smartio/loan_protocol.h"

#include <algorithm>
#include <fstream>
#include <random>
#include <set>
#include <spdlog/spdlog.h>

namespace lanepool::agent {

using namespace std::chrono_literals;

namespace {

constexpr auto heartbeat_interval = 250ms;
// A device whose function hangs does not keep its host away for ever. Below the time for which the controller
// keeps loans for a host that is away.
constexpr auto complete_limit = 5s;
constexpr auto look_interval = 20ms;
std::string random_instance() {
    std::random_device random;
    return fmt::format("{:08x}{:08x}", random(), random());
}

} // namespace

Result<std::unique_ptr<Agent>> Agent::create(io::EventLoop& loop, const AgentOptions& options,
                                             FunctionSources& sources) {
    std::error_code error;
    std::filesystem::create_directories(options.state, error);
    if (error)
        return fail(Errc::io, "cannot make the state folder {}: {}", options.state.string(), error.message());
    auto records = TRY(DeviceRecords::open(options.state / "devices.json"));
    auto agent = std::unique_ptr<Agent>(new Agent(loop, options, sources, std::move(records)));
    agent->admin_ = TRY(agent->serve_admin());
    if (!options.application.empty()) TRY(agent->serve_applications());
    TRY(agent->start());
    return agent;
}

Agent::Agent(io::EventLoop& loop, const AgentOptions& options, FunctionSources& sources,
             DeviceRecords records)
    : loop_(loop), options_(options), instance_(random_instance()), sources_(sources),
      records_(std::move(records)),
      qualifications_(options.state / "qualifications", Qualifications::running_kernel()),
      background_(std::make_shared<Background>(loop)) {}

Agent::~Agent() {
    *alive_ = false;
    applications_.reset();
    calls_.reset();
    borrowed_.clear();
    leftovers_.clear();
    devices_.clear();
    fabric_.reset();
    control_.reset(); // last: the steps that end here are answered
}

Result<> Agent::start() {
    for (const auto& option : options_.guests) {
        const auto& guest = guests_[option.name] = std::make_unique<Guest>(option.name, option.monitor);
        guest->remove_leftovers();
    }
    for (const auto& option : options_.devices) {
        auto source = TRY(sources_.device(option.place));
        for (const auto& [name, device] : devices_)
            if (name == option.name || device->place() == source->place())
                return fail(Errc::invalid_argument, "device {} is named twice: {} and {}", option.name,
                            device->place(), option.place);
        add_device(option.name, "", std::move(source));
    }
    watch_iommu();
    FabricEvents fabric;
    fabric.up = [this] { fabric_up(); };
    fabric.down = [this] { fabric_down(); };
    fabric.peer_changed = [this](ntb::Partition peer, bool alive) { peer_changed(peer, alive); };
    fabric.request = [this](ntb::Partition from, uint16_t kind, std::vector<std::byte> body,
                            ntb::ChannelReply reply) {
        serve(from, kind, std::move(body), std::move(reply));
    };
    fabric_ = std::make_unique<FabricPort>(loop_, background_, TRY(sources_.adapter(options_.adapter)),
                                           std::move(fabric));
    own_kernel_ = sources_.own_kernel();
    look_for_bridge();

    ControlEvents control;
    control.connected = [this] {
        hellos_.clear();
        say_hello();
    };
    control.disconnected = [this] { welcomed_ = false; };
    control.message = [this](const v1::ControllerMessage& message) { handle(message); };
    control_ = std::make_unique<ControlStream>(loop_, options_.controllers, std::move(control));
    heartbeat_ = loop_.every(heartbeat_interval, [this] {
        look_for_bridge();
        v1::AgentMessage message;
        message.mutable_heartbeat()->set_windows_free(
            fabric_->is_up() ? fabric_->adapter().capacity().windows_free : 0);
        control_->send(std::move(message));
    });
    return {};
}

void Agent::add_device(const std::string& name, const std::string& parent,
                       std::shared_ptr<FunctionSource> source) {
    LentDeviceSetup setup;
    setup.loop = &loop_;
    setup.background = source->host() ? std::make_shared<Background>(loop_) : background_;
    setup.records = &records_;
    setup.qualifications = &qualifications_;
    setup.name = name;
    setup.parent = parent;
    setup.source = std::move(source);
    setup.events.changed = [this] { hello_soon(); };
    setup.events.loan_lost = [this](uint64_t loan, uint64_t epoch, const std::string& reason) {
        report_lost(loan, epoch, true, reason);
    };
    // An SR-IOV function has none of its own.
    setup.events.functions = [this, name, parent,
                              alive = alive_](const std::vector<pci::Address>& functions) {
        if (!parent.empty()) return;
        ++functions_to_add_;
        complete_until_ = loop_.clock().now() + complete_limit; // they and their number in one Hello
        loop_.post([=, this] {
            if (!*alive) return;
            --functions_to_add_;
            functions_are(name, functions);
        });
    };
    auto& device = devices_[name] = std::make_unique<LentDevice>(std::move(setup));
    if (fabric_ && fabric_->is_up()) device->set_adapter(&fabric_->adapter());
}

// ---- to the controller ----

void Agent::hello_soon() {
    pending_hello_ = loop_.after(0ms, [this] { say_hello(); });
}

// A device that is left out counts as pulled out, and an SR-IOV function as removed.
bool Agent::is_complete() const {
    return functions_to_add_ == 0 && std::all_of(devices_.begin(), devices_.end(), [](const auto& entry) {
               return entry.second->looked_for();
           });
}

void Agent::say_hello() {
    // Without the fabric this host can neither lend nor borrow: it is not there yet.
    if (!control_ || !control_->connected() || !fabric_ || !fabric_->is_up()) return;
    if (!is_complete() && loop_.clock().now() < complete_until_) {
        pending_hello_ = loop_.after(look_interval, [this] { say_hello(); });
        return;
    }
    v1::AgentMessage message;
    auto& hello = *message.mutable_hello();
    hello.set_host(options_.host);
    hello.set_partition(fabric_->adapter().partition().value);
    hello.set_instance(instance_);
    hello.set_version(LANEPOOL_VERSION);
    const auto capacity = fabric_->adapter().capacity();
    hello.set_windows(capacity.windows);
    hello.set_windows_free(capacity.windows_free);
    for (const auto& [name, guest] : guests_)
        hello.add_guests(name);
    for (const auto& mode : dma_modes_)
        hello.add_dma_modes(mode);
    auto& order = hellos_.emplace_back();
    for (const auto& [name, device] : devices_) {
        if (!device->identified()) continue;
        *hello.add_devices() = device->observed();
        order.push_back(name);
    }
    for (const auto& [loan, device] : borrowed_) {
        auto& observed = *hello.add_loans();
        observed.set_loan_id(loan);
        observed.set_fdid(device->key().fdid);
        observed.set_epoch(device->key().epoch);
        observed.set_attached(device->attached());
    }
    for (const auto& loan :
         applications_ ? applications_->loans() : std::vector<application::Devices::Loan>{}) {
        auto& observed = *hello.add_loans();
        observed.set_loan_id(loan.key.loan);
        observed.set_fdid(loan.key.fdid);
        observed.set_epoch(loan.key.epoch);
        observed.set_attached(loan.attached);
    }
    control_->send(std::move(message));
}

void Agent::report_lost(uint64_t loan_id, uint64_t epoch, bool as_lender, const std::string& reason) {
    spdlog::warn("loan {} is lost: {}", loan_id, reason);
    v1::AgentMessage message;
    auto& lost = *message.mutable_loan_lost();
    lost.set_loan_id(loan_id);
    lost.set_epoch(epoch);
    lost.set_as_lender(as_lender);
    lost.set_reason(reason);
    control_->send(std::move(message));
}

// ---- from the controller ----

void Agent::handle(const v1::ControllerMessage& message) {
    if (message.has_welcome()) {
        welcome(message.welcome());
    } else if (message.has_step()) {
        if (const auto order = api::from_message(message.step()))
            perform(*order);
        else
            spdlog::warn("a step was not taken: {}", order.error().message());
    }
}

void Agent::welcome(const v1::Welcome& message) {
    welcomed_ = true;
    if (hellos_.empty()) return;
    const auto order = std::move(hellos_.front());
    hellos_.pop_front();
    for (size_t i = 0; i < order.size() && i < static_cast<size_t>(message.fdids().size()); ++i)
        if (const auto device = devices_.find(order[i]); device != devices_.end())
            device->second->set_fdid(message.fdids()[static_cast<int>(i)]);
}

void Agent::perform(const pool::Order& order) {
    const pool::Step& step = order.step;
    if (!ledger_.begin(step)) return;
    const auto started = loop_.clock().now();
    auto done = [this, key = StepLedger::key_of(step), started](const Result<>& result) {
        v1::AgentMessage message;
        auto& answer = *message.mutable_step_done();
        answer.set_step_id(ledger_.finish(key).value);
        answer.set_loan_id(key.loan.value);
        answer.set_epoch(key.epoch.value);
        answer.set_kind(api::to_message(key.kind));
        answer.set_ok(result.has_value());
        if (!result) {
            answer.set_code(std::string(name(result.error().code())));
            answer.set_message(result.error().message());
        }
        if (result && key.kind == pool::StepKind::attach) add_attached(key.loan.value, answer);
        answer.set_duration_us(
            std::chrono::duration_cast<std::chrono::microseconds>(loop_.clock().now() - started).count());
        control_->send(std::move(message));
    };
    spdlog::info("{} for loan {}, epoch {}", pool::name(step.kind), step.loan, step.epoch);
    switch (step.kind) {
    case pool::StepKind::attach:
        return attach(order, std::move(done));
    case pool::StepKind::detach:
        return detach(order, std::move(done));
    default:
        break;
    }
    auto* device = lent_device(order);
    if (!device)
        return done(fail(Errc::not_found, "host {} has no device {} with fdid {}", options_.host,
                         order.device, step.fdid));
    if (step.kind == pool::StepKind::set_functions) return set_functions(*device, order, std::move(done));
    device->perform(order, std::move(done));
}

// ---- from the fabric ----

void Agent::fabric_up() {
    complete_until_ = loop_.clock().now() + complete_limit;
    for (const auto& [name, device] : devices_)
        device->set_adapter(&fabric_->adapter());
    if (applications_) applications_->fabric_up(fabric_->adapter(), fabric_->channel());
    hello_soon();
}

void Agent::fabric_down() {
    if (applications_) applications_->fabric_down();
    for (const auto& [name, device] : devices_)
        device->set_adapter(nullptr);
    give_up_borrowed();
    // What a guest still holds reads all-ones until it lets go.
    for (const auto& [name, guest] : guests_)
        guest->remove_leftovers();
}

void Agent::peer_changed(ntb::Partition peer, bool alive) {
    spdlog::info("the host at partition {} is {}", peer.value, alive ? "alive" : "silent");
    if (applications_) applications_->peer_changed(peer, alive);
    if (alive) return;
    for (const auto& [loan, device] : borrowed_)
        if (device->lender() == peer) device->lender_lost();
    for (const auto& [name, device] : devices_) {
        const auto status = device->lender_status();
        if (!status) continue;
        for (const auto& lent : status->loans)
            if (lent.borrower == peer)
                report_lost(lent.loan, status->key.epoch, true,
                            fmt::format("the borrower (partition {}) is silent on the fabric", peer.value));
    }
}

void Agent::serve(ntb::Partition from, uint16_t kind, std::vector<std::byte> body, ntb::ChannelReply reply) {
    if (kind >= application::first_segment_kind && kind <= application::last_segment_kind) {
        if (applications_) return applications_->serve(from, kind, std::move(body), std::move(reply));
        return reply(fail(Errc::not_supported, "host {} serves no applications", options_.host));
    }
    const auto key = smartio::decode_key(body);
    if (!key) return reply(tl::unexpected(key.error()));
    for (const auto& [name, device] : devices_)
        if (device->fdid() == key->fdid && key->fdid != 0)
            return device->serve(from, kind, std::move(body), std::move(reply));
    reply(fail(Errc::not_found, "host {} lends no device {:x}", options_.host, key->fdid));
}

LentDevice* Agent::lent_device(const pool::Order& order) {
    for (const auto& [name, device] : devices_)
        if (device->fdid() == order.step.fdid.value && (order.device.empty() || order.device == name))
            return device.get();
    return nullptr;
}

// ---- applications and administration ----

Result<> Agent::serve_applications() {
    calls_ = std::make_unique<ControllerCalls>(loop_, options_.controllers, options_.host);
    application::ServerOptions options;
    options.socket = options_.application;
    options.users = options_.application_users;
    options.host = options_.host;
    options.controller = calls_.get();
    options.broken = [this](const smartio::LoanKey& key, const std::string& reason) {
        report_lost(key.loan, key.epoch, false, reason);
    };
    applications_ = TRY(application::Server::create(loop_, options));
    return {};
}

Result<std::unique_ptr<admin::Server>> Agent::serve_admin() {
    auto server = TRY(admin::Server::create(loop_, options_.admin));
    server->add("status", [this](const admin::Json&) -> Result<admin::Json> { return status(); });
    server->add("stats", [this](const admin::Json&) -> Result<admin::Json> { return stats(); });
    // For who has stored a qualification: the controller is told what holds now.
    server->add("hello", [this](const admin::Json&) -> Result<admin::Json> {
        hello_soon();
        return admin::Json::object();
    });
    return server;
}

admin::Json Agent::status() const {
    bool ready = welcomed_ && fabric_->is_up();
    admin::Json devices = admin::Json::array();
    for (const auto& [name, device] : devices_) {
        const auto observed = device->observed();
        ready &= observed.answering();
        devices.push_back({{"name", name},
                           {"fdid", device->fdid()},
                           {"place", device->place()},
                           {"local", observed.local()},
                           {"answering", observed.answering()},
                           {"clean", observed.clean()},
                           {"epoch", observed.epoch()},
                           {"loan", observed.loan_id()},
                           {"problem", observed.problem()}});
    }
    return {{"host", options_.host},
            {"ready", ready},
            {"controller", control_->connected()},
            {"fabric", fabric_->is_up()},
            {"devices", devices},
            {"loans", borrowed_status()},
            {"leftovers", leftovers_status()},
            {"dma_modes", dma_modes_},
            {"applications", applications_ ? applications_->counts() : admin::Json()},
            {"steps_under_way", ledger_.under_way()}};
}

// What was handled by messages, and so by software, since each loan began.
admin::Json Agent::stats() const {
    admin::Json lent = admin::Json::array();
    for (const auto& [name, device] : devices_)
        if (const auto status = device->lender_status())
            lent.push_back({{"device", name},
                            {"state", std::string(smartio::name(status->state))},
                            {"requests", status->requests},
                            {"refused", status->refused},
                            {"memory_maps", status->memory_maps}});
    admin::Json borrowed = admin::Json::array();
    uint64_t messages = 0;
    for (const auto& [loan, device] : borrowed_) {
        auto stats = device->stats();
        if (stats.is_null()) continue;
        messages += stats.value("messages", uint64_t{0});
        stats["loan"] = loan;
        borrowed.push_back(std::move(stats));
    }
    return {{"messages", messages}, {"lent", lent}, {"borrowed", borrowed}};
}

} // namespace lanepool::agent
