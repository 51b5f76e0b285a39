// SPDX-License-Identifier: Apache-2.0
#include "lanepool/session.h"

#include "lanepool/states.h"

namespace lanepool {

namespace client {
struct RequesterState {
    Result<> remove() {
        const std::lock_guard lock(mutex);
        if (removed) return fail(Errc::failed_precondition, "the requester is unregistered already");
        TRY(connection->give_back("requester_unregister", "requester", handle, false));
        removed = true;
        return {};
    }
    void drop() { (void)remove(); }

    std::shared_ptr<Connection> connection;
    uint64_t handle = 0;
    std::mutex mutex;
    bool removed = false;
};
} // namespace client

Session::Session(std::shared_ptr<client::Connection> connection) : connection_(std::move(connection)) {}
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&& other) noexcept {
    if (this != &other) {
        if (connection_) connection_->close();
        connection_ = std::move(other.connection_);
    }
    return *this;
}
Session::~Session() {
    if (connection_) connection_->close();
}

Result<Session> Session::open(SessionOptions options) {
    return Session(TRY(client::Connection::open(std::move(options))));
}

uint32_t Session::node() const { return connection_->node(); }
const std::string& Session::host() const { return connection_->host(); }
const std::string& Session::user() const { return connection_->user(); }

Result<std::vector<Node>> Session::nodes() {
    const auto answer = TRY(connection_->call("nodes", client::Json::object()));
    const auto list = answer.body.find("nodes");
    if (list == answer.body.end() || !list->is_array())
        return fail(Errc::protocol, "the agent's answer has no list of nodes");
    std::vector<Node> nodes;
    for (const auto& node : *list) {
        if (!node.is_object()) return fail(Errc::protocol, "a node that is not an object");
        nodes.push_back({TRY(client::get_u32(node, "node")), TRY(session::get_flag(node, "alive", false))});
    }
    return nodes;
}

Result<> Session::probe(uint32_t node) {
    TRY(connection_->call("probe", {{"node", node}}));
    return {};
}

Requester::Requester(std::shared_ptr<client::RequesterState> state) : state_(std::move(state)) {}
Requester::Requester(Requester&&) noexcept = default;
Requester& Requester::operator=(Requester&& other) noexcept {
    if (this != &other) client::replace(state_, std::move(other.state_));
    return *this;
}
Requester::~Requester() { client::replace(state_); }

Result<Requester> Requester::add(Session& session, uint8_t bus, uint8_t devfn) {
    const auto& connection = session.connection();
    const auto answer = TRY(connection->call("requester_register", {{"bus", bus}, {"devfn", devfn}}));
    auto state = std::make_shared<client::RequesterState>();
    state->connection = connection;
    state->handle = TRY(session::get_number(answer.body, "requester"));
    return Requester(std::move(state));
}

Result<> Requester::remove() { return state_->remove(); }

} // namespace lanepool
