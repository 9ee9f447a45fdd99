-- UDP echo of one flow, 64-byte frames, from 0.1 % of the link upwards, doubling, 3 s each.
package.path = package.path .. ";./?.lua"
local common = require "common"

common.single("udp", common.udp, 64)
local percent = 0.1
while percent <= 100 do
  common.run("ramp", percent, 3)
  percent = percent * 2
end
pktgen.quit()
