"""The small file a search ends in: everything `retrain` needs, as YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import yaml
from pydantic import ValidationError

from sparsesearch.errors import SpecError, one_line
from sparsesearch.schedule import Schedule
from sparsesearch.study.latency_record import Conditions, ConfirmedLatency
from sparsesearch.study.spec import DataSpec, TrainSpec, read_document
from sparsesearch.value import Value

DEMO_NOTE = "found on the bundled digits demo; does not transfer to other data"
NOT_MEANINGFUL = "not meaningful: the backbone could hardly be trained in the time given"


class Provenance(Value):
    """Where a recipe comes from.

    Attributes:
        study: Name of the study.
        trial: Number of the trial.
        label: Who proposed it: `search`, or the name of a hand-crafted baseline.
        schedule_key: Fingerprint of the sparse model.
        cost_rule: Version of the counting rule of multiply-adds.
        data_fingerprint: Hash of the data that was searched on.
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
    """What the search measured.

    Attributes:
        fidelity: How: `finetune` after a short training, `supernet` with shared weights,
            `untrained` with those of the dense model.
        macs: Multiply-adds of one image.
        dense_macs: The same of the dense model.
        params: Parameters, predictors included.
        metrics: Validation metrics, accuracies as fractions.
        dense_metrics: The same of the dense model.
        accuracy: `ok`, or why the accuracy means nothing.
    """

    fidelity: str
    macs: int
    dense_macs: int
    params: int
    metrics: dict[str, float]
    dense_metrics: dict[str, float]
    accuracy: str = "ok"


class RecipeLatency(Value):
    """What is known of the latency of a recipe's sparse model on one target.

    Attributes:
        target: The device and how the model runs there.
        dense_ms: Dense latency when the target was profiled.
        predicted_ms: As the profile predicts it, null without a profile.
        budget_ms: What it has to stay below, null for no budget of milliseconds.
        confirmed: As measured, null as long as it is a prediction; `sparsesearch measure` fills it in.
    """

    target: Conditions
    dense_ms: float | None = None
    predicted_ms: float | None = None
    budget_ms: float | None = None
    confirmed: ConfirmedLatency | None = None


class Recipe(Value):
    """A schedule with all that is needed to train it in full.

    Attributes:
        note: A warning that travels with the schedule, or None.
        backbone: Backbone name.
        schedule: The sparsification schedule.
        data: Data it was searched on; `retrain --data` replaces it.
        num_classes: Classes of that data.
        image_size: Pixels.
        in_chans: Image channels.
        weights: Where dense training starts.
        dense: Training of the dense model and teacher where it has to be trained.
        training: Full training of the sparse model.
        precision: Arithmetic of the search.
        seed: Seed.
        measured: What the search measured.
        latency: Latency on the target, where one was asked for.
        provenance: Where this comes from.
    """

    schema_version: Literal[1] = 1
    note: str | None = None
    backbone: str
    schedule: Schedule
    data: DataSpec
    num_classes: int
    image_size: int
    in_chans: int
    weights: str
    dense: TrainSpec
    training: TrainSpec
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    seed: int
    measured: Measured
    latency: RecipeLatency | None = None
    provenance: Provenance


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe as YAML with a header that says what to do with it."""
    header = (
        "# A sparsification schedule found by sparsesearch.\n"
        f"# Train it in full:  sparsesearch retrain {path.name}\n"
        "# macs are multiply-adds of one image (what this literature calls FLOPs); accuracies are fractions.\n"
    )
    body = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(header + body, encoding="utf-8")


def read_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises:
        SpecError: Missing, not YAML, or not a recipe; names the offending key.
    """
    document = read_document(path)
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        raise SpecError(f"{path} is not a recipe of sparsesearch: {one_line(error)}") from error
