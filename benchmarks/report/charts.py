"""Inline SVG: a bar a row, with its spread and its floor."""

from dataclasses import dataclass
from html import escape

WIDTH, LABEL, VALUE = 860, 250, 150  # pixels: all, left of the bars, right of them
ROW, BAR = 24, 12
SCALE = WIDTH - LABEL - VALUE


@dataclass(frozen=True)
class Bar:
    label: str
    value: float
    least: float
    most: float
    floor: float
    text: str
    group: str  # bars of a group have one colour: "out" or "in"


def bar_chart(bars, title):
    """Bars from zero on one scale; the thin line is least to most, the upright mark the floor."""
    longest = max(max(bar.most, bar.floor) for bar in bars)
    height = ROW * len(bars) + 8

    def x(value):
        return LABEL + SCALE * value / longest

    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">']
    for number, bar in enumerate(bars):
        top = ROW * number + 6
        middle = top + BAR / 2
        parts += [
            f'<text x="{LABEL - 8}" y="{middle + 4:g}" class="label">{escape(bar.label)}</text>',
            f'<rect x="{LABEL}" y="{top}" width="{max(1.0, x(bar.value) - LABEL):.1f}" '
            f'height="{BAR}" class="{escape(bar.group)}"/>',
            f'<path d="M{x(bar.least):.1f} {middle:g}H{x(bar.most):.1f}" class="spread"/>',
            f'<path d="M{x(bar.floor):.1f} {top - 3}V{top + BAR + 3}" class="floor"/>',
            f'<text x="{WIDTH - VALUE + 8}" y="{middle + 4:g}">{escape(bar.text)}</text>',
        ]
    parts.append("</svg>")
    return "\n".join(parts)
