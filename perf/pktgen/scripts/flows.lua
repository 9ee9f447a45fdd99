-- UDP echo of 1 k, 10 k, 100 k and 1 M flows, the smallest frames, 5 s each at 1 % of the link; more flows
-- than pktgen has packets in rounds of a second, for 1 M 41 of them.
package.path = package.path .. ";./?.lua"
local common = require "common"

for _, flows in ipairs({ 1000, 10000, 100000, 1000000 }) do
  common.flows("udp", common.udp, 64, flows)
  local rounds = math.ceil(flows / common.pool)
  common.run("flows_" .. flows, tonumber(os.getenv("PERCENT") or "1"), rounds == 1 and 5 or 1, rounds)
end
pktgen.quit()
