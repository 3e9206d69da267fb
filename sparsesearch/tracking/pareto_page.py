"""The Pareto front as one interactive, self-contained HTML page, which needs no network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from sparsesearch.analysis.front_description import FrontDescription, FrontPoint, FrontSeries
from sparsesearch.report.html_tables import front_table

_BLUE, _ORANGE, _RED, _GREY = "#1f77b4", "#e07b00", "#c62828", "#555555"
_BASELINE_SYMBOLS = ("square", "diamond", "triangle-up", "triangle-down", "cross", "x", "pentagon", "hexagon")

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 14px/1.45 system-ui, sans-serif; color: #222; background: #fff; margin: 16px auto; padding: 0 16px;
  max-width: 1100px; }}
h1 {{ font-size: 20px; margin: 0 0 2px; }}
h2 {{ font-size: 16px; margin: 18px 0 6px; }}
p {{ margin: 2px 0; }}
.warning {{ color: #7a1a1a; background: #fdecea; border-left: 4px solid #c62828; padding: 4px 10px; margin: 6px 0; }}
#front {{ height: 560px; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: 3px 12px 3px 0; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }}
th.words, td.words {{ text-align: left; }}
tr.best td {{ font-weight: 600; background: #eef5fb; }}
.small {{ color: #555; font-size: 12px; }}
</style>
</head>
<body>
<h1>{title}</h1>
{subtitle}
{warnings}
{plot}
{table}
<p class="small">Hover over a mark for its schedule; drag to zoom, double-click to reset. A schedule reads
&ldquo;3:137 6:96&rdquo;: 137 tokens are left before block 3, 96 before block 6. Costs count the multiply-adds of linear
layers, convolutions and matrix products, including attention and token predictors. Created with sparsesearch.</p>
</body>
</html>
"""


def pareto_page(front: FrontDescription) -> str:
    """Create the page of a front, which may have no points yet.

    Returns:
        A full HTML document of about 5 MB, most of which is plotly's script.
    """
    fidelity = "" if front.fidelity is None else f" ({front.fidelity.value})"
    lines = [front.subtitle]
    if front.fidelity is not None:
        best = "" if front.best is None else f" {front.best.hint[0].capitalize()}: {front.best.tokens}."
        lines.append(front.summary + best)
        lines += [f"Error bars: {front.bars}."] if front.bars else []
    return _PAGE.format(
        title=escape(front.title + fidelity),
        subtitle="\n".join(f"<p>{escape(line)}</p>" for line in lines),
        warnings="\n".join(f'<p class="warning">{escape(warning)}</p>' for warning in front.warnings),
        plot="" if front.fidelity is None else _plot(front),
        table="" if front.fidelity is None else f"<h2>Pareto front</h2>\n{front_table(front)}",
    )


def _plot(front: FrontDescription) -> str:
    from plotly import io

    figure = {"data": [trace for series in front.series for trace in _traces(series)], "layout": _layout(front)}
    buttons = [["toImage", "zoom2d", "pan2d", "resetScale2d"]]  # no button that sends data to a server
    config = {"displaylogo": False, "responsive": True, "modeBarButtons": buttons}
    html: str = io.to_html(
        figure, config=config, include_plotlyjs=True, full_html=False, div_id="front", validate=False
    )
    return html


def _traces(series: FrontSeries) -> Iterator[dict[str, Any]]:
    """The marks of a series, and before them its line, if it has one."""
    is_baseline = all(point.is_handcrafted for point in series.points)
    color, symbol, size, opacity = {
        "searched": (_BLUE, "circle", 9, 0.55),
        "handcrafted": (_ORANGE, _BASELINE_SYMBOLS[series.index % len(_BASELINE_SYMBOLS)], 9, 0.9),
        "front": (_BLUE, "circle-open", 13, 1.0),
        "best": (_ORANGE if is_baseline else _BLUE, "star", 15, 1.0),
        "dense": (_GREY, "x", 11, 1.0),
    }[series.kind]
    if series.line:
        dash = "dash" if series.kind == "handcrafted" else "solid"
        yield {
            "type": "scatter",
            "mode": "lines",
            "x": [point.x for point in series.line],
            "y": [point.y for point in series.line],
            "line": {"shape": "hv", "color": color, "width": 1.5, "dash": dash},
            "hoverinfo": "skip",
            "showlegend": False,
        }
    if series.barred:
        yield {
            "type": "scatter",
            "mode": "markers",
            "x": [point.x for point in series.barred],
            "y": [point.y for point in series.barred],
            "error_y": {"array": [point.bar for point in series.barred], "color": _GREY, "thickness": 1, "width": 3},
            "marker": {"opacity": 0},
            "hoverinfo": "skip",
            "showlegend": False,
        }
    yield {
        "type": "scatter",
        "mode": "markers",
        "name": escape(series.name),
        "x": series.xs,
        "y": series.ys,
        "text": [_hover(point) for point in series.points],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"color": color, "symbol": symbol, "size": size, "opacity": opacity, "line": {"width": 1.5}},
    }


def _hover(point: FrontPoint) -> str:
    first, second = (escape(line) for line in point.hint)
    return "<br>".join([f"<b>{first}</b>", second, *escape(point.tokens).split(", ")])


def _layout(front: FrontDescription) -> dict[str, Any]:
    shapes: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    costs = [point.x for point in front.points]
    if front.limit is not None:
        limit = front.limit
        costs.append(limit)
        shapes.append(_line({"x0": limit, "x1": limit, "y0": 0, "y1": 1, "yref": "paper"}, _RED, "solid"))
        label = _label("budget", _RED)
        notes.append({"x": limit, "xanchor": "right", "y": 1.0, "yref": "paper", "yanchor": "top", **label})
    wide = list(costs)
    if front.trained_dense is not None:
        again = front.trained_dense.y
        shapes.append(_line({"x0": 0, "x1": 1, "xref": "paper", "y0": again, "y1": again}, _GREY, "dot"))
    if front.dense is not None:
        accuracy = front.dense.y
        wide += [front.dense.x] if math.isfinite(front.dense.x) else []
        shapes.append(_line({"x0": 0, "x1": 1, "xref": "paper", "y0": accuracy, "y1": accuracy}, _GREY, "dash"))
        label = _label(front.dense_text, _GREY)
        notes.append({"x": 0.0, "xref": "paper", "xanchor": "left", "y": accuracy, "yanchor": "bottom", **label})
    views = [("candidates", _range(costs)), ("with the dense model", _range(wide))]
    return {
        "margin": {"l": 60, "r": 20, "t": 74, "b": 110},
        "hovermode": "closest",
        "hoverlabel": {"align": "left", "bgcolor": "white"},
        "xaxis": {
            "title": {"text": front.x_title, "standoff": 8},
            "range": views[0][1],
            "gridcolor": "#e6e6e6",
            "zeroline": False,
        },
        "yaxis": {"title": {"text": front.metric.title}, "gridcolor": "#e6e6e6", "zeroline": False},
        "legend": {"orientation": "h", "x": 0.5, "xanchor": "center", "y": -0.2, "yanchor": "top"},
        "plot_bgcolor": "white",
        "shapes": shapes,
        "annotations": notes,
        "updatemenus": [
            {
                "type": "buttons",
                "direction": "right",
                "x": 0.0,
                "xanchor": "left",
                "y": 1.02,
                "yanchor": "bottom",
                "pad": {"t": 0, "b": 4},
                "buttons": [
                    {"label": name, "method": "relayout", "args": [{"xaxis.range": limits}]} for name, limits in views
                ],
            }
        ],
    }


def _line(ends: dict[str, Any], color: str, dash: str) -> dict[str, Any]:
    return {"type": "line", "layer": "below", "line": {"color": color, "width": 1.2, "dash": dash}, **ends}


def _label(text: str, color: str) -> dict[str, Any]:
    return {"text": text, "showarrow": False, "font": {"color": color, "size": 12}}


def _range(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 0.05 * high
    return [low - margin, high + margin]
