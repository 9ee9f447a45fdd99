#!/usr/bin/env bash
# Every benchmark of Postern, into perf/report/. perf/README.md explains every number.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")

usage() {
  cat <<'TEXT'
usage: sudo perf/run.sh [OPTION]...

Builds a release and measures it against the bare link and the kernel; further options are those of the
measurement, below.

  --flavor release|pgo      how to build: as the project does, or with a profile besides, taken by running
                            perf/instructions/'s scenarios
  --native                  for this machine's processor instead of any with AVX2
  --against REF             measures revision REF too, by turns (sheet echo)
  --build DIR               do not build; take the programs in DIR
TEXT
}
die() { printf 'perf/run.sh: %s\n' "$*" >&2; exit 1; }

flavor=release native=false against='' build='' rest=()
while [ $# -gt 0 ]; do
  case $1 in
    --flavor | --against | --build) [ $# -gt 1 ] || die "$1 wants a value" ;;&
    --flavor) flavor=$2 && shift ;;
    --against) against=$2 && shift ;;
    --build) build=$2 && shift ;;
    --native) native=true ;;
    -h | --help) usage && exec python3 "$here/bench/main.py" --build none --help ;;
    *) rest+=("$1") ;;
  esac
  shift
done
[[ $flavor =~ ^(release|pgo)$ ]] || die "no flavor is named $flavor; there are release and pgo"

for tool in python3 meson ninja ip ethtool taskset dpdk-testpmd; do
  command -v "$tool" >/dev/null ||
    die "$tool is missing; on Debian: apt-get install python3 meson ninja-build iproute2 ethtool util-linux dpdk-dev"
done

targets=(app/daemon/posternd app/cli/postern lib/client/libpostern.so.0.1.0 perf/loadgen perf/kernel_echo perf/bench_flow)

# build_flavor SOURCE DIRECTORY: a build of $flavor, made or brought up to date.
build_flavor() {
  local source=$1 directory=$2 options=(--buildtype=release)
  # GCC warns of what is not there when it sees all of a program at once; the plain build is the one
  # in which a warning is an error.
  if [ "$flavor" != release ]; then options+=(-Db_lto=true -Dwerror=false); fi
  if $native; then options+=(-Dcpp_args=-march=native -Dc_args=-march=native); fi
  [ -f "$directory/build.ninja" ] || meson setup "$directory" "$source" "${options[@]}" >/dev/null
  if [ "$flavor" = pgo ] && [ ! -f "$directory/profiled" ]; then
    meson configure "$directory" -Db_pgo=generate
    ninja -C "$directory" perf/bench_instructions
    "$directory/perf/bench_instructions" >/dev/null
    meson configure "$directory" -Db_pgo=use
    touch "$directory/profiled"
  fi
  ninja -C "$directory" "${targets[@]}"
}

suffix=$flavor
if $native; then suffix+=-native; fi
if [ -z "$build" ]; then
  build=$root/build-$suffix
  build_flavor "$root" "$build"
fi

if [ -n "$against" ]; then
  commit=$(git -C "$root" rev-parse --verify --quiet "$against^{commit}") || die "no revision is named $against"
  tree=$(mktemp -d)
  trap 'git -C "$root" worktree remove --force "$tree/source"; rm -rf -- "$tree"' EXIT
  git -C "$root" worktree add --quiet --detach "$tree/source" "$commit"
  targets=(app/daemon/posternd)
  build_flavor "$tree/source" "$tree/build"
  rest+=(--other-build "$tree/build" --against "$against")
fi
python3 "$here/bench/main.py" --build "$build" --flavor "$suffix" "${rest[@]}"
