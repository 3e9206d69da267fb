"""`run`, `resume`, `init`: start a study, go on with one, write a study document."""

from __future__ import annotations

import json
import re
import time
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from sparsesearch.cli.console import ConsoleProgress, err, program, say
from sparsesearch.cli.options import (
    DatabaseOption,
    DeviceOption,
    JsonOption,
    check_folder,
    check_target,
    open_settings,
    parse_budget,
    parse_duration,
)
from sparsesearch.cli.tables import accuracy_text, front_table, gmacs, schedule_text
from sparsesearch.cli.tracking import named, open_tracker
from sparsesearch.errors import SpecError, StudyExistsError, UserInputError
from sparsesearch.protocols import StudyLedger, StudyStore, Tracker
from sparsesearch.settings import Settings
from sparsesearch.spec import DEFAULT_DISPATCHER, StudySpec, executed_by, read_document
from sparsesearch.trial import Fidelity, Trial, TrialState

SpecArgument = Annotated[
    Path | None, typer.Argument(help="A study document (see `sparsesearch init`); flags override its keys.")
]
BackboneOption = Annotated[
    str | None, typer.Option(help="deit_t, deit_s, deit_b, deit_pico (the demo's), or any timm VisionTransformer.")
]
GflopsOption = Annotated[
    str | None,
    typer.Option(metavar="X|LOW:HIGH", help="Budget in 10^9 multiply-adds (what papers call GFLOPs): 3.0 or 2.0:3.5."),
]
ShareOption = Annotated[
    str | None, typer.Option("--budget", metavar="P%|LOW%:HIGH%", help="Budget as a share of dense: 65% or 20%:45%.")
]
DataOption = Annotated[
    str | None,
    typer.Option(
        metavar="SOURCE",
        help="folder:PATH (PATH/train, PATH/val[, PATH/test], or plain class folders), hfds/OWNER/NAME, hfds:PATH, "
        "torch/NAME:PATH, wds:PATH (tar shards); see docs/data.md. "
        "[default: $SPARSESEARCH_DATA, else the bundled digits demo]",
    ),
]
WeightsOption = Annotated[
    str | None, typer.Option(help="Where dense training starts: pretrained, scratch, or the path of a checkpoint.")
]
DispatcherOption = Annotated[
    Literal["inline", "ray"] | None,
    typer.Option(help=f"Trials one by one in this process, or in parallel on Ray. [default: {DEFAULT_DISPATCHER}]"),
]
MaxConcurrentOption = Annotated[
    int | None, typer.Option(min=1, help="Most trials at a time, on Ray. [default: as many as fit]")
]
CpusOption = Annotated[float | None, typer.Option(help="CPU cores of one trial, on Ray. [default: 1]")]
GpusOption = Annotated[
    float | None, typer.Option(help="GPUs of one trial, on Ray, also 0.25. [default: 1 on a GPU device, else 0]")
]
RayAddressOption = Annotated[
    str | None,
    typer.Option(
        metavar="auto|HOST:PORT", help="Ray cluster to join, from one of its machines. [default: start Ray here]"
    ),
]
MlflowOption = Annotated[
    bool,
    typer.Option("--mlflow/--no-mlflow", help="Show the study in MLflow while it runs; look with: sparsesearch ui"),
]
OutOption = Annotated[Path | None, typer.Option("--out", help="Folder for best.yaml and front.png. [default: ./STUDY]")]


def run(
    document: SpecArgument = None,
    backbone: BackboneOption = None,
    budget_gflops: GflopsOption = None,
    budget: ShareOption = None,
    data: DataOption = None,
    weights: WeightsOption = None,
    study: Annotated[str | None, typer.Option(help="Name of the study. [default: from backbone and budget]")] = None,
    time_budget: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Cut the study to this time: 90s, 10m, 1h30m.")
    ] = None,
    space: Annotated[str | None, typer.Option(help="Search space: a bundled name or a .yaml file.")] = None,
    sampler: Annotated[
        Literal["tpe", "random", "nsga2"] | None, typer.Option(help="What proposes schedules. [default: tpe]")
    ] = None,
    evaluations: Annotated[int | None, typer.Option(min=1, help="Schedules to try. [default: 60]")] = None,
    finalists: Annotated[int | None, typer.Option(min=1, help="Best schedules to fine-tune. [default: 5]")] = None,
    elastic: Annotated[
        Literal["on", "off"] | None,
        typer.Option(help="One elastic training serves all schedules (on), or each is trained from dense (off)."),
    ] = None,
    baselines: Annotated[
        bool | None, typer.Option("--baselines/--no-baselines", help="Also try the hand families rho, rho^2, rho^3.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="The only source of randomness. [default: 0]")] = None,
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"] | None, typer.Option(help="Arithmetic; auto measures. [default: auto]")
    ] = None,
    device: DeviceOption = None,
    image_size: Annotated[int | None, typer.Option(min=8, help="Pixels, if not the backbone's own.")] = None,
    dispatcher: DispatcherOption = None,
    cpus_per_trial: CpusOption = None,
    gpus_per_trial: GpusOption = None,
    max_concurrent: MaxConcurrentOption = None,
    ray_address: RayAddressOption = None,
    max_retries: Annotated[
        int | None, typer.Option(min=0, help="Retries of a trial that failed or was lost, on Ray. [default: 2]")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Folder for checkpoints, the same on all machines. [default: in the home]"),
    ] = None,
    mlflow: MlflowOption = True,
    out: OutOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the best sparsification schedule of a backbone under a budget.

    Trains the dense model where needed, makes its weights elastic once, tries schedules that just fit the budget,
    fine-tunes the best, and writes best.yaml and front.png. Killed or interrupted, `sparsesearch resume` goes on.

    For example:

    sparsesearch run --backbone deit_pico --budget 20%:45%

    sparsesearch run --backbone deit_s --budget-gflops 3.0 --data folder:/data/imagenet

    sparsesearch run --backbone deit_s --budget-gflops 3.0 --time-budget 10m
    """
    from sparsesearch.cli import STARTED

    limit = parse_budget(budget_gflops, budget)
    flags: dict[str, Any] = {
        "backbone": backbone,
        "weights": weights,
        "name": study,
        "space": space,
        "sampler": sampler,
        "seed": seed,
        "baselines": baselines,
        "precision": precision,
        "device": device,
        "dispatcher": dispatcher,
        "resources": {
            "cpus_per_trial": cpus_per_trial,
            "gpus_per_trial": gpus_per_trial,
            "max_concurrent": max_concurrent,
            "ray_address": ray_address,
            "max_retries": max_retries,
        },
        "storage": storage,
        "budget": None if limit is None else limit.model_dump(),
        "time_budget_s": None if time_budget is None else parse_duration(time_budget),
        "data": {"source": data, "image_size": image_size},
        "fidelity": {
            "evaluations": evaluations,
            "finalists": finalists,
            "elastic": None if elastic is None else elastic == "on",
        },
    }
    wished = _overlay(_read(document), flags)
    settings, store = open_settings(database)
    if settings.data is not None:
        wished = _overlay({"data": {"source": settings.data}}, wished)
    taken = store.studies()
    if wished.get("name") is None:
        wished["name"] = _free_name(wished, set(taken))
    elif wished["name"] in taken:
        raise StudyExistsError(
            f"study {wished['name']!r} exists already; go on with `sparsesearch resume {wished['name']}`, "
            f"delete it with `sparsesearch delete {wished['name']}`, or choose another --study name"
        )
    folder = check_folder(out or Path(str(wished["name"])))
    # Only now what takes seconds to load.
    from sparsesearch.draft import complete
    from sparsesearch.study import prepare

    with ConsoleProgress() as progress:
        spec = prepare(complete(wished, progress=progress), progress=progress)
        ledger = store.create_study(spec)
        try:
            tracker = open_tracker(store, settings, progress, wanted=mlflow, database=database)
            _work(ledger, settings, progress, tracker=tracker, started=STARTED, database=database)
        except UserInputError:
            # Bad input that showed only at the first trial: nothing is measured, so the name is given back.
            if not any(trial.measurements for trial in store.trials(spec.name)):
                store.delete_study(spec.name)
            raise
    _report(spec, store, folder, mlflow=mlflow, as_json=as_json)


def resume(
    study: Annotated[str, typer.Argument(help="Name of the study.")],
    dispatcher: DispatcherOption = None,
    cpus_per_trial: CpusOption = None,
    gpus_per_trial: GpusOption = None,
    max_concurrent: MaxConcurrentOption = None,
    ray_address: RayAddressOption = None,
    mlflow: MlflowOption = True,
    out: OutOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with a study that was interrupted or killed; at most the epochs under way are repeated.

    What executes it may be another than before; that is not stored.

    Example: sparsesearch resume deit_pico-35p
    """
    folder = check_folder(out or Path(study))
    settings, store = open_settings(database)
    resources = {
        "cpus_per_trial": cpus_per_trial,
        "gpus_per_trial": gpus_per_trial,
        "max_concurrent": max_concurrent,
        "ray_address": ray_address,
    }
    with closing(store.open_study(study)) as ledger:
        spec = executed_by(ledger.spec, dispatcher=dispatcher, resources=resources)
        with ConsoleProgress() as progress:
            tracker = open_tracker(store, settings, progress, wanted=mlflow, database=database)
            _work(ledger, settings, progress, tracker=tracker, started=time.monotonic(), database=database, spec=spec)
    _report(ledger.spec, store, folder, mlflow=mlflow, as_json=as_json)


def init(
    output: Annotated[Path, typer.Option("--output", "-o", help="Target file.")] = Path("study.yaml"),
    backbone: Annotated[str, typer.Option(help="Backbone to write the document for.")] = "deit_pico",
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Write a study document with every key explained, to edit and give to `sparsesearch run`.

    Example: sparsesearch init --backbone deit_s -o study.yaml
    """
    if check_target(output).exists() and not force:
        raise SpecError(f"{output} exists already; overwrite it with --force, or choose another name with -o")
    from sparsesearch.draft import commented_yaml, complete

    with ConsoleProgress() as progress:
        wishes = {"name": _as_name(output.stem), "backbone": backbone, "budget": {"unit": "share", "high": 0.35}}
        spec = complete(wishes, progress=progress, ask_hub=False).model_copy(update={"backbone": backbone})
    header = f"# A study of sparsesearch. Start it with:  sparsesearch run {output.name}\n"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(header + commented_yaml(spec, skip=frozenset({"resolved", "meaningful"})), encoding="utf-8")
    say(f"wrote {output}; edit it, then: {program()} run {output}")


def _read(document: Path | None) -> dict[str, Any]:
    if document is None:
        return {}
    read = read_document(document)
    if not isinstance(read, dict):
        raise SpecError(f"{document} is not a study document; write one with: sparsesearch init")
    return read


def _overlay(document: dict[str, Any], flags: dict[str, Any]) -> dict[str, Any]:
    """The document with every flag that was given laid over it."""
    merged = dict(document)
    for key, value in flags.items():
        if isinstance(value, dict) and key != "budget":
            inner = merged.get(key)
            given = {k: v for k, v in value.items() if v is not None}
            if given:
                merged[key] = {**(inner if isinstance(inner, dict) else {}), **given}
        elif value is not None:
            merged[key] = value
    return merged


def _free_name(wished: dict[str, Any], taken: set[str]) -> str:
    budget = wished.get("budget")
    text = ""
    if isinstance(budget, dict) and isinstance(budget.get("high"), int | float):
        share = budget.get("unit", "share") == "share"
        ends = [end for end in (budget.get("low"), budget["high"]) if isinstance(end, int | float)]
        text = "-".join(f"{end * 100:g}p" if share else f"{end:g}g" for end in ends)
    base = _as_name(f"{wished.get('backbone', 'study')}-{text}")
    number = 1
    while (name := base if number == 1 else f"{base}-{number}") in taken:
        number += 1
    return name


def _as_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:60] or "study"


def _work(
    ledger: StudyLedger,
    settings: Settings,
    progress: ConsoleProgress,
    *,
    tracker: Tracker,
    started: float,
    database: str | None,
    spec: StudySpec | None = None,
) -> None:
    from sparsesearch.study import run_study

    spec = spec or ledger.spec
    fidelity = spec.fidelity
    total = fidelity.evaluations + (fidelity.finalists if fidelity.elastic else 0)
    done = sum(trial.state.is_final for trial in ledger.trials())
    with progress.bar(f"study {spec.name}", max(total, done)) as bar:
        bar.advance(done)

        def on_trial(trial: Trial) -> None:
            bar.advance(note=f"last {accuracy_text(trial, meaningful=spec.meaningful)}")
            if trial.state is TrialState.FAILED:
                progress.line(f"trial {trial.number} failed: {trial.reason}")
            elif trial.fidelity is not Fidelity.SUPERNET:
                what = trial.label
                if trial.fidelity is Fidelity.FINETUNE:
                    what = f"{schedule_text(spec, trial)} ({trial.label}) at {gmacs(trial.cost.macs)} GMACs fine-tuned"
                progress.line(f"trial {trial.number}: {what}, {accuracy_text(trial, meaningful=spec.meaningful)}")

        try:
            run_study(
                ledger, settings, progress=progress, on_trial=on_trial, tracker=tracker, started=started, spec=spec
            )
        except KeyboardInterrupt:
            progress.line(f"go on with: {program()} resume {spec.name}{named(database)}")
            raise


def _report(spec: StudySpec, store: StudyStore, folder: Path, *, mlflow: bool, as_json: bool) -> None:
    from sparsesearch.export.recipe import NOT_MEANINGFUL
    from sparsesearch.study import write_results

    result = write_results(spec, store, folder)
    err.print(front_table(spec, result.front, best=result.best))
    if not spec.meaningful:
        say(f"accuracy {NOT_MEANINGFUL}", style="yellow")
    say(f"picture: {result.front_png}\nrecipe:  {result.recipe}")
    if mlflow:
        say(f"explore: {program()} ui")
    say(f"Next, train the best schedule in full: {program()} retrain {result.recipe}")
    if as_json:
        best = result.best
        document = {
            "study": spec.name,
            "best": {
                "trial": best.number,
                "macs": best.cost.macs,
                "metrics": best.metrics,
                "schedule": best.schedule.model_dump(mode="json"),
                "label": best.label,
                "accuracy": "ok" if spec.meaningful else "not meaningful",
            },
            "recipe": str(result.recipe),
            "front_png": str(result.front_png),
        }
        typer.echo(json.dumps(document))
