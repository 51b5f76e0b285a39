// SPDX-License-Identifier: Apache-2.0
//
// For tests: a kernel in memory, as far as this folder looks at one and acts on it. Any of its operations
// that change something can be made to fail, or to be the last before a crash.
#pragma once

#include "local_devices/system.h"
#include "pci/address.h"

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace lanepool::local_devices {

struct SimulatedFunction {
    std::string id = "0x1af4"; // of vendor and device
    std::string class_code = "0x010802";
    std::string native;   // the driver that takes it by itself; empty: none
    std::string group;    // empty: none
    std::string override; // driver_override
    std::string driver;
    std::string reset_methods = "flr bus"; // reset_method, as it can be set
    std::set<std::string> working_resets = {"flr", "bus"};
    std::map<std::string, std::string> files; // below its folder, while `native` has it
    std::string config = std::string("\xf4\x1a\x01\x10", 4) + std::string(60, '\0');
    bool clings = false;                // its driver never lets go
    std::set<std::string> refused_by;   // drivers whose probe fails
    std::optional<pci::Address> parent; // physfn
};

// The agent's death.
struct Crash {};

class SimulatedKernel {
  public:
    std::map<pci::Address, SimulatedFunction> functions;
    std::map<std::string, std::string> files; // besides those of functions
    std::map<std::string, std::string> links;
    std::map<std::string, DeviceNumber> numbers; // of device nodes and of links to them
    std::set<std::string> claimed;
    std::set<std::string> drivers = {"nvme", "igb", "pcieport"};
    bool has_vfio_module = true;
    std::string boot = "boot-1";
    std::optional<std::string> state; // the state file
    std::function<Result<int>(const std::string&, nvme_passthru_cmd&)> nvme_admin;
    std::function<Result<std::vector<std::byte>>(std::span<const std::byte>)> route_request;
    io::TimePoint time;

    // What happens at the change with this number, counted from 0; an outage, also at all that follow.
    enum class Mishap { none, crash, error, outage };
    Mishap mishap = Mishap::none;
    int mishap_at = 0;
    int changes = 0;
    void arm(Mishap what, int at) {
        mishap = what;
        mishap_at = at;
        changes = 0;
    }
    // Whether the mishap has happened.
    bool struck() const { return mishap != Mishap::none && changes > mishap_at; }

    Result<> change() {
        if (mishap == Mishap::none) return {};
        const int number = changes++;
        const bool now = number == mishap_at || (mishap == Mishap::outage && number > mishap_at);
        if (now && mishap == Mishap::crash) throw Crash();
        if (now) return fail(Errc::io, "the simulated kernel fails here");
        return {};
    }

    void probe(SimulatedFunction& function) {
        if (!function.driver.empty()) return;
        const std::string& wanted = function.override.empty() ? function.native : function.override;
        if (!wanted.empty() && drivers.contains(wanted) && !function.refused_by.contains(wanted))
            function.driver = wanted;
    }

    void restart() {
        boot += "+";
        drivers.erase("vfio-pci");
        for (auto& [address, function] : functions) {
            function.driver.clear();
            function.override.clear();
            probe(function);
        }
    }

    static std::string folder_of(const pci::Address& address) {
        return "/sys/devices/pci0000:00/" + pci::to_string(address);
    }
};

class SimulatedSystem final : public System {
  public:
    explicit SimulatedSystem(SimulatedKernel& kernel) : kernel_(kernel) {}

    Result<std::string> read(const std::string& path) override {
        const auto all = files();
        const auto found = all.find(canonical(path));
        if (found == all.end()) return fail(Errc::not_found, "{}: there is no such file", path);
        return found->second;
    }

    Result<std::vector<Entry>> list(const std::string& path) override {
        const std::string folder = canonical(path) + '/';
        std::map<std::string, Entry::Kind> names;
        bool any = false;
        const auto add = [&](const std::string& file, Entry::Kind kind) {
            if (!file.starts_with(folder)) return;
            const std::string rest = file.substr(folder.size());
            const size_t slash = rest.find('/');
            if (slash != std::string::npos) kind = Entry::Kind::folder;
            if (const auto name = rest.substr(0, slash); !name.empty()) names.emplace(name, kind);
            any = true;
        };
        for (const auto& [file, text] : files())
            add(file, Entry::Kind::file);
        for (const auto& [link, text] : all_links())
            add(link, Entry::Kind::link);
        if (!any) return fail(Errc::not_found, "{}: there is no such folder", path);
        std::vector<Entry> entries;
        for (const auto& [name, kind] : names)
            entries.push_back({name, kind});
        return entries;
    }

    Result<std::string> read_link(const std::string& path) override {
        const auto all = all_links();
        const auto found = all.find(canonical(std::filesystem::path(path).parent_path().string()) + '/' +
                                    std::filesystem::path(path).filename().string());
        if (found == all.end()) return fail(Errc::not_found, "{}: there is no such link", path);
        return found->second;
    }

    bool exists(const std::string& path) override { return read(path) || read_link(path) || list(path); }

    std::optional<DeviceNumber> device_number(const std::string& path) override {
        const auto found = kernel_.numbers.find(path);
        if (found != kernel_.numbers.end()) return found->second;
        const auto link = kernel_.links.find(path);
        return link == kernel_.links.end() ? std::nullopt : device_number(link->second);
    }

    bool claimed(const std::string& path) override { return kernel_.claimed.contains(path); }

    Result<> load_module(const std::string& name, io::Duration) override {
        TRY(kernel_.change());
        if (!kernel_.has_vfio_module) return fail(Errc::not_found, "no module {}", name);
        kernel_.drivers.insert(name);
        return {};
    }

    Result<> save(const std::filesystem::path&, const std::string& text) override {
        TRY(kernel_.change());
        kernel_.state = text;
        return {};
    }
    Result<std::optional<std::string>> load(const std::filesystem::path&) override { return kernel_.state; }

    Result<int> nvme_admin(const std::string& node, nvme_passthru_cmd& command) override {
        if (!kernel_.nvme_admin) return fail(Errc::not_found, "{}: no drive", node);
        return kernel_.nvme_admin(node, command);
    }
    Result<std::vector<std::byte>> route_request(std::span<const std::byte> request) override {
        if (!kernel_.route_request) return fail(Errc::not_supported, "no network");
        return kernel_.route_request(request);
    }

    io::TimePoint now() override { return kernel_.time; }
    void pause(io::Duration duration) override { kernel_.time += duration; }

    Result<> write(const std::string& path, const std::string& text, io::Duration timeout) override {
        TRY(kernel_.change());
        if (path == "/sys/bus/pci/drivers_probe") {
            const auto address = TRY(pci::parse_address(text));
            kernel_.probe(kernel_.functions.at(address));
            return {};
        }
        for (auto& [address, function] : kernel_.functions) {
            const std::string folder = "/sys/bus/pci/devices/" + pci::to_string(address) + '/';
            if (path.starts_with(folder))
                return write_attribute(function, path.substr(folder.size()), text, timeout);
        }
        return fail(Errc::not_found, "{}: there is no such file", path);
    }

  private:
    Result<> write_attribute(SimulatedFunction& function, const std::string& name, const std::string& text,
                             io::Duration timeout) {
        const std::string line = text.substr(0, text.find('\n'));
        if (name == "driver_override") {
            function.override = line;
        } else if (name == "driver/unbind") {
            if (function.driver.empty()) return fail(Errc::not_found, "no driver");
            if (function.clings) {
                kernel_.time += timeout;
                return fail(Errc::timeout, "it hangs");
            }
            function.driver.clear();
        } else if (name == "reset_method") {
            function.reset_methods = line;
        } else if (name == "reset") {
            if (!function.working_resets.contains(function.reset_methods)) function.config.assign(64, '\xff');
        } else {
            return fail(Errc::not_found, "there is no attribute {}", name);
        }
        return {};
    }

    // With the links that lead to folders followed.
    std::string canonical(const std::string& path) const {
        for (const auto& [address, function] : kernel_.functions) {
            const std::string link = "/sys/bus/pci/devices/" + pci::to_string(address);
            if (path != link && !path.starts_with(link + '/')) continue;
            const std::string rest = path.substr(link.size());
            const std::string group = "/iommu_group/devices";
            if (rest == group && !function.group.empty())
                return "/sys/kernel/iommu_groups/" + function.group + "/devices";
            return SimulatedKernel::folder_of(address) + rest;
        }
        return path;
    }

    std::map<std::string, std::string> files() const {
        auto all = kernel_.files;
        all["/proc/sys/kernel/random/boot_id"] = kernel_.boot + '\n';
        for (const auto& driver : kernel_.drivers)
            all["/sys/bus/pci/drivers/" + driver + "/unbind"] = "";
        for (const auto& [address, function] : kernel_.functions) {
            const std::string folder = SimulatedKernel::folder_of(address) + '/';
            all[folder + "vendor"] = function.id + '\n';
            all[folder + "class"] = function.class_code + '\n';
            all[folder + "driver_override"] =
                (function.override.empty() ? "(null)" : function.override) + '\n';
            all[folder + "config"] = function.config;
            if (!function.reset_methods.empty()) all[folder + "reset_method"] = function.reset_methods + '\n';
            if (function.driver != function.native) continue;
            for (const auto& [name, text] : function.files)
                all[folder + name] = text;
        }
        return all;
    }

    std::map<std::string, std::string> all_links() const {
        auto all = kernel_.links;
        for (const auto& [address, function] : kernel_.functions) {
            const std::string folder = SimulatedKernel::folder_of(address) + '/';
            const std::string name = pci::to_string(address);
            all["/sys/bus/pci/devices/" + name] = "../../../devices/pci0000:00/" + name;
            if (!function.driver.empty())
                all[folder + "driver"] = "../../../bus/pci/drivers/" + function.driver;
            if (!function.group.empty()) {
                all[folder + "iommu_group"] = "../../../kernel/iommu_groups/" + function.group;
                all["/sys/kernel/iommu_groups/" + function.group + "/devices/" + name] =
                    "../../../../devices/" + name;
            }
            if (function.parent) all[folder + "physfn"] = "../" + pci::to_string(*function.parent);
        }
        return all;
    }

    SimulatedKernel& kernel_;
};

} // namespace lanepool::local_devices
