#!/usr/bin/env bash
# Measures Postern by RFC 2544 under Pktgen-DPDK, or under perf/loadgen where that is not installed.
# perf/pktgen/README.md explains it; run.sh --help lists the options.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

generator='' pktgen=${PKTGEN:-} build='' rest=()
while [ $# -gt 0 ]; do
  case $1 in
    --generator | --pktgen | --build) [ $# -gt 1 ] || { echo "run.sh: $1 wants a value" >&2; exit 2; } ;;&
    --generator) generator=$2 && shift ;;
    --pktgen) pktgen=$2 && shift ;;
    --build) build=$2 && shift ;;
    -h | --help) exec python3 "$here/rfc2544.py" --help ;;
    *) rest+=("$1") ;;
  esac
  shift
done

find_pktgen() {
  local path
  for path in "$pktgen" "$(command -v pktgen || true)" /usr/local/bin/pktgen /usr/bin/pktgen \
    /opt/pktgen*/app/pktgen "$HOME"/[Pp]ktgen*/{build,builddir,Builddir}/app/pktgen; do
    if [ -n "$path" ] && [ -x "$path" ]; then
      printf '%s' "$path"
      return
    fi
  done
}

how_to_get_pktgen() {
  cat >&2 <<'TEXT'
pktgen is not installed; measuring with perf/loadgen. To get it (with Debian 12's DPDK 22.11):
  apt-get install git meson liblua5.3-dev libdpdk-dev libbsd-dev
  git clone -b pktgen-23.03.0 https://github.com/pktgen/Pktgen-DPDK && cd Pktgen-DPDK
  CFLAGS="$(pkg-config --cflags-only-I libdpdk)" meson setup build -Denable_lua=true -Dwerror=false
  ninja -C build && ninja -C build install
Over memif it gives up because that device cannot set its MTU: let it go on there by adding
"&& ret != -ENOTSUP" to the test of rte_eth_dev_set_mtu() in app/pktgen-port-cfg.c.
TEXT
}

if [ "$generator" != loadgen ]; then
  pktgen=$(find_pktgen)
  if [ -z "$pktgen" ]; then
    how_to_get_pktgen
    if [ "$generator" = pktgen ]; then exit 1; fi
    generator=loadgen
  fi
fi
if [ -z "$build" ]; then
  build=$root/build-release
  [ -f "$build/build.ninja" ] || meson setup "$build" "$root" --buildtype=release >/dev/null
  ninja -C "$build" app/daemon/posternd app/cli/postern app/examples/echo perf/loadgen
fi
exec python3 "$here/rfc2544.py" --build "$build" --generator "${generator:-pktgen}" \
  ${pktgen:+--pktgen "$pktgen"} "${rest[@]}"
