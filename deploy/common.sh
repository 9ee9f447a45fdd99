# shellcheck shell=bash disable=SC2034,SC2154
# Shell functions that deploy/quickstart.sh and tests/run.sh share. Sourced, not run.
# The caller sets `root` to the top of the source tree and `log_dir` to a directory for logs.

# What it takes to build everything on Debian 12.
packages_build=(build-essential meson ninja-build pkg-config python3 libdpdk-dev libboost1.81-dev
  libspdlog-dev libyaml-cpp-dev libgtest-dev libgmock-dev)

if [ -t 1 ]; then
  bold=$'\e[1m' red=$'\e[31m' green=$'\e[32m' plain=$'\e[0m'
else
  bold='' red='' green='' plain=''
fi

say() { printf '%s\n' "$*"; }
step() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
die() {
  printf '%s%s: %s%s\n' "$red" "${0##*/}" "$*" "$plain" >&2
  exit 1
}

need_root() {
  [ "$(id -u)" = 0 ] || die "needs root for network namespaces: sudo $0 $*"
}

# One line that is redrawn: percent, text. Silent when nobody watches.
draw_progress() {
  [ -t 2 ] || return 0
  local filled=$(($1 * 30 / 100)) bar
  printf -v bar '%*s' "$filled" ''
  printf '\r  [%-30s] %3d%% %-40.40s' "${bar// /#}" "$1" "$2" >&2
}

# Reads apt's status lines: dlstatus and pmstatus, each with a percentage.
show_apt_progress() {
  local kind _ percent text
  while IFS=: read -r kind _ percent text; do
    percent=${percent%%.*}
    case $kind in
      dlstatus) draw_progress $((percent / 2)) "$text" ;;
      pmstatus) draw_progress $((50 + percent / 2)) "$text" ;;
    esac
  done
  if [ -t 2 ]; then printf '\r\e[K' >&2; fi
}

# install_packages NAME...: installs those that are missing, and says which.
install_packages() {
  local missing=() name have
  have=$(dpkg-query -W -f='${db:Status-Abbrev} ${Package}\n' "$@" 2>/dev/null | sed -n 's/^.i  *//p')
  for name in "$@"; do
    grep -qxF -- "$name" <<<"$have" || missing+=("$name")
  done
  if [ ${#missing[@]} = 0 ]; then
    say "  all $# packages are there"
    return
  fi
  command -v apt-get >/dev/null || die "this is not Debian: install the equivalents of ${missing[*]}"
  [ "$(id -u)" = 0 ] || die "missing packages: run as root, or: sudo apt-get install ${missing[*]}"
  say "  installing: ${missing[*]}"
  local log=$log_dir/apt.log
  export DEBIAN_FRONTEND=noninteractive
  apt-get -q update >"$log" 2>&1 || die "apt-get update failed: $(tail -n 1 "$log")"
  apt-get -y -q --no-install-recommends -o DPkg::Lock::Timeout=300 -o APT::Status-Fd=3 \
    install "${missing[@]}" >>"$log" 2>&1 3> >(show_apt_progress) ||
    die "apt-get install failed; its last lines:"$'\n'"$(tail -n 5 "$log")"
}

# Builds as the tree's owner, so that sudo leaves no files behind that its owner cannot remove.
as_owner() {
  local owner
  owner=$(stat -c %U "$root")
  if [ "$(id -u)" = 0 ] && [ "$owner" != root ] && [ "$owner" != UNKNOWN ]; then
    runuser -u "$owner" -- "$@"
  else
    "$@"
  fi
}

# build_tree DIRECTORY "SETUP OPTIONS" [TARGET...]: configures once, then builds what changed.
build_tree() {
  local directory=$1 options=$2
  shift 2
  if [ ! -e "$directory/build.ninja" ]; then
    say "  configuring ${directory#"$root"/} (log: ${directory#"$root"/}/meson-logs/meson-log.txt)"
    # shellcheck disable=SC2086 # options are several words
    as_owner meson setup $options "$directory" "$root" >"$log_dir/meson.log" 2>&1 || {
      tail -n 20 "$log_dir/meson.log" >&2
      die "meson setup failed"
    }
  fi
  as_owner ninja -C "$directory" "$@" || die "the build failed"
}

# ---- processes by identity, so that a recycled PID is never signalled ----

process_start() { # PID -> start time in clock ticks; nothing if it is gone
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
  stat=${stat##*) }
  # The start time is field 22; `stat` begins with field 3.
  cut -d' ' -f20 <<<"$stat"
}

# end_process PID START [SECONDS]: TERM, then KILL after the given time.
end_process() {
  local pid=$1 start=$2 limit=${3:-5} tick
  [ "$(process_start "$pid")" = "$start" ] || return 0
  kill -TERM "$pid" 2>/dev/null || return 0
  for ((tick = 0; tick < limit * 20; tick++)); do
    [ "$(process_start "$pid")" = "$start" ] || return 0
    # A child that ended stays a zombie until the shell looks.
    case $(sed 's/.*) //; s/ .*//' "/proc/$pid/stat" 2>/dev/null) in Z | '') return 0 ;; esac
    sleep 0.05
  done
  say "  process $pid did not stop within $limit s: killed"
  kill -KILL "$pid" 2>/dev/null || true
}
