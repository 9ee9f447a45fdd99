#!/usr/bin/env bash
# deploy/quickstart.sh --keep, then what its text tells a person to do, then --stop: no trace is left.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
id=$(printf '%s' "$root" | sha256sum | cut -c1-6)
dir=/var/tmp/postern-quickstart-$id
fail() {
  printf '%s\n' "$*" >&2
  exit 1
}
trap '"$root/deploy/quickstart.sh" --stop >/dev/null 2>&1 || true' EXIT

"$root/deploy/quickstart.sh" --keep --size 16
text=$(ip netns exec "linux-$id" curl -sS --fail --max-time 10 http://192.0.2.2/)
[ "$text" = "Served by Postern." ] || fail "httpd said: $text"
text=$(echo hello | ip netns exec "linux-$id" nc -N -w 5 192.0.2.2 7)
[ "$text" = hello ] || fail "echo said: $text"
for verb in ss link neigh drops stats; do
  "$root/build/app/cli/postern" "$verb" -j --socket "$dir/control.sock" | python3 -m json.tool >/dev/null
done
mapfile -t pids < <(awk '$1 == "process" { print $2 }' "$dir/state")
[ ${#pids[@]} = 3 ] || fail "three programs run, not ${#pids[@]}"

"$root/deploy/quickstart.sh" --stop
[ ! -e "$dir" ] || fail "$dir is left"
if ip netns list | grep -qE "(linux|postern)-$id"; then fail "a namespace is left"; fi
for pid in "${pids[@]}"; do
  if grep -qa "$root" "/proc/$pid/cmdline" 2>/dev/null; then fail "process $pid is left"; fi
done
if "$root/deploy/quickstart.sh" --stop; then fail "--stop of nothing is an error"; fi
