#!/usr/bin/env bash
# The two RFC 2544 reports in perf/report/: all frame sizes of IPv4 and IPv6 by perf/loadgen, some of them
# by Pktgen-DPDK where that is installed. Short trials, which the reports say. Options are run.sh's,
# for both, such as --pktgen PATH, --build DIR, --output DIR.
set -euo pipefail
run=$(dirname "${BASH_SOURCE[0]}")/run.sh
short=(--repeats 2 --burst-repeats 2 --latency-trial 1 --resolution 0.02 --burst-resolution 0.1)
"$run" --generator loadgen --trial 0.5 "${short[@]}" "$@"
"$run" --generator pktgen --trial 0.8 --sizes 64,512,1518,imix --sizes6 82,1518 "${short[@]}" "$@"
