"""One schedule over depth: the tokens of each block, and what each step leaves of the token grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

from sparsesearch.analysis.describe_front import describe_trials
from sparsesearch.analysis.front_description import FrontPoint
from sparsesearch.analysis.view import StudyView
from sparsesearch.cost.analytic import block_table
from sparsesearch.report.chart import HALF, Chart, responsive
from sparsesearch.schedule import ResolvedStep
from sparsesearch.schedule.geometry import BackboneGeometry, StageGeometry
from sparsesearch.study.trial import Trial

_HEIGHT, _ROOM = 170, 1e-6
_MANY = 16
"""Most blocks for which the numbers of tokens fit on top of the bars of a narrow chart."""


@dataclass(frozen=True)
class TokenGrid:
    """What a step leaves of a token grid.

    Attributes:
        words: What is drawn: `before block 3: 137 of 196 tokens left`.
        picture: The picture.
    """

    words: str
    picture: Markup


@dataclass(frozen=True)
class ScheduleCard:
    """A schedule as a page shows it.

    Attributes:
        point: The trial in numbers and words.
        chart: The tokens of each block; empty if the study is not prepared.
        grids: What each step leaves.
    """

    point: FrontPoint
    chart: Markup
    grids: tuple[TokenGrid, ...]

    @classmethod
    def of(cls, view: StudyView, trial: Trial) -> ScheduleCard:
        """The card of a trial."""
        (point,) = describe_trials(view, [trial], axis=view.spec.budget.axis)
        resolved = view.spec.resolved
        if resolved is None:
            return cls(point, Markup(""), ())
        geometry = resolved.geometry
        steps = trial.schedule.resolve(geometry)
        style = "baseline" if point.is_handcrafted else "search"
        chart = Markup(_tokens_chart(trial, geometry, steps, style))
        return cls(point, chart, tuple(_grids(geometry, steps, style)))


@dataclass(frozen=True)
class _Bar:
    """The tokens of one block in percent of those of its stage: in attention and after it, or of the block."""

    stage: int
    block: int
    shares: tuple[float, ...]
    hint: str


def _tokens_chart(trial: Trial, geometry: BackboneGeometry, steps: Sequence[ResolvedStep], style: str) -> str:
    """Bars of the fraction of tokens in attention and in the feed-forward network of each block."""
    bars = list(_bars(trial, geometry))
    several = len(geometry.stages) > 1

    def draw(width: int) -> str:
        label = f"tokens of each of {len(bars)} blocks, in percent"
        chart = Chart.over([-0.5, len(bars) - 0.5], [0.0, 100.0], width=width, height=_HEIGHT, label=label, room=_ROOM)
        chart.axes("block, counted over all stages" if several else "block", "tokens left, %")
        for at, bar in enumerate(bars):
            share = 0.9 / len(bar.shares)
            for index, value in enumerate(bar.shares):
                low = at - 0.45 + index * share
                chart.bar((low, 0.0), (low + share, value), style, hint=bar.hint)
            if several and bar.block == 0 and at:
                chart.limit(at - 0.5, "dense thin")
        if len(bars) <= _MANY or width >= HALF:
            last = {(step.stage, step.block, step.phase): step for step in steps}  # of several at one place
            for step in last.values():
                at = next(i for i, bar in enumerate(bars) if (bar.stage, bar.block) == (step.stage, step.block))
                is_before = step.phase == "before_block"
                x = at if is_before or len(bars[at].shares) == 1 else at + 0.225
                y = bars[at].shares[0 if is_before else -1]
                chart.text((chart.x(x), chart.y(y) - 4), f"{step.num_tokens}", anchor="middle")
        return chart.svg()

    return responsive(draw, wide=HALF)


def _bars(trial: Trial, geometry: BackboneGeometry) -> Iterator[_Bar]:
    rows = block_table(geometry, trial.schedule)
    for index, stage in enumerate(geometry.stages):
        prefix = f"stage {index} block " if len(geometry.stages) > 1 else "block "
        for row in (row for row in rows if row.name.startswith(prefix)):
            halves = (row.tokens_attention, row.tokens_slow) if stage.mixer == "attention" else (row.tokens_slow,)
            counts = [tokens - stage.num_prefix_tokens for tokens in halves]
            words = f"{counts[0]} positions on the slow path"
            if len(counts) > 1:
                words = f"{counts[0]} tokens in attention, {counts[1]} in the feed-forward network"
            shares = tuple(100.0 * count / stage.num_tokens for count in counts)
            yield _Bar(index, row.block or 0, shares, f"{row.name}: {words}")


def _grids(geometry: BackboneGeometry, steps: Sequence[ResolvedStep], style: str) -> Iterator[TokenGrid]:
    for step in steps:
        stage = geometry.stages[step.stage]
        where = f"block {step.block}" if len(geometry.stages) == 1 else f"stage {step.stage}, block {step.block}"
        where = f"before {where}" if step.phase == "before_block" else f"before the feed-forward network of {where}"
        what = "positions on the slow path" if step.reducer.kind == "fast_slow" else "tokens left"
        words = f"{where}: {step.num_tokens} of {stage.num_tokens} {what}"
        yield TokenGrid(words, Markup(_grid(stage, step.num_tokens, style, words)))


def _grid(stage: StageGeometry, filled: int, style: str, words: str) -> str:
    """A grid with so many squares filled, row by row."""
    height, width = stage.grid

    def rows(number: int, kind: str) -> str:
        return "".join(
            f'<line class="cells {kind}" x1="0.1" x2="{min(width, number - row * width) - 0.1:.1f}" '
            f'y1="{row + 0.5}" y2="{row + 0.5}"/>'
            for row in range(-(-min(number, height * width) // width))
        )

    # A fused token may come on top of a full grid.
    return (
        f'<svg class="grid-picture" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(words)}">'
        f"{rows(height * width, 'empty')}{rows(filled, style)}</svg>"
    )
