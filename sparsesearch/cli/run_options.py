"""The options of `run` and `resume`, in the panels of their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from sparsesearch.cli.options import database_option, device_option, json_option
from sparsesearch.cli.progress_option import OUTPUT_PANEL
from sparsesearch.study.spec import DEFAULT_DISPATCHER, SamplerName, Strategy

_WHAT, _HOW, _WHERE = "What to search", "How long and how well", "Where it runs"
_TARGET = "Target of a budget of milliseconds"

SpecArgument = Annotated[
    Path | None,
    typer.Argument(metavar="[STUDY.yaml]", help="A study document (see `sparsesearch init`); flags override its keys."),
]

BackboneOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="deit_t, deit_s, deit_b, deit_pico (the demo's), or any timm VisionTransformer.",
        rich_help_panel=_WHAT,
    ),
]
GflopsOption = Annotated[
    str | None,
    typer.Option(
        metavar="X|LOW:HIGH",
        help="Budget in 10^9 multiply-adds (what papers call GFLOPs): 3.0 or 2.0:3.5.",
        rich_help_panel=_WHAT,
    ),
]
ShareOption = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="P%|LOW%:HIGH%",
        help="Budget as a share of dense: 65% or 20%:45%.",
        rich_help_panel=_WHAT,
    ),
]
MsOption = Annotated[
    str | None,
    typer.Option(
        "--budget-ms",
        metavar="X|LOW:HIGH",
        help="Budget in milliseconds of one call on --device, or on the device of --device-profile: 2.5 or 2:4.",
        rich_help_panel=_WHAT,
    ),
]
DataOption = Annotated[
    str | None,
    typer.Option(
        metavar="SOURCE",
        help="folder:PATH (PATH/train, PATH/val[, PATH/test], or plain class folders), hfds/OWNER/NAME, hfds:PATH, "
        "torch/NAME:PATH, wds:PATH (tar shards), digits:hard; see docs/data.md. "
        "[default: $SPARSESEARCH_DATA, else the bundled digits demo]",
        rich_help_panel=_WHAT,
    ),
]
ImageSizeOption = Annotated[
    int | None, typer.Option(min=8, metavar="N", help="Pixels, if not the backbone's own.", rich_help_panel=_WHAT)
]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        metavar="FROM",
        help="Where dense training starts: pretrained, scratch, or the path of a checkpoint.",
        rich_help_panel=_WHAT,
    ),
]
SpaceOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Search space: a bundled name or a .yaml file.", rich_help_panel=_WHAT),
]

TimeBudgetOption = Annotated[
    str | None,
    typer.Option(metavar="DURATION", help="Cut the study to this time: 90s, 10m, 1h30m.", rich_help_panel=_HOW),
]
EvaluationsOption = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Schedules to try. [default: 60, for a front 200]", rich_help_panel=_HOW),
]
FinalistsOption = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", help="Best schedules to fine-tune. [default: 5, for a front 24]", rich_help_panel=_HOW
    ),
]
StrategyOption = Annotated[
    Strategy | None,
    typer.Option(
        metavar="NAME",
        help="How schedules are ranked: supernet (on weights that one training shares), finetune (each is trained from "
        "dense), training-free (on the dense weights). [default: supernet]",
        rich_help_panel=_HOW,
    ),
]
SamplerOption = Annotated[
    SamplerName | None,
    typer.Option(
        metavar="NAME",
        help="What proposes schedules: evolution, or Optuna's tpe, nsga2, gp and random. [default: evolution]",
        rich_help_panel=_HOW,
    ),
]
WarmStartOption = Annotated[
    str | None,
    typer.Option(
        metavar="STUDY",
        help="Begin with what another study found, at other budgets, on other data or another backbone.",
        rich_help_panel=_HOW,
    ),
]
BaselinesOption = Annotated[
    bool | None,
    typer.Option(
        "--baselines/--no-baselines",
        help="Also try the hand-crafted baselines rho, rho^2, rho^3.",
        rich_help_panel=_HOW,
    ),
]
SeedOption = Annotated[
    int | None,
    typer.Option(min=0, metavar="N", help="The only source of randomness. [default: 0]", rich_help_panel=_HOW),
]
PrecisionOption = Annotated[
    str | None,
    typer.Option(
        metavar="TYPE",
        help="Precision of training and evaluation: float32, bfloat16, or auto (bfloat16 on a GPU; on a CPU "
        "whichever is measured to be faster). [default: auto]",
        rich_help_panel=_HOW,
    ),
]
DeviceProfileOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help="Latency profile of the target; see: sparsesearch profile. [default: --device, profiled if need be]",
        rich_help_panel=_TARGET,
    ),
]
LatencyBatchSizeOption = Annotated[
    int | None,
    typer.Option(
        "--latency-batch-size",
        min=1,
        metavar="N",
        help="Images of one call on the target. [default: 1]",
        rich_help_panel=_TARGET,
    ),
]
LatencyPrecisionOption = Annotated[
    str | None,
    typer.Option(
        "--latency-precision",
        metavar="TYPE",
        help="Precision of models on the target: float32, bf16 or fp16. [default: float32]",
        rich_help_panel=_TARGET,
    ),
]
LatencyCompileOption = Annotated[
    bool | None,
    typer.Option(
        "--latency-compile/--no-latency-compile",
        help="Run models through torch.compile on the target.",
        rich_help_panel=_TARGET,
    ),
]
LatencyThreadsOption = Annotated[
    int | None,
    typer.Option(
        "--latency-threads",
        min=1,
        metavar="N",
        help="CPU threads of torch on the target.",
        rich_help_panel=_TARGET,
    ),
]

DeviceOption = Annotated[str | None, device_option(_WHERE)]
DispatcherOption = Annotated[
    Literal["inline", "ray"] | None,
    typer.Option(
        metavar="inline|ray",
        help=f"Trials one by one in this process, or in parallel on Ray. [default: {DEFAULT_DISPATCHER}]",
        rich_help_panel=_WHERE,
    ),
]
CpusOption = Annotated[
    float | None, typer.Option(metavar="X", help="CPU cores of one trial, on Ray. [default: 1]", rich_help_panel=_WHERE)
]
GpusOption = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="GPUs of one trial, on Ray, also 0.25. [default: 1 on a GPU device, else 0]",
        rich_help_panel=_WHERE,
    ),
]
MaxConcurrentOption = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", help="Most trials at a time, on Ray. [default: as many as fit]", rich_help_panel=_WHERE
    ),
]
MaxRetriesOption = Annotated[
    int | None,
    typer.Option(
        min=0,
        metavar="N",
        help="Retries of a trial that failed or was lost, on Ray. [default: 2]",
        rich_help_panel=_WHERE,
    ),
]
RayAddressOption = Annotated[
    str | None,
    typer.Option(
        metavar="auto|HOST:PORT",
        help="Ray cluster to join, from one of its machines. [default: start Ray here]",
        rich_help_panel=_WHERE,
    ),
]
StorageOption = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        help="Folder for checkpoints, the same on all machines. [default: in the home]",
        rich_help_panel=_WHERE,
    ),
]

StudyOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Name of the study. [default: from backbone and budget]", rich_help_panel=OUTPUT_PANEL
    ),
]
DatabaseOption = Annotated[str | None, database_option(OUTPUT_PANEL)]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FOLDER",
        help="Folder for best.yaml, report.html and front.png. [default: ./STUDY]",
        rich_help_panel=OUTPUT_PANEL,
    ),
]
MlflowOption = Annotated[
    bool,
    typer.Option(
        "--mlflow/--no-mlflow",
        help="Show the study in MLflow while it runs; look with: sparsesearch ui",
        rich_help_panel=OUTPUT_PANEL,
    ),
]
JsonOption = Annotated[bool, json_option(OUTPUT_PANEL)]
