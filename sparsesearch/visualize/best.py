"""A figure of the tokens that the best schedule of a study keeps, written next to the study's other files."""

from __future__ import annotations

import logging
import tempfile
from io import BytesIO
from pathlib import Path

from sparsesearch.analysis.view import StudyView
from sparsesearch.errors import one_line
from sparsesearch.study.trial import Fidelity

logger = logging.getLogger(__name__)

KEPT_TOKENS = "kept_tokens.png"
_NUM_IMAGES = 4
_COLORS = 96


def best_picture(view: StudyView, *, storage: Path) -> bytes | None:
    """`kept_tokens.png` with few colours, for a page; None where `write_best_picture` writes nothing."""
    with tempfile.TemporaryDirectory(prefix="sparsesearch-") as name:
        write_best_picture(view, Path(name), storage=storage)
        return with_few_colors(Path(name) / KEPT_TOKENS)


def with_few_colors(path: Path) -> bytes | None:
    """A PNG file with a palette, about a quarter of its size; None if there is no such file."""
    if not path.is_file():
        return None
    from PIL import Image

    small = BytesIO()
    with Image.open(path) as image:
        image.convert("RGB").quantize(_COLORS).save(small, "PNG", optimize=True)
    return small.getvalue()


def write_best_picture(view: StudyView, folder: Path, *, storage: Path) -> None:
    """Write `kept_tokens.png`: validation images through the best schedule, with the weights that it was judged with.

    If there is no such schedule yet, or its weights or the data are not on this machine, nothing is written and one
    line is logged; it never raises. It builds a model, so do not call it in a process that is training.

    Args:
        view: A resolved study.
        folder: Output folder.
        storage: Root folder of the study's checkpoints.
    """
    try:
        missing = _write(view, folder / KEPT_TOKENS, storage=storage)
    except Exception as error:  # any error: a figure must never abort a study
        missing = one_line(error)
        logger.debug("drawing %s failed", KEPT_TOKENS, exc_info=True)
    if missing is not None:
        logger.info("no %s of study %s: %s", KEPT_TOKENS, view.spec.name, missing)


def _write(view: StudyView, path: Path, *, storage: Path) -> str | None:
    """Write the figure, or return why there is none."""
    spec, resolved, best = view.spec, view.spec.resolved, view.best
    is_final = view.front.fidelity is Fidelity.FINETUNE or not spec.fidelity.finalists
    if resolved is None or view.front.fidelity is None or not is_final:
        return "no schedule has been fine-tuned yet"
    if best is None:
        return "no schedule is within the budget"

    # Imported here because torch and timm take seconds to load, and most calls have no figure to draw.
    from sparsesearch.artifacts.model_reference import ModelReference
    from sparsesearch.artifacts.trained import model_of, trained_tensors
    from sparsesearch.data.inputs import preprocessing_for
    from sparsesearch.schedule.image_size import as_image_size
    from sparsesearch.training.checkpoints import CheckpointFolder
    from sparsesearch.visualize.inspect import inspect_images, validation_images
    from sparsesearch.visualize.kept_tokens import save_kept_tokens

    tensors = trained_tensors(best, view.trials, CheckpointFolder(storage, spec.name, view.uid))
    if tensors is None:
        return f"the weights of trial {best.number} are not on this machine"
    size = as_image_size(resolved.geometry.image_size)
    reference = ModelReference(spec.backbone, best.schedule, resolved.num_classes, resolved.in_chans, size)
    preprocessing = preprocessing_for(spec.backbone, spec.data, in_chans=resolved.in_chans, image_size=size)
    images = validation_images(spec.data, backbone=spec.backbone, count=_NUM_IMAGES)
    views = inspect_images(model_of(reference, tensors), images, names=[""] * len(images), preprocessing=preprocessing)
    title = f"{spec.name}: trial {best.number}, {best.schedule.describe(resolved.geometry)}"
    save_kept_tokens(views, path, title=title)
    return None
