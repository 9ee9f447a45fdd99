-- Frames of 64 bytes with random bits: in the Ethernet and IP headers, in the IP header alone, in the UDP
-- header; 5 s each. What is not dropped comes back; postern drops shows the reasons.
package.path = package.path .. ";./?.lua"
local common = require "common"

local percent = tonumber(os.getenv("PERCENT") or "0.1")
local all = string.rep("X", 32)
local mixes = {
  { "type_and_ip", { 12, 16, 20, 24 } },
  { "ip_lengths_and_fragments", { 14, 18, 22 } },
  { "udp_header", { 34, 38 } },
}
for _, mix in ipairs(mixes) do
  common.single("udp", common.udp, 64)
  for index, offset in ipairs(mix[2]) do
    pktgen.rnd(common.port, index - 1, offset, all)
  end
  common.run("malformed_" .. mix[1], percent, 5)
  for index, _ in ipairs(mix[2]) do
    pktgen.rnd(common.port, index - 1, 0, "off")
  end
end
pktgen.quit()
