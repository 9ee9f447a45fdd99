-- What the scripts share. Where things are comes from the environment:
--   POSTERN_PEER, POSTERN_PEER_MAC   posternd's address, of IPv4 or IPv6, and MAC (postern link)
--   POSTERN_LOCAL                    pktgen's own address, of the same family
--   POSTERN_LOCAL_MAC                its MAC, 02:00:00:00:00:02: posternd is told (neighbors: permanent),
--                                    as pktgen does not answer neighbor discovery
--   POSTERN_UDP_PORT                 the echo server's port, 7
local counters = require "counters"
local common = { port = "0" }

common.peer = os.getenv("POSTERN_PEER") or error("set POSTERN_PEER to posternd's address")
common.mac = os.getenv("POSTERN_PEER_MAC") or error("set POSTERN_PEER_MAC; postern link shows it")
common.own = os.getenv("POSTERN_LOCAL") or error("set POSTERN_LOCAL to pktgen's address")
common.own_mac = os.getenv("POSTERN_LOCAL_MAC") or "02:00:00:00:00:02"
common.udp = tonumber(os.getenv("POSTERN_UDP_PORT") or "7")
common.version = common.peer:find(":") and 6 or 4
common.least = common.version == 4 and 64 or 82 -- pktgen makes IPv6 packets no smaller

-- Packets that pktgen 23.03 makes for a run, each different in a range; then it sends them again.
common.pool = 24576

function common.single(protocol, destination, size)
  local p = common.port
  pktgen.screen("off")
  pktgen.process(p, "on") -- answers ARP
  pktgen.set_range(p, "off")
  pktgen.set(p, "seqCnt", 0)
  pktgen.set_type(p, "ipv" .. common.version)
  pktgen.set_proto(p, protocol)
  pktgen.set_mac(p, "dst", common.mac)
  pktgen.set_mac(p, "src", common.own_mac)
  pktgen.set_ipaddr(p, "dst", common.peer)
  pktgen.set_ipaddr(p, "src", common.own .. (common.version == 4 and "/24" or "/64"))
  pktgen.set(p, "sport", 10000)
  pktgen.set(p, "dport", destination)
  pktgen.set(p, "size", math.max(size, common.least))
end

local function divisor(a, b)
  while b ~= 0 do a, b = b, a % b end
  return a
end

-- Ports and addresses step together: all pairs come up when their numbers have no common divisor.
local function split(flows)
  local addresses = math.ceil(flows / 32768)
  local ports = math.ceil(flows / addresses)
  while divisor(ports, addresses) ~= 1 do ports = ports + 1 end
  return ports, addresses
end

local function last_address(addresses)
  local prefix, last = common.own:match("^(.*[.:])(%x+)$")
  local base = common.version == 4 and 10 or 16
  local sum = tonumber(last, base) + addresses - 1
  assert(sum < 255, "too many flows for this network")
  return prefix .. string.format(base == 10 and "%d" or "%x", sum)
end

-- Flows by source ports, and above 32,768 by source addresses as well: own, own + 1, ...
function common.flows(protocol, destination, size, flows)
  local p, range = common.port, pktgen.range
  common.single(protocol, destination, size)
  local ports, addresses = split(flows)
  local none, one = "0.0.0.0", "0.0.0.1"
  if common.version == 6 then none, one = "::", "::1" end
  range.set_type(p, "ipv" .. common.version)
  range.ip_proto(p, protocol)
  range.dst_mac(p, "start", common.mac)
  range.src_mac(p, "start", common.own_mac)
  for _, what in ipairs({ "start", "min", "max" }) do
    range.dst_ip(p, what, common.peer)
    range.dst_port(p, what, destination)
    range.pkt_size(p, what, math.max(size, common.least))
  end
  range.dst_ip(p, "inc", none)
  range.dst_port(p, "inc", 0)
  range.pkt_size(p, "inc", 0)
  range.src_ip(p, "start", common.own)
  range.src_ip(p, "min", common.own)
  range.src_ip(p, "max", last_address(addresses))
  range.src_ip(p, "inc", addresses > 1 and one or none)
  range.src_port(p, "start", 10000)
  range.src_port(p, "min", 10000)
  range.src_port(p, "max", 10000 + ports - 1)
  range.src_port(p, "inc", 1)
  pktgen.set_range(p, "on")
end

-- Sends for `seconds` at `percent` of the link's speed, `rounds` times, and says what came back. Each
-- round goes on in a range where the last one ended.
function common.run(name, percent, seconds, rounds)
  local p = common.port
  counters.wait_for_quiet(p)
  local sent, received = counters.read(p)
  for _ = 1, rounds or 1 do
    counters.start(p, tostring(percent), 0)
    pktgen.delay(math.floor(seconds * 1000))
    pktgen.stop(p)
    counters.wait_for_quiet(p)
  end
  local sent_at_end, received_at_end = counters.read(p)
  sent, received = sent_at_end - sent, received_at_end - received
  print(string.format("RESULT %s percent=%s sent=%d received=%d lost=%.3f%% rate=%.0f/s", name,
                      percent, sent, received, sent == 0 and 0 or 100 * math.max(0, sent - received)
                      / sent, sent / seconds / (rounds or 1)))
end

return common
