#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What `lanepool inventory` and `lanepool qualify` say inside whole hosts with both kernels, of devices that are QEMU's and of a
port of the fabric as adapter. Needs script/bootstrap and script/build."""
import json
import sys
import time

from both_kernels import examine_both
from host_cluster import check
from whole_host import KERNELS


class Examiner:
    def __init__(self, host):
        self.host, self.name = host, host.name
        # Functions of the NIC are there before anybody looks.
        nic = host.address("nic0")
        host.check(f"cd /sys/bus/pci/devices/{nic} && echo 0 >sriov_drivers_autoprobe && echo 2 >sriov_numvfs")
        self.at = {name: host.address(name) for name in ("nvme0", "nvme1", "nic0", "edu0", "gpu0", "adapter")}
        self.machine = self.read("inventory")
        self.functions = {each["address"]: each for each in self.machine["functions"]}

    def read(self, command):
        """What a command says as JSON; its notes for people go elsewhere."""
        return json.loads(self.host.check(f"lanepool -o json {command} 2>/dev/null"))

    def expect(self, what, found, wanted):
        check(f"{self.name}: {what}", found == wanted, f"{found!r} instead of {wanted!r}")

    def of(self, name, *fields):
        function = self.functions[self.at[name]]
        return tuple(function.get(field) for field in fields)

    def look_at_host(self):
        host = self.machine["host"]
        self.expect("its kernel", host["kernel_release"], self.host.check("uname -r").strip())
        self.expect("an IOMMU that translates, and remaps interrupts",
                    (host["iommu"], host["iommu_units"], host["interrupt_remapping"]), ("translated_strict", ["dmar0"], True))  # as Linux does with caching-mode=on
        check(f"{self.name}: VFIO is there", {"vfio_pci", "type1"} <= set(host["vfio"]), host)
        check(f"{self.name}: the option that switched it on", "intel_iommu=on" in host["command_line"], host)

    def look_at_devices(self):
        self.expect("the drive", self.of("nvme0", "kind", "model", "serial", "type", "msix_vectors", "intx", "config_broken", "notes"),
                    ("nvme", "QEMU NVMe Ctrl", "nvme0", "endpoint", 65, True, False, []))
        (driver, nodes, firmware) = self.of("nvme0", "driver", "device_nodes", "firmware")
        check(f"{self.name}: the drive's driver, nodes and firmware",
              driver["name"] == "nvme" and len(nodes) == 2 and all(each.startswith("/dev/nvme") for each in nodes) and firmware, (driver, nodes, firmware))
        self.expect("the NIC with two functions", self.of("nic0", "kind")[0], "nic")
        sriov = self.of("nic0", "sriov")[0]
        self.expect("how many it has and could have", (sriov["enabled"], sriov["total"], len(sriov["functions"])), (2, 7, 2))
        for address in sriov["functions"]:
            child = self.functions[address]
            self.expect(f"{address} is a function of the NIC", (child["parent"], child["device_id"], child["upstream"]),
                        (self.at["nic0"], "10ca", self.host.slot("nic0")))
        self.expect("SR-IOV of the second drive", self.of("nvme1", "sriov")[0], {"total": 2, "enabled": 0, "functions": []})
        self.expect("edu", self.of("edu0", "vendor_id", "device_id", "driver", "msi_vectors"), ("1234", "11e8", None, 1))
        self.expect("the GPU-class function", self.of("gpu0", "kind", "vendor_id"), ("gpu", "1af4"))
        check(f"{self.name}: which has a DRM node", "/dev/dri/card0" in self.of("gpu0", "device_nodes")[0], self.of("gpu0", "device_nodes"))

    def look_at_places(self):
        groups = {each["number"]: each["members"] for each in self.machine["groups"]}
        for name, address in self.at.items():
            upstream, group, gaps = self.of(name, "upstream", "iommu_group", "isolation_gaps")
            self.expect(f"{name} is below its port, alone in its group, and isolated",
                        (upstream, groups[group], gaps), (self.host.slot(name), [address], []))
            port = self.functions[upstream]
            check(f"{self.name}: whose port has ACS, with what the IOMMU's driver switches on",
                  port["type"] == "root_port" and "SV+" in port["acs"]["text"] and "RR+" in port["acs"]["text"], port.get("acs"))
        adapter = self.at["adapter"]
        for name in ("nvme0", "edu0", "gpu0"):
            path = self.of(name, "adapter_paths")[0][adapter]["path"]
            check(f"{self.name}: from {name} to the adapter", path == "root_complex", path)

    def look_at_adapter(self):
        self.expect("the adapter", self.of("adapter", "kind", "vendor_id", "class_code"), ("ntb", "11f8", "068000"))
        [adapter] = self.machine["adapters"]
        check(f"{self.name}: its windows, and nothing of its registers",
              adapter["address"] == self.at["adapter"] and max(adapter["window_bar_bytes"]) == 4 << 30 and "partition" not in adapter, adapter)
        # Registers need memory accesses, which a driver would have switched on.
        self.host.check(f"echo 1 >/sys/bus/pci/devices/{self.at['adapter']}/enable")
        [adapter] = self.read("inventory --registers")["adapters"]
        check(f"{self.name}: with --registers partition, LUT entries and requester slots",
              adapter.get("partition") == KERNELS.index(self.host.kernel) and adapter.get("partitions") == len(KERNELS) and
              adapter.get("lut_entries", 0) > 0 and adapter.get("requester_slots", 0) > 0, adapter)

    def look_as_others(self):
        """A saved tree says the same elsewhere."""
        self.host.check("rm -rf /tmp/machine && lanepool inventory --save /tmp/machine >/dev/null")
        there = self.read("inventory --sysroot /tmp/machine")
        now = self.read("inventory")
        check(f"{self.name}: what was saved says what the machine says", there == now)
        self.host.check("lanepool inventory --toml >/tmp/site.toml 2>/dev/null && lanepool site check /tmp/site.toml")

    def judge(self):
        def qualify(address):
            result = self.host.run(f"lanepool -o json qualify {address} 2>/dev/null")
            return result.status, json.loads(result.text)["qualification"]

        def objections(report):
            return [each["id"] for each in report["checks"] if each["result"] not in ("pass", "skipped")]
        for name in ("nvme0", "edu0", "gpu0", "nvme1"):
            status, report = qualify(self.at[name])
            check(f"{self.name}: {name} is fit", status == 0 and report["result"] == "fit", f"{status} {objections(report)} {report}")
        status, report = qualify(self.of("nic0", "sriov")[0]["functions"][0])
        check(f"{self.name}: a function of the NIC is fit", (status, report["result"], report["model"]) == (0, "fit", "vf"), objections(report))
        status, report = qualify(self.at["nic0"])
        check(f"{self.name}: its parent is not", (status, objections(report)) == (1, ["sriov"]), objections(report))
        status, report = qualify(self.at["adapter"])
        check(f"{self.name}: the adapter is not", status == 1 and "function" in objections(report), objections(report))

    def all(self):
        start = time.monotonic()
        for look in (self.look_at_host, self.look_at_devices, self.look_at_places, self.look_at_adapter, self.look_as_others, self.judge):
            look()
        print(f"{self.name}: booted in {self.host.boot_s:.1f} s, looked at in {time.monotonic() - start:.1f} s", flush=True)


if __name__ == "__main__":
    sys.exit(examine_both(lambda host: Examiner(host).all()))
