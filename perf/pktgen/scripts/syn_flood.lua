-- SYN segments of 100 k sources to POSTERN_TCP_PORT (80), 10 s at 1 % of the link. What comes back are
-- SYN-ACKs and, of ports where nobody listens, RSTs.
package.path = package.path .. ";./?.lua"
local common = require "common"

common.flows("tcp", tonumber(os.getenv("POSTERN_TCP_PORT") or "80"), 64, 100000)
pktgen.load("syn.pkt")
common.run("syn_flood", tonumber(os.getenv("PERCENT") or "1"), 10)
pktgen.quit()
