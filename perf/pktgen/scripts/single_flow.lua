-- One flow of UDP echo, 64-byte frames, 10 s at 1 % of the link.
package.path = package.path .. ";./?.lua"
local common = require "common"

common.single("udp", common.udp, 64)
common.run("single_flow", tonumber(os.getenv("PERCENT") or "1"), 10)
pktgen.quit()
