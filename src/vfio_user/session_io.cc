// SPDX-License-Identifier: Apache-2.0
#include "vfio_user/session.h"

namespace lanepool::vfio_user {

Result<> Session::check_access(const wire::RegionAccess& access, bool write) const {
    const auto index = TRY(region_of(access.region));
    const auto& info = environment_.handler.region(index);
    const uint64_t offset = access.offset;
    const uint32_t count = access.count;
    if (count == 0 || count > wire::max_data_bytes)
        return fail(Errc::invalid_argument, "an access of {} bytes, allowed are 1 to {}", count,
                    wire::max_data_bytes);
    if (offset > info.size_bytes || count > info.size_bytes - offset)
        return fail(Errc::out_of_range, "{} bytes at {:#x} lie outside of region {} with {} bytes", count,
                    offset, uint32_t{access.region}, info.size_bytes);
    if (write ? !info.writable : !info.readable)
        return fail(Errc::permission_denied, "region {} is not {}", uint32_t{access.region},
                    write ? "writable" : "readable");
    return {};
}

Result<> Session::region_read(const Request& request) {
    auto payload = request.payload();
    const auto access = TRY(wire::take<wire::RegionAccess>(payload));
    TRY(check_access(access, false));
    environment_.handler.read(
        static_cast<pci::Region>(uint32_t{access.region}), access.offset, access.count,
        {[weak = weak_from_this(), ticket = request.ticket, access](Result<std::vector<std::byte>> data) {
            const auto self = weak.lock();
            if (!self) return;
            if (!data) return self->answer(ticket, tl::unexpected<Error>(std::move(data).error()));
            if (data->size() != access.count)
                return self->answer(ticket, fail(Errc::internal, "the function read {} bytes instead of {}",
                                                 data->size(), uint32_t{access.count}));
            Payload reply = Payload::of(access);
            reply.append(*data);
            self->answer(ticket, std::move(reply));
        }});
    return {};
}

Result<> Session::region_write(const Request& request) {
    auto payload = request.payload();
    const auto access = TRY(wire::take<wire::RegionAccess>(payload));
    TRY(check_access(access, true));
    if (payload.size() != access.count)
        return fail(Errc::protocol, "a write of {} bytes comes with {}", uint32_t{access.count},
                    payload.size());
    environment_.handler.write(static_cast<pci::Region>(uint32_t{access.region}), access.offset, payload,
                               reply_done(request.ticket, Payload::of(access)));
    return {};
}

// All writes are checked before the first is done, and done in order; the answer comes after the last.
Result<> Session::region_write_multi(const Request& request) {
    auto payload = request.payload();
    const auto multi = TRY(wire::take<wire::WriteMulti>(payload));
    if (payload.size() % sizeof(wire::SingleWrite) != 0 ||
        multi.write_count != payload.size() / sizeof(wire::SingleWrite) || payload.empty())
        return fail(Errc::protocol, "a message with {} writes has {} bytes of them",
                    uint64_t{multi.write_count}, payload.size());
    std::vector<wire::SingleWrite> writes;
    while (!payload.empty()) {
        writes.push_back(TRY(wire::take<wire::SingleWrite>(payload)));
        const auto& write = writes.back();
        if (write.count > write.data.size())
            return fail(Errc::protocol, "one of several writes has {} bytes, allowed are {}",
                        uint32_t{write.count}, write.data.size());
        TRY(check_access({write.offset, write.region, write.count}, true));
    }
    struct Progress {
        size_t outstanding;
        std::optional<Error> error;
    };
    const auto progress = std::make_shared<Progress>(Progress{writes.size(), std::nullopt});
    for (const auto& write : writes) {
        const auto done = [weak = weak_from_this(), ticket = request.ticket, progress,
                           multi](Result<> result) {
            if (!result && !progress->error) progress->error = result.error();
            const auto self = weak.lock();
            if (--progress->outstanding > 0 || !self) return;
            if (progress->error)
                self->answer(ticket, tl::unexpected<Error>(*progress->error));
            else
                self->answer(ticket, Payload::of(multi));
        };
        environment_.handler.write(static_cast<pci::Region>(uint32_t{write.region}), write.offset,
                                   std::span(write.data).first(write.count), {done});
        if (ended_) break;
    }
    return {};
}

void Session::reset(const Request& request) {
    environment_.handler.reset({[weak = weak_from_this(), ticket = request.ticket](Result<> result) {
        const auto self = weak.lock();
        if (!self) return;
        if (!result) return self->answer(ticket, tl::unexpected<Error>(std::move(result).error()));
        self->eventfds_.clear(); // no interrupt is set up after a reset
        self->answer(ticket, Payload{});
    }});
}

} // namespace lanepool::vfio_user
