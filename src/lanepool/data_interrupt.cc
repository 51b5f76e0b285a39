// SPDX-License-Identifier: Apache-2.0
#include "base/mapping.h"
#include "lanepool/extents.h"
#include "lanepool/interrupt.h"
#include "lanepool/interrupt_states.h"
#include "session/data_ring.h"
#include "session/protocol.h"

#include <algorithm>
#include <array>
#include <map>
#include <vector>

namespace lanepool {

namespace client {

namespace {
static_assert(max_interrupt_bytes == session::max_data_bytes);
// Messages after which other callbacks have their turn.
constexpr int max_at_a_time = 64;

Result<Mapping> map_ring(UniqueFd fd) {
    TRY(check_memory(fd, 0, session::data_ring_bytes, Shrinkable::no));
    return Mapping::create(fd.get(), 0, session::data_ring_bytes);
}
} // namespace

// Who sends, and what he has sent.
struct Sender {
    DataSender who;
    Mapping memory;
    session::DataRingReader ring;
    bool gone = false; // is forgotten once all has been taken
};

struct DataInterruptState final : LocalInterrupt {
    explicit DataInterruptState(DataInterruptOptions options)
        : LocalInterrupt(std::move(options.on_lost)), callback(std::move(options.on_message_from)),
          gone_callback(std::move(options.on_sender_gone)) {
        if (!callback && options.on_message)
            callback = [on_message = std::move(options.on_message)](const DataSender&, auto data) {
                on_message(data);
            };
    }
    void on_received(const std::string& event, Message& message) override;
    void run_callbacks();
    // The next message of anybody's, and whose it is. Errors: no_space.
    Result<std::optional<size_t>> take(std::span<std::byte> buffer, DataSender* who = nullptr);
    void tell_gone();
    // Forgets who is gone, with what he has sent, where nobody takes it: others go on connecting.
    void make_room();
    Result<size_t> wait(std::span<std::byte> buffer, std::chrono::steady_clock::time_point deadline);

    std::function<void(const DataSender&, std::span<const std::byte>)> callback; // constant
    const std::function<void(const DataSender&)> gone_callback;
    std::mutex mutex; // of what follows
    std::map<uint64_t, Sender> senders;
    std::vector<DataSender> gone;   // forgotten, and to be told of
    uint64_t last = 0;              // who had his turn
    unsigned waiting = 0;           // threads
    std::atomic<bool> ready{false}; // create() has returned
};

void DataInterruptState::on_received(const std::string& event, Message& message) {
    const auto id = session::get_number(message.body, "sender");
    if (!id) return;
    const std::lock_guard lock(mutex);
    if (event == "interrupt_sender_gone") {
        if (const auto found = senders.find(*id); found != senders.end()) {
            found->second.gone = true;
            found->second.ring.end();
        }
    } else if (event == "interrupt_sender" && message.fds.size() == 1) {
        make_room();
        const auto node = get_u32(message.body, "node");
        auto user = session::get_text(message.body, "user");
        auto memory = map_ring(std::move(message.fds[0]));
        if (!memory || !node || !user) return;
        auto ring = session::DataRingReader::create(memory->bytes());
        if (ring) senders.emplace(*id, Sender{{*id, *node, std::move(*user)}, std::move(*memory), *ring});
    }
    if (ready) signal(eventfd); // he may have sent before we knew him; who is gone may be forgotten
}

Result<std::optional<size_t>> DataInterruptState::take(std::span<std::byte> buffer, DataSender* who) {
    const std::lock_guard lock(mutex);
    auto next = senders.upper_bound(last);
    for (size_t left = senders.size(); left > 0; --left) {
        if (next == senders.end()) next = senders.begin();
        auto taken = next->second.ring.take(buffer);
        if (!taken && taken.error().code() == Errc::no_space) return taken;
        if (taken && *taken) {
            last = next->first;
            if (who) *who = next->second.who;
            if (waiting > 1) signal(eventfd); // there may be more, for the others
            return taken;
        }
        // Who breaks his ring sends nothing any more.
        if (taken && !next->second.gone) {
            ++next;
            continue;
        }
        if (gone_callback) gone.push_back(std::move(next->second.who));
        next = senders.erase(next);
    }
    return std::optional<size_t>();
}

void DataInterruptState::make_room() {
    const auto is_gone = [](const auto& entry) { return entry.second.gone; };
    while (senders.size() >= 2 * session::max_senders) {
        auto oldest = std::ranges::find_if(senders, is_gone);
        if (oldest == senders.end()) oldest = senders.begin(); // more than an agent lets in
        if (gone_callback) gone.push_back(std::move(oldest->second.who));
        senders.erase(oldest);
    }
}

void DataInterruptState::tell_gone() {
    std::vector<DataSender> told;
    {
        const std::lock_guard lock(mutex);
        told.swap(gone);
    }
    for (const auto& who : told)
        if (!closed()) gone_callback(who);
}

void DataInterruptState::run_callbacks() {
    std::array<std::byte, max_interrupt_bytes> buffer;
    DataSender who;
    drain(eventfd);
    for (int i = 0; i < max_at_a_time && !closed(); ++i) {
        const auto taken = take(buffer, &who);
        if (gone_callback) tell_gone();
        if (!taken || !*taken) return;
        if (!closed()) callback(who, std::span(buffer).first(**taken));
    }
    signal(eventfd);
}

Result<size_t> DataInterruptState::wait(std::span<std::byte> buffer,
                                        std::chrono::steady_clock::time_point deadline) {
    const struct Waiting {
        explicit Waiting(DataInterruptState& s) : state(s) {
            const std::lock_guard lock(state.mutex);
            ++state.waiting;
        }
        ~Waiting() {
            const std::lock_guard lock(state.mutex);
            --state.waiting;
        }
        DataInterruptState& state;
    } one_more(*this);
    for (;;) {
        if (const auto taken = TRY(take(buffer))) return *taken;
        TRY(LocalInterrupt::wait(deadline));
    }
}

struct RemoteDataInterruptState final : RemoteInterruptState {
    using RemoteInterruptState::RemoteInterruptState;
    Result<> take(Message& answer) {
        memory = TRY(map_ring(std::move(answer.fds[1])));
        ring = TRY(session::DataRingWriter::create(memory.bytes()));
        return {};
    }
    Mapping memory;
    std::mutex mutex; // of the ring
    session::DataRingWriter ring;
};

} // namespace client

DataInterrupt::DataInterrupt(std::shared_ptr<client::DataInterruptState> state) : state_(std::move(state)) {}
DataInterrupt::DataInterrupt(DataInterrupt&&) noexcept = default;
DataInterrupt& DataInterrupt::operator=(DataInterrupt&& other) noexcept {
    if (this != &other) client::replace(state_, std::move(other.state_));
    return *this;
}
DataInterrupt::~DataInterrupt() { client::replace(state_); }

Result<DataInterrupt> DataInterrupt::create(Session& session, DataInterruptOptions options) {
    const auto number = options.number;
    auto state = std::make_shared<client::DataInterruptState>(std::move(options));
    TRY(state->create(state, session.connection(), number, true));
    state->ready = true;
    signal(state->eventfd); // for who has connected, and sent, before that
    if (state->callback) TRY(state->watch(state, [raw = state.get()] { raw->run_callbacks(); }));
    return DataInterrupt(std::move(state));
}

uint32_t DataInterrupt::number() const { return state_->number; }

Result<size_t> DataInterrupt::wait(std::span<std::byte> buffer, std::chrono::milliseconds timeout) {
    if (state_->callback) return fail(Errc::failed_precondition, "the data interrupt has a callback");
    if (state_->removed) return fail(Errc::failed_precondition, "the data interrupt is removed");
    return state_->wait(buffer, client::deadline_after(timeout));
}

Result<> DataInterrupt::remove() { return state_->remove(false); }

RemoteDataInterrupt::RemoteDataInterrupt(std::shared_ptr<client::RemoteDataInterruptState> state)
    : state_(std::move(state)) {}
RemoteDataInterrupt::RemoteDataInterrupt(RemoteDataInterrupt&&) noexcept = default;
RemoteDataInterrupt& RemoteDataInterrupt::operator=(RemoteDataInterrupt&& other) noexcept {
    if (this != &other) client::replace(state_, std::move(other.state_));
    return *this;
}
RemoteDataInterrupt::~RemoteDataInterrupt() { client::replace(state_); }

Result<RemoteDataInterrupt> RemoteDataInterrupt::connect(Session& session, uint32_t node, uint32_t number,
                                                         std::chrono::milliseconds timeout,
                                                         RemoteInterruptOptions options) {
    auto state = std::make_shared<client::RemoteDataInterruptState>(std::move(options.on_lost));
    auto answer = TRY(state->connect(state, session.connection(),
                                     {{"node", node}, {"number", number}, {"data", true}}, timeout, 2));
    if (auto taken = state->take(answer); !taken) {
        state->drop();
        return tl::unexpected(taken.error().within("the agent's answer"));
    }
    return RemoteDataInterrupt(std::move(state));
}

Result<> RemoteDataInterrupt::send(std::span<const std::byte> data) {
    TRY(state_->usable());
    {
        const std::lock_guard lock(state_->mutex);
        auto sent = state_->ring.send(data);
        if (!sent && sent.error().code() == Errc::protocol)
            return fail(Errc::disconnected, "the receiver has broken the ring: {}", sent.error().message());
        if (!sent) return sent;
    }
    signal(state_->eventfd);
    return {};
}

Result<> RemoteDataInterrupt::disconnect() { return state_->disconnect(false); }

} // namespace lanepool
