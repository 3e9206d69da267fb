"""Fit the curves of a latency profile by non-negative least squares, so that no curve decreases.

Every measured schedule gives one equation: the sum of its parts is the measured latency. Parts are linear combinations
of terms that increase with the number of tokens: tokens, pairs of tokens, tiles of 8 to 64, and free increments
between measured counts. A small ridge resolves ambiguities; errors are relative, and outliers are down-weighted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sparsesearch.cost.latency_model import REST, uses
from sparsesearch.latency.nonnegative import solve_nonnegative
from sparsesearch.schedule import Schedule
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.study.latency_fit import Curve

TILES = (8, 16, 32, 64)
PART = "call overhead "
"""Prefix of the name of the overhead of a part that is measured alone; it does not occur in schedules."""

_RIDGE = {"linear": 1e-4, "quadratic": 1e-4, "constant": 1e-4, "steps": 1e-3, "rises": 1e-2}
_OUTLIER = 3.0
_REWEIGHTINGS = 3


@dataclass(frozen=True)
class Observation:
    """One equation.

    Attributes:
        parts: Maps `(curve, patch tokens)` to the number of runs.
        ms: Total latency.
        weight: Weight of the relative error.
    """

    parts: Mapping[tuple[str, int], int]
    ms: float
    weight: float = 1.0


@dataclass(frozen=True)
class _Term:
    """One unknown: a term of a curve."""

    curve: str
    kind: str
    detail: tuple[int, ...] = ()


def observe(geometry: BackboneGeometry, schedule: Schedule, *, ms: float, weight: float = 1.0) -> Observation:
    """The equation of a measured schedule."""
    steps = schedule.resolve(geometry)
    parts: dict[tuple[str, int], int] = {}
    for use, times in uses(geometry, steps).items():
        if times:
            count = geometry.stages[use.stage].num_tokens if use.step < 0 else steps[use.step].num_tokens
            parts[use.curve, count] = parts.get((use.curve, count), 0) + times
    return Observation(parts, ms, weight)


def fit_curves(
    geometry: BackboneGeometry, observations: Sequence[Observation], *, counts: Mapping[int, Sequence[int]]
) -> dict[str, Curve]:
    """Fit curves to observations.

    Args:
        geometry: Geometry of the backbone.
        observations: Measured schedules and parts.
        counts: By stage, the counts at which whole curves were measured; free increments are between them.
    """
    names = sorted({name for one in observations for name, _ in one.parts})
    terms = [term for name in names for term in _terms(name, geometry, counts)]
    values: dict[tuple[_Term, int], float] = {}
    design = np.zeros((len(observations), len(terms)))
    index: dict[str, list[int]] = {}
    for column, term in enumerate(terms):
        index.setdefault(term.curve, []).append(column)
    for row, one in enumerate(observations):
        for (name, count), times in one.parts.items():
            for column in index[name]:
                term = terms[column]
                key = (term, count)
                if key not in values:
                    values[key] = float(_curve_of(term, 1.0, geometry).values(count)[-1])
                design[row, column] += times * values[key]
    ms = np.array([one.ms for one in observations])
    found = _solve(design, ms, np.array([one.weight for one in observations]), terms)
    return {
        name: _sum([_curve_of(terms[column], found[column], geometry) for column in columns if found[column] > 0.0])
        for name, columns in index.items()
        if not name.startswith(PART)
    }


def _solve(
    design: NDArray[np.float64], ms: NDArray[np.float64], weight: NDArray[np.float64], terms: Sequence[_Term]
) -> NDArray[np.float64]:
    """Coefficients in milliseconds, by reweighted ridge regression."""
    relative = design / ms[:, None]
    scale = np.maximum(relative.max(axis=0), 1e-30)
    relative = relative / scale
    ridge = np.diag(np.sqrt([_RIDGE[term.kind] for term in terms]))
    trust = np.ones(len(ms))
    found = np.zeros(len(terms))
    for _ in range(_REWEIGHTINGS):
        by_row = np.sqrt(weight * trust)
        found = solve_nonnegative(
            np.concatenate([relative * by_row[:, None], ridge]), np.concatenate([by_row, np.zeros(len(terms))])
        )
        error = np.abs(relative @ found - 1.0)
        typical = max(1.5 * float(np.median(error)), 1e-6)
        trust = np.minimum(1.0, _OUTLIER * typical / np.maximum(error, 1e-12))
    return np.asarray(found / scale, dtype=np.float64)


def _terms(name: str, geometry: BackboneGeometry, counts: Mapping[int, Sequence[int]]) -> list[_Term]:
    """The terms of a part."""
    words = name.split(" ")
    if name == REST or name.startswith(PART) or words[2:] == ["dense", "block"]:
        return [_Term(name, "constant")]
    if name == "head":
        return [_Term(name, "linear")]
    part = words[2]
    steps = [_Term(name, "steps", (width,)) for width in TILES]
    measured = sorted(counts.get(int(words[1]), ()))
    offset = _offset(name, geometry)
    known = [0, *(count + offset for count in measured)]
    rises = [_Term(name, "rises", pair) for pair in pairwise(known) if pair[0] < pair[1]]
    linear, quadratic, constant = (_Term(name, kind) for kind in ("linear", "quadratic", "constant"))
    if part == "attention":
        return [linear, quadratic, *steps, *rises]
    if part == "mlp":
        return [linear, *steps, *rises]
    if part == "keep":
        return [linear]
    if part in ("read", "reduce", "score", "weigh"):
        return [constant, linear, quadratic]
    return [constant, linear, *steps, *rises]


def _offset(name: str, geometry: BackboneGeometry) -> int:
    """Number of prefix tokens that a part processes in addition."""
    words = name.split(" ")
    return geometry.stages[int(words[1])].num_prefix_tokens if words[0] == "stage" else 0


def _curve_of(term: _Term, ms: float, geometry: BackboneGeometry) -> Curve:
    """A curve with a single term."""
    offset = _offset(term.curve, geometry)
    match term.kind:
        case "steps":
            return Curve(offset=offset, steps=((term.detail[0], ms),))
        case "rises":
            return Curve(offset=offset, rises=((term.detail[0], term.detail[1], ms),))
        case kind:
            return Curve.model_validate({"offset": offset, kind: ms})


def _sum(curves: Sequence[Curve]) -> Curve:
    """The sum of curves."""
    return Curve(
        offset=curves[0].offset if curves else 0,
        constant=sum(one.constant for one in curves),
        linear=sum(one.linear for one in curves),
        quadratic=sum(one.quadratic for one in curves),
        steps=tuple(step for one in curves for step in one.steps),
        rises=tuple(rise for one in curves for rise in one.rises),
    )
