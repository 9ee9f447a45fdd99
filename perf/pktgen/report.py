"""An RFC 2544 report as Markdown, JSON and SVG."""
import json

import chart


def millions(rate):
    return f"{rate / 1e6:.3f}"


def percent(value):
    return f"{value * 100:.3f} %"


def gigabits(result, rate):
    return f"{rate * result['bits_of_frame'] / 1e9:.2f}"


def label(result):
    flows = "" if result["flows"] == 1 else f", {result['flows']:,} flows"
    return f"IPv{result['version']} {result['size']}{flows}"


def table(head, rows):
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(map(str, row)) + " |"


def throughput_rows(results):
    for r in results:
        top = r["ceiling"]["sent_rate"]
        cells = [f"IPv{r['version']}", r["size"], f"{r['flows']:,}"]
        for name in ("ndr", "pdr"):
            rate = r[name]["rate"]
            cells += [millions(rate), gigabits(r, rate)] if rate else ["none found", ""]
        yield [*cells, f"{r['back_to_back']:,}", millions(top), percent(r["ceiling"]["loss"])]


def latency_rows(results):
    for r in results:
        for l in r["latency"]:
            us = l["latency_us"]
            yield [f"IPv{r['version']}", r["size"], f"{r['flows']:,}", f"{l['share'] * 100:.0f} %",
                   millions(l["rate"]), *(f"{us[k]:.1f}" for k in ("p50", "p99", "p99.9", "max"))]


def account_rows(results):
    """Where the frames of the trial at the ceiling went."""
    for r in results:
        c, top = r["at_the_ceiling"], r["ceiling"]
        sent = top["sent"] or 1
        drops = sorted(c["drops"].items(), key=lambda d: -d[1])
        why = ", ".join(f"`{name}` {percent(count / sent)}" for name, count in drops[:3])
        burst = c["rx_packets"] / max(1, c["worker_busy_turns"])
        yield [label(r), f"{top['sent']:,}", f"{c['rx_packets']:,}", f"{c['udp_rx_datagrams']:,}",
               f"{c['udp_tx_datagrams']:,}", f"{top['received']:,}", f"{burst:.0f}", why or "-"]


def loss_rows(results):
    for r in results:
        for t in r["loss_curve"]:
            yield [label(r), "no limit" if not t["offered"] else millions(t["offered"]),
                   millions(t["sent_rate"]), millions(t["received_rate"]), percent(t["loss"])]


def loss_chart(results):
    """Up to twice what the fastest of them holds: beyond, all is lost in the same way."""
    held = max((r["pdr"]["rate"] or r["ceiling"]["received_rate"] for r in results), default=1)
    series = []
    for r in results[:len(chart.COLORS)]:
        points = sorted((t["sent_rate"] / 1e6, t["loss"] * 100) for t in r["loss_curve"]
                        if t["sent_rate"] <= 2 * held)
        series.append((label(r), points))
    return chart.lines("Frames lost", "million frames a second sent", "lost, %", series)


def throughput_chart(results):
    kinds = [(v, name) for v in (4, 6) for name in ("ndr", "pdr") if any(r["version"] == v for r in results)]
    labels = list(dict.fromkeys((r["size"], r["flows"]) for r in results))
    found = {(r["size"], r["flows"], r["version"], n): r[n]["rate"] / 1e6
             for r in results for n in ("ndr", "pdr")}
    groups = [(size if flows == 1 else f"{size}/{flows}", [found.get((size, flows, *k)) for k in kinds])
              for size, flows in labels]
    return chart.bars("Throughput", "frame size, bytes", "million frames a second", groups,
                      [f"IPv{v} {name.upper()}" for v, name in kinds])


def latency_chart(results):
    labels = [r for r in results if r["latency"]]
    names = [f"p50 at {l['share'] * 100:.0f} %" for l in labels[0]["latency"]]
    groups = [(f"v{r['version']} {r['size']}", [l["latency_us"]["p50"] for l in r["latency"]])
              for r in labels]
    return chart.bars("Latency", "frame", "microseconds", groups, names)


def charts(results):
    """Name -> SVG."""
    found = {"throughput": throughput_chart(results)}
    for version in (4, 6):
        of_version = [r for r in results if r["version"] == version]
        if of_version:
            found[f"loss-ipv{version}"] = loss_chart(of_version)
    if any(r["latency"] for r in results):
        found["latency"] = latency_chart(results)
    return found


def method_lines(s):
    short = ": **these are short trials**" if s["trial_seconds"] < 60 else ""
    yield f"- Trial: {s['trial_seconds']:g} s (RFC 2544 asks for 60 s{short})."
    yield ("- NDR, the rate of which nothing is lost, and PDR, of which at most "
           f"{s['pdr'] * 100:g} % is: searched to {s['resolution'] * 100:g} % of the rate, then confirmed "
           f"by {s['repeats']} trial(s) in a row; lowered by that step for each that fails.")
    yield ("- Ceiling: what generator and link send without a limit, and what is lost of it.")
    yield ("- Frame loss (26.3): at the ceiling, at 0.8 to 3 times the PDR, and at every rate that the "
           "searches tried; RFC 2544's steps of a tenth of the ceiling would all lie beyond the PDR.")
    yield (f"- Burst (26.4): frames back to back of which nothing is lost, {s['burst_repeats']} trial(s) "
           f"each, to {s['burst_resolution'] * 100:g} % of its length, at most {s['longest_burst']:,}.")
    yield ("- Latency (26.2): by `perf/loadgen`, of every datagram, from the moment at which it was due, "
           f"in an open loop at 10, 50 and 90 % of the NDR; {s['latency_seconds']:g} s each.")
    yield ("- Gbit/s count the frame with FCS, preamble and gap. IPv6 begins at 82 bytes: its headers and "
           "the generators' 16 bytes do not fit into 64 (RFC 5180 5.1 allows for that). IMIX is 7 frames "
           "of 64 (IPv6: 82), 4 of 594, 1 of 1518.")


def markdown(facts, results, name):
    parts = [
        "# RFC 2544: UDP echo by an application over Postern", "",
        f"Made on {facts['date']} in {facts['settings']['minutes']:g} minutes by", "",
        f"    {facts['command']}", "",
        *(f"- {line}" for line in facts["machine"]), "",
        "## What is measured", "",
        f"Generator: {facts['generator']}. Every frame is a UDP datagram that `posternd` receives, checks, "
        "hands to an application in a process of its own, that the application sends back, and that the "
        "generator counts: the throughput of an echo, not of a forwarder.", "",
        *method_lines(facts["settings"]),
        *(f"- {line}" for line in facts["limits"]), "",
        "## Throughput and bursts", "", f"![throughput]({name}-throughput.svg)", "",
        "Rates in millions of frames a second.", "",
        *table(["", "frame", "flows", "NDR", "Gbit/s", "PDR", "Gbit/s", "burst, frames", "ceiling",
                "lost there"], throughput_rows(results)), "",
        "## Latency, microseconds", "",
    ]
    if any(r["latency"] for r in results):
        parts += [f"![latency]({name}-latency.svg)", "",
                  *table(["", "frame", "flows", "of NDR", "rate", "p50", "p99", "p99.9", "max"],
                         latency_rows(results))]
    else:
        parts.append("Not measured: no rate without loss was found.")
    parts += [
        "", "## What the daemon did with too much", "",
        "In the trial at the ceiling: frames sent; frames that the daemon took from its device; datagrams "
        "put into the application's receive queue; datagrams that the application sent; frames that came "
        "back; frames that the worker took in a turn. The rest is dropped by name: `udp_socket_full` means "
        "that the application was too slow, or had no turn on its core, and its queue is bounded. A frame "
        "that is missing between \"sent\" and \"taken\" was given to a ring that was full.", "",
        *table(["", "sent", "taken", "to the application", "by the application", "came back",
                "frames a turn", "dropped, of those sent"], account_rows(results)), "",
        "## Frame loss", "",
    ]
    for version in (4, 6):
        if any(r["version"] == version for r in results):
            parts += [f"![frame loss, IPv{version}]({name}-loss-ipv{version}.svg)", ""]
    parts += [*table(["", "asked for", "sent", "came back", "lost"], loss_rows(results)), ""]
    return "\n".join(parts)


def write(directory, name, facts, results):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.json").write_text(json.dumps({**facts, "results": results}, indent=1) + "\n")
    for which, svg in charts(results).items():
        (directory / f"{name}-{which}.svg").write_text(svg)
    (directory / f"{name}.md").write_text(markdown(facts, results, name))
