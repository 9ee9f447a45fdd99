-- Pktgen's half of rfc2544.py: makes the trials that it is asked for, one line each way.
--   request: size flows percent milliseconds count     (count 0: for the whole time)
--   answer:  JSON with packets sent and received
-- The pipes and addresses come in the environment.
local requests = assert(io.open(os.getenv("POSTERN_REQUESTS"), "r"))
local answers = assert(io.open(os.getenv("POSTERN_ANSWERS"), "w"))
local local_address = os.getenv("POSTERN_LOCAL")
local peer_address = os.getenv("POSTERN_PEER")
local peer_mac = os.getenv("POSTERN_PEER_MAC")
local udp_port = tonumber(os.getenv("POSTERN_UDP_PORT"))
local port = "0"

local SETTLE = 2100 -- milliseconds: pktgen reads its counters once a second

local function say(text)
  answers:write(text .. "\n")
  answers:flush()
end

-- One flow: a fixed packet. More: source ports, and above 32,768 flows source addresses as well.
local function configure(size, flows)
  pktgen.set(port, "size", size)
  pktgen.set_proto(port, "udp")
  pktgen.set_type(port, "ipv4")
  pktgen.set_mac(port, "dst", peer_mac)
  pktgen.set_ipaddr(port, "dst", peer_address)
  pktgen.set_ipaddr(port, "src", local_address .. "/24")
  pktgen.set(port, "sport", 10000)
  pktgen.set(port, "dport", udp_port)
  if flows == 1 then
    pktgen.set_range(port, "off")
    return
  end
  local ports = math.min(flows, 32768)
  local addresses = math.ceil(flows / ports)
  pktgen.dst_mac(port, "start", peer_mac)
  pktgen.dst_ip(port, "start", peer_address)
  pktgen.dst_ip(port, "inc", "0.0.0.0")
  pktgen.dst_ip(port, "min", peer_address)
  pktgen.dst_ip(port, "max", peer_address)
  local prefix, last = local_address:match("^(.*%.)(%d+)$")
  pktgen.src_ip(port, "start", local_address)
  pktgen.src_ip(port, "inc", addresses > 1 and "0.0.0.1" or "0.0.0.0")
  pktgen.src_ip(port, "min", local_address)
  pktgen.src_ip(port, "max", prefix .. (tonumber(last) + addresses - 1))
  pktgen.ip_proto(port, "udp")
  pktgen.src_port(port, "start", 10000)
  pktgen.src_port(port, "inc", 1)
  pktgen.src_port(port, "min", 10000)
  pktgen.src_port(port, "max", 10000 + ports - 1)
  pktgen.dst_port(port, "start", udp_port)
  pktgen.dst_port(port, "inc", 0)
  pktgen.dst_port(port, "min", udp_port)
  pktgen.dst_port(port, "max", udp_port)
  pktgen.pkt_size(port, "start", size)
  pktgen.pkt_size(port, "inc", 0)
  pktgen.pkt_size(port, "min", size)
  pktgen.pkt_size(port, "max", size)
  pktgen.set_range(port, "on")
end

local function trial(size, flows, percent, milliseconds, count)
  configure(size, flows)
  pktgen.set(port, "rate", percent)
  pktgen.set(port, "count", count)
  pktgen.clear(port)
  pktgen.delay(SETTLE)
  local before = pktgen.portStats(port, "port")[0]
  pktgen.start(port)
  pktgen.delay(milliseconds)
  pktgen.stop(port)
  pktgen.delay(SETTLE)
  local after = pktgen.portStats(port, "port")[0]
  say(string.format('{"sent":%d,"received":%d,"errors":%d}', after.opackets - before.opackets,
                    after.ipackets - before.ipackets, after.oerrors - before.oerrors))
end

pktgen.screen("off")
pktgen.process(port, "on") -- answers ARP
say("ready")
for line in requests:lines() do
  local size, flows, percent, milliseconds, count = line:match("(%S+) (%S+) (%S+) (%S+) (%S+)")
  if not size then break end
  local ok, why = pcall(trial, tonumber(size), tonumber(flows), percent, tonumber(milliseconds),
                        tonumber(count))
  if not ok then say('{"error":"' .. tostring(why):gsub('"', "'") .. '"}') end
end
pktgen.quit()
