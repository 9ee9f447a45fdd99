# What the guest does, on the host's files. It says GUEST: WORD on its console and waits for a file of
# the name that run.py makes in the shared folder.
cd /tmp/job || exit 1
. ./job.conf # device, bin, tree
say() { echo "GUEST: $*"; }
wait_for() { until [ -e "/tmp/job/$1" ]; do sleep 0.2; done; }
fail() {
  say "FAILED $*"
  exit 1
}
export LD_LIBRARY_PATH=$bin POSTERN_SOCKET=/run/postern/postern.sock
ip link set lo up

"$tree/deploy/nic.sh" status
before=$(basename "$(readlink -f "/sys/bus/pci/devices/$device/driver")")
say "KERNEL DRIVER $before"
"$tree/deploy/nic.sh" bind "$device" || fail "bind"
"$bin/postern" doctor -j -c posternd.yaml >doctor.json

serve() {
  "$bin/posternd" --config posternd.yaml >"posternd$1.log" 2>&1 &
  daemon=$!
  until grep -q ' ready' "posternd$1.log"; do
    kill -0 $daemon 2>/dev/null || fail "posternd: $(tail -n 3 "posternd$1.log")"
    sleep 0.2
  done
  "$bin/echo" --tcp 7 --udp 7 >"echo$1.log" 2>&1 &
  "$bin/httpd" --port 80 --root /tmp/job/www >"httpd$1.log" 2>&1 &
  httpd=$!
  until "$bin/postern" ss 2>/dev/null | grep -q 0.0.0.0:80; do
    kill -0 $httpd 2>/dev/null || fail "httpd: $(tail -n 3 "httpd$1.log")"
    sleep 0.2
  done
  say "SERVING $1"
}
shown() {
  for verb in link stats drops; do "$bin/postern" $verb -j >"$verb$1.json"; done
}

serve 1
wait_for tested1
shown 1
say "SHOWN 1"
wait_for restart
kill $daemon
wait $daemon
say "ENDED $?"
serve 2
wait_for tested2
shown 2
kill $daemon
wait $daemon
"$tree/deploy/nic.sh" unbind "$device" || fail "unbind"
after=$(basename "$(readlink -f "/sys/bus/pci/devices/$device/driver")")
say "BACK $after"
