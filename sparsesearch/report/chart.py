"""SVG charts that take their colours from the page, so that they follow its light and dark theme."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from typing import Literal

from sparsesearch.report.scales import Scale, tick_texts

Shape = Literal["dot", "ring", "square", "diamond", "up", "down", "star", "cross"]
Point = tuple[float, float]

WIDE, HALF, NARROW = 1000, 490, 340
"""Chart widths in pixels: a whole row, half a row, and a phone screen."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 22, 42


@dataclass
class Chart:
    """Axes and everything drawn on them so far.

    Attributes:
        width: Pixels.
        height: Pixels.
        x: The horizontal axis.
        y: The vertical axis, pointing up.
        label: Description for screen readers.
    """

    width: int
    height: int
    x: Scale
    y: Scale
    label: str
    _parts: list[str] = field(default_factory=list)

    @classmethod
    def over(
        cls, xs: Iterable[float], ys: Iterable[float], *, width: int, height: int, label: str, room: float = 0.06
    ) -> Chart:
        """A chart whose axes cover all of these values."""
        x = Scale.over(xs, start=_LEFT, end=width - _RIGHT, room=room)
        y = Scale.over(ys, start=height - _BOTTOM, end=_TOP, room=room)
        return cls(width, height, x, y, label)

    def axes(self, x_title: str, y_title: str) -> None:
        """Draw grid lines, tick labels and titles; call it first, so that everything else is drawn on top."""
        xs, ys = self.x.ticks(max(4, self.width // 100)), self.y.ticks(max(4, self.height // 60))
        for tick, text in zip(xs, tick_texts(xs), strict=True):
            at = self.x(tick)
            self._line((at, self.y.start), (at, self.y.end), "grid")
            self.text((at, self.y.start + 16), text, anchor="middle")
        for tick, text in zip(ys, tick_texts(ys), strict=True):
            at = self.y(tick)
            self._line((self.x.start, at), (self.x.end, at), "grid")
            self.text((self.x.start - 6, at + 4), text, anchor="end")
        self.text(((self.x.start + self.x.end) / 2, self.height - 6), x_title, anchor="middle", style="title")
        middle = (self.y.start + self.y.end) / 2
        self._parts.append(
            f'<text class="title" text-anchor="middle" transform="translate(12 {_n(middle)}) rotate(-90)">'
            f"{escape(y_title)}</text>"
        )

    def curve(self, points: Sequence[Point], style: str, *, steps: bool = False, dashed: bool = False) -> None:
        """Draw a line through points, or a step function that holds each value up to the next."""
        if not points:
            return
        at = [(_n(self.x(x)), _n(self.y(y))) for x, y in points]
        path = [f"M{at[0][0]} {at[0][1]}"]
        if steps:
            path += [f"H{x}V{y}" for (_, before), (x, y) in pairwise(at) if y != before] + [f"H{at[-1][0]}"]
        else:
            path += [f"L{x} {y}" for x, y in at[1:]]
        self._parts.append(f'<path class="line {style}{" dashed" if dashed else ""}" d="{"".join(path)}"/>')

    def marks(
        self,
        points: Sequence[Point],
        style: str,
        *,
        shape: Shape = "dot",
        size: float = 4.0,
        hints: Sequence[str] = (),
    ) -> None:
        """Draw markers, each with an optional tooltip."""
        for index, (x, y) in enumerate(points):
            hint = f"<title>{escape(hints[index])}</title>" if hints else ""
            self._parts.append(_mark((self.x(x), self.y(y)), style, shape, size, hint))

    def error(self, position: Point, half: float) -> None:
        """Draw an error bar of half this height on both sides of a point."""
        x, (low, high) = self.x(position[0]), (self.y(position[1] - half), self.y(position[1] + half))
        for start, end in (((x, low), (x, high)), ((x - 3, low), (x + 3, low)), ((x - 3, high), (x + 3, high))):
            self._line(start, end, "line error")

    def level(self, value: float, style: str, *, text: str = "", below: bool = False) -> None:
        """Draw a horizontal line with a label at its left end, above or below it."""
        at = self.y(value)
        self._line((self.x.start, at), (self.x.end, at), f"line dashed {style}")
        if text:
            self.text((self.x.start + 6, at + 14 if below else at - 5), text, style=style)

    def limit(self, value: float, style: str, *, text: str = "") -> None:
        """Draw a vertical line with a label above the axes, on the side that has room."""
        at = self.x(value)
        self._line((at, self.y.start), (at, self.y.end), f"line {style}")
        if text:
            is_left = at > (self.x.start + self.x.end) / 2
            self.text((at, self.y.end - 6), text, anchor="end" if is_left else "start", style=style)

    def foot(self, value: float, style: str, *, hint: str) -> None:
        """Draw a short tick on the horizontal axis, for a point without a y value."""
        at = self.x(value)
        ends = f'x1="{_n(at)}" y1="{_n(self.y.start)}" x2="{_n(at)}" y2="{_n(self.y.start - 12)}"'
        self._parts.append(f'<line class="line {style}" {ends}><title>{escape(hint)}</title></line>')

    def text(self, position: Point, text: str, *, anchor: str = "start", style: str = "") -> None:
        """Draw text at a position in pixels."""
        kind = f' class="{style}"' if style else ""
        self._parts.append(
            f'<text{kind} text-anchor="{anchor}" x="{_n(position[0])}" y="{_n(position[1])}">{escape(text)}</text>'
        )

    def bar(self, low: Point, high: Point, style: str, *, hint: str = "") -> None:
        """Draw a bar between two corners, given in data coordinates."""
        left, right = sorted((self.x(low[0]), self.x(high[0])))
        top, bottom = sorted((self.y(low[1]), self.y(high[1])))
        self._parts.append(
            f'<rect class="fill {style}" x="{_n(left)}" y="{_n(top)}" width="{_n(right - left)}" '
            f'height="{_n(bottom - top)}" rx="2"><title>{escape(hint)}</title></rect>'
        )

    def svg(self) -> str:
        """The chart as an SVG element."""
        return (
            f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{escape(self.label)}">'
            f"{''.join(self._parts)}</svg>"
        )

    def _line(self, start: Point, end: Point, style: str) -> None:
        self._parts.append(
            f'<line class="{style}" x1="{_n(start[0])}" y1="{_n(start[1])}" x2="{_n(end[0])}" y2="{_n(end[1])}"/>'
        )


def responsive(draw: Callable[[int], str], *, wide: int = WIDE) -> str:
    """A chart in two widths, for large and small screens; the page shows the one that fits."""
    return f'<div class="wide">{draw(wide)}</div><div class="narrow">{draw(NARROW)}</div>'


def legend(entries: Sequence[tuple[str, str, Shape | Literal["line", "dashes"]]]) -> str:
    """The legend of a chart.

    Args:
        entries: Label, style and shape of each.
    """
    items = []
    for label, style, shape in entries:
        if shape == "line" or shape == "dashes":
            dashed = " dashed" if shape == "dashes" else ""
            drawn = f'<line class="line {style}{dashed}" x1="0" y1="7" x2="20" y2="7"/>'
        else:
            drawn = _mark((10.0, 7.0), style, shape, 4.5, "")
        items.append(f'<li><svg viewBox="0 0 20 14" width="20" height="14">{drawn}</svg>{escape(label)}</li>')
    return f'<ul class="legend">{"".join(items)}</ul>'


def _mark(position: Point, style: str, shape: Shape, size: float, hint: str) -> str:
    x, y = position
    if shape in ("dot", "ring"):
        kind = "ring" if shape == "ring" else "mark"
        return f'<circle class="{kind} {style}" cx="{_n(x)}" cy="{_n(y)}" r="{_n(size)}">{hint}</circle>'
    outline = {
        "square": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
        "diamond": [(0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)],
        "up": [(0, -1.2), (1.15, 0.9), (-1.15, 0.9)],
        "down": [(0, 1.2), (1.15, -0.9), (-1.15, -0.9)],
        "cross": [
            (0, -0.45), (0.8, -1.25), (1.25, -0.8), (0.45, 0), (1.25, 0.8), (0.8, 1.25),
            (0, 0.45), (-0.8, 1.25), (-1.25, 0.8), (-0.45, 0), (-1.25, -0.8), (-0.8, -1.25),
        ],
        "star": [
            (radius * math.sin(math.pi * k / 5), -radius * math.cos(math.pi * k / 5))
            for k in range(10)
            for radius in ((1.9,) if k % 2 == 0 else (0.8,))
        ],
    }[shape]  # fmt: skip
    points = " ".join(f"{_n(x + size * dx)},{_n(y + size * dy)}" for dx, dy in outline)
    return f'<polygon class="mark {style}" points="{points}">{hint}</polygon>'


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
