"""An RFC 2544 report as Markdown, JSON and SVG."""
import json


def svg(results):
    """Frame loss against the rate offered, a line for each frame size."""
    width, height, left, bottom = 720, 360, 60, 40
    colors = ["#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#17becf", "#7f7f7f"]
    points = [(t["sent_rate"], t["loss"] * 100) for r in results for t in r["loss_curve"]]
    most = max((x for x, _ in points), default=1) or 1
    worst = max(1.0, max((y for _, y in points), default=1))

    def at(rate, loss):
        return (left + (width - left - 20) * rate / most,
                height - bottom - (height - bottom - 20) * loss / worst)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
           'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>']
    for tenth in range(0, 11, 2):
        x, _ = at(most * tenth / 10, 0)
        _, y = at(0, worst * tenth / 10)
        out.append(f'<text x="{x:.0f}" y="{height - 20}" text-anchor="middle">'
                   f'{most * tenth / 1e7:.2f}</text>')
        out.append(f'<line x1="{left}" x2="{width - 20}" y1="{y:.0f}" y2="{y:.0f}" stroke="#ddd"/>'
                   f'<text x="{left - 6}" y="{y + 4:.0f}" text-anchor="end">{worst * tenth / 10:.1f}'
                   '</text>')
    out.append(f'<text x="{width / 2}" y="{height - 4}" text-anchor="middle">Mframes/s sent</text>'
               f'<text x="14" y="{height / 2}" transform="rotate(-90 14 {height / 2})" '
               'text-anchor="middle">frames lost, %</text>')
    for i, result in enumerate(results):
        color = colors[i % len(colors)]
        line = sorted((t["sent_rate"], t["loss"] * 100) for t in result["loss_curve"])
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*p) for p in line))
        out.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>'
                   f'<text x="{left + 10}" y="{30 + 16 * i}" fill="{color}">{result["size"]} bytes, '
                   f'{result["flows"]} flow(s)</text>')
    return "\n".join([*out, "</svg>"]) + "\n"


def millions(rate):
    return f"{rate / 1e6:.3f}"


def percent(value):
    return f"{value * 100:.3f} %"


def throughput_rows(results):
    yield "| frame | flows | ceiling | NDR | of ceiling | PDR | of ceiling | burst |"
    yield "|---|---|---|---|---|---|---|---|"
    for r in results:
        top = r["ceiling"]["sent_rate"]
        cells = [f"{r['size']}", f"{r['flows']:,}", millions(top)]
        for name in ("ndr", "pdr"):
            rate = r[name]["rate"]
            cells += [millions(rate) if rate else "none found", f"{rate / top * 100:.0f} %"]
        cells.append(f"{r['back_to_back']:,}")
        yield "| " + " | ".join(cells) + " |"


def latency_rows(results):
    yield "| frame | flows | at | rate | p50 | p99 | p99.9 | max |"
    yield "|---|---|---|---|---|---|---|---|"
    for r in results:
        for l in r["latency"]:
            us = l["latency_us"]
            cells = [r["size"], f"{r['flows']:,}", f"{l['share'] * 100:.0f} % of NDR",
                     millions(l["rate"]), *(f"{us[k]:.1f}" for k in ("p50", "p99", "p99.9", "max"))]
            yield "| " + " | ".join(map(str, cells)) + " |"


def loss_rows(results):
    yield "| frame | flows | sent | came back | lost |"
    yield "|---|---|---|---|---|"
    for r in results:
        for t in r["loss_curve"]:
            yield (f"| {r['size']} | {r['flows']:,} | {millions(t['sent_rate'])} | "
                   f"{millions(t['received_rate'])} | {percent(t['loss'])} |")


def markdown(facts, results, name):
    s = facts["settings"]
    parts = [
        "# RFC 2544: UDP echo by an application over Postern", "",
        f"Made by `perf/pktgen/run.sh` on {facts['date']}. Rates are millions of frames a second, "
        "sizes bytes with FCS.", "",
        *(f"- {line}" for line in facts["machine"]), "",
        "## Method", "",
        f"Generator: {facts['generator']}. Every frame is a UDP datagram that the daemon hands to an "
        "application, that the application sends back, and that the generator counts.", "",
        f"- Trial: {s['trial_seconds']} s (RFC 2544 asks for 60 s"
        + (": **these are short trials**" if s["trial_seconds"] < 60 else "") + ").",
        f"- Throughput by halving to {s['resolution'] * 100:g} % of the ceiling; the rate found is "
        f"confirmed by {s['repeats']} trial(s) in a row. NDR: no frame lost. PDR: at most "
        f"{s['pdr'] * 100:g} %.",
        "- Ceiling: what generator and link send without a limit; the upper end of the search.",
        f"- Burst: frames back to back without loss, {s['burst_repeats']} trial(s) each"
        f", at most {s['longest_burst']:,}.",
        "- Latency: by `perf/loadgen`, from the moment at which a datagram was due, in an open loop; "
        f"{s['latency_seconds']} s each.",
        *(f"- {line}" for line in facts["limits"]), "",
        "## Throughput", "", *throughput_rows(results), "",
        "## Latency, microseconds", "",
        *(latency_rows(results) if any(r["latency"] for r in results)
          else ["Not measured: no rate without loss was found."]), "",
        "## Frame loss", "", f"![frame loss]({name}.svg)", "", *loss_rows(results), "",
    ]
    return "\n".join(parts)


def write(directory, name, facts, results):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.json").write_text(json.dumps({**facts, "results": results}, indent=1) + "\n")
    (directory / f"{name}.svg").write_text(svg(results))
    (directory / f"{name}.md").write_text(markdown(facts, results, name))
