-- Malformed frames and good ones by turns, 5 s at 0.1 % of the link. Pktgen reads them from a capture that
-- perf/pktgen/malformed.py writes, which also says how many are to be dropped for which reason:
--   ../malformed.py --source $POSTERN_LOCAL --target $POSTERN_PEER --target-mac $POSTERN_PEER_MAC /tmp/bad.pcap
--   pktgen ... -- -P -m 1.0 -s 0:/tmp/bad.pcap -f malformed.lua
-- The good ones, a half, come back, and answers of TCP and ICMP; postern drops shows the rest. (The random
-- bits of pktgen 23.03, pktgen.rnd, do not reach the wire.)
package.path = package.path .. ";./?.lua"
local common = require "common"

pktgen.screen("off")
pktgen.process(common.port, "on")
pktgen.pcap(common.port, "on")
common.run("malformed", tonumber(os.getenv("PERCENT") or "0.1"), 5)
pktgen.quit()
