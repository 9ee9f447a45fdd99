#!/usr/bin/env bash
# The two RFC 2544 reports in perf/report/: by perf/loadgen with all frame sizes, and by Pktgen-DPDK, where
# that is installed, with the smallest, the largest and IMIX. Short trials, which the reports say, so that
# both together take about a quarter of an hour on an idle machine. Options are run.sh's, for both, such as
# --pktgen PATH, --build DIR, --output DIR.
set -euo pipefail
run=$(dirname "${BASH_SOURCE[0]}")/run.sh
short=(--repeats 2 --latency-trial 1 --resolution 0.02 --burst-resolution 0.1)
"$run" --generator loadgen --trial 0.5 --burst-repeats 2 --sizes6 82,512,1518,imix "${short[@]}" "$@"
"$run" --generator pktgen --trial 0.8 --burst-repeats 1 --sizes 64,1518,imix --sizes6 82,1518 \
  "${short[@]}" "$@"
