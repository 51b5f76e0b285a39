// SPDX-License-Identifier: Apache-2.0
#include "dev/host_setup.h"

#include "dev/guest_exec.h"

#include <fmt/format.h>

namespace lanepool::dev {

namespace {

// Works with the words that setup_command() puts in front of it.
constexpr const char* setup_script = R"sh(
fail() { echo "$1"; exit 1; }
driver_of() { basename "$(readlink "/sys/bus/pci/devices/$1/driver" || echo /)"; }
function_behind() { ls "/sys/bus/pci/devices/$1" | grep -m 1 '^0000:.*\.0$'; }

umask 077
mkdir -p /etc/lanepool /run/lanepool /var/lib/lanepool
printf %s "$ca" >/etc/lanepool/ca.pem
printf %s "$certificate" >/etc/lanepool/agent.pem
printf %s "$key" >/etc/lanepool/agent.key

# The kernel makes disks known when it has looked at them, which loading their drivers does not wait for.
for i in $(seq 100); do [ -b /dev/vda ] && break; sleep 0.05; done
[ -b /dev/vda ] || fail "there is no disk for the agent's state"
if ! grep -q ' /var/lib/lanepool ' /proc/mounts; then
  # A new disk has nothing at 1080, where an ext4 file system has its mark.
  [ "$(dd if=/dev/vda bs=2 skip=540 count=1 2>/dev/null | od -An -tx1)" = " 53 ef" ] ||
    mke2fs -qt ext4 /dev/vda || fail "the disk for the agent's state cannot be formatted"
  mount -t ext4 /dev/vda /var/lib/lanepool || fail "the disk with the agent's state cannot be mounted"
fi

adapter=$(function_behind "$adapter_port") || fail "there is no adapter behind $adapter_port"
if [ "$(driver_of "$adapter")" != vfio-pci ]; then
  device=/sys/bus/pci/devices/$adapter
  echo vfio-pci >"$device/driver_override"
  [ ! -e "$device/driver" ] || echo "$adapter" >"$device/driver/unbind"
  echo "$adapter" >/sys/bus/pci/drivers_probe
  [ "$(driver_of "$adapter")" = vfio-pci ] || fail "vfio-pci does not take the adapter $adapter"
fi

# Direct DMA is for the site's rules to allow; the module is not to stand in the way of who tries it.
if [ "$borrows" = 1 ] && [ ! -e /dev/lanepool_bridge ]; then
  # There is no udev, which would load a driver when a device comes.
  modprobe -a nvme igb igbvf || fail "the drivers for what is lent cannot be loaded"
  insmod /usr/lib/lanepool/lanepool_bridge.ko allow_direct=1 || fail "the bridge module cannot be loaded"
fi

pid=$(cat /run/lanepool/agent.pid 2>/dev/null)
[ -z "$pid" ] || ! kill -0 "$pid" 2>/dev/null || exit 0
set --
for item in $lent; do
  address=$(function_behind "${item#*=}") || fail "there is no device ${item%%=*} behind ${item#*=}"
  set -- "$@" --device "${item%%=*}=pci:$address"
done
setsid lanepool --controller "$controllers" --tls-ca /etc/lanepool/ca.pem --tls-cert /etc/lanepool/agent.pem \
  --tls-key /etc/lanepool/agent.key agent --host "$host" --adapter "pci:$adapter" --state /var/lib/lanepool \
  --admin "$admin" --application "$application" "$@" >>"$log" 2>&1 </dev/null &
echo $! >/run/lanepool/agent.pid
)sh";

} // namespace

std::string setup_command(const HostSetup& setup) {
    std::string lent;
    for (const auto& [name, port] : setup.lent)
        lent += fmt::format("{}{}={}", lent.empty() ? "" : " ", name, port);
    std::string words;
    const std::pair<const char*, std::string> variables[] = {
        {"host", setup.host},
        {"controllers", setup.controllers},
        {"ca", setup.ca},
        {"certificate", setup.certificate},
        {"key", setup.key},
        {"adapter_port", setup.adapter_port},
        {"lent", lent},
        {"borrows", setup.borrows ? "1" : "0"},
        {"admin", host_admin_socket},
        {"application", host_application_socket},
        {"log", host_agent_log},
    };
    for (const auto& [name, value] : variables)
        words += fmt::format("{}={}\n", name, shell_word(value));
    return words + setup_script;
}

std::string wait_command(unsigned timeout_s) {
    return fmt::format("lanepool dev ask --until-ready {} {} status || {{ tail -n 5 {}; exit 1; }}",
                       timeout_s, host_admin_socket, host_agent_log);
}

} // namespace lanepool::dev
