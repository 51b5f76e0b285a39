// SPDX-License-Identifier: Apache-2.0
//
// rtnetlink messages about one interface: a header, a struct ifinfomsg, and attributes, some of which hold
// attributes themselves; all in the machine's byte order and aligned to 4 bytes (man 7 netlink, rtnetlink).
#pragma once

#include "base/result.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

namespace lanepool::local_devices {

class LinkRequest {
  public:
    // About the interface with this name. TYPE: RTM_GETLINK or RTM_SETLINK; FLAGS besides NLM_F_REQUEST.
    LinkRequest(uint16_t type, uint16_t flags, std::string_view interface);

    template <class T>
    void add(uint16_t attribute, const T& value) {
        add_bytes(attribute, std::as_bytes(std::span(&value, 1)));
    }
    void add_bytes(uint16_t attribute, std::span<const std::byte> bytes);
    // An attribute that holds those which FILL adds.
    void nest(uint16_t attribute, const std::function<void()>& fill);

    std::span<const std::byte> bytes() const { return bytes_; }

  private:
    void patch_length(size_t header, uint32_t size_of_length);
    std::vector<std::byte> bytes_;
};

struct LinkAttribute {
    uint16_t type = 0;
    std::span<const std::byte> bytes;
};

// What follows one another in BYTES. Errors: protocol.
Result<std::vector<LinkAttribute>> attributes_in(std::span<const std::byte> bytes);

// The attributes of an answer to a LinkRequest; none where it only says that all is well. Errors: what the
// kernel refuses, as a system error; protocol.
Result<std::vector<LinkAttribute>> answer_in(std::span<const std::byte> message);

// The value of an attribute, of which a kernel that knows more fields may send more. Errors: protocol.
template <class T>
Result<T> value_of(const LinkAttribute& attribute) {
    if (attribute.bytes.size() < sizeof(T))
        return fail(Errc::protocol, "netlink attribute {} has {} bytes", attribute.type,
                    attribute.bytes.size());
    T value;
    std::memcpy(&value, attribute.bytes.data(), sizeof(T));
    return value;
}

} // namespace lanepool::local_devices
