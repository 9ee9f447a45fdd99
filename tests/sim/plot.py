#!/usr/bin/env python3
"""plot.py throughput.csv > throughput.svg: percent of the link against loss, a line a round trip."""
import sys

WIDTH, HEIGHT, LEFT, TOP = 320, 220, 50, 40
COLORS = {"2": "#1b6ca8", "20": "#c2571a", "100": "#3d8b37"}


def read(path):
    """algorithm -> round trip -> [(loss, percent)]"""
    out = {}
    for line in open(path, encoding="ascii"):
        if line.strip() and not line.startswith("#"):
            algorithm, rtt, loss, percent = line.split("#")[0].strip().split(",")
            out.setdefault(algorithm, {}).setdefault(rtt, []).append((float(loss), float(percent)))
    return out


def panel(at, algorithm, lines):
    losses = [loss for loss, _ in next(iter(lines.values()))]
    x = {loss: at + i * WIDTH / (len(losses) - 1) for i, loss in enumerate(losses)}
    y = lambda percent: TOP + HEIGHT * (1 - percent / 100)
    yield f'<text x="{at}" y="{TOP - 16}" font-weight="bold">{algorithm}</text>'
    for percent in (0, 25, 50, 75, 100):
        yield (f'<line x1="{at}" x2="{at + WIDTH}" y1="{y(percent)}" y2="{y(percent)}" '
               'stroke="#ddd"/>')
        yield f'<text x="{at - 8}" y="{y(percent) + 4}" text-anchor="end">{percent}</text>'
    for loss in losses:
        yield (f'<text x="{x[loss]}" y="{TOP + HEIGHT + 18}" text-anchor="middle">'
               f'{loss * 100:g} %</text>')
    for i, (rtt, points) in enumerate(lines.items()):
        path = " ".join(f"{x[loss]:.0f},{y(percent):.1f}" for loss, percent in points)
        yield f'<polyline points="{path}" fill="none" stroke="{COLORS[rtt]}" stroke-width="2"/>'
        yield (f'<text x="{at + WIDTH - 60}" y="{TOP + 14 + 16 * i}" fill="{COLORS[rtt]}">'
               f'{rtt} ms</text>')


def main():
    table = read(sys.argv[1])
    width = LEFT + len(table) * (WIDTH + LEFT)
    print(f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{TOP + HEIGHT + 40}" '
          'font-family="sans-serif" font-size="12">')
    print('<rect width="100%" height="100%" fill="white"/>')
    for i, (algorithm, lines) in enumerate(table.items()):
        print("\n".join(panel(LEFT + i * (WIDTH + LEFT), algorithm, lines)))
    print("</svg>")


if __name__ == "__main__":
    main()
