"""Recipes: YAML files with everything that `retrain` needs, the result of a search."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, ValidationError

from sparsesearch.errors import SpecError, one_line
from sparsesearch.files.durable import write_file
from sparsesearch.papers.recipes import PAPER_RECIPES, of_schedule
from sparsesearch.schedule import Schedule
from sparsesearch.schedule.image_size import ImageSize
from sparsesearch.study.latency_record import Conditions, ConfirmedLatency
from sparsesearch.study.spec import MAX_SEED, DataSpec, TrainSpec, read_document
from sparsesearch.value import Value

DEMO_NOTE = "found on the bundled digits demo; does not transfer to other data"
NOT_MEANINGFUL = "not meaningful: the backbone could hardly be trained in the time given"


class Provenance(Value):
    """Where a recipe comes from.

    Attributes:
        study: Name of the study.
        trial: Number of the trial.
        label: Origin of the schedule: `search`, or the name of a hand-crafted baseline.
        schedule_key: Fingerprint of the sparse model.
        cost_rule: Version of the counting rule of multiply-adds.
        data_fingerprint: Hash of the data of the search.
        sparsesearch: Version of the program.
        torch: Version of torch.
        timm: Version of timm.
    """

    study: str
    trial: int
    label: str
    schedule_key: str
    cost_rule: Literal[1] = 1
    data_fingerprint: str
    sparsesearch: str
    torch: str
    timm: str


class Measured(Value):
    """The measurements of the search.

    Attributes:
        fidelity: `finetune` after a short training, `supernet` with shared weights, or
            `untrained` with the weights of the dense model.
        macs: Multiply-adds of one image.
        dense_macs: Multiply-adds of one image through the dense model.
        params: Parameters, predictors included.
        metrics: Validation metrics, accuracies as fractions.
        dense_metrics: Validation metrics of the dense model.
        accuracy: `ok`, or why the accuracy is not meaningful.
    """

    fidelity: str
    macs: int
    dense_macs: int
    params: int
    metrics: dict[str, float]
    dense_metrics: dict[str, float]
    accuracy: str = "ok"


class RecipeLatency(Value):
    """The latency of a recipe's sparse model on one target.

    Attributes:
        target: The device and how the model runs there.
        dense_ms: Dense latency when the target was profiled.
        predicted_ms: Latency predicted by the profile, null without a profile.
        budget_ms: Upper limit, null without a latency budget.
        confirmed: Measured latency, null before it is measured; `sparsesearch measure` fills it in.
    """

    target: Conditions
    dense_ms: float | None = None
    predicted_ms: float | None = None
    budget_ms: float | None = None
    confirmed: ConfirmedLatency | None = None


class Recipe(Value):
    """A schedule with everything that is needed to train it in full.

    Attributes:
        note: A warning that travels with the schedule, or None.
        backbone: Backbone name.
        schedule: The sparsification schedule.
        data: Data of the search; `retrain --data` replaces it.
        num_classes: Classes of that data.
        image_size: Pixels.
        in_chans: Image channels.
        weights: Initial weights of the dense model.
        dense: Training of the dense model and teacher, if it has to be trained.
        training: Full training of the sparse model.
        training_note: What to know about that training, or None.
        precision: Precision of the search.
        compile: Whether the teacher is compiled.
        seed: Seed.
        measured: Measurements of the search.
        latency: Latency on the target, if the study had one.
        provenance: Where the recipe comes from.
    """

    schema_version: Literal[1] = 1
    note: str | None = None
    backbone: str
    schedule: Schedule
    data: DataSpec
    num_classes: int
    image_size: ImageSize
    in_chans: int
    weights: str
    dense: TrainSpec
    training: TrainSpec
    training_note: str | None = None
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    compile: bool = False
    seed: int = Field(ge=0, le=MAX_SEED)
    measured: Measured
    latency: RecipeLatency | None = None
    provenance: Provenance

    def with_training(self, training: TrainSpec) -> Recipe:
        """The recipe with another training; that of a paper is adapted to the schedule."""
        note = None
        if training.preset in PAPER_RECIPES:
            training, note = of_schedule(training, self.schedule)
        return self.model_copy(update={"training": training, "training_note": note})


_DIGEST = "# SHA-256 of the rest when it was written: "


def is_edited(path: Path) -> bool:
    """Whether a recipe is not as it was written: edited, which is allowed, or damaged. False if that is unknown."""
    _, mark, rest = path.read_text(encoding="utf-8", errors="replace").partition(_DIGEST)
    digest, _, body = rest.partition("\n")
    return bool(mark) and digest != hashlib.sha256(body.encode()).hexdigest()


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe as YAML with a header that explains its use."""
    write_file(path, recipe_text(recipe, file=path.name))


def recipe_text(recipe: Recipe, *, file: str) -> str:
    """The text of a recipe in a file of some name."""
    header = (
        "# A sparsification schedule found by sparsesearch.\n"
        f"# Train it in full:  sparsesearch retrain {file}\n"
        "# macs are multiply-adds of one image (what this literature calls FLOPs); accuracies are fractions.\n"
    )
    body = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)
    digest = hashlib.sha256(body.encode()).hexdigest()
    return f"{header}{_DIGEST}{digest}\n{body}"


def read_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises:
        SpecError: Missing, not YAML, or not a recipe; names the offending key.
    """
    document = read_document(path, allow_nan=True)
    if not isinstance(document, dict):
        raise SpecError(f"{path} is not a sparsesearch recipe; write one with: sparsesearch export STUDY")
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        raise SpecError(f"{path} is not a sparsesearch recipe: {one_line(error)}") from error
