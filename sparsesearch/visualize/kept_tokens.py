"""A figure of the tokens that a sparse model keeps: each image, then the same image after every step.

Shapes: `H` and `W` height and width, `N` positions of a grid in raster order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray
from PIL import Image

from sparsesearch.schedule import ResolvedStep
from sparsesearch.visualize.save_figure import save_figure

Picture = NDArray[np.float64]

NO_TOKEN = -1
"""Token index of a patch that was dropped, or takes the fast path."""

_WHITE, _VIOLET, _BLACK, _GREY = np.ones(3), np.array([0.78, 0.68, 0.95]), np.zeros(3), np.full(3, 0.45)
_DROPPED, _FUSED, _FAST = 0.85, 0.8, 0.65
_PATCH_PIXELS = 24
_SMALL = 96
_WORDS = {
    "prune": "faded: dropped",
    "fuse": "violet: fused into one token",
    "merge": "one colour with an outline: merged into one token",
    "fast_slow": "faded: on the fast path",
}


@dataclass(frozen=True, eq=False)
class StepView:
    """What one step did to one image.

    Attributes:
        step: The step.
        grid: Height and width of the grid it works on.
        token_N: For each position, the token that represents it after this step; `NO_TOKEN` if none does.
        fused: Tokens without a position of their own.
    """

    step: ResolvedStep
    grid: tuple[int, int]
    token_N: NDArray[np.int64]
    fused: frozenset[int] = frozenset()

    @property
    def kept(self) -> list[int]:
        """Positions that a token represents, or that are on the slow path."""
        kept: list[int] = np.flatnonzero(self.token_N != NO_TOKEN).tolist()
        return kept

    def document(self) -> dict[str, object]:
        """Plain data: raster indices of kept positions, and groups of positions that share a token."""
        step = self.step
        groups: dict[int, list[int]] = {}
        for position in self.kept:
            groups.setdefault(int(self.token_N[position]), []).append(position)
        fused = sorted(position for token in self.fused for position in groups.get(token, []))
        return {
            "stage": step.stage,
            "block": step.block,
            "phase": step.phase,
            "reducer": step.reducer.kind,
            "tokens": step.num_tokens,
            "grid": list(self.grid),
            "kept": [position for position in self.kept if position not in set(fused)],
            "fused": fused,
            "merged": [one for token, one in groups.items() if len(one) > 1 and token not in self.fused],
        }


@dataclass(frozen=True, eq=False)
class ImageView:
    """One image with what each step of a model did to it.

    Attributes:
        name: Its name.
        pixels_HW3: The image as the model sees it, in [0, 1].
        steps: In order of execution.
    """

    name: str
    pixels_HW3: Picture
    steps: tuple[StepView, ...]

    def document(self) -> dict[str, object]:
        """Plain data of every step."""
        return {"image": self.name, "steps": [step.document() for step in self.steps]}


def save_kept_tokens(images: Sequence[ImageView], path: Path, *, title: str, note: str | None = None) -> None:
    """Draw one row per image.

    Args:
        images: At least one, all with the same steps.
        path: Output file; its suffix selects the format (PNG, PDF, SVG).
        title: Figure title.
        note: Warning below the title, or None.
    """
    columns = 1 + len(images[0].steps)
    side = 2.1 if columns <= 8 else 1.6
    close = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.05, wspace=0.01, hspace=0.01)
    figure = Figure(figsize=(side * columns + 0.4, (side + 0.08) * len(images) + 1.1), layout=close)
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(images), columns, squeeze=False)
    for row, image in zip(axes, images, strict=True):
        _show(row[0], alone(image))
        row[0].set_ylabel(_shortened(image.name), fontsize=8)
        for cell, step in zip(row[1:], image.steps, strict=True):
            _show(cell, panel(image.pixels_HW3, step))
    axes[0][0].set_title("image", fontsize=9)
    for cell, step in zip(axes[0][1:], images[0].steps, strict=True):
        cell.set_title(f"{_location_text(step.step)}\n{tokens_text(step)}", fontsize=9)
    figure.suptitle(title if note is None else f"{title}\n{note}", fontsize=10)
    words = [_WORDS[kind] for kind in dict.fromkeys(step.step.reducer.kind for step in images[0].steps)]
    figure.supxlabel("; ".join(words), fontsize=8, color="0.3")
    save_figure(figure, path)


def alone(image: ImageView) -> Picture:
    """The image without its steps, in the shape that the panels of its steps have."""
    rows, columns = image.steps[0].grid
    common = math.gcd(rows, columns)
    return enlarged(image.pixels_HW3, (rows // common, columns // common))


def panel(pixels_HW3: Picture, view: StepView) -> Picture:
    """The image after a step: dropped positions fade, and the positions of one merged token share an outline."""
    rows, columns = view.grid
    image_HW3 = enlarged(pixels_HW3, view.grid)
    size = image_HW3.shape[0] // rows
    token_HW = np.kron(view.token_N.reshape(rows, columns), np.ones((size, size), dtype=np.int64))
    empty_HW = token_HW == NO_TOKEN
    drawn_HW3 = _blend(image_HW3, empty_HW, _WHITE, _FAST if view.step.reducer.kind == "fast_slow" else _DROPPED)
    faded_HW, merged_HW = empty_HW.copy(), np.zeros_like(empty_HW)
    for token, count in zip(*np.unique(view.token_N, return_counts=True), strict=True):
        if token == NO_TOKEN:
            continue
        own_HW = token_HW == token
        if int(token) in view.fused:
            drawn_HW3 = _blend(drawn_HW3, own_HW, _VIOLET, _FUSED)
            faded_HW |= own_HW
        elif count > 1:
            drawn_HW3[own_HW] = image_HW3[own_HW].mean(axis=0)
            merged_HW |= own_HW
    drawn_HW3 = _blend(drawn_HW3, _edges(faded_HW, faded_HW), _GREY, 0.7)
    return _blend(drawn_HW3, _edges(token_HW, merged_HW), _BLACK, 0.75)


def enlarged(pixels_HW3: Picture, grid: tuple[int, int]) -> Picture:
    """Enlarge an image so that every grid position has a whole number of pixels; small images keep square pixels."""
    height, width, _ = pixels_HW3.shape
    rows, columns = grid
    size = max(_PATCH_PIXELS, -(-height // rows), -(-width // columns))
    resample = Image.Resampling.NEAREST if max(height, width) <= _SMALL else Image.Resampling.BICUBIC
    small = Image.fromarray((255 * pixels_HW3.clip(0, 1)).round().astype(np.uint8))
    return np.asarray(small.resize((columns * size, rows * size), resample), dtype=np.float64) / 255


def tokens_text(view: StepView) -> str:
    """`137 of 196 tokens`."""
    total = view.grid[0] * view.grid[1]
    match view.step.reducer.kind:
        case "fast_slow":
            return f"{view.step.num_tokens} of {total} slow"
        case "fuse":
            return f"{view.step.num_tokens} of {total} tokens, 1 fused"
        case _:
            return f"{view.step.num_tokens} of {total} tokens"


def _location_text(step: ResolvedStep) -> str:
    stage = f"stage {step.stage}, " if step.stage else ""
    return f"{stage}{'before' if step.phase == 'before_block' else 'inside'} block {step.block}"


def _blend(image_HW3: Picture, where_HW: NDArray[np.bool_], color: Picture, opacity: float) -> Picture:
    blended_HW3 = image_HW3.copy()
    blended_HW3[where_HW] = opacity * color + (1 - opacity) * image_HW3[where_HW]
    return blended_HW3


def _edges(value_HW: NDArray[np.generic], among_HW: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels on either side of a change in value, if at least one of the two sides is in `among_HW`."""
    edge_HW = np.zeros_like(among_HW)
    for along in (np.s_[:-1, :], np.s_[1:, :]), (np.s_[:, :-1], np.s_[:, 1:]):
        before, after = along
        touches = (value_HW[before] != value_HW[after]) & (among_HW[before] | among_HW[after])
        edge_HW[before] |= touches
        edge_HW[after] |= touches
    return edge_HW


def _show(axes: Axes, image_HW3: Picture) -> None:
    axes.imshow(image_HW3, interpolation="nearest" if image_HW3.shape[0] < 300 else "antialiased")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("0.7")


def _shortened(name: str) -> str:
    return name if len(name) <= 26 else f"{name[:12]}...{name[-11:]}"
