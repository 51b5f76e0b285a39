// SPDX-License-Identifier: Apache-2.0
#include "local_devices/netlink.h"

#include <linux/rtnetlink.h>

namespace lanepool::local_devices {

namespace {

template <class T>
void append(std::vector<std::byte>& bytes, const T& value) {
    const auto part = std::as_bytes(std::span(&value, 1));
    bytes.insert(bytes.end(), part.begin(), part.end());
}

void align(std::vector<std::byte>& bytes) { bytes.resize(NLMSG_ALIGN(bytes.size())); }

constexpr uint16_t type_bits = 0x3fff; // NLA_TYPE_MASK: the upper two are flags

} // namespace

LinkRequest::LinkRequest(uint16_t type, uint16_t flags, std::string_view interface) {
    nlmsghdr header = {};
    header.nlmsg_type = type;
    header.nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | flags);
    append(bytes_, header);
    append(bytes_, ifinfomsg{});
    std::vector<std::byte> name(interface.size() + 1);
    std::memcpy(name.data(), interface.data(), interface.size());
    add_bytes(IFLA_IFNAME, name);
}

void LinkRequest::patch_length(size_t header, uint32_t size_of_length) {
    const auto length = static_cast<uint32_t>(bytes_.size() - header);
    const auto short_length = static_cast<uint16_t>(length);
    if (size_of_length == sizeof(short_length))
        std::memcpy(bytes_.data() + header, &short_length, sizeof(short_length));
    else
        std::memcpy(bytes_.data() + header, &length, sizeof(length));
}

void LinkRequest::add_bytes(uint16_t attribute, std::span<const std::byte> bytes) {
    const size_t start = bytes_.size();
    append(bytes_, rtattr{0, attribute});
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
    patch_length(start, sizeof(uint16_t));
    align(bytes_);
    patch_length(0, sizeof(uint32_t));
}

void LinkRequest::nest(uint16_t attribute, const std::function<void()>& fill) {
    const size_t start = bytes_.size();
    append(bytes_, rtattr{0, attribute});
    fill();
    patch_length(start, sizeof(uint16_t));
    patch_length(0, sizeof(uint32_t));
}

Result<std::vector<LinkAttribute>> attributes_in(std::span<const std::byte> bytes) {
    std::vector<LinkAttribute> attributes;
    while (bytes.size() >= sizeof(rtattr)) {
        rtattr header;
        std::memcpy(&header, bytes.data(), sizeof(header));
        if (header.rta_len < sizeof(header) || header.rta_len > bytes.size())
            return fail(Errc::protocol, "a netlink attribute says that it has {} bytes, of {}",
                        header.rta_len, bytes.size());
        attributes.push_back({static_cast<uint16_t>(header.rta_type & type_bits),
                              bytes.subspan(sizeof(header), header.rta_len - sizeof(header))});
        bytes = bytes.subspan(std::min<size_t>(RTA_ALIGN(header.rta_len), bytes.size()));
    }
    return attributes;
}

Result<std::vector<LinkAttribute>> answer_in(std::span<const std::byte> message) {
    nlmsghdr header;
    if (message.size() < sizeof(header)) return fail(Errc::protocol, "a netlink answer is too short");
    std::memcpy(&header, message.data(), sizeof(header));
    if (header.nlmsg_len < sizeof(header) || header.nlmsg_len > message.size())
        return fail(Errc::protocol, "a netlink answer says that it has {} bytes, of {}", header.nlmsg_len,
                    message.size());
    const auto body = message.first(header.nlmsg_len).subspan(sizeof(header));
    if (header.nlmsg_type == NLMSG_ERROR) {
        int code = 0;
        if (body.size() < sizeof(code)) return fail(Errc::protocol, "a netlink error is too short");
        std::memcpy(&code, body.data(), sizeof(code));
        if (code != 0) return fail_errno(code, "the kernel's answer");
        return std::vector<LinkAttribute>();
    }
    if (header.nlmsg_type != RTM_NEWLINK || body.size() < sizeof(ifinfomsg))
        return fail(Errc::protocol, "a netlink answer is of type {}", header.nlmsg_type);
    return attributes_in(body.subspan(NLMSG_ALIGN(sizeof(ifinfomsg))));
}

} // namespace lanepool::local_devices
