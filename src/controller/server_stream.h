// SPDX-License-Identifier: Apache-2.0
//
// A stream that answers one request with messages, one on its way at a time.
//
// Of a batch, one follows the other without the loop: that may wait for its store between any two.
#pragma once

#include "controller/seat.h"

#include <deque>
#include <grpcpp/support/server_callback.h>
#include <memory>
#include <mutex>
#include <utility>

namespace lanepool::controller {

// A stream that ends with STATUS before it begins.
template <class Message>
class RefusedStream final : public grpc::ServerWriteReactor<Message> {
  public:
    explicit RefusedStream(const grpc::Status& status) { this->Finish(status); }

  private:
    void OnDone() override { delete this; } // gRPC owned it
};

template <class Message>
class ServerStream : public Stream, public grpc::ServerWriteReactor<Message> {
  public:
    // Hands a new stream to gRPC; it deletes itself when the call is done.
    static ServerStream* start(std::shared_ptr<ServerStream> stream) {
        ServerStream& self = *stream;
        self.self_ = stream;
        if (self.seat_.enter_stream()) {
            self.seat_.post([stream] { stream->join(); });
        } else {
            self.closed_ = true;
            self.Finish(
                {grpc::StatusCode::RESOURCE_EXHAUSTED, "the controller has as many streams as it takes"});
        }
        return &self;
    }

    void close(const grpc::Status& status) override {
        if (std::exchange(closed_, true)) return;
        if (core_) {
            forget();
            core_->remove(*this);
        }
        seat_.leave_stream();
        {
            const std::lock_guard lock(batch_mutex_);
            batch_.clear(); // after Finish() no write is begun
            batch_over_ = true;
        }
        this->Finish(status);
    }

  protected:
    explicit ServerStream(Seat& seat) : seat_(seat) {}

    // All of these run on the loop's thread.
    virtual void begin() = 0;
    // May send() the next message, or close(); called when one has gone out, and by the stream itself.
    virtual void pump() = 0;
    // The stream ends: nobody is to call it any more.
    virtual void forget() = 0;
    // Has pump() called when others have had their turn.
    void pump_later() {
        if (std::exchange(pumps_later_, true)) return;
        seat_.post([stream = self_] {
            stream->pumps_later_ = false;
            stream->pump();
        });
    }
    // Keeps it alive where it waits for something.
    std::shared_ptr<ServerStream> shared() const { return self_; }
    bool ready() const { return !writing_ && !closed_; }
    bool closed() const { return closed_; }
    // Of begin() and what follows, until the stream is closed.
    Core& core() const { return *core_; }
    void send(Message message) { send_all({std::move(message)}); }
    // At least one.
    void send_all(std::deque<Message> batch) {
        writing_ = true;
        out_ = std::move(batch.front());
        batch.pop_front();
        {
            const std::lock_guard lock(batch_mutex_);
            batch_ = std::move(batch);
        }
        this->StartWrite(&out_);
    }

  private:
    void join() {
        if (closed_) return; // cancelled before it began: it has asked for nothing
        const auto core = seat_.core();
        if (!core) return close(core.error());
        core_ = &core->get();
        core_->add(*this);
        begin();
    }
    void OnWriteDone(bool ok) override {
        if (ok) {
            const std::lock_guard lock(batch_mutex_);
            if (!batch_over_ && !batch_.empty()) {
                out_ = std::move(batch_.front());
                batch_.pop_front();
                this->StartWrite(&out_);
                return;
            }
        }
        seat_.post([stream = self_, ok] {
            stream->writing_ = false;
            if (!ok) return stream->close(grpc::Status::CANCELLED);
            stream->pump();
        });
    }
    void OnCancel() override {
        seat_.post([stream = self_] { stream->close(grpc::Status::CANCELLED); });
    }
    void OnDone() override {
        seat_.post([stream = std::move(self_)] { static_cast<void>(stream); });
    }

    Seat& seat_;
    Core* core_ = nullptr;               // that it is a stream of; it has closed the stream before it goes
    std::shared_ptr<ServerStream> self_; // until OnDone
    Message out_;                        // on its way
    std::mutex batch_mutex_;             // also of beginning to write from it
    std::deque<Message> batch_;
    bool batch_over_ = false;
    bool writing_ = false;
    bool pumps_later_ = false;
    bool closed_ = false;
};

} // namespace lanepool::controller
