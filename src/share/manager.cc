// SPDX-License-Identifier: Apache-2.0
#include "share/manager.h"

#include <algorithm>
#include <spdlog/spdlog.h>
#include <thread>

namespace lanepool::sharing {

namespace {
// A client that asks is there: to reach its memory takes no longer.
constexpr io::Duration connect_timeout = std::chrono::milliseconds(500);
// Queue pairs that the controller is asked for.
constexpr uint16_t most_queue_pairs = max_clients;

std::string who(const Sender& sender) {
    return sender.host.empty() ? fmt::format("{} of node {}", sender.user, sender.node)
                               : fmt::format("{} of host {}", sender.user, sender.host);
}
} // namespace

Manager::Manager(Fabric& fabric, BorrowedDrive& drive, const io::Clock& clock, ManagerOptions options,
                 std::function<void()> wake)
    : fabric_(fabric), drive_(drive), clock_(clock), options_(std::move(options)), wake_(std::move(wake)) {}

Result<std::unique_ptr<Manager>> Manager::create(Fabric& fabric, BorrowedDrive& drive, uint64_t fdid,
                                                 const io::Clock& clock, ManagerOptions options,
                                                 std::function<void()> wake) {
    std::unique_ptr<Manager> manager(new Manager(fabric, drive, clock, std::move(options), std::move(wake)));
    TRY(manager->start(fdid));
    return manager;
}

Result<> Manager::start(uint64_t fdid) {
    auto memory = fabric_.create_memory(control_bytes, shared_id(fdid));
    if (!memory && memory.error().code() == Errc::already_exists)
        return fail(Errc::busy, "this host has a manager for the drive already: {}",
                    memory.error().message());
    control_memory_ = TRY(std::move(memory));
    auto& page = control();
    page.version = layout_version;
    totals_.generation = static_cast<uint64_t>(clock_.unix_time_us());
    page.state.set(static_cast<uint64_t>(ManagerState::starting));
    page.generation.set(totals_.generation);
    page.magic.set(control_magic); // now clients of an earlier manager know that it has a successor

    nvme::DriverOptions options;
    // A function-level reset would put fresh memory behind the registers that clients have mapped.
    options.reset = nvme::DriverOptions::Reset::never;
    options.io_queues = most_queue_pairs;
    options.max_namespaces = max_shared_namespaces;
    options.allocator = std::shared_ptr<nvme::DmaAllocator>(&drive_.allocator(), [](auto*) {});
    options.shadow_doorbells = false;
    driver_ = TRY(nvme::Driver::create(drive_.function(), clock_, std::move(options)));
    const auto serving_from = clock_.now() + options_.grace;
    admin_queue_ = TRY(pci::read64(drive_.function(), pci::Region::bar0, nvme::reg::asq));
    TRY(show_facts());
    TRY(options_.rules.check(page.facts));
    pacing_ = std::make_unique<PacingThread>(page, clock_);
    while (clock_.now() < serving_from)
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    inbox_ = TRY(fabric_.create_inbox(
        shared_id(fdid),
        [this](const Sender& sender, std::span<const std::byte> message) {
            add_event(Message{sender, {message.begin(), message.end()}});
        },
        [this](const Sender& sender) { add_event(Gone{sender}); }));
    page.state.set(static_cast<uint64_t>(ManagerState::serving));
    return {};
}

Result<> Manager::show_facts() {
    auto& facts = control().facts;
    facts.max_transfer_bytes = driver_->info().max_transfer_bytes;
    facts.page_bytes = static_cast<uint32_t>(driver_->page_bytes());
    facts.doorbell_stride = driver_->doorbell_stride();
    const uint64_t capabilities = TRY(pci::read64(drive_.function(), pci::Region::bar0, nvme::reg::cap));
    facts.max_depth = static_cast<uint32_t>(
        std::min<uint64_t>(nvme::cap::mqes.get(capabilities), nvme::QueuePair::max_depth));
    for (const auto& ns : driver_->namespaces()) {
        if (facts.namespaces == facts.space.size()) break;
        // Blocks with metadata cannot be read or written as plain blocks.
        if (ns.metadata_bytes == 0) facts.space[facts.namespaces++] = {ns.nsid, ns.block_bytes, ns.blocks};
    }
    const auto show = [](std::span<char> field, const std::string& text) {
        std::ranges::copy(text.substr(0, field.size() - 1), field.begin());
    };
    show(facts.model, driver_->info().model);
    show(facts.serial, driver_->info().serial);
    if (facts.namespaces == 0)
        return fail(Errc::not_supported,
                    "the drive has no namespace of plain blocks: format it without metadata");
    return {};
}

Manager::~Manager() {
    inbox_.reset();
    if (!control_memory_) return;
    control().state.set(static_cast<uint64_t>(ManagerState::ended));
    for (auto& [id, client] : clients_) [[maybe_unused]]
        auto ignored = client.reply->send(encode(Answer{0, tl::unexpected(reason_)}));
    driver_.reset(); // the controller is disabled: none of it reaches clients' memory any more
    pacing_.reset();
}

void Manager::add_event(Event event) {
    {
        const std::lock_guard lock(mutex_);
        // Who floods is not heard; that somebody has gone is.
        if (events_.size() >= most_events_ && std::holds_alternative<Message>(event)) return;
        events_.push_back(std::move(event));
    }
    wake_();
}

Result<> Manager::poll() {
    std::vector<Event> events;
    {
        const std::lock_guard lock(mutex_);
        events.swap(events_);
    }
    for (const auto& event : events)
        TRY(std::visit([this](const auto& e) { return handle(e); }, event));
    return {};
}

Result<> Manager::check() {
    if (const auto lost = drive_.lost()) return tl::unexpected(*lost);
    TRY(driver_->check_health());
    if (TRY(pci::read64(drive_.function(), pci::Region::bar0, nvme::reg::asq)) != admin_queue_)
        return fail(Errc::cancelled, "another manager has taken the drive over");
    return {};
}

Result<> Manager::handle(const Gone& gone) {
    if (!clients_.contains(gone.sender.id)) return {};
    ++totals_.died;
    return leave(gone.sender.id, "is gone");
}

Result<> Manager::handle(const Message& message) {
    const auto request = decode_request(message.bytes);
    if (!request) {
        // Where an answer would go is not known.
        spdlog::warn("{} sent nonsense: {}", who(message.sender), request.error().message());
        return {};
    }
    if (request->join) return join(message.sender, request->token, *request->join);
    const auto found = clients_.find(message.sender.id);
    if (found == clients_.end()) return {};
    // The answer comes when the drive does not use the client's memory any more.
    auto reply = std::move(found->second.reply);
    TRY(leave(message.sender.id, "leaves"));
    [[maybe_unused]] auto ignored = reply->send(encode(Answer{request->token, std::nullopt}));
    return {};
}

// Errors are those of the drive; what is wrong with the client is answered.
Result<> Manager::join(const Sender& sender, uint64_t token, const Join& join) {
    if (clients_.contains(sender.id)) TRY(leave(sender.id, "joins again"));
    auto reply = fabric_.connect_inbox(sender.node, join.reply, connect_timeout);
    if (!reply) {
        spdlog::warn("{} cannot be answered: {}", who(sender), reply.error().message());
        return {};
    }
    Client client;
    client.sender = sender;
    client.reply = std::move(*reply);
    auto joined = admit(client, join);
    Answer answer{token, std::nullopt};
    if (joined)
        answer.outcome = *joined;
    else
        answer.outcome = tl::unexpected(joined.error());
    const auto sent = client.reply->send(encode(answer));
    if (!joined) {
        ++totals_.refused;
        spdlog::warn("{} is refused: {}", who(sender), joined.error().message());
        if (driver_->check_health()) return {};
        return tl::unexpected(joined.error());
    }
    ++totals_.joined;
    spdlog::info("{} joins: slot {}, queue {}, depth {}, weight {}, namespace {}, blocks {}..{}{}",
                 who(sender), client.slot, client.queue, client.depth, client.grant.weight,
                 client.grant.part.nsid, client.grant.part.first_block,
                 client.grant.part.first_block + client.grant.part.blocks - 1,
                 client.grant.read_only ? ", read-only" : "");
    clients_.emplace(sender.id, std::move(client));
    if (!sent) return leave(sender.id, "cannot be answered");
    return {};
}

Result<Joined> Manager::admit(Client& client, const Join& join) {
    const auto& facts = control().facts;
    client.grant = TRY(options_.rules.decide(client.sender.host, client.sender.user, facts));
    const auto used = std::ranges::count_if(clients_, [&](const auto& entry) {
        const auto& other = entry.second.sender;
        return other.node == client.sender.node && other.user == client.sender.user;
    });
    if (static_cast<uint32_t>(used) >= client.grant.most_queues)
        return fail(Errc::no_space,
                    "user '{}' has {} queue pairs of this drive on that host already, and may "
                    "have no more",
                    client.sender.user, used);
    if (join.depth > facts.max_depth)
        return fail(Errc::out_of_range, "a queue depth of {}: the drive has at most {}", join.depth,
                    facts.max_depth);
    client.slot = TRY(free_slot());
    client.depth = join.depth;
    auto page = TRY(fabric_.connect_memory(client.sender.node, join.segment, client_page_bytes,
                                           connect_timeout, [](const Error&) {}));
    client.queue = TRY(driver_->create_foreign_queue({.entries = static_cast<uint16_t>(join.depth + 1),
                                                      .submission = join.submission,
                                                      .completion = join.completion}));
    pacing_->add(client.slot, client.grant.weight, std::move(page));
    Joined joined;
    joined.generation = totals_.generation;
    joined.slot = client.slot;
    joined.queue = client.queue;
    joined.weight = client.grant.weight;
    joined.nsid = client.grant.part.nsid;
    joined.first_block = client.grant.part.first_block;
    joined.blocks = client.grant.part.blocks;
    joined.read_only = client.grant.read_only;
    return joined;
}

Result<> Manager::leave(uint64_t sender, std::string_view how) {
    const auto found = clients_.find(sender);
    if (found == clients_.end()) return {};
    const auto client = std::move(found->second);
    clients_.erase(found);
    pacing_->remove(client.slot);
    spdlog::info("{} {}: queue {} is deleted", who(client.sender), how, client.queue);
    return driver_->delete_foreign_queue(client.queue);
}

Result<uint32_t> Manager::free_slot() const {
    for (uint32_t slot = 0; slot < max_clients; ++slot)
        if (std::ranges::none_of(clients_, [&](const auto& entry) { return entry.second.slot == slot; }))
            return slot;
    return fail(Errc::no_space, "the drive has {} clients already", max_clients);
}

Manager::Status Manager::status() const {
    Status status = totals_;
    const auto rates = pacing_->rates();
    status.bytes_per_second = rates.total * static_cast<double>(unit_bytes);
    for (const auto& [id, client] : clients_)
        status.clients.push_back({client.slot, client.sender.host, client.sender.node, client.sender.user,
                                  client.grant.part, client.grant.weight, client.grant.read_only,
                                  client.queue, client.depth,
                                  rates.of[client.slot] * static_cast<double>(unit_bytes)});
    std::ranges::sort(status.clients, {}, &ClientStatus::slot);
    return status;
}

} // namespace lanepool::sharing
