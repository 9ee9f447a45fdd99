-- Pktgen's counters of one port, which it reads once a second, and its way to begin.
local counters = {}

-- Frames sent, frames received, frames that could not be sent, as of the last reading.
function counters.read(port)
  local stats = pktgen.portStats(port, "port")[0]
  return stats.opackets, stats.ipackets, stats.oerrors
end

-- Until the counters have seen a whole second in which nothing moved.
function counters.wait_for_quiet(port)
  for _ = 1, 400 do
    pktgen.delay(25)
    local rate = pktgen.portStats(port, "rate")[0]
    if rate.opackets == 0 and rate.ipackets == 0 then
      pktgen.delay(5)
      return
    end
  end
  error("frames keep coming")
end

-- Pktgen makes all packets of its pool anew at every start and then catches up with the time that took,
-- at full speed. What is to be sent at a rate therefore starts at next to none, and gets its rate when
-- the first frames have been seen. `count`: frames of a burst, which takes all it can get; 0: no burst.
function counters.start(port, percent, count)
  local sent = counters.read(port)
  pktgen.set(port, "rate", count == 0 and "0.001" or percent)
  pktgen.set(port, "count", count)
  pktgen.start(port)
  for _ = 1, 2000 do
    if counters.read(port) ~= sent then
      pktgen.set(port, "rate", percent)
      return
    end
    pktgen.delay(5)
  end
  error("nothing is sent")
end

return counters
