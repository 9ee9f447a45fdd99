#!/usr/bin/env bash
# Ctrl-C in the middle of the quickstart: namespaces, processes, hugepages and files all go.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
id=$(printf '%s' "$root" | sha256sum | cut -c1-6)
dir=/var/tmp/postern-quickstart-$id
pages=/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
fail() {
  printf '%s\n' "$*" >&2
  exit 1
}
before=$(cat "$pages" 2>/dev/null || echo 0)
# `set -m` gives it a process group of its own, as a terminal does; `env` the default handling of
# SIGINT, which whoever started the tests in the background has switched off.
set -m
env --default-signal=INT "$root/deploy/quickstart.sh" --hugepages --size 2000 >/dev/null 2>&1 &
pid=$!
set +m
for ((tick = 0; tick < 600; tick++)); do
  if [ -s "$dir/www/download.bin" ] && ip netns list | grep -q "linux-$id"; then break; fi
  kill -0 "$pid" 2>/dev/null || fail "the quickstart ended by itself"
  sleep 0.1
done
mapfile -t pids < <(awk '$1 == "process" { print $2 }' "$dir/state")
[ ${#pids[@]} -ge 1 ] || fail "no process was started"
kill -INT -- "-$pid"
status=0
wait "$pid" || status=$?
[ "$status" = 130 ] || fail "exit status $status, not 130"
[ ! -e "$dir" ] || fail "$dir is left"
if ip netns list | grep -qE "(linux|postern)-$id"; then fail "a namespace is left"; fi
for one in "${pids[@]}"; do
  if [ -e "/proc/$one" ] && grep -qa postern "/proc/$one/cmdline"; then fail "process $one is left"; fi
done
[ "$(cat "$pages" 2>/dev/null || echo 0)" = "$before" ] || fail "hugepages were not given back"
