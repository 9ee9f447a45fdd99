#!/bin/sh
# Measures UDP and TCP through the full path against the bare link and against the kernel.
# perf/README.md explains every number. perf/bench.sh --help shows the options.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")

for tool in python3 ip ethtool taskset dpdk-testpmd; do
  if ! command -v "$tool" >/dev/null; then
    echo "bench.sh: $tool is missing; on Debian: apt-get install python3 iproute2 ethtool util-linux dpdk" >&2
    exit 1
  fi
done

# --build DIR is for bench.py; without it, a release build of this checkout is made or brought up to date.
case " $* " in
  *" --build "* | *" --build="* | *" --help "* | *" -h "*) exec python3 "$here/bench.py" "$@" ;;
esac
build=$root/build-release
[ -f "$build/build.ninja" ] || meson setup "$build" "$root" --buildtype=release >/dev/null
ninja -C "$build" app/daemon/posternd perf/loadgen perf/kernel_echo
exec python3 "$here/bench.py" --build "$build" "$@"
