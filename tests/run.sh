#!/usr/bin/env bash
# Builds Postern and runs its tests. Its last line is `N passed, N failed`.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: sudo tests/run.sh [OPTION]...

Without options: builds in build/ and runs the unit, script, simulation and system tests.

  --suite NAME      only this one: unit, script, sim, system, quickstart, fuzz (libFuzzer, by clang in
                    a build directory of its own; tests/fuzz/README.md), nic (PCI cards in a guest,
                    tests/nic/README.md) or instructions (what a packet costs, by callgrind;
                    perf/README.md); may be repeated
  --filter REGEX    only the tests whose name matches
  --quick           smaller transfers in the system tests, fewer seeds in the simulations, 10 s
                    instead of 60 for each fuzzer (POSTERN_FUZZ_SECONDS says otherwise)
  --sanitize LIST   instead: build with these sanitizers in a directory of their own and run the
                    unit, script and simulation tests: address,undefined or thread; may be repeated
  --format          instead: clang-format agrees with every C and C++ file
  --clang-tidy      instead: clang-tidy finds nothing in lib/ and app/
  --all             everything above
  --build DIR       build directory, default build/
TEXT
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/.." && pwd)
. "$root/deploy/common.sh"

suites=() sanitizers=() filter='' quick=false format=false tidy=false all=false build=$root/build
while [ $# -gt 0 ]; do
  case $1 in
    --suite | --filter | --sanitize | --build) [ $# -gt 1 ] || die "$1 wants a value" ;;&
    --suite)
      [[ $2 =~ ^(unit|script|sim|system|quickstart|fuzz|nic|instructions)$ ]] || die "no suite is named $2"
      suites+=("$2")
      shift
      ;;
    --filter) filter=$2 && shift ;;
    --sanitize)
      [[ $2 =~ ^(address,undefined|address|undefined|thread)$ ]] || die "cannot sanitize $2"
      sanitizers+=("$2")
      shift
      ;;
    --build) build=$(realpath -m "$2") && shift ;;
    --quick) quick=true ;;
    --format) format=true ;;
    --clang-tidy) tidy=true ;;
    --all) all=true ;;
    -h | --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
  esac
  shift
done
if $all; then
  suites=(unit script sim system quickstart fuzz nic instructions) sanitizers=('address,undefined' thread)
  format=true tidy=true
elif [ ${#suites[@]} = 0 ] && [ ${#sanitizers[@]} = 0 ] && ! $format && ! $tidy; then
  suites=(unit script sim system)
fi
wants() { [[ " ${suites[*]} " == *" $1 "* ]]; }
if wants system || wants quickstart || wants nic; then need_root "$@"; fi

log_dir=$(mktemp -d)
trap 'rm -rf -- "$log_dir"' EXIT
results=$log_dir/results
: >"$results"
export POSTERN_TEST_QUICK=$quick

# record PASS|FAIL|SKIP NAME SECONDS [WHY]: the line that the total is made from
record() {
  printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "${4:-}" >>"$results"
  local color=$green
  if [ "$1" = FAIL ]; then color=$red; fi
  printf '%s%s%s  %s (%s s)%s\n' "$color" "$1" "$plain" "$2" "$3" "${4:+ : $4}"
}

# check NAME COMMAND...: a test that is a command; its output is shown when it fails
check() {
  local name=$1 begin=$SECONDS log=$log_dir/check.log
  shift
  [[ $name =~ $filter ]] || return 0
  if "$@" >"$log" 2>&1; then
    record PASS "$name" $((SECONDS - begin))
  else
    cat "$log"
    record FAIL "$name" $((SECONDS - begin))
  fi
}

count() { awk -F'\t' -v what="$1" '$1 == what { n++ } END { print n + 0 }' "$results"; }

# collect NAME COMMAND...: COMMAND records its tests itself; that it fails without a failed test, for
# example because it crashed, is a failure too
collect() {
  local name=$1 before status=0
  shift
  before=$(count FAIL)
  "$@" || status=$?
  if [ $status != 0 ] && [ "$(count FAIL)" = "$before" ]; then
    record FAIL "$name" 0 "exit status $status without a failed test"
  fi
}

# Runs Meson's suites in a build directory; each GoogleTest case counts as a test.
run_meson_suites() { # BUILD PREFIX SUITE...
  local directory=$1 prefix=$2
  shift 2
  collect "${prefix}suites" "$here/meson_results.py" --build "$directory" --prefix "$prefix" \
    --filter "$filter" --results "$results" "$@"
}

# ThreadSanitizer and AddressSanitizer want the address space where they expect it.
without_aslr() {
  if setarch -R true 2>/dev/null; then setarch -R "$@"; else "$@"; fi
}

run_sanitizer() { # LIST
  # Instrumented code makes GCC warn of what is not there (its manual says so of -fsanitize); the
  # plain build of the same sources is the one in which a warning is an error.
  local directory=$root/build-${1//,/-}
  # -O1: GCC takes minutes to optimize what the sanitizers make of a long test.
  local options="-Doptimization=1 -Ddebug=true -Dwerror=false -Db_sanitize=$1"
  step "Build with sanitizers: $1"
  case $1 in
    # The second compiler gets its turn here. Clang cannot link sanitized libraries with lundef.
    thread)
      CC="$ccache clang" CXX="$ccache clang++" \
        build_tree "$directory" "$options -Db_lundef=false" meson-test-prereq
      ;;
    *) CC="$ccache gcc" CXX="$ccache g++" build_tree "$directory" "$options" meson-test-prereq ;;
  esac
  step "Unit, script and simulation tests with sanitizers: $1"
  collect "$1/suites" without_aslr "$here/meson_results.py" --build "$directory" --prefix "$1/" \
    --filter "$filter" --results "$results" unit script sim
}

run_fuzzers() {
  local directory=$root/build-fuzz seconds=60
  if $quick; then seconds=10; fi
  step "Build with libFuzzer"
  # Clang cannot link sanitized libraries with lundef.
  CC="$ccache clang" CXX="$ccache clang++" \
    build_tree "$directory" "--buildtype=release -Db_lundef=false" fuzzers
  step "Fuzzers, ${POSTERN_FUZZ_SECONDS:-$seconds} s each"
  collect fuzz/suite "$here/fuzz/run.py" --build "$directory" --filter "$filter" \
    --seconds "${POSTERN_FUZZ_SECONDS:-$seconds}" --seed "${POSTERN_FUZZ_SEED:-1}" --results "$results"
}

sources() { git -C "$root" ls-files -- '*.cc' '*.h' '*.hpp' '*.c' | sed "s|^|$root/|"; }
check_format() { sources | xargs -r clang-format --dry-run -Werror; }
check_tidy() {
  grep -oE '"file": "[^"]*/(lib|app)/[^"]*"' "$build/compile_commands.json" | cut -d'"' -f4 |
    sed 's|^\.\./||' | sort -u | (cd "$root" && xargs -r -P "$(nproc)" -n 4 clang-tidy -p "$build" --quiet)
}

step "Packages"
packages=("${packages_build[@]}" ccache)
if wants system || wants quickstart; then
  packages+=(iproute2 ethtool iputils-ping curl procps netcat-openbsd iperf3 tshark
    iputils-arping iputils-tracepath ndisc6 nginx-light redis-server redis-tools memcached wget socat openssl wrk nodejs
    postgresql openjdk-17-jdk-headless openssh-server openssh-client traceroute bird2 radvd nmap dpdk-dev python3-scapy)
fi
if [ ${#sanitizers[@]} != 0 ] || wants fuzz; then packages+=(clang libclang-rt-14-dev); fi
if wants instructions; then packages+=(valgrind); fi
if wants nic; then packages+=(qemu-system-x86 busybox-static kmod iproute2 iputils-ping); fi
if $format; then packages+=(clang-format git); fi
if $tidy; then packages+=(clang-tidy clang); fi
# The servers among them are for the tests to start, not for the machine.
no_services=/usr/sbin/policy-rc.d
if wants system && [ ! -e $no_services ]; then
  trap 'rm -rf -- "$log_dir" $no_services' EXIT
  printf '#!/bin/sh\nexit 101\n' >$no_services
  chmod 755 $no_services
else
  no_services=
fi
install_packages "${packages[@]}"
rm -f -- $no_services
ccache=$(command -v ccache || true)

if [ "${suites[*]}" = fuzz ] && ! $tidy; then
  : # has a build of its own
elif [ ${#suites[@]} != 0 ] || $tidy; then
  step "Build"
  build_tree "$build" "--buildtype=release"
fi
for sanitizer in "${sanitizers[@]}"; do run_sanitizer "$sanitizer"; done
if $format; then
  step "Formatting"
  check clang-format check_format
fi
if $tidy; then
  step "Lint"
  check clang-tidy check_tidy
fi
pure=()
for suite in unit script sim instructions; do
  if wants $suite; then pure+=("$suite"); fi
done
if [ ${#pure[@]} != 0 ]; then
  step "Tests: ${pure[*]}"
  run_meson_suites "$build" "" "${pure[@]}"
fi
if wants fuzz; then run_fuzzers; fi
if wants system; then
  step "System tests: the Linux kernel as the peer"
  collect system/suite "$here/system/run.py" --build "$build" \
    --retries "${POSTERN_TEST_RETRIES:-0}" --filter "$filter" --results "$results"
fi
if wants nic; then
  step "PCI network cards, in a guest"
  collect nic/suite "$here/nic/run.py" --build "$build" \
    --retries "$((${POSTERN_TEST_RETRIES:-0} > 0))" --filter "$filter" --results "$results"
fi
if wants quickstart; then
  step "Quickstart, end to end"
  check quickstart/without_hugepages "$root/deploy/quickstart.sh"
  check quickstart/with_hugepages "$root/deploy/quickstart.sh" --hugepages
  check quickstart/keep_and_stop "$here/system/quickstart_keep.sh"
  check quickstart/interrupted "$here/system/quickstart_interrupt.sh"
fi

passed=$(count PASS) failed=$(count FAIL) skipped=$(count SKIP)
step "Result"
awk -F'\t' '$1 == "SKIP" { printf "skipped: %s: %s\n", $2, $4 } $1 == "FAIL" { printf "failed: %s%s\n", $2, $4 == "" ? "" : ": " $4 }' "$results"
if [ $((passed + failed)) = 0 ]; then
  say "No test matches."
  failed=1
fi
line="$passed passed, $failed failed"
if [ "$skipped" != 0 ]; then line+=", $skipped skipped"; fi
say "$line"
[ "$failed" = 0 ]
