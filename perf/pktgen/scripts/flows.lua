-- UDP echo of 1 k, 10 k, 100 k and 1 M flows, 64-byte frames, 5 s each at 1 % of the link.
package.path = package.path .. ";./?.lua"
local common = require "common"

for _, flows in ipairs({ 1000, 10000, 100000, 1000000 }) do
  common.flows("udp", common.udp, 64, flows)
  common.run("flows_" .. flows, tonumber(os.getenv("PERCENT") or "1"), 5)
end
pktgen.quit()
