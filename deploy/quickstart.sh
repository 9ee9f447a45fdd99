#!/usr/bin/env bash
# Shows Postern at work on any Debian 12 machine, without a spare network card: an ordinary Linux
# client, in one network namespace, talks to unprivileged programs whose sockets posternd serves in
# another. The machine's own network is used for installing packages and for nothing else.
set -euo pipefail

usage() {
  cat <<TEXT
usage: sudo deploy/quickstart.sh [--keep] [--hugepages] [--size MIB]
       sudo deploy/quickstart.sh --stop

  --keep       leave everything running at the end and print how to reach it
  --stop       end what --keep left running
  --hugepages  reserve 2 MiB hugepages for posternd, give them back at the end
  --size MIB   size of the download, default 256
TEXT
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/.." && pwd)
. "$here/common.sh"

# Everything this checkout makes carries its id: two checkouts do not meet.
id=$(printf '%s' "$root" | sha256sum | cut -c1-6)
dir=/var/tmp/postern-quickstart-$id
build=$root/build
ns_app=postern-$id # posternd's end of the wire
ns_net=linux-$id   # the Linux kernel's end
ip_app=192.0.2.2
ip_net=192.0.2.1
app_user=nobody
log_dir=$dir

keep=false stop=false hugepages=false size=256
while [ $# -gt 0 ]; do
  case $1 in
    --keep) keep=true ;;
    --stop) stop=true ;;
    --hugepages) hugepages=true ;;
    --size)
      size=${2:-}
      [[ $size =~ ^[1-9][0-9]{0,4}$ ]] || die "--size wants a number of MiB, 1 to 99999"
      shift
      ;;
    -h | --help)
      usage
      exit 0
      ;;
    *)
      usage >&2
      exit 2
      ;;
  esac
  shift
done
need_root

# ---- what must be undone, in a file that a later --stop reads too ----

remember() { printf '%s\n' "$*" >>"$dir/state"; } # KIND ARGUMENT...

undo() {
  [ -f "$dir/state" ] || return 0
  local lines kind a b i
  mapfile -t lines <"$dir/state"
  for ((i = ${#lines[@]} - 1; i >= 0; i--)); do
    read -r kind a b <<<"${lines[i]}"
    case $kind in
      process) end_process "$a" "$b" ;;
      namespace) ip netns del "$a" 2>/dev/null || true ;;
      hugepages) give_back_hugepages "$a" "$b" ;;
      mount) umount "$a" 2>/dev/null || true ;;
    esac
  done
}

clean_up() {
  undo
  rm -rf -- "$dir"
}

on_exit() {
  local status=$?
  trap - EXIT INT TERM HUP
  if [ "$status" != 0 ]; then
    printf '\n%sThe quickstart did not finish.%s\n' "$red" "$plain"
    show_log_tail posternd
  fi
  clean_up
  exit "$status"
}

show_log_tail() {
  [ -s "$dir/$1.log" ] || return 0
  say "Last lines of $1's log:"
  tail -n 15 "$dir/$1.log" | sed 's/^/  /'
}

make_dir() {
  if [ -e "$dir" ] || [ -L "$dir" ]; then
    if [ -L "$dir" ] || [ ! -d "$dir" ] || [ "$(stat -c %u "$dir")" != 0 ]; then
      die "$dir exists and is not root's directory: remove it"
    fi
    say "Cleaning up after an earlier run."
    clean_up
  fi
  mkdir -m 755 "$dir"
}

# ---- hugepages ----

nr_hugepages=/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
pages_wanted=320 # 512 MiB for packets and tables, the rest for EAL itself

give_back_hugepages() { # BEFORE ADDED: takes away what we added, not what others added since
  local now
  now=$(cat "$nr_hugepages")
  echo $((now - $2 > $1 ? now - $2 : $1)) >"$nr_hugepages"
}

reserve_hugepages() {
  [ -w "$nr_hugepages" ] || die "this kernel has no 2 MiB hugepages: run without --hugepages"
  local before after
  before=$(cat "$nr_hugepages")
  remember hugepages "$before" "$pages_wanted"
  echo $((before + pages_wanted)) >"$nr_hugepages"
  after=$(cat "$nr_hugepages")
  [ $((after - before)) -ge "$pages_wanted" ] ||
    die "the kernel found only $((after - before)) of $pages_wanted hugepages: memory is too fragmented"
  if ! grep -q ' hugetlbfs ' /proc/mounts; then
    mkdir -p "$dir/hugepages"
    mount -t hugetlbfs -o pagesize=2M postern "$dir/hugepages"
    remember mount "$dir/hugepages"
  fi
  say "  reserved $pages_wanted hugepages of 2 MiB"
}

# ---- the network: two namespaces and a wire ----

make_network() {
  local ns
  for ns in "$ns_app" "$ns_net"; do
    ip netns add "$ns"
    remember namespace "$ns"
  done
  ip -n "$ns_net" link add wire0 type veth peer name wire0 netns "$ns_app"
  ip -n "$ns_net" link set lo up
  ip -n "$ns_net" link set wire0 up
  ip -n "$ns_net" addr add "$ip_net/24" dev wire0
  # posternd takes this end over: the kernel must not answer on it as well.
  ip netns exec "$ns_app" sysctl -qw net.ipv6.conf.wire0.disable_ipv6=1 2>/dev/null || true
  ip -n "$ns_app" link set wire0 up
  # Over veth the kernel leaves checksums unfinished and sends segments of 64 KiB for the card to
  # cut. A DPDK port is no such card: have the kernel finish its packets.
  ip netns exec "$ns_net" ethtool -K wire0 tx off tso off gso off >/dev/null
  say "  $ns_net ($ip_net, the Linux kernel) ---wire--- $ns_app ($ip_app, posternd)"
}

# ---- the programs ----

write_config() {
  cat >"$dir/posternd.yaml" <<YAML
# posternd's configuration for the quickstart.
dpdk:
  file_prefix: postern-$id
memory:
  hugepages: $($hugepages && echo on || echo off)
  size: 512MiB
workers:
  idle: adaptive        # sleep when nothing happens
ports:
  - name: wire0
    device: "net_af_packet0,iface=wire0"
    addresses: [$ip_app/24]
access:                 # who may attach, and bind which ports; all others get nothing
  - user: $app_user
    bind: [tcp/80, tcp/7, udp/7]
control:
  app_socket: $dir/postern.sock
  socket: $dir/control.sock
YAML
}

# launch NAME COMMAND...: in the background, its output in NAME.log
launch() {
  local name=$1 pid
  shift
  setsid -- "$@" </dev/null >"$dir/$name.log" 2>&1 &
  pid=$!
  remember process "$pid" "$(process_start "$pid")"
  eval "pid_${name}=$pid"
}

# await NAME SECONDS TEST...: until TEST succeeds; an error if NAME ends before
await() {
  local name=$1 limit=$2 pid_name=pid_$1 tick
  shift 2
  for ((tick = 0; tick < limit * 20; tick++)); do
    if "$@"; then return 0; fi
    if ! kill -0 "${!pid_name}" 2>/dev/null; then
      show_log_tail "$name"
      die "$name ended at once"
    fi
    sleep 0.05
  done
  show_log_tail "$name"
  die "$name was not ready after $limit s"
}

posternd_ready() { grep -qw ready "$dir/posternd.log"; }
listening() { postern ss 2>/dev/null | grep -E -q -- "[:.]$1\b"; } # PORT

postern() {
  local verb=$1
  shift
  "$build/app/cli/postern" "$verb" "$@" --socket "$dir/control.sock"
}

# The programs run as a user who may not be able to enter this checkout: then from a copy.
place_programs() {
  programs=$build/app/examples
  if runuser -u "$app_user" -- test -x "$programs/httpd" -a -r "$build/lib/client/libpostern.so.0" \
    2>/dev/null; then
    return
  fi
  programs=$dir/bin
  mkdir "$programs"
  cp -L "$build/app/examples/httpd" "$build/app/examples/echo" "$programs/"
  cp -P "$build"/lib/client/libpostern.so* "$programs/"
}

# launch_as_app_user NAME COMMAND...: a command line, not a function, is what setsid can run
launch_as_app_user() {
  local name=$1
  shift
  launch "$name" \
    setpriv --reuid="$app_user" --regid="$(id -g "$app_user")" --clear-groups --no-new-privs -- \
    env -i PATH=/usr/bin:/bin POSTERN_SOCKET="$dir/postern.sock" LD_LIBRARY_PATH="$programs" "$@"
}

start_programs() {
  launch posternd ip netns exec "$ns_app" "$build/app/daemon/posternd" --config "$dir/posternd.yaml"
  await posternd 20 posternd_ready
  say "  posternd    $ip_app on wire0, one worker, $($hugepages && echo with || echo without) hugepages"
  mkdir "$dir/www"
  head -c $((size * 1024 * 1024)) /dev/urandom >"$dir/www/download.bin"
  say "Served by Postern." >"$dir/www/index.html"
  place_programs
  launch_as_app_user httpd "$programs/httpd" --root "$dir/www" --port 80
  launch_as_app_user echo "$programs/echo" --tcp 7 --udp 7
  await httpd 10 listening 80
  await echo 10 listening 7
  say "  httpd       port 80, as user $app_user"
  say "  echo        port 7, TCP and UDP, as user $app_user"
}

# ---- what the Linux end does ----

from_linux() { ip netns exec "$ns_net" "$@"; }

try_ping() {
  local summary
  summary=$(from_linux ping -n -q -c 5 -i 0.2 -W 2 "$ip_app") || die "ping failed: $summary"
  say "  ping        $(sed -n 's/, time.*//; /transmitted/p' <<<"$summary"), $(grep rtt <<<"$summary")"
}

try_udp_echo() {
  from_linux python3 - "$ip_app" 7 <<'PYTHON'
import os, socket, statistics, sys, time

target = (sys.argv[1], int(sys.argv[2]))
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.connect(target)
sock.settimeout(2)
times = []
for i in range(1000):
    data = os.urandom(1 + i * 1471 // 999)
    begin = time.perf_counter()
    sock.send(data)
    answer = sock.recv(2048)
    times.append(time.perf_counter() - begin)
    if answer != data:
        sys.exit(f"datagram {i} came back changed")
print(f"  UDP echo    1000 datagrams of 1 to 1472 bytes came back intact, "
      f"median {statistics.median(times) * 1e6:.0f} microseconds")
PYTHON
}

try_download() {
  local style=(-sS) begin end want have
  [ -t 2 ] && style=(-#)
  want=$(sha256sum <"$dir/www/download.bin")
  say "  download    $size MiB by curl from httpd:"
  begin=${EPOCHREALTIME/./}
  from_linux curl "${style[@]}" --fail --max-time 300 -o "$dir/received.bin" \
    "http://$ip_app/download.bin" || die "the download failed"
  end=${EPOCHREALTIME/./}
  have=$(sha256sum <"$dir/received.bin")
  [ "$want" = "$have" ] || die "SHA-256 differs: sent $want, received $have"
  rm -f "$dir/received.bin"
  local rate=$((size * 1048576 * 8 / (end - begin)))
  printf '              %d.%01d s, %d Mbit/s, SHA-256 matches: %.16s...\n' \
    $(((end - begin) / 1000000)) $(((end - begin) / 100000 % 10)) "$rate" "$want"
}

show_state() {
  step "What the operator sees"
  printf '%s$ postern ss%s\n' "$bold" "$plain"
  postern ss
  printf '\n%s$ postern drops%s\n' "$bold" "$plain"
  postern drops
}

show_next() {
  step "What to try next"
  local again=$0
  if $keep; then
    cat <<TEXT
  It is still running. From the Linux end of the wire:
    sudo ip netns exec $ns_net curl http://$ip_app/
    sudo ip netns exec $ns_net nc $ip_app 7
  As its operator (${build#"$root"/}/app/cli/postern, with --socket $dir/control.sock):
    postern ss | link | neigh | drops | stats, each with -j for JSON
  Its configuration, who may use it included: $dir/posternd.yaml
  Logs: $dir/posternd.log, httpd.log, echo.log
  Stop it and remove every trace:
    sudo $again --stop
TEXT
  else
    cat <<TEXT
  sudo $again --keep       the same, left running for you to play with
  sudo $again --hugepages  the same with hugepages
  sudo tests/run.sh        the tests
  README.md                your own network card, your own program
TEXT
  fi
}

# ---- the story ----

if $stop; then
  [ -d "$dir" ] || die "nothing is running from this checkout"
  clean_up
  say "Stopped; nothing is left."
  exit 0
fi

trap on_exit EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
make_dir

step "1. Packages"
install_packages "${packages_build[@]}" iproute2 ethtool iputils-ping curl procps
step "2. Build"
build_tree "$build" "--buildtype=release" \
  app/daemon/posternd app/cli/postern app/examples/httpd app/examples/echo
step "3. Network"
if $hugepages; then reserve_hugepages; fi
make_network
step "4. Programs"
write_config
start_programs
step "5. From the Linux end, through the kernel's own stack"
try_ping
try_udp_echo
try_download
show_state
show_next
if $keep; then
  trap - EXIT INT TERM HUP
fi
