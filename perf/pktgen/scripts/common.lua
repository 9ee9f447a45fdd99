-- What the scripts share. Where things are comes from the environment:
--   POSTERN_PEER, POSTERN_PEER_MAC   posternd's address and MAC (postern link shows them)
--   POSTERN_LOCAL                    pktgen's own address
--   POSTERN_UDP_PORT                 the echo server's port, 7
local common = { port = "0", settle = 2100 } -- ms: pktgen reads its counters once a second

common.peer = os.getenv("POSTERN_PEER") or error("set POSTERN_PEER to posternd's address")
common.mac = os.getenv("POSTERN_PEER_MAC") or error("set POSTERN_PEER_MAC; postern link shows it")
common.own = os.getenv("POSTERN_LOCAL") or error("set POSTERN_LOCAL to pktgen's address")
common.udp = tonumber(os.getenv("POSTERN_UDP_PORT") or "7")

function common.single(protocol, destination, size)
  local p = common.port
  pktgen.screen("off")
  pktgen.process(p, "on") -- answers ARP
  pktgen.set_range(p, "off")
  pktgen.set(p, "seqCnt", 0)
  pktgen.set_type(p, "ipv4")
  pktgen.set_proto(p, protocol)
  pktgen.set_mac(p, "dst", common.mac)
  pktgen.set_ipaddr(p, "dst", common.peer)
  pktgen.set_ipaddr(p, "src", common.own .. "/24")
  pktgen.set(p, "sport", 10000)
  pktgen.set(p, "dport", destination)
  pktgen.set(p, "size", size)
  pktgen.set(p, "count", 0)
end

-- Flows by source ports, and above 32,768 by source addresses as well: own, own + 1, ...
function common.flows(protocol, destination, size, flows)
  local p = common.port
  common.single(protocol, destination, size)
  local ports = math.min(flows, 32768)
  local addresses = math.ceil(flows / ports)
  local prefix, last = common.own:match("^(.*%.)(%d+)$")
  assert(tonumber(last) + addresses - 1 < 255, "too many flows for this network")
  pktgen.dst_mac(p, "start", common.mac)
  for _, what in ipairs({ "start", "min", "max" }) do
    pktgen.dst_ip(p, what, common.peer)
    pktgen.dst_port(p, what, destination)
    pktgen.pkt_size(p, what, size)
  end
  pktgen.dst_ip(p, "inc", "0.0.0.0")
  pktgen.dst_port(p, "inc", 0)
  pktgen.pkt_size(p, "inc", 0)
  pktgen.src_ip(p, "start", common.own)
  pktgen.src_ip(p, "min", common.own)
  pktgen.src_ip(p, "max", prefix .. (tonumber(last) + addresses - 1))
  pktgen.src_ip(p, "inc", addresses > 1 and "0.0.0.1" or "0.0.0.0")
  pktgen.ip_proto(p, protocol)
  pktgen.src_port(p, "start", 10000)
  pktgen.src_port(p, "min", 10000)
  pktgen.src_port(p, "max", 10000 + ports - 1)
  pktgen.src_port(p, "inc", 1)
  pktgen.set_range(p, "on")
end

-- Sends for `seconds` at `percent` of the link's speed and says what came back.
function common.run(name, percent, seconds)
  local p = common.port
  pktgen.set(p, "rate", tostring(percent))
  pktgen.clear(p)
  pktgen.delay(common.settle)
  local before = pktgen.portStats(p, "port")[0]
  pktgen.start(p)
  pktgen.delay(math.floor(seconds * 1000))
  pktgen.stop(p)
  pktgen.delay(common.settle)
  local after = pktgen.portStats(p, "port")[0]
  local sent, received = after.opackets - before.opackets, after.ipackets - before.ipackets
  print(string.format("RESULT %s percent=%s sent=%d received=%d lost=%.3f%% rate=%.0f/s", name,
                      percent, sent, received, sent == 0 and 0 or 100 * math.max(0, sent - received)
                      / sent, sent / seconds))
end

return common
