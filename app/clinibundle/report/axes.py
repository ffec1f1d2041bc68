"""The frame of a chart as SVG text: scales, ticks, grid and labels.

By hand, since a report needs two kinds of chart that follow the page's colours, and matplotlib would be a large
dependency, slow to import, with pictures that stay white in dark mode.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

Span = tuple[float, float]

_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 30, 48  # px around the plot for labels and legend


def nice_step(rough: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is at least `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next((factor * power for factor in (1, 2, 5) if factor * power >= rough * (1 - 1e-9)), 10 * power)


def nice_span(low: float, high: float, parts: int) -> tuple[float, float, float]:
    """(low, high, step): the span grown to whole steps, of which it then has about `parts`, never none."""
    if high <= low:
        half = abs(low) * 0.05 or 0.5
        low, high = low - half, high + half
    step = nice_step((high - low) / parts)
    return math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step, step


@dataclass(frozen=True)
class Axes:
    """Where data values lie in a chart.

    Attributes:
        x: (low, high) of the data along the x axis.
        y: (low, high) of the data along the y axis.
        width: of the whole chart, px.
        height: of the whole chart, px.
    """

    x: Span
    y: Span
    width: int
    height: int

    def x_px(self, value: float) -> float:
        """Distance from the chart's left edge."""
        return _LEFT + (value - self.x[0]) / (self.x[1] - self.x[0]) * (self.width - _LEFT - _RIGHT)

    def y_px(self, value: float) -> float:
        """Distance from the chart's upper edge."""
        return self.height - _BOTTOM - (value - self.y[0]) / (self.y[1] - self.y[0]) * (self.height - _TOP - _BOTTOM)

    def draw(self, body: str, x_label: str, y_label: str, summary: str, legend: str = "") -> str:
        """The whole chart as an `<svg>` element.

        Args:
            body: SVG in chart px; what lies outside the plot is cut off.
            x_label: under the x axis.
            y_label: left of the y axis.
            summary: what the chart shows, for those who cannot see it.
            legend: SVG in chart px for the strip above the plot.
        """
        plot_width, plot_height = self.width - _LEFT - _RIGHT, self.height - _TOP - _BOTTOM
        plot = f'x="{_LEFT}" y="{_TOP}" width="{plot_width}" height="{plot_height}"'
        return (
            f'<svg class="chart" viewBox="0 0 {self.width} {self.height}" width="{self.width}" '
            f'height="{self.height}" role="img" font-family="system-ui, sans-serif" font-size="12" '
            f'fill="currentColor" aria-label="{escape(summary)}"><title>{escape(summary)}</title>'
            f"{self._x_axis(x_label)}{self._y_axis(y_label)}{legend}"
            f'<svg {plot} viewBox="{_LEFT} {_TOP} {plot_width} {plot_height}">{body}</svg></svg>'
        )

    def _x_axis(self, label: str) -> str:
        base, middle = self.height - _BOTTOM, (_LEFT + self.width - _RIGHT) / 2
        ticks = "".join(
            f'<text x="{self.x_px(value):.1f}" y="{base + 18}" text-anchor="middle">{text}</text>'
            for value, text in _ticks(*self.x, parts=8)
        )
        line = f'<path d="M{_LEFT} {base}H{self.width - _RIGHT}" stroke="currentColor"/>'
        return f'{line}{ticks}<text x="{middle}" y="{self.height - 8}" text-anchor="middle">{escape(label)}</text>'

    def _y_axis(self, label: str) -> str:
        middle = (_TOP + self.height - _BOTTOM) / 2
        ticks = "".join(
            f'<path d="M{_LEFT} {self.y_px(value):.1f}H{self.width - _RIGHT}" stroke="currentColor" opacity=".15"/>'
            f'<text x="{_LEFT - 8}" y="{self.y_px(value) + 4:.1f}" text-anchor="end">{text}</text>'
            for value, text in _ticks(*self.y, parts=5)
        )
        turn = f'transform="rotate(-90 14 {middle})"'
        return f'{ticks}<text x="14" y="{middle}" text-anchor="middle" {turn}>{escape(label)}</text>'


def _ticks(low: float, high: float, parts: int) -> list[tuple[float, str]]:
    """(value, text) of the round values within the span."""
    step = nice_step((high - low) / parts)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    values = [number * step for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    return [(value, f"{value + 0.0:,.{decimals}f}") for value in values]
