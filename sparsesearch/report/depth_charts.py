"""The best schedules over depth: the tokens of each block, and the reduction at each location."""

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
    "fuse": "F fuses the dropped tokens into one",
    "merge": "M merges similar tokens",
    "fast_slow": "S selects the positions of the slow path",
}
_SHOWN = 6
_MAX_LABELED_DEPTH = 16


def chosen_schedules(view: StudyView) -> list[Trial]:
    """At most six searched schedules spread over the front, including the best one, and the best hand-crafted one."""
    points = [trial for trial in view.front.points if trial.origin is Origin.SEARCH]
    if view.best is not None and view.best not in points:
        points.append(view.best)
    picked = points
    if len(points) > _SHOWN:
        picked = [points[round(i * (len(points) - 1) / (_SHOWN - 1))] for i in range(_SHOWN)]
        if view.best is not None and view.best not in picked:
            picked[-1] = view.best
    handcrafted = [trial for trial in view.front.candidates if trial.origin is Origin.BASELINE and trial not in picked]
    best_baseline = max(handcrafted, key=lambda trial: (view.score(trial), -trial.cost.macs), default=None)
    return [*reversed(picked), *([] if best_baseline is None else [best_baseline])]


def schedule_drawings(view: StudyView) -> str:
    """Small drawings of the chosen schedules, with a legend."""
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
        "Each column is a block; its height is the fraction of the stage's positions on the slow path"
        if fast
        else "Each column is a block, attention on the left and the feed-forward network on the right; its height is "
        "the fraction of tokens left"
    )
    note = (
        f"{column}; the numbers on top are the tokens left from there on. {meanings}. "
        "The letter is below the block it applies to; hover over it for the scorer."
    )
    return f'<div class="schedules">{drawings}</div>{key}<p class="note">{escape(note)}</p>'


def _drawing(view: StudyView, trial: Trial, geometry: BackboneGeometry) -> str:
    steps = trial.schedule.resolve(geometry)
    style = "baseline" if trial.origin is Origin.BASELINE else "search"
    mark = ", best within the budget" if view.best is not None and trial.number == view.best.number else ""
    stages = "".join(_stage(trial, geometry, index, steps, style) for index in range(len(geometry.stages)))
    return (
        f'<div class="schedule"><h3>{accuracy_text(view.spec, trial)} at {macs_text(trial.cost.macs)}'
        f"<span>trial {trial.number}, {escape(found_by(trial))}{mark}</span></h3>"
        f'<div class="depth">{stages}</div><code>{escape(view.schedule_text(trial))}</code></div>'
    )


def _stage(trial: Trial, geometry: BackboneGeometry, index: int, steps: Sequence[ResolvedStep], style: str) -> str:
    stage = geometry.stages[index]
    prefix = f"stage {index} block " if len(geometry.stages) > 1 else "block "
    rows = [row for row in block_table(geometry, trial.schedule) if row.name.startswith(prefix)]
    has_room = stage.depth <= _MAX_LABELED_DEPTH
    blocks = []
    for row in rows:
        here = [step for step in steps if step.stage == index and step.block == row.block]
        halves_of = (row.tokens_attention, row.tokens_slow) if stage.mixer == "attention" else (row.tokens_slow,)
        counts = [tokens - stage.num_prefix_tokens for tokens in halves_of]
        halves = "".join(f'<i style="height:{100 * count / stage.num_tokens:.1f}%"></i>' for count in counts)
        left = str(here[-1].num_tokens) if here and has_room else ""
        letters = "".join(_LETTERS[step.reducer.kind] for step in here)
        index_text = str(row.block) if has_room or (row.block or 0) % 3 == 0 else "&nbsp;"
        under = f'<div class="step">{letters or "&nbsp;"}</div>'
        blocks.append(
            f'<div class="block {style}" title="{escape(_hint(row.name, counts, here))}">'
            f'<div class="count">{left}</div><div class="tower">{halves}</div>{index_text}{under}</div>'
        )
    return f'<div class="stage" style="flex-grow:{stage.depth}">{"".join(blocks)}</div>'


def _hint(name: str, counts: Sequence[int], steps: Sequence[ResolvedStep]) -> str:
    if len(counts) == 1:
        lines = [f"{name}: {counts[0]} positions on the slow path"]
    else:
        lines = [f"{name}: {counts[0]} tokens in attention, {counts[1]} in the feed-forward network"]
    for step in steps:
        score = "no scorer" if step.scorer is None else f"scorer {step.scorer.kind}"
        where = "" if step.phase == "before_block" else " before the feed-forward network"
        lines.append(f"{step.reducer.kind}, {score}: {step.num_tokens} of {step.num_before}{where}")
    return "\n".join(lines)
