"""Which tokens a sparse model keeps, as a picture: an image, then the same image behind every step.

Shapes: `H` and `W` height and width, `N` positions of a grid in raster order.
"""

from __future__ import annotations

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

Picture = NDArray[np.float64]

NOBODY = -1
"""In place of a token: the patch was dropped, or takes the fast path."""

_WHITE, _VIOLET, _BLACK, _GREY = np.ones(3), np.array([0.78, 0.68, 0.95]), np.zeros(3), np.full(3, 0.45)
_DROPPED, _FUSED, _FAST = 0.85, 0.8, 0.65
_PATCH_PIXELS = 24
_SMALL = 96
_WORDS = {
    "prune": "faded: dropped",
    "fuse": "violet: fused into one token",
    "merge": "outlined in one colour: merged into one token",
    "fast_slow": "faded: on the fast path",
}


@dataclass(frozen=True, eq=False)
class StepView:
    """What one step did to one image.

    Attributes:
        step: The step.
        grid: Height and width of the grid it works on.
        token_N: For each position the token that stands for it behind this step, `NOBODY` if none does.
        fused: Tokens that have no place of their own.
    """

    step: ResolvedStep
    grid: tuple[int, int]
    token_N: NDArray[np.int64]
    fused: frozenset[int] = frozenset()

    @property
    def kept(self) -> list[int]:
        """Positions that some token stands for, or that are on the slow path."""
        held: list[int] = np.flatnonzero(self.token_N != NOBODY).tolist()
        return held

    def document(self) -> dict[str, object]:
        """The same as plain data: raster indices of what is kept, and which positions share a token."""
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
    """One image on its way through a model.

    Attributes:
        name: Its name.
        pixels_HW3: What the model saw of it, in [0, 1].
        steps: In order of execution.
    """

    name: str
    pixels_HW3: Picture
    steps: tuple[StepView, ...]

    def document(self) -> dict[str, object]:
        """What was kept, as plain data."""
        return {"image": self.name, "steps": [step.document() for step in self.steps]}


def save_kept_tokens(images: Sequence[ImageView], path: Path, *, title: str, note: str | None = None) -> None:
    """Draw a row for each image.

    Args:
        images: One at least, all with the same steps.
        path: Target file; its ending names the format (PNG, PDF, SVG).
        title: Above the picture.
        note: A warning below the title, or None.
    """
    columns = 1 + len(images[0].steps)
    side = 2.1 if columns <= 8 else 1.6
    close = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.05, wspace=0.01, hspace=0.01)
    figure = Figure(figsize=(side * columns + 0.4, (side + 0.08) * len(images) + 1.1), layout=close)
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(images), columns, squeeze=False)
    for row, image in zip(axes, images, strict=True):
        _show(row[0], enlarged(image.pixels_HW3, (1, 1)))
        row[0].set_ylabel(_shortened(image.name), fontsize=8)
        for cell, step in zip(row[1:], image.steps, strict=True):
            _show(cell, panel(image.pixels_HW3, step))
    axes[0][0].set_title("image", fontsize=9)
    for cell, step in zip(axes[0][1:], images[0].steps, strict=True):
        cell.set_title(f"{_place(step.step)}\n{tokens_text(step)}", fontsize=9)
    figure.suptitle(title if note is None else f"{title}\n{note}", fontsize=10)
    words = [_WORDS[kind] for kind in dict.fromkeys(step.step.reducer.kind for step in images[0].steps)]
    figure.supxlabel("; ".join(words), fontsize=8, color="0.3")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, metadata={"Software": None} if path.suffix.lower() == ".png" else None)


def panel(pixels_HW3: Picture, view: StepView) -> Picture:
    """The image behind a step: what is not kept fades, and what one token stands for has one outline."""
    rows, columns = view.grid
    image_HW3 = enlarged(pixels_HW3, view.grid)
    size = image_HW3.shape[0] // rows
    token_HW = np.kron(view.token_N.reshape(rows, columns), np.ones((size, size), dtype=np.int64))
    nobody_HW = token_HW == NOBODY
    drawn_HW3 = _blend(image_HW3, nobody_HW, _WHITE, _FAST if view.step.reducer.kind == "fast_slow" else _DROPPED)
    faded_HW, merged_HW = nobody_HW.copy(), np.zeros_like(nobody_HW)
    for token, count in zip(*np.unique(view.token_N, return_counts=True), strict=True):
        if token == NOBODY:
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
    """The image with whole pixels for every position of a grid, and enough of them; small ones keep their squares."""
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


def _place(step: ResolvedStep) -> str:
    stage = f"stage {step.stage}, " if step.stage else ""
    return f"{stage}{'before' if step.phase == 'before_block' else 'inside'} block {step.block}"


def _blend(image_HW3: Picture, where_HW: NDArray[np.bool_], color: Picture, share: float) -> Picture:
    blended_HW3 = image_HW3.copy()
    blended_HW3[where_HW] = share * color + (1 - share) * image_HW3[where_HW]
    return blended_HW3


def _edges(value_HW: NDArray[np.generic], among_HW: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels where a value changes, on either side, if one of the two is among the given."""
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
