// SPDX-License-Identifier: Apache-2.0
#include "bridge/kernel_function.h"

#include <algorithm>
#include <cerrno>
#include <lanepool_bridge.h>

namespace lanepool::bridge {

namespace {

// The largest that a module of our version may say; more is not asked for.
constexpr uint32_t most_vectors = LANEPOOL_BRIDGE_MAX_VECTORS;

tl::unexpected<Error> cannot_open(const std::filesystem::path& node, int error_number) {
    switch (error_number) {
    case ENOENT:
    case ENODEV:
    case ENXIO:
        return fail(Errc::not_supported,
                    "{} is not there: load this kernel's module with `modprobe lanepool_bridge` "
                    "(docs/kernel-bridge.md tells how it is built)",
                    node.string());
    case EPERM:
    case EACCES:
        return fail(Errc::permission_denied,
                    "{} cannot be opened: injecting devices needs root (CAP_SYS_ADMIN)", node.string());
    case EMFILE:
        return fail(Errc::no_space,
                    "{} cannot be opened: there are as many injected functions, or as many files of this "
                    "process, as there may be",
                    node.string());
    default:
        return fail_errno(error_number, node.string());
    }
}

struct Opened {
    UniqueFd file;
    lanepool_bridge_info info;
};

// Opens the node and sees that what is behind it speaks our version.
Result<Opened> open_node(Module& module, const std::filesystem::path& node) {
    const int fd = module.open(node);
    if (fd < 0) return cannot_open(node, -fd);
    Opened opened{UniqueFd(fd), {}};
    opened.info.size = sizeof(opened.info);
    const int result = module.ioctl(fd, LANEPOOL_BRIDGE_INFO, &opened.info);
    // A module whose structure has another size does not know our call, or refuses the size.
    if (result == -ENOTTY || result == -EINVAL)
        return fail(Errc::not_supported,
                    "{} does not answer as version {} of lanepool_bridge: load the module that comes with "
                    "this lanepool",
                    node.string(), LANEPOOL_BRIDGE_VERSION);
    if (result < 0) return fail_errno(result, "asking " + node.string() + " for its version");
    if (opened.info.version != LANEPOOL_BRIDGE_VERSION)
        return fail(Errc::not_supported,
                    "{} is version {} of lanepool_bridge, and this lanepool speaks version {}: load the "
                    "module that comes with it",
                    node.string(), opened.info.version, LANEPOOL_BRIDGE_VERSION);
    return opened;
}

class KernelBridge final : public Bridge {
  public:
    KernelBridge(Module& module, std::filesystem::path node) : module_(module), node_(std::move(node)) {}

    Result<Ability> ability() const override {
        const auto opened = TRY(open_node(module_, node_));
        Ability ability;
        for (const auto mode : {DmaMode::bounce, DmaMode::iommu, DmaMode::direct})
            if (opened.info.dma_modes & 1u << static_cast<unsigned>(mode)) ability.dma_modes.push_back(mode);
        ability.max_vectors = std::min(opened.info.max_vectors, most_vectors);
        ability.max_pool_bytes = opened.info.max_pool_bytes;
        return ability;
    }
    Result<std::unique_ptr<Function>> open() override {
        auto opened = TRY(open_node(module_, node_));
        return std::make_unique<KernelFunction>(module_, std::move(opened.file));
    }

  private:
    Module& module_;
    const std::filesystem::path node_;
};

} // namespace

std::unique_ptr<Bridge> kernel_bridge(Module& module, std::filesystem::path node) {
    return std::make_unique<KernelBridge>(module, std::move(node));
}

std::unique_ptr<Bridge> kernel_bridge(std::filesystem::path node) {
    return kernel_bridge(system_module(), std::move(node));
}

} // namespace lanepool::bridge
