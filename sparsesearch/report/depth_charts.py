"""The best schedules drawn over depth: how many tokens each block works on, and what acts where."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from sparsesearch.analysis.view import StudyView
from sparsesearch.analysis.words import accuracy_text, found_by
from sparsesearch.cost.analytic import block_table
from sparsesearch.report.chart import legend
from sparsesearch.schedule import ResolvedStep
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.study.trial import Origin, Trial
from sparsesearch.text import macs_text

_LETTERS = {"prune": "P", "fuse": "F", "merge": "M", "fast_slow": "S"}
_REDUCTIONS = {
    "prune": "P drops tokens",
    "fuse": "F fuses what it drops into one token",
    "merge": "M merges similar tokens",
    "fast_slow": "S sends positions to the slow path, all others to the fast one",
}
_SHOWN = 6
_COUNTS_UP_TO = 16


def chosen_schedules(view: StudyView) -> list[Trial]:
    """At most six searched schedules over the whole front, the best one included, and the best hand-crafted one."""
    points = [trial for trial in view.front.points if trial.origin is Origin.SEARCH]
    if view.best is not None and view.best not in points:
        points.append(view.best)
    picked = points
    if len(points) > _SHOWN:
        picked = [points[round(i * (len(points) - 1) / (_SHOWN - 1))] for i in range(_SHOWN)]
        if view.best is not None and view.best not in picked:
            picked[-1] = view.best
    handcrafted = [trial for trial in view.front.candidates if trial.origin is Origin.BASELINE and trial not in picked]
    best_baseline = max(handcrafted, key=lambda trial: (trial.metrics["val_top1"], -trial.cost.macs), default=None)
    return [*reversed(picked), *([] if best_baseline is None else [best_baseline])]


def schedule_drawings(view: StudyView) -> str:
    """Small drawings of the chosen schedules, and what the letters in them mean."""
    resolved = view.spec.resolved
    if resolved is None:
        return ""
    trials = chosen_schedules(view)
    drawings = "".join(_drawing(view, trial, resolved.geometry) for trial in trials)
    kinds = {step.reducer.kind for trial in trials for step in trial.schedule.resolve(resolved.geometry)}
    meanings = "; ".join(words for kind, words in _REDUCTIONS.items() if kind in kinds)
    fast = "fast_slow" in kinds
    key = legend([("searched", "search", "square"), ("hand-crafted", "baseline", "square")])
    column = (
        "Each column is a block, its height the share of the stage's positions on the slow path"
        if fast
        else "Each column is a block, its left half the exchange between tokens and its right half the feed-forward "
        "network, its height the share of all tokens"
    )
    note = (
        f"{column}; numbers on top are those that are left from there on. {meanings}. "
        "The letter stands under the block where it acts; point at it for its score."
    )
    return f'<div class="schedules">{drawings}</div>{key}<p class="note">{escape(note)}</p>'


def _drawing(view: StudyView, trial: Trial, geometry: BackboneGeometry) -> str:
    steps = trial.schedule.resolve(geometry)
    style = "baseline" if trial.origin is Origin.BASELINE else "search"
    mark = ", best within the budget" if view.best is not None and trial.number == view.best.number else ""
    stages = "".join(_stage(trial, geometry, index, steps, style) for index in range(len(geometry.stages)))
    return (
        f'<div class="schedule"><h3>{accuracy_text(trial)} at {macs_text(trial.cost.macs)}'
        f"<span>trial {trial.number}, {escape(found_by(trial))}{mark}</span></h3>"
        f'<div class="depth">{stages}</div><code>{escape(view.schedule_text(trial))}</code></div>'
    )


def _stage(trial: Trial, geometry: BackboneGeometry, index: int, steps: Sequence[ResolvedStep], style: str) -> str:
    stage = geometry.stages[index]
    prefix = f"stage {index} block " if len(geometry.stages) > 1 else "block "
    rows = [row for row in block_table(geometry, trial.schedule) if row.name.startswith(prefix)]
    has_room = stage.depth <= _COUNTS_UP_TO
    blocks = []
    for row in rows:
        here = [step for step in steps if step.stage == index and step.block == row.block]
        halves_of = (row.tokens_attention, row.tokens_slow) if stage.mixer == "attention" else (row.tokens_slow,)
        counts = [tokens - stage.num_prefix_tokens for tokens in halves_of]
        halves = "".join(f'<i style="height:{100 * count / stage.num_tokens:.1f}%"></i>' for count in counts)
        left = str(here[-1].num_tokens) if here and has_room else ""
        letters = "".join(_LETTERS[step.reducer.kind] for step in here)
        place = str(row.block) if has_room or (row.block or 0) % 3 == 0 else "&nbsp;"
        under = f'<div class="step">{letters or "&nbsp;"}</div>'
        blocks.append(
            f'<div class="block {style}" title="{escape(_hint(row.name, counts, here))}">'
            f'<div class="count">{left}</div><div class="tower">{halves}</div>{place}{under}</div>'
        )
    return f'<div class="stage" style="flex-grow:{stage.depth}">{"".join(blocks)}</div>'


def _hint(name: str, counts: Sequence[int], steps: Sequence[ResolvedStep]) -> str:
    if len(counts) == 1:
        lines = [f"{name}: {counts[0]} positions on the slow path"]
    else:
        lines = [f"{name}: {counts[0]} tokens exchange, {counts[1]} in the feed-forward network"]
    for step in steps:
        score = "no score" if step.scorer is None else f"score {step.scorer.kind}"
        where = "" if step.phase == "before_block" else " before the feed-forward network"
        lines.append(f"{step.reducer.kind}, {score}: {step.num_tokens} of {step.num_before}{where}")
    return "\n".join(lines)
