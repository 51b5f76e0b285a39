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
    // The kernel says that they fail; or calls them done, and afterwards: a part of the configuration is
    // lost, nothing answers, only the registers do not.
    std::set<std::string> stale_resets; // listed, and refused when they are written
    std::string default_resets;
    std::set<std::string> failing_resets, losing_resets, deadly_resets, silencing_resets;
    std::string undamaged;                    // config before the last reset
    bool silent = false;                      // registers read as all ones
    std::map<std::string, std::string> files; // below its folder, while `native` has it
    std::string config = std::string("\xf4\x1a\x01\x10", 4) + std::string(60, '\0');
    bool clings = false; // its driver never lets go, and the kernel keeps a lock meanwhile
    bool locked = false;
    std::set<std::string> refused_by;    // drivers whose probe fails
    std::optional<pci::Address> parent;  // physfn
    unsigned total_functions = 0;        // VFs that it could have
    std::vector<pci::Address> functions; // that it has; added and removed by a write to sriov_numvfs
    bool autoprobe = true;
    std::string function_driver; // what takes its VFs by itself
    bool makes_functions = true;
    std::function<void()> when_reset;
    std::optional<pci::Address> below; // the bridge above it
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
        if (function.parent && function.override.empty() && !functions.at(*function.parent).autoprobe) return;
        if (!wanted.empty() && drivers.contains(wanted) && !function.refused_by.contains(wanted))
            function.driver = wanted;
    }

    // What hung ends.
    void unlock(const pci::Address& address) {
        auto& function = functions.at(address);
        function.clings = function.locked = false;
        function.driver.clear();
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

    // Below "/sys/devices".
    std::string folder_of(const pci::Address& address) const {
        const auto found = functions.find(address);
        if (found == functions.end() || !found->second.below) return "pci0000:00/" + pci::to_string(address);
        return "pci0000:00/" + pci::to_string(*found->second.below) + '/' + pci::to_string(address);
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

    Result<bool> reads_all_ones(const std::string& path) override {
        for (const auto& [address, function] : kernel_.functions)
            if (path.starts_with("/sys/bus/pci/devices/" + pci::to_string(address))) return function.silent;
        return fail(Errc::not_found, "{}", path);
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
            const std::string name = path.substr(std::min(folder.size(), path.size()));
            if (path == folder + "sriov_numvfs") return set_functions(address, function, std::stoul(text));
            if (path.starts_with(folder)) return write_attribute(function, name, text, timeout);
        }
        return fail(Errc::not_found, "{}: there is no such file", path);
    }

  private:
    Result<> set_functions(const pci::Address& address, SimulatedFunction& parent, unsigned long count) {
        if (count != 0 && !parent.functions.empty()) return fail(Errc::busy, "it has VFs");
        if (!parent.makes_functions) return fail(Errc::not_found, "the driver has no way");
        for (const auto& function : parent.functions)
            kernel_.functions.erase(function);
        parent.functions.clear();
        for (unsigned long i = 0; i < count; ++i) {
            const pci::Address vf{address.domain, address.bus, 0x10, static_cast<uint8_t>(i)};
            SimulatedFunction function;
            function.native = parent.function_driver;
            function.group = fmt::format("{}-{}", parent.group, i);
            function.parent = address;
            function.config.assign(64, '\xff');
            parent.functions.push_back(vf);
            kernel_.functions[vf] = function;
            kernel_.probe(kernel_.functions[vf]);
        }
        return {};
    }

    Result<> write_attribute(SimulatedFunction& function, const std::string& name, const std::string& text,
                             io::Duration timeout) {
        const std::string line = text.substr(0, text.find('\n'));
        if (function.locked) {
            kernel_.time += timeout;
            return fail(Errc::timeout, "it hangs");
        }
        if (name == "driver_override") {
            function.override = line;
        } else if (name == "driver/unbind") {
            if (function.driver.empty()) return fail(Errc::not_found, "no driver");
            if (function.clings) {
                kernel_.time += timeout;
                function.locked = true;
                return fail(Errc::timeout, "it hangs");
            }
            function.driver.clear();
        } else if (name == "power/control") {
            return {};
        } else if (name == "enable") {
            if (!function.driver.empty()) return fail(Errc::busy, "it has a driver");
        } else if (name == "reset_method") {
            const auto stale = [&](const std::string& method) {
                return line.find(method) != std::string::npos;
            };
            if (std::ranges::any_of(function.stale_resets, stale))
                return fail(Errc::invalid_argument, "stale");
            function.reset_methods = line == "default" ? function.default_resets : line;
        } else if (name == "sriov_drivers_autoprobe") {
            function.autoprobe = line == "1";
        } else if (name == "reset") {
            if (function.when_reset) function.when_reset();
            if (function.failing_resets.contains(function.reset_methods)) return fail(Errc::io, "it fails");
            if (!function.undamaged.empty()) function.config = function.undamaged;
            function.undamaged = function.config;
            if (function.losing_resets.contains(function.reset_methods)) function.config[4] ^= 2;
            if (function.deadly_resets.contains(function.reset_methods)) function.config.assign(64, '\xff');
            function.silent = function.silencing_resets.contains(function.reset_methods);
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
            return "/sys/devices/" + kernel_.folder_of(address) + rest;
        }
        return path;
    }

    std::map<std::string, std::string> files() const {
        auto all = kernel_.files;
        all["/proc/sys/kernel/random/boot_id"] = kernel_.boot + '\n';
        for (const auto& driver : kernel_.drivers)
            all["/sys/bus/pci/drivers/" + driver + "/unbind"] = "";
        for (const auto& [address, function] : kernel_.functions) {
            const std::string folder = "/sys/devices/" + kernel_.folder_of(address) + '/';
            all[folder + "vendor"] = function.id + '\n';
            all[folder + "class"] = function.class_code + '\n';
            all[folder + "driver_override"] =
                (function.override.empty() ? "(null)" : function.override) + '\n';
            all[folder + "config"] = function.config;
            all[folder + "power/control"] = "auto\n";
            all[folder + "resource"] = "0xfe000000 0xfe003fff 0x40200\n";
            if (!function.reset_methods.empty()) all[folder + "reset_method"] = function.reset_methods + '\n';
            if (function.total_functions > 0) {
                all[folder + "sriov_totalvfs"] = fmt::format("{}\n", function.total_functions);
                all[folder + "sriov_numvfs"] = fmt::format("{}\n", function.functions.size());
                all[folder + "sriov_drivers_autoprobe"] = function.autoprobe ? "1\n" : "0\n";
            }
            if (function.driver != function.native) continue;
            for (const auto& [name, text] : function.files)
                all[folder + name] = text;
        }
        return all;
    }

    std::map<std::string, std::string> all_links() const {
        auto all = kernel_.links;
        for (const auto& [address, function] : kernel_.functions) {
            const std::string folder = "/sys/devices/" + kernel_.folder_of(address) + '/';
            const std::string name = pci::to_string(address);
            all["/sys/bus/pci/devices/" + name] = "../../../devices/" + kernel_.folder_of(address);
            if (!function.driver.empty())
                all[folder + "driver"] = "../../../bus/pci/drivers/" + function.driver;
            if (!function.group.empty()) {
                all[folder + "iommu_group"] = "../../../kernel/iommu_groups/" + function.group;
                all["/sys/kernel/iommu_groups/" + function.group + "/devices/" + name] =
                    "../../../../devices/" + name;
            }
            for (size_t i = 0; i < function.functions.size(); ++i)
                all[folder + fmt::format("virtfn{}", i)] = "../" + pci::to_string(function.functions[i]);
            if (function.parent) all[folder + "physfn"] = "../" + pci::to_string(*function.parent);
        }
        return all;
    }

    SimulatedKernel& kernel_;
};

} // namespace lanepool::local_devices
