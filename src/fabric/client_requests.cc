// SPDX-License-Identifier: Apache-2.0
#include "fabric/client_requests.h"

#include <utility>

namespace lanepool::fabric {

bool ClientRequests::write(unsigned source, Iova address, std::span<const std::byte> data) {
    return add({source, address, data.size(), {data.begin(), data.end()}, {}, {}});
}

bool ClientRequests::read(unsigned source, Iova address, size_t size_bytes, std::function<bool()> wanted,
                          ReadAnswer answer) {
    return add({source, address, size_bytes, {}, std::move(wanted), std::move(answer)});
}

bool ClientRequests::add(Request request) {
    auto& share = state_->queued[request.source];
    if (share.requests >= max_requests_queued || request.data.size() > max_request_bytes_queued - share.bytes)
        return false;
    ++share.requests;
    share.bytes += request.data.size();
    state_->queue.push_back(std::move(request));
    state_->pump();
    return true;
}

void ClientRequests::close() {
    state_->client = nullptr;
    state_->queue.clear();
}

// An answer may come before the client's call returns: then the loop goes on, and nothing is sent twice.
void ClientRequests::State::pump() {
    if (std::exchange(pumping, true)) return;
    const auto self = shared_from_this(); // an answer may be the end of the port's client
    while (client && in_flight < max_requests_in_flight && !queue.empty()) {
        Request request = std::move(queue.front());
        queue.pop_front();
        auto& share = queued[request.source];
        --share.requests;
        share.bytes -= request.data.size();
        send(std::move(request));
    }
    pumping = false;
}

void ClientRequests::State::send(Request request) {
    if (request.wanted && !request.wanted()) return;
    ++in_flight;
    if (!request.answer)
        return client->dma_write(request.address, request.data,
                                 [self = shared_from_this()](Result<>) { self->done(); });
    client->dma_read(
        request.address, request.size_bytes,
        [self = shared_from_this(), answer = std::move(request.answer)](Result<std::vector<std::byte>> data) {
            answer(std::move(data));
            self->done();
        });
}

void ClientRequests::State::done() {
    --in_flight;
    pump();
}

} // namespace lanepool::fabric
