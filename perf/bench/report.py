"""Text, tables and plots of the reports."""
import math
import os
import platform
import statistics
import subprocess

COLORS = ("#1b6ca8", "#c2571a", "#3d8b37", "#7b4ea3")


def spread(values, form):
    if not values:
        return ""
    return f"{form(statistics.median(values))} ({form(min(values))} to {form(max(values))})"


def rate_text(value):
    return f"{value / 1e6:.3f} M/s" if value >= 1e6 else f"{value / 1e3:.1f} k/s"


def ratio_text(value):
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def ratios(a, b):
    return [x / y for x, y in zip(a, b) if y]


def latency_text(runs):
    """Medians of p50 / p99 / p99.9 over runs' "latency_us"."""
    if not runs:
        return ""
    return " / ".join(f"{statistics.median(r[q] for r in runs):.1f}" for q in ("p50", "p99", "p99.9"))


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def machine():
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo", encoding="ascii")
                  if line.startswith("model name")), platform.machine())
    dpdk = subprocess.run(["pkg-config", "--modversion", "libdpdk"], capture_output=True, text=True,
                          check=False).stdout.strip()
    return (f"{model}, {os.cpu_count()} cores, Linux {platform.release()}, DPDK "
            f"{dpdk or 'of unknown version'}, load {os.getloadavg()[0]:.1f} at the start")


def revision(root):
    done = subprocess.run(["git", "-C", root, "describe", "--always", "--dirty"],
                          capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


# ---- plots ----

class Axis:
    """Values to pixels, linear or logarithmic, with ticks at round values."""

    def __init__(self, values, low_pixel, high_pixel, logarithmic):
        self.log = logarithmic
        self.pixels = low_pixel, high_pixel
        if logarithmic:
            self.low = 10 ** math.floor(math.log10(min(values)))
            self.high = 10 ** math.ceil(math.log10(max(values)))
            n = round(math.log10(self.high / self.low))
            self.ticks = [self.low * 10 ** i for i in range(n + 1)]
        else:
            self.low, self.high = 0, max(values)
            step = 10 ** math.floor(math.log10(self.high))
            step = next(s for s in (step / 5, step / 2, step, 2 * step) if self.high / s <= 8)
            self.high = math.ceil(self.high / step) * step
            self.ticks = [i * step for i in range(round(self.high / step) + 1)]

    def at(self, value):
        part = (math.log(value / self.low) / math.log(self.high / self.low) if self.log
                else (value - self.low) / (self.high - self.low))
        return self.pixels[0] + part * (self.pixels[1] - self.pixels[0])


def plot(lines, x_title, y_title, logarithmic=False):
    """SVG of {name: [(x, y)]}."""
    left, top, width, height = 70, 20, 480, 260
    x = Axis([p[0] for points in lines.values() for p in points], left, left + width, False)
    y = Axis([p[1] for points in lines.values() for p in points], top + height, top, logarithmic)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 90}" '
           f'height="{top + height + 50}" font-family="sans-serif" font-size="12">',
           '<rect width="100%" height="100%" fill="white"/>']
    for tick in y.ticks:
        out.append(f'<line x1="{left}" x2="{left + width}" y1="{y.at(tick):.1f}" '
                   f'y2="{y.at(tick):.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{left - 8}" y="{y.at(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in x.ticks:
        out.append(f'<text x="{x.at(tick):.1f}" y="{top + height + 18}" '
                   f'text-anchor="middle">{tick:g}</text>')
    for color, (name, points) in zip(COLORS, lines.items()):
        path = " ".join(f"{x.at(px):.1f},{y.at(py):.1f}" for px, py in points)
        out.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        out.append(f'<text x="{x.at(points[-1][0]) + 8:.1f}" y="{y.at(points[-1][1]) + 4:.1f}" '
                   f'fill="{color}">{name}</text>')
    out.append(f'<text x="{left + width / 2}" y="{top + height + 40}" '
               f'text-anchor="middle">{x_title}</text>')
    out.append(f'<text transform="translate(18,{top + height / 2}) rotate(-90)" '
               f'text-anchor="middle">{y_title}</text>')
    return "\n".join([*out, "</svg>"]) + "\n"
