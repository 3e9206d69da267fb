"""The Pareto front as one interactive, self-contained HTML page, which needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from sparsesearch.analysis.study_front import cost_along
from sparsesearch.analysis.view import StudyView
from sparsesearch.analysis.words import (
    FIDELITY_WORDS,
    accuracy_text,
    cost_axis,
    found_by,
    latency_text,
    of_dense_text,
    tokens_text,
)
from sparsesearch.study.trial import Origin, Trial
from sparsesearch.text import macs_text

Y_TITLE = "validation accuracy, %"

_BLUE, _ORANGE, _RED, _GREY = "#1f77b4", "#e07b00", "#c62828", "#555555"
_BASELINE_SYMBOLS = ("square", "diamond", "triangle-up", "triangle-down")

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


def pareto_page(view: StudyView) -> str:
    """Create the page of a study's front.

    Args:
        view: The study, which may have no front yet.

    Returns:
        A full HTML document of about 5 MB, most of which is plotly's script.
    """
    spec, fidelity = view.spec, view.front.fidelity
    title = f"{spec.name}: {spec.backbone} within {spec.budget}"
    if fidelity is None:
        lines = ["No schedule has been evaluated yet."]
        plot = ""
    else:
        title += f" ({fidelity.value})"
        lines = [f"Pareto front of schedules {FIDELITY_WORDS[fidelity]}.", *_summary(view)]
        plot = _plot(view)
    return _PAGE.format(
        title=escape(title),
        subtitle="\n".join(f"<p>{line}</p>" for line in lines),
        warnings="\n".join(f'<p class="warning">{escape(warning)}</p>' for warning in view.warnings),
        plot=plot,
        table=_table(view) if plot else "",
    )


def _summary(view: StudyView) -> list[str]:
    best, dense = view.best, view.front.reference
    if best is None or dense is None:
        return ["Nothing is within the budget yet."]
    return [
        f"Best within the budget: {accuracy_text(best)} at {macs_text(best.cost.macs)}, "
        f"{of_dense_text(best.cost.macs, dense.cost.macs)} of the dense model's {macs_text(dense.cost.macs)}, "
        f"which has {accuracy_text(dense)}. {escape(found_by(best).capitalize())}; "
        f"{escape(tokens_text(view, best))}."
    ]


def _plot(view: StudyView) -> str:
    from plotly import io

    figure = {"data": _traces(view), "layout": _layout(view)}
    buttons = [["toImage", "zoom2d", "pan2d", "resetScale2d"]]  # no button that sends data to a server
    config = {"displaylogo": False, "responsive": True, "modeBarButtons": buttons}
    html: str = io.to_html(
        figure, config=config, include_plotlyjs=True, full_html=False, div_id="front", validate=False
    )
    return html


def _traces(view: StudyView) -> list[dict[str, Any]]:
    front = view.front
    searched = [trial for trial in front.candidates if trial.origin is Origin.SEARCH]
    marks = [_marks(view, searched, "searched", color=_BLUE, symbol="circle", opacity=0.55)]
    labels = sorted({trial.label for trial in front.candidates if trial.origin is Origin.BASELINE})
    for symbol, label in zip(_BASELINE_SYMBOLS, labels, strict=False):
        handcrafted = [trial for trial in front.candidates if trial.label == label]
        marks.append(_marks(view, handcrafted, f"hand-crafted: {label}", color=_ORANGE, symbol=symbol, opacity=0.9))
    line = {
        **_marks(view, front.points, "Pareto front", color=_BLUE, symbol="circle-open", opacity=1.0, size=13),
        "mode": "lines+markers",
        "line": {"shape": "hv", "color": _BLUE, "width": 2},
    }
    marks.append(line)
    if view.best is not None:
        marks.append(
            _marks(view, [view.best], "best within the budget", color=_BLUE, symbol="star", opacity=1.0, size=15)
        )
    if front.reference is not None:
        marks.append(_marks(view, [front.reference], "dense model", color=_GREY, symbol="x", opacity=1.0, size=11))
    return marks


def _marks(
    view: StudyView, trials: Sequence[Trial], name: str, *, color: str, symbol: str, opacity: float, size: int = 9
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": escape(name),
        "x": [_x(view, trial) for trial in trials],
        "y": [100 * trial.metrics["val_top1"] for trial in trials],
        "text": [_hover(view, trial) for trial in trials],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"color": color, "symbol": symbol, "size": size, "opacity": opacity, "line": {"width": 1.5}},
    }


def _x(view: StudyView, trial: Trial) -> float:
    """Return the position of a trial on the cost axis."""
    return cost_along(trial, view.front.axis) / cost_axis(view.front)[0]


def _hover(view: StudyView, trial: Trial) -> str:
    dense = view.front.reference
    of_dense = f", {of_dense_text(trial.cost.macs, dense.cost.macs)} of dense" if dense is not None else ""
    lines = [
        f"<b>trial {trial.number}</b> ({escape(found_by(trial))}, {trial.fidelity.value})",
        f"{accuracy_text(trial)} validation accuracy",
        f"{macs_text(trial.cost.macs)}{of_dense}",
        *([latency_text(trial)] if trial.cost.ms is not None else []),
        *escape(tokens_text(view, trial)).split(", "),
    ]
    return "<br>".join(lines)


def _layout(view: StudyView) -> dict[str, Any]:
    front = view.front
    shapes: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    costs = [_x(view, trial) for trial in front.candidates]
    if view.limit is not None:
        limit = view.limit / cost_axis(front)[0]
        costs.append(limit)
        shapes.append(_line({"x0": limit, "x1": limit, "y0": 0, "y1": 1, "yref": "paper"}, _RED, "solid"))
        notes.append({"x": limit, "y": 1.0, "yref": "paper", "yanchor": "bottom", **_label("budget", _RED)})
    wide = list(costs)
    if front.reference is not None:
        accuracy = 100 * front.reference.metrics["val_top1"]
        wide.append(_x(view, front.reference))
        shapes.append(_line({"x0": 0, "x1": 1, "xref": "paper", "y0": accuracy, "y1": accuracy}, _GREY, "dash"))
        cost = f"{macs_text(front.reference.cost.macs)}"
        if front.axis == "ms":
            cost = f"{_x(view, front.reference):.4g} ms"
        text = f"dense model: {accuracy:.2f} % at {cost}"
        notes.append(
            {"x": 0.0, "xref": "paper", "xanchor": "left", "y": accuracy, "yanchor": "bottom", **_label(text, _GREY)}
        )
    views = [("candidates", _range(costs)), ("up to the dense model", _range(wide))]
    return {
        "margin": {"l": 70, "r": 20, "t": 40, "b": 110},
        "hovermode": "closest",
        "hoverlabel": {"align": "left", "bgcolor": "white"},
        "xaxis": {
            "title": {"text": cost_axis(front)[1]},
            "range": views[0][1],
            "gridcolor": "#e6e6e6",
            "zeroline": False,
        },
        "yaxis": {"title": {"text": Y_TITLE}, "gridcolor": "#e6e6e6", "zeroline": False},
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
                    {"label": f"show: {name}", "method": "relayout", "args": [{"xaxis.range": limits}]}
                    for name, limits in views
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


def _table(view: StudyView) -> str:
    dense = view.front.reference
    rows = []
    for trial in [*([dense] if dense is not None else []), *reversed(view.front.points)]:
        of_dense = "" if dense is None else of_dense_text(trial.cost.macs, dense.cost.macs)
        is_best = view.best is not None and trial.number == view.best.number
        cells = [
            f"<td>{trial.number}</td>",
            f"<td>{macs_text(trial.cost.macs)}</td>",
            f"<td>{of_dense}</td>",
            f"<td>{accuracy_text(trial)}</td>",
            f'<td class="words">{"dense model" if trial is dense else escape(found_by(trial))}</td>',
            f'<td class="words">{"all" if trial is dense else escape(view.schedule_text(trial))}</td>',
        ]
        opening = '<tr class="best">' if is_best else "<tr>"
        rows.append(f"{opening}{''.join(cells)}</tr>")
    head = (
        "<tr><th>trial</th><th>cost</th><th>of dense</th><th>accuracy</th>"
        '<th class="words">origin</th><th class="words">tokens left before block</th></tr>'
    )
    return (
        f'<h2>Pareto front</h2>\n<div class="scroll"><table><thead>{head}</thead><tbody>\n'
        + "\n".join(rows)
        + "\n</tbody></table></div>"
    )
