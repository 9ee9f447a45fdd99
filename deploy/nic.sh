#!/usr/bin/env bash
# Hands network cards to DPDK and back to the kernel, and reserves huge pages.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: nic.sh status
       nic.sh bind [--driver NAME] [--no-iommu] [--force]... DEVICE...
       nic.sh unbind DEVICE...
       nic.sh hugepages SIZE [--page 2M|1G] [--node N]
       nic.sh boot

DEVICE is a PCI address (0000:03:00.0 or 03:00.0) or a network interface (eth1).

  status     network cards with driver, IOMMU group, NUMA node, interfaces; huge pages
  bind       takes cards from the kernel and gives them to a driver for user space: vfio-pci, or
             --driver uio_pci_generic or igb_uio
  unbind     gives cards back to the kernel's own driver
  hugepages  makes the pool of huge pages at least SIZE (1GiB, 512MiB); never shrinks it, unless
             SIZE is 0
  boot       what systemd runs: hugepages and bind with the values of /etc/default/postern
             (POSTERN_HUGEPAGES, POSTERN_NICS, POSTERN_NIC_DRIVER)

  --force     take a card whose interface has an address or a route; once
  --force --force
              take even the card that carries the default route. Whoever is logged in over it loses
              the machine
  --no-iommu  let vfio-pci work where there is no IOMMU: the card can then write all of memory

Nothing is kept over a reboot, except by postern-nic.service (deploy/systemd).
TEXT
}

# The roots are variables so that tests can put a tree of their own there.
sys=${POSTERN_SYS_ROOT:-/sys} proc=${POSTERN_PROC_ROOT:-/proc}
driver=vfio-pci force=0 no_iommu=false

say() { printf '%s\n' "$*"; }
warn() { printf 'nic.sh: %s\n' "$*" >&2; }
die() {
  warn "$*"
  exit 1
}

# put VALUE FILE: one write, as sysfs wants it, with the kernel's answer in words.
put() {
  local why
  why=$(printf '%s\n' "$1" 2>&1 >"$2") || die "cannot write \"$1\" to $2: ${why##*: }; are you root?"
}

# ---- what there is ----

pci() { printf '%s' "$sys/bus/pci/devices/$1"; }
link_name() { if [ -e "$1" ]; then basename "$(readlink -f "$1")"; fi; }
driver_of() { link_name "$(pci "$1")/driver"; }
group_of() { link_name "$(pci "$1")/iommu_group"; }
class_of() { cat "$(pci "$1")/class" 2>/dev/null || true; }

interfaces_of() { # ADDRESS -> names; a virtio device has them one level down
  local path
  for path in "$(pci "$1")"/net/* "$(pci "$1")"/virtio*/net/*; do
    if [ -e "$path" ]; then basename "$path"; fi
  done
}

# DEVICE -> canonical PCI address
address_of() {
  local path
  if [[ $1 =~ ^([0-9a-fA-F]{4}:)?[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7]$ ]]; then
    local address=${1,,}
    if [[ $address =~ ^..: ]]; then address=0000:$address; fi
    [ -e "$(pci "$address")" ] || die "there is no PCI device $address; nic.sh status lists the network cards"
    [[ $(class_of "$address") == 0x02* ]] || die "$address is not a network card"
    say "$address"
    return
  fi
  [ -e "$sys/class/net/$1" ] || die "there is no interface $1, and it is not a PCI address; nic.sh status lists the network cards"
  path=$(readlink -f "$sys/class/net/$1/device" 2>/dev/null || true)
  # The parent of a virtio device is the PCI device.
  [[ ${path##*/} == virtio* ]] && path=${path%/*}
  [ -e "$(pci "${path##*/}")" ] || die "$1 is not a PCI device; Postern reaches it by net_af_packet0,iface=$1"
  say "${path##*/}"
}

# ---- what must not be taken ----

default_route_interfaces() {
  {
    awk 'NR > 1 && $2 == "00000000" && $8 == "00000000" { print $1 }' "$proc/net/route" 2>/dev/null
    # Unreachable default routes stand on lo.
    awk '$1 ~ /^0+$/ && $2 == "00" && $10 != "lo" { print $10 }' "$proc/net/ipv6_route" 2>/dev/null
  } | sort -u
}

routed_interfaces() {
  {
    awk 'NR > 1 { print $1 }' "$proc/net/route" 2>/dev/null
    awk '$1 !~ /^(fe80|ff)/ && $10 != "lo" { print $10 }' "$proc/net/ipv6_route" 2>/dev/null
  } | sort -u
}

# rests_on UPPER LOWER: whether UPPER is LOWER, or a bond, bridge, VLAN or the like above it.
rests_on() {
  [ "$1" = "$2" ] && return 0
  local lower
  for lower in "$sys/class/net/$1"/lower_*; do
    if [ -e "$lower" ] && rests_on "${lower##*/lower_}" "$2"; then return 0; fi
  done
  return 1
}

# carries INTERFACE NAME...: the first NAME that rests on INTERFACE
carries() {
  local interface=$1 name
  shift
  for name in "$@"; do
    if rests_on "$name" "$interface"; then
      say "$name"
      return
    fi
  done
}

refuse_what_is_in_use() { # ADDRESS
  local interface by
  for interface in $(interfaces_of "$1"); do
    # shellcheck disable=SC2046 # a list of names
    by=$(carries "$interface" $(default_route_interfaces))
    if [ -n "$by" ] && [ "$force" -lt 2 ]; then
      die "$interface ($1) carries the default route${by:+ (of $by)}: without it this machine may be out of reach; if you mean it, say --force --force"
    fi
    # shellcheck disable=SC2046
    by=$(carries "$interface" $(routed_interfaces))
    if [ -n "$by" ] && [ "$force" -lt 1 ]; then
      die "$interface ($1) is in use: routes go by $by; take them away (ip addr flush dev $by) or say --force"
    fi
  done
}

# ---- binding ----

require_driver() {
  [ -e "$sys/bus/pci/drivers/$driver" ] || modprobe -- "$driver" 2>/dev/null || true
  [ -e "$sys/bus/pci/drivers/$driver" ] || die "the kernel has no driver $driver; modprobe $driver says why"
}

require_iommu() { # ADDRESS
  [ "$driver" = vfio-pci ] || return 0
  [ -z "$(group_of "$1")" ] || return 0
  local unsafe=$sys/module/vfio/parameters/enable_unsafe_noiommu_mode
  if ! $no_iommu; then
    die "$1 is in no IOMMU group: switch the IOMMU on in the firmware and boot with intel_iommu=on (AMD has it on by itself); or accept that the card can write all of memory and say --no-iommu"
  fi
  [ -e "$unsafe" ] || die "this kernel's vfio knows no mode without IOMMU (CONFIG_VFIO_NOIOMMU); --driver uio_pci_generic may do"
  put 1 "$unsafe"
}

# vfio gives a group to user space only as a whole.
require_whole_group() { # ADDRESS
  [ "$driver" = vfio-pci ] || return 0
  local group member name taker
  group=$(group_of "$1")
  [ -n "$group" ] || return 0
  for member in "$sys/kernel/iommu_groups/$group/devices"/*; do
    name=${member##*/}
    if [ ! -e "$member" ] || [[ " ${addresses[*]} " == *" $name "* ]]; then continue; fi
    taker=$(driver_of "$name")
    case $taker in '' | vfio-pci | pci-stub | pcieport) continue ;; esac
    die "$1 shares IOMMU group $group with $name ($taker): bind both in one call, or put the card into another slot"
  done
}

move() { # ADDRESS DRIVER: an empty DRIVER leaves the choice to the kernel
  local path current
  path=$(pci "$1")
  current=$(driver_of "$1")
  put "$2" "$path/driver_override"
  if [ -n "$current" ]; then put "$1" "$path/driver/unbind"; fi
  put "$1" "$sys/bus/pci/drivers_probe"
}

# settled ADDRESS [DRIVER]: waits until DRIVER, or any, has taken the device; probing may lag.
settled() {
  local tries now
  for ((tries = 0; tries < 40; tries++)); do
    now=$(driver_of "$1")
    if [ -n "$now" ] && [ "$now" = "${2:-$now}" ]; then return 0; fi
    sleep 0.05
  done
  return 1
}

bind_all() {
  require_driver
  local address
  for address in "${addresses[@]}"; do # all is checked before anything is taken
    [ "$(driver_of "$address")" = "$driver" ] && continue
    refuse_what_is_in_use "$address"
    require_iommu "$address"
    require_whole_group "$address"
  done
  for address in "${addresses[@]}"; do
    if [ "$(driver_of "$address")" = "$driver" ]; then
      say "$address is bound to $driver already"
      continue
    fi
    move "$address" "$driver"
    settled "$address" "$driver" || die "$driver did not take $address; dmesg says why"
    say "$address is bound to $driver"
  done
}

unbind_all() {
  local address
  for address in "${addresses[@]}"; do
    case $(driver_of "$address") in
      '' | vfio-pci | uio_pci_generic | igb_uio) ;;
      *)
        say "$address is the kernel's already ($(driver_of "$address"))"
        continue
        ;;
    esac
    move "$address" ''
    settled "$address" || die "$address is free, but no driver of the kernel's took it; modprobe it"
    say "$address is bound to $(driver_of "$address"): $(interfaces_of "$address" | paste -sd ' ')"
  done
}

# ---- huge pages ----

bytes_of() { # 1GiB, 512M, 0
  [[ $1 =~ ^([0-9]+)(|[kKMGT])(|i?B)$ ]] || die "\"$1\" is not a size; write 512MiB or 1GiB"
  local unit=${BASH_REMATCH[2]} shift=0
  case $unit in k | K) shift=10 ;; M) shift=20 ;; G) shift=30 ;; T) shift=40 ;; esac
  say $((BASH_REMATCH[1] << shift))
}

pool_of() { # KILOBYTES NODE -> directory of the pool
  if [ -n "$2" ]; then
    say "$sys/devices/system/node/node$2/hugepages/hugepages-$1kB"
  else
    say "$sys/kernel/mm/hugepages/hugepages-$1kB"
  fi
}

reserve() { # SIZE PAGE NODE
  local kilobytes pool want have
  case $2 in 2M | 2MiB) kilobytes=2048 ;; 1G | 1GiB) kilobytes=1048576 ;; *) die "--page is 2M or 1G" ;; esac
  pool=$(pool_of $kilobytes "$3")
  [ -d "$pool" ] || die "this machine has no pool $pool; 1 GiB pages want default_hugepagesz=1G on the kernel's command line"
  want=$(bytes_of "$1")
  want=$(((want + kilobytes * 1024 - 1) / (kilobytes * 1024)))
  have=$(cat "$pool/nr_hugepages")
  if [ "${have:-0}" -lt "$want" ] || [ "$want" = 0 ]; then put "$want" "$pool/nr_hugepages"; fi
  have=$(cat "$pool/nr_hugepages")
  [ "${have:-0}" -ge "$want" ] ||
    die "the kernel found ${have:-0} of $want pages of $kilobytes kB: memory is in use or in pieces; reserve at boot (hugepages=$want on the kernel's command line)"
  say "${have:-0} huge pages of $kilobytes kB${3:+ on node $3}"
}

# ---- status ----

status() {
  local path address found=false pool
  printf '%-13s %-16s %-6s %-5s %-14s %s\n' Address Driver Group Node Interface Notes
  for path in "$sys/bus/pci/devices"/*; do
    address=${path##*/}
    [[ $(class_of "$address") == 0x02* ]] || continue
    found=true
    printf '%-13s %-16s %-6s %-5s %-14s %s\n' "$address" "$(or_dash "$(driver_of "$address")")" \
      "$(or_dash "$(group_of "$address")")" "$(cat "$path/numa_node" 2>/dev/null || say -)" \
      "$(or_dash "$(interfaces_of "$address" | paste -sd ,)")" "$(notes_of "$address")"
  done
  $found || say "(no PCI network card)"
  say
  for pool in "$sys"/devices/system/node/node*/hugepages/hugepages-*; do
    [ -e "$pool/nr_hugepages" ] || continue
    path=${pool%/hugepages/*}
    say "node ${path##*node}: $(cat "$pool/nr_hugepages") huge pages of ${pool##*hugepages-}, $(cat "$pool/free_hugepages") free"
  done
}
or_dash() { printf '%s' "${1:--}"; }

notes_of() { # ADDRESS
  local interface by
  for interface in $(interfaces_of "$1"); do
    # shellcheck disable=SC2046
    by=$(carries "$interface" $(default_route_interfaces))
    if [ -n "$by" ]; then
      printf 'default route'
      return
    fi
    # shellcheck disable=SC2046
    by=$(carries "$interface" $(routed_interfaces))
    if [ -n "$by" ]; then printf 'in use'; fi
  done
}

# ---- command line ----

[ $# -gt 0 ] || {
  usage >&2
  exit 2
}
verb=$1
shift
page=2M node='' words=()
while [ $# -gt 0 ]; do
  case $1 in
    --driver | --page | --node) [ $# -gt 1 ] || die "$1 wants a value" ;;&
    --driver) driver=$2 && shift ;;
    --page) page=$2 && shift ;;
    --node) node=$2 && shift ;;
    --force) force=$((force + 1)) ;;
    --no-iommu) no_iommu=true ;;
    -h | --help) usage && exit 0 ;;
    -*) die "there is no option $1; see nic.sh --help" ;;
    *) words+=("$1") ;;
  esac
  shift
done

if [ "$verb" = boot ]; then
  driver=${POSTERN_NIC_DRIVER:-vfio-pci}
  if [ -n "${POSTERN_HUGEPAGES:-}" ]; then reserve "$POSTERN_HUGEPAGES" "${POSTERN_HUGEPAGE:-2M}" ''; fi
  read -ra words <<<"${POSTERN_NICS:-}"
  [ ${#words[@]} != 0 ] || exit 0
  verb=bind
fi
case $verb in
  bind | unbind)
    [ ${#words[@]} != 0 ] || die "$verb needs a device; nic.sh status lists them"
    addresses=()
    for word in "${words[@]}"; do
      address=$(address_of "$word") || exit 1
      addresses+=("$address")
    done
    "${verb}_all"
    ;;
  hugepages)
    [ ${#words[@]} = 1 ] || die "hugepages needs one size, for example 1GiB"
    reserve "${words[0]}" "$page" "$node"
    ;;
  status) status ;;
  -h | --help | help) usage ;;
  *)
    usage >&2
    exit 2
    ;;
esac
