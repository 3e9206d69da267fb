"""Check a file with weights against a backbone: what would be used, what not, and why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sparsesearch.backbones.fit_weights import FittedWeights, options_of
from sparsesearch.backbones.lookup import resolve_name
from sparsesearch.backbones.meta import without_weights
from sparsesearch.backbones.registry import create_model
from sparsesearch.errors import CheckpointError
from sparsesearch.schedule.image_size import ImageSize
from sparsesearch.training.foreign_weights import read_foreign_weights
from sparsesearch.training.weights import fit_dense


@dataclass(frozen=True)
class WeightsCheck:
    """What would be loaded from a file.

    Attributes:
        file: The file or folder.
        backbone: Resolved name of the backbone.
        num_classes: Classes of the head that the file was checked for.
        source: The entry of the file that was taken; empty if the file is a state dict, or cannot be read.
        fitted: The weights, fitted to the model; None if the file cannot be read.
        problem: Why the weights cannot be used, in one line; None if they can.
    """

    file: Path
    backbone: str
    num_classes: int | None
    source: str
    fitted: FittedWeights | None
    problem: str | None

    def document(self) -> dict[str, object]:
        """The result as plain data."""
        fitted = self.fitted
        found = None if fitted is None else fitted.comparison
        return {
            "file": str(self.file),
            "backbone": self.backbone,
            "num_classes": self.num_classes,
            "usable": self.problem is None,
            "problem": self.problem,
            "source": self.source,
            "tensors": 0 if fitted is None else fitted.total,
            "loaded": 0 if found is None else len(found.loaded),
            "missing": [] if found is None else list(found.missing),
            "unknown": [] if found is None else list(found.unknown),
            "misshapen": [] if found is None else list(found.misshapen),
            "unusable": [] if found is None else list(found.unusable),
            "resampled": [] if fitted is None else [str(change) for change in fitted.resampled],
            "adapted": [] if fitted is None else [str(change) for change in fitted.adapted],
            "left_out": [] if fitted is None else list(fitted.left_out),
            "head": None if fitted is None else (fitted.head or "loaded"),
        }


def check_weights_file(
    path: Path,
    *,
    backbone: str,
    ema: bool | None = None,
    num_classes: int | None = None,
    in_chans: int | None = None,
    image_size: ImageSize | None = None,
) -> WeightsCheck:
    """Fit the weights of a file to a dense backbone, as `run --weights` does.

    Args:
        path: A file, an index of shards, or a folder of the Hugging Face hub.
        backbone: Backbone name.
        ema: True requires averaged weights, False ignores them, None prefers them.
        num_classes: Classes of the data; None for those of the file.
        in_chans: Channels of the images; None for those of the file.
        image_size: Pixels; None for the default of the backbone.

    Raises:
        BackboneError: The backbone is unknown, or cannot be built with these options.
    """
    name = resolve_name(backbone)
    source = ""
    try:
        read = read_foreign_weights(path, ema=ema)
        source = read.entry
        with without_weights():
            classes, channels = options_of(create_model(name), read.tensors)
            model = create_model(
                name, num_classes=num_classes or classes, in_chans=in_chans or channels, image_size=image_size
            )
        fitted = fit_dense(model, read, backbone=name)
    except CheckpointError as error:
        return WeightsCheck(path, name, num_classes, source, None, str(error))
    problems = fitted.comparison.problems
    problem = f"{fitted.source} does not fit {name}; weights: {problems}" if problems else None
    return WeightsCheck(path, name, num_classes or classes, source, fitted, problem)
