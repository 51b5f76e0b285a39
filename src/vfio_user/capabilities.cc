// SPDX-License-Identifier: Apache-2.0
#include "vfio_user/capabilities.h"

#include "io/unix_socket.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

namespace lanepool::vfio_user {

namespace {
using Json = nlohmann::json;

constexpr size_t max_json_bytes = 4096;
// QEMU refuses a server that says it can take more (hw/vfio-user, VFIO_USER_MAX_MAX_FDS).
constexpr uint32_t max_fds_of_standard_clients = 16;

template <class T>
Result<> get_limit(const Json& object, const char* name, T& value) {
    const auto found = object.find(name);
    if (found == object.end()) return {};
    if (!found->is_number_unsigned() || found->get<uint64_t>() == 0 ||
        found->get<uint64_t>() > std::numeric_limits<T>::max())
        return fail(Errc::protocol, "the capability {} is not a positive number of {} bits", name,
                    8 * sizeof(T));
    value = static_cast<T>(found->get<uint64_t>());
    return {};
}

Result<> get_flag(const Json& object, const char* name, bool& value) {
    const auto found = object.find(name);
    if (found == object.end()) return {};
    if (!found->is_boolean()) return fail(Errc::protocol, "the capability {} is not true or false", name);
    value = found->get<bool>();
    return {};
}
} // namespace

Capabilities client_capabilities() {
    Capabilities ours;
    ours.max_msg_fds = io::max_descriptors;
    ours.max_data_xfer_bytes = wire::max_data_bytes;
    ours.max_dma_maps = wire::max_dma_maps;
    ours.write_multiple = true;
    ours.twin_socket = true;
    ours.lanepool = LanepoolCapability{};
    return ours;
}

Capabilities server_capabilities(const Capabilities& proposed, bool fresh_memory_on_reset) {
    Capabilities ours = client_capabilities();
    // "The capability list must be a subset of those proposed": never more than the client said it knows.
    ours.max_data_xfer_bytes = std::min(ours.max_data_xfer_bytes, proposed.max_data_xfer_bytes);
    ours.max_dma_maps = std::min(ours.max_dma_maps, proposed.max_dma_maps);
    ours.write_multiple = proposed.write_multiple;
    ours.twin_socket = false; // both ways over one socket: nothing of ours waits while it holds up the other
    if (proposed.lanepool) {
        ours.lanepool->fresh_memory_on_reset = fresh_memory_on_reset;
    } else {
        ours.lanepool.reset();
        ours.max_msg_fds = max_fds_of_standard_clients;
    }
    return ours;
}

std::string to_json(const Capabilities& capabilities) {
    Json list = {{"max_msg_fds", capabilities.max_msg_fds},
                 {"max_data_xfer_size", capabilities.max_data_xfer_bytes},
                 {"pgsizes", capabilities.page_sizes},
                 {"max_dma_maps", capabilities.max_dma_maps},
                 {"write_multiple", capabilities.write_multiple}};
    if (capabilities.twin_socket) list["twin_socket"]["supported"] = true;
    if (capabilities.twin_fd_index != 0) list["twin_socket"]["fd_index"] = capabilities.twin_fd_index;
    if (capabilities.lanepool)
        list["lanepool"] = {{"version", capabilities.lanepool->version},
                            {"fresh_memory_on_reset", capabilities.lanepool->fresh_memory_on_reset}};
    std::string text = Json{{"capabilities", std::move(list)}}.dump();
    text.push_back('\0');
    return text;
}

Result<Capabilities> parse_capabilities(std::span<const std::byte> bytes) {
    Capabilities capabilities;
    if (bytes.empty()) return capabilities;
    if (bytes.size() > max_json_bytes || bytes.back() != std::byte{0})
        return fail(Errc::protocol, "version data of {} bytes is too long or not terminated", bytes.size());
    const auto* text = reinterpret_cast<const char*>(bytes.data());
    // Depth is bounded by the size, which is bounded above.
    const Json document = Json::parse(text, text + bytes.size() - 1, nullptr, /*allow_exceptions=*/false);
    if (!document.is_object()) return fail(Errc::protocol, "version data is not a JSON object");
    const auto found = document.find("capabilities");
    if (found == document.end()) return capabilities;
    const Json& list = *found;
    if (!list.is_object()) return fail(Errc::protocol, "`capabilities` is not a JSON object");
    TRY(get_limit(list, "max_msg_fds", capabilities.max_msg_fds));
    TRY(get_limit(list, "max_data_xfer_size", capabilities.max_data_xfer_bytes));
    TRY(get_limit(list, "pgsizes", capabilities.page_sizes));
    TRY(get_limit(list, "max_dma_maps", capabilities.max_dma_maps));
    TRY(get_flag(list, "write_multiple", capabilities.write_multiple));
    if (const auto twin = list.find("twin_socket"); twin != list.end()) {
        if (!twin->is_object()) return fail(Errc::protocol, "the capability twin_socket is not an object");
        TRY(get_flag(*twin, "supported", capabilities.twin_socket));
        const auto index = twin->find("fd_index");
        if (index != twin->end() && index->is_number_unsigned() && index->get<uint64_t>() <= 255)
            capabilities.twin_fd_index = index->get<uint32_t>();
        else if (index != twin->end())
            return fail(Errc::protocol, "twin_socket.fd_index is not a small number");
    }
    if (const auto ours = list.find("lanepool"); ours != list.end()) {
        if (!ours->is_object()) return fail(Errc::protocol, "the capability lanepool is not an object");
        LanepoolCapability lanepool;
        TRY(get_limit(*ours, "version", lanepool.version));
        TRY(get_flag(*ours, "fresh_memory_on_reset", lanepool.fresh_memory_on_reset));
        lanepool.version = std::min(lanepool.version, LanepoolCapability{}.version);
        capabilities.lanepool = lanepool;
    }
    return capabilities;
}

} // namespace lanepool::vfio_user
