"""Charts as SVG, without a library: lines over a numeric axis, and groups of bars."""
import html
import math

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 380, 70, 170, 34, 48
COLORS = ["#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#17becf", "#7f7f7f"]


def ticks(most, count=5):
    """Round numbers from 0 to at least `most`."""
    scale = 10.0 ** math.floor(math.log10(most / count))
    step = next(f * scale for f in (1, 2, 2.5, 5, 10) if f * scale * count >= most * 0.999)
    return [i * step for i in range(count + 1)]


def number(value):
    return f"{value:.6g}"


def text(x, y, words, anchor="middle", more=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{html.escape(words)}</text>'


class Chart:
    def __init__(self, title, x_title, y_title, y_most):
        self.y_ticks = ticks(y_most or 1)
        self.out = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
            'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>',
            text(LEFT, 20, title, "start", 'font-weight="bold"'),
            text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x_title),
            text(16, HEIGHT / 2, y_title, more=f'transform="rotate(-90 16 {HEIGHT / 2:.0f})"')]
        for value in self.y_ticks:
            y = self.y(value)
            self.out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" '
                            'stroke="#ddd"/>')
            self.out.append(text(LEFT - 6, y + 4, number(value), "end"))

    def y(self, value):
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * value / self.y_ticks[-1]

    def legend(self, names):
        for i, (name, style) in enumerate(names):
            y = TOP + 10 + 18 * i
            self.out.append(f'<rect x="{WIDTH - RIGHT + 14}" y="{y - 9}" width="18" height="10" {style}/>')
            self.out.append(text(WIDTH - RIGHT + 38, y, name, "start"))

    def svg(self):
        return "\n".join([*self.out, "</svg>"]) + "\n"


def lines(title, x_title, y_title, series):
    """`series`: (name, [(x, y), ...])."""
    points = [p for _, line in series for p in line]
    chart = Chart(title, x_title, y_title, max((y for _, y in points), default=1))
    x_ticks = ticks(max((x for x, _ in points), default=1) or 1)

    def at(x):
        return LEFT + (WIDTH - LEFT - RIGHT) * x / x_ticks[-1]
    for value in x_ticks:
        chart.out.append(text(at(value), HEIGHT - BOTTOM + 18, number(value)))
    names = []
    for i, (name, line) in enumerate(series):
        color = COLORS[i % len(COLORS)]
        path = " ".join(f"{at(x):.1f},{chart.y(y):.1f}" for x, y in line)
        chart.out.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.5"/>')
        chart.out += [f'<circle cx="{at(x):.1f}" cy="{chart.y(y):.1f}" r="2.5" fill="{color}"/>'
                      for x, y in line]
        names.append((name, f'fill="{color}"'))
    chart.legend(names)
    return chart.svg()


def bars(title, x_title, y_title, groups, names):
    """`groups`: (label, [a value for each of `names`, None where there is none])."""
    values = [v for _, group in groups for v in group if v is not None]
    chart = Chart(title, x_title, y_title, max(values, default=1))
    room = (WIDTH - LEFT - RIGHT) / max(1, len(groups))
    width = 0.8 * room / len(names)
    for i, (label, group) in enumerate(groups):
        left = LEFT + room * (i + 0.1)
        chart.out.append(text(LEFT + room * (i + 0.5), HEIGHT - BOTTOM + 18, label))
        for j, value in enumerate(group):
            if value is not None:
                chart.out.append(
                    f'<rect x="{left + j * width:.1f}" y="{chart.y(value):.1f}" width="{width:.1f}" '
                    f'height="{HEIGHT - BOTTOM - chart.y(value):.1f}" fill="{COLORS[j]}"/>')
    chart.legend([(name, f'fill="{COLORS[j]}"') for j, name in enumerate(names)])
    return chart.svg()
