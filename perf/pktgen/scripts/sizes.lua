-- UDP echo of one flow at the frame sizes of RFC 2544, then the simple IMIX (7 x 64, 4 x 594,
-- 1 x 1518; over IPv4 only), 5 s each at 1 % of the link.
package.path = package.path .. ";./?.lua"
local common = require "common"

local percent = tonumber(os.getenv("PERCENT") or "1")
for _, size in ipairs({ 64, 128, 256, 512, 1024, 1280, 1518 }) do
  common.single("udp", common.udp, size)
  common.run("size_" .. size, percent, 5)
end
if common.version == 4 then -- of which alone pktgen has sequences
  local sizes = { 64, 594, 64, 64, 594, 64, 1518, 64, 594, 64, 64, 594 }
  for i, size in ipairs(sizes) do
    pktgen.seqTable(i - 1, common.port, {
      ["eth_dst_addr"] = common.mac, ["eth_src_addr"] = common.own_mac,
      ["ip_dst_addr"] = common.peer, ["ip_src_addr"] = common.own .. "/24",
      ["sport"] = 10000 + i, ["dport"] = common.udp, ["ethType"] = "ipv4", ["ipProto"] = "udp",
      ["vlanid"] = 1, ["pktSize"] = size })
  end
  pktgen.set(common.port, "seqCnt", #sizes)
  common.run("imix", percent, 5)
end
pktgen.quit()
