"""Draw `docs/performance.svg` from `docs/performance.json`, which `benchmarks.run` wrote.

One bar for each database, latency and number of clients: the service's rate as a share of the
bare application's, with a line from the lowest to the highest of the rounds.
"""

import json
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"
COLOURS = {"postgres": "#336791", "sqlite": "#7b9e3c"}
BAR, GAP, HEIGHT, LEFT, TOP = 22, 10, 240, 60, 40


def draw(results):
    """Return the picture as SVG."""
    width = LEFT + len(results) * (BAR + GAP) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{HEIGHT + TOP + 70}"'
        ' font-family="sans-serif" font-size="11">',
        f'<text x="{LEFT}" y="20" font-size="14">Requests a second, as a share of the bare'
        " application's: Postgres (blue), SQLite (green)</text>",
        *(_line(share, width) for share in (0, 0.25, 0.5, 0.75, 1.0, 1.25)),
        *(_bar(number, *result) for number, result in enumerate(results)),
        f'<text x="8" y="{TOP + HEIGHT + 18}">clients</text>',
        f'<text x="8" y="{TOP + HEIGHT + 36}">ms</text>',
        "</svg>",
    ]
    return "\n".join(parts)


def _y(share):
    return TOP + HEIGHT * (1 - share / 1.25)


def _line(share, width):
    y = _y(share)
    return (
        f'<line x1="{LEFT - 5}" x2="{width - 10}" y1="{y}" y2="{y}" stroke="#ddd"/>'
        f'<text x="{LEFT - 40}" y="{y + 4}">{share:.2f}</text>'
    )


def _bar(number, database, latency, clients, result):
    x, y = LEFT + number * (BAR + GAP), _y(min(result["ratio"], 1.25))
    low, high = _y(result["ratio_min"]), _y(min(result["ratio_max"], 1.25))
    middle, bottom = x + BAR / 2, TOP + HEIGHT
    return (
        f'<rect x="{x}" y="{y}" width="{BAR}" height="{bottom - y}" fill="{COLOURS[database]}"/>'
        f'<line x1="{middle}" x2="{middle}" y1="{low}" y2="{high}" stroke="black"/>'
        f'<text x="{middle}" y="{bottom + 18}" text-anchor="middle">{clients}</text>'
        f'<text x="{middle}" y="{bottom + 36}" text-anchor="middle">{latency}</text>'
    )


if __name__ == "__main__":
    results = json.loads((DOCS / "performance.json").read_text())
    (DOCS / "performance.svg").write_text(draw(results))
