-- Pktgen's half of rfc2544.py: makes the trials that it is asked for, one line each way.
--   request: version sizes flows percent milliseconds count
--            sizes with commas; percent of the link's speed; count 0: for the whole time
--   answer:  JSON with packets sent and received
-- The pipes and addresses come in the environment. The first answer is "ready", the speed of the link in
-- Mbit/s and pktgen's version.
package.path = package.path .. ";./scripts/?.lua"
local counters = require "counters"
local requests = assert(io.open(os.getenv("POSTERN_REQUESTS"), "r"))
local answers = assert(io.open(os.getenv("POSTERN_ANSWERS"), "w"))
local own = { [4] = os.getenv("POSTERN_LOCAL"), [6] = os.getenv("POSTERN_LOCAL6") }
local peer = { [4] = os.getenv("POSTERN_PEER"), [6] = os.getenv("POSTERN_PEER6") }
local own_mac = os.getenv("POSTERN_LOCAL_MAC")
local peer_mac = os.getenv("POSTERN_PEER_MAC")
local udp_port = tonumber(os.getenv("POSTERN_UDP_PORT"))
local port = "0"

local function say(text)
  answers:write(text .. "\n")
  answers:flush()
end

local function one_packet(version, size)
  pktgen.set(port, "seqCnt", 0)
  pktgen.set_type(port, "ipv" .. version)
  pktgen.set_proto(port, "udp")
  pktgen.set_mac(port, "dst", peer_mac)
  pktgen.set_mac(port, "src", own_mac)
  pktgen.set_ipaddr(port, "dst", peer[version])
  pktgen.set_ipaddr(port, "src", own[version] .. (version == 4 and "/16" or "/64"))
  pktgen.set(port, "sport", 10000)
  pktgen.set(port, "dport", udp_port)
  pktgen.set(port, "size", size)
end

-- Sizes that take turns: a sequence, which pktgen has for IPv4.
local function sequence(sizes)
  for i, size in ipairs(sizes) do
    pktgen.seqTable(i - 1, port, {
      ["eth_dst_addr"] = peer_mac, ["eth_src_addr"] = own_mac, ["ip_dst_addr"] = peer[4],
      ["ip_src_addr"] = own[4] .. "/16", ["sport"] = 10000, ["dport"] = udp_port,
      ["ethType"] = "ipv4", ["ipProto"] = "udp", ["vlanid"] = 1, ["pktSize"] = size })
  end
  pktgen.set(port, "seqCnt", #sizes)
end

-- Flows by source ports.
local function range(version, size, flows)
  local none = version == 4 and "0.0.0.0" or "::"
  pktgen.range.set_type(port, "ipv" .. version)
  pktgen.range.ip_proto(port, "udp")
  pktgen.range.dst_mac(port, "start", peer_mac)
  pktgen.range.src_mac(port, "start", own_mac)
  for _, what in ipairs({ "start", "min", "max" }) do
    pktgen.range.dst_ip(port, what, peer[version])
    pktgen.range.src_ip(port, what, own[version])
    pktgen.range.dst_port(port, what, udp_port)
    pktgen.range.pkt_size(port, what, size)
  end
  pktgen.range.dst_ip(port, "inc", none)
  pktgen.range.src_ip(port, "inc", none)
  pktgen.range.dst_port(port, "inc", 0)
  pktgen.range.pkt_size(port, "inc", 0)
  pktgen.range.src_port(port, "start", 10000)
  pktgen.range.src_port(port, "min", 10000)
  pktgen.range.src_port(port, "max", 10000 + flows - 1)
  pktgen.range.src_port(port, "inc", 1)
  pktgen.set_range(port, "on")
end

local configured
local function configure(version, sizes, flows)
  local what = version .. " " .. sizes .. " " .. flows
  if what == configured then return end
  local list = {}
  for size in sizes:gmatch("%d+") do list[#list + 1] = tonumber(size) end
  pktgen.set_range(port, "off")
  one_packet(version, list[1])
  if #list > 1 then
    sequence(list)
  elseif flows > 1 then
    range(version, list[1], flows)
  end
  configured = what
end

local function trial(version, sizes, flows, percent, milliseconds, count)
  configure(version, sizes, flows)
  local sent, received, errors = counters.read(port)
  counters.start(port, percent, count)
  if count == 0 then
    pktgen.delay(milliseconds)
    pktgen.stop(port)
  end
  counters.wait_for_quiet(port)
  pktgen.stop(port)
  local sent_at_end, received_at_end, errors_at_end = counters.read(port)
  say(string.format('{"sent":%d,"received":%d,"errors":%d}', sent_at_end - sent,
                    received_at_end - received, errors_at_end - errors))
end

pktgen.screen("off")
pktgen.process(port, "on") -- answers ARP
counters.wait_for_quiet(port)
say("ready " .. (tostring(pktgen.linkState(port)[0]):match("%d+") or "100000") .. " " ..
    pktgen.info.Pktgen_Version)
for line in requests:lines() do
  local version, sizes, flows, percent, milliseconds, count =
    line:match("(%d) (%S+) (%d+) (%S+) (%d+) (%d+)")
  if not version then break end
  local ok, why = pcall(trial, tonumber(version), sizes, tonumber(flows), percent,
                        tonumber(milliseconds), tonumber(count))
  if not ok then say('{"error":"' .. tostring(why):gsub('"', "'") .. '"}') end
end
pktgen.quit()
