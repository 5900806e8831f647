"""The ratios as SVG."""

import math
from xml.sax.saxutils import escape

from .works import BETTER

# Columns: the work, the peer, the plot, the figures.
PEER, PLOT, FIGURES, WIDTH = 196, 372, 800, 960
ROW, GAP, TOP = 20, 10, 84
# Whatever is less, as memory that shrank is, stands here.
LEAST = 0.05
TICKS = (0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 7, 10)
INK, FAINT, CHEAPER, DEARER, TARGET = "#222222", "#dddddd", "#4a90c4", "#e08a3c", "#b3261e"
# Those that a target for the better of both is about: to reach it is to reach it with either.
BOTH = ("haproxy", "nginx")


def text(x, y, words, anchor="start", size=12, weight="normal"):
    look = f'text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" fill="{INK}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {look}>{escape(words)}</text>'


def line(x, y, to_x, to_y, color=INK, width=1.0):
    return f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}" stroke="{color}" stroke-width="{width}"/>'


def grouped(rows):
    """By work and connections: the rows that have a ratio, each with what it is to reach."""
    groups = {}
    targets = {(row["work"], row["connections"]): row["target"] for row in rows if row["peer"] == BETTER}
    for row in rows:
        if row["ratio"] and row["peer"] != BETTER:
            key = (row["work"], row["connections"])
            target = row["target"] or (targets.get(key) if row["peer"] in BOTH else None)
            groups.setdefault(key, []).append(row | {"target": target})
    return groups


def scale(rows):
    """From ratios to places: logarithmic, for half as much is as far from 1 as twice as much."""
    def logarithm(ratio):
        return math.log(max(ratio, LEAST))

    values = [value for row in rows for value in (*row["ratio"].values(), row["target"] or 1)]
    low, high = logarithm(min([0.5, *values])) - 0.05, logarithm(max([1.5, *values])) + 0.05
    return lambda ratio: PLOT + (logarithm(ratio) - low) / (high - low) * (FIGURES - 12 - PLOT)


def bar(row, y, place, versions):
    ratio, target, middle = row["ratio"], row["target"], y + ROW / 2
    median, low, high = (place(ratio[key]) for key in ("median", "min", "max"))
    left, right = sorted((median, place(1)))
    color = CHEAPER if ratio["median"] <= 1 else DEARER
    # Debian's part of a version would fill the column.
    name = f"{row['peer']} {versions.get(row['peer'], '').partition('-')[0]}".strip()
    yield text(PEER, middle + 4, name if len(name) < 28 else row["peer"])
    yield f'<rect x="{left:.1f}" y="{y + 3}" width="{right - left:.1f}" height="{ROW - 6}" fill="{color}"/>'
    yield line(low, middle, high, middle)
    yield from (line(x, middle - 4, x, middle + 4) for x in (low, high))
    if target:
        yield line(place(target), y, place(target), y + ROW, TARGET, 3)
    yield text(FIGURES, middle + 4, "{median:.2f} [{min:.2f}–{max:.2f}]".format(**ratio))


def draw(result):
    """What `--json` writes, as a bar for each work, number of connections and peer."""
    setting, versions, groups = result["setting"], result["versions"], grouped(result["summary"])
    place = scale([row for group in groups.values() for row in group])
    bottom = TOP + sum(ROW * len(group) + GAP for group in groups.values())
    axis = [tick for tick in TICKS if PLOT <= place(tick) <= FIGURES]
    parts = [
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        text(12, 24, "Steadfast's figure by each peer's: CPU time, memory or latency", size=16, weight="bold"),
        text(12, 44, "Median, with the lowest and highest of the rounds. Left of 1 Steadfast is cheaper. Red: what is to be reached."),
        *(line(place(tick), TOP - 6, place(tick), bottom, INK if tick == 1 else FAINT, 1.5 if tick == 1 else 1) for tick in axis),
        *(text(place(tick), TOP - 12, f"{tick:g}", "middle") for tick in axis),
    ]
    y = TOP
    for (work, connections), group in groups.items():
        parts.append(text(12, y + ROW / 2 + 4, f"{work}, {connections}", weight="bold"))
        for row in group:
            parts += bar(row, y, place, versions)
            y += ROW
        y += GAP
    # Over the bars, which begin there.
    parts.append(line(place(1), TOP - 6, place(1), bottom, INK, 1.5))
    told = "; ".join(f"{key}: {setting[key]}" for key in ("runs", "kernel", "load average before") if key in setting)
    parts.append(text(12, bottom + 18, f"Behind each work is its number of connections; {told}.", size=11))
    height = bottom + 34
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
            f'font-family="sans-serif">\n' + "\n".join(parts) + "\n</svg>\n")
