"""The options of `run` and `resume`, grouped into help panels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from sparsesearch.cli.data_options import WHAT
from sparsesearch.cli.options import database_option, device_option, json_option
from sparsesearch.cli.progress_option import OUTPUT_PANEL
from sparsesearch.study.spec import DEFAULT_DISPATCHER, SamplerName, Strategy

_HOW, _WHERE = "How to search", "Where to run"
_TARGET = "Target of a latency budget"

SpecArgument = Annotated[
    Path | None,
    typer.Argument(metavar="[STUDY.yaml]", help="A study document (see `sparsesearch init`); flags override its keys."),
]

BackboneOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="deit_t, deit_s, deit_b, deit_pico (for the demo), or any timm VisionTransformer.",
        rich_help_panel=WHAT,
    ),
]
GflopsOption = Annotated[
    str | None,
    typer.Option(
        metavar="X|LOW:HIGH",
        help="Budget in 10^9 multiply-adds (what papers call GFLOPs): 3.0 or 2.0:3.5.",
        rich_help_panel=WHAT,
    ),
]
FractionOption = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="P%|LOW%:HIGH%",
        help="Budget as a fraction of the dense cost: 65% or 20%:45%.",
        rich_help_panel=WHAT,
    ),
]
MsOption = Annotated[
    str | None,
    typer.Option(
        "--budget-ms",
        metavar="X|LOW:HIGH",
        help="Budget in milliseconds per call, on --device or on the device of --device-profile: 2.5 or 2:4.",
        rich_help_panel=WHAT,
    ),
]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        metavar="FROM",
        help="Initial weights of the dense model: pretrained, scratch, or the path of a checkpoint.",
        rich_help_panel=WHAT,
    ),
]
SpaceOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Search space: the name of a bundled space or a .yaml file.", rich_help_panel=WHAT
    ),
]

TimeBudgetOption = Annotated[
    str | None,
    typer.Option(metavar="DURATION", help="Limit the study to this time: 90s, 10m, 1h30m.", rich_help_panel=_HOW),
]
EvaluationsOption = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", help="Schedules to evaluate. [default: 60, for a front 200]", rich_help_panel=_HOW
    ),
]
FinalistsOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Number of best schedules to fine-tune. [default: 5, for a front 24]",
        rich_help_panel=_HOW,
    ),
]
StrategyOption = Annotated[
    Strategy | None,
    typer.Option(
        metavar="NAME",
        help="How schedules are ranked: supernet (with shared weights from one training), finetune (each is fine-tuned "
        "from the dense model), training-free (with the dense weights). [default: supernet]",
        rich_help_panel=_HOW,
    ),
]
SamplerOption = Annotated[
    SamplerName | None,
    typer.Option(
        metavar="NAME",
        help="Sampler of schedules: evolution, or Optuna's tpe, nsga2, gp or random. [default: evolution]",
        rich_help_panel=_HOW,
    ),
]
WarmStartOption = Annotated[
    str | None,
    typer.Option(
        metavar="STUDY",
        help="Start from the results of another study, which may differ in budget, data or backbone.",
        rich_help_panel=_HOW,
    ),
]
BaselinesOption = Annotated[
    bool | None,
    typer.Option(
        "--baselines/--no-baselines",
        help="Also evaluate the hand-crafted baselines rho, rho^2, rho^3.",
        rich_help_panel=_HOW,
    ),
]
SeedOption = Annotated[
    int | None,
    typer.Option(min=0, metavar="N", help="Random seed. [default: 0]", rich_help_panel=_HOW),
]
PrecisionOption = Annotated[
    str | None,
    typer.Option(
        metavar="TYPE",
        help="Precision of training and evaluation: float32, bf16, fp16, or auto (on a GPU bf16 if it has it in "
        "hardware, else fp16; on a CPU float32 or bf16, whichever is faster in a measurement). [default: auto]",
        rich_help_panel=_HOW,
    ),
]
CompileOption = Annotated[
    bool | None,
    typer.Option(
        "--compile/--no-compile",
        help="Compile the frozen teacher of each training with torch.compile, if it has a class token: a minute at the "
        "start, then faster steps. [default: no]",
        rich_help_panel=_HOW,
    ),
]
DeviceProfileOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help="Latency profile of the target; see: sparsesearch profile. [default: profile of --device, made if needed]",
        rich_help_panel=_TARGET,
    ),
]
LatencyBatchSizeOption = Annotated[
    int | None,
    typer.Option(
        "--latency-batch-size",
        min=1,
        metavar="N",
        help="Images per call on the target. [default: 1]",
        rich_help_panel=_TARGET,
    ),
]
LatencyPrecisionOption = Annotated[
    str | None,
    typer.Option(
        "--latency-precision",
        metavar="TYPE",
        help="Precision on the target: float32, bf16 or fp16. [default: float32]",
        rich_help_panel=_TARGET,
    ),
]
LatencyCompileOption = Annotated[
    bool | None,
    typer.Option(
        "--latency-compile",
        help="Compile the models with torch.compile on the target.",
        rich_help_panel=_TARGET,
    ),
]
LatencyThreadsOption = Annotated[
    int | None,
    typer.Option(
        "--latency-threads",
        min=1,
        metavar="N",
        help="CPU threads of torch on the target. [default: torch's default]",
        rich_help_panel=_TARGET,
    ),
]

DeviceOption = Annotated[str | None, device_option(_WHERE)]
DispatcherOption = Annotated[
    Literal["inline", "ray"] | None,
    typer.Option(
        metavar="inline|ray",
        help=f"Run trials one by one in this process, or in parallel on Ray. [default: {DEFAULT_DISPATCHER}]",
        rich_help_panel=_WHERE,
    ),
]
CpusOption = Annotated[
    float | None, typer.Option(metavar="X", help="CPU cores per trial, on Ray. [default: 1]", rich_help_panel=_WHERE)
]
GpusOption = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="GPUs per trial, on Ray; may be a fraction such as 0.25. [default: 1 on a GPU device, else 0]",
        rich_help_panel=_WHERE,
    ),
]
WorkersPerTrainingOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Processes that train one model together, on Ray. [default: one for each GPU]",
        rich_help_panel=_WHERE,
    ),
]
MaxConcurrentOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Maximum number of concurrent trials, on Ray. [default: as many as fit]",
        rich_help_panel=_WHERE,
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
PatienceOption = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="How long to wait for a disk, database or machine that fails, such as 30s or 1h, before the run ends; it "
        "can then be resumed. [default: 10m]",
        rich_help_panel=_WHERE,
    ),
]
WorkerTimeoutOption = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Replace a worker without a sign of life for so long, on Ray. [default: 10m, or 20 steps if longer]",
        rich_help_panel=_WHERE,
    ),
]
RayAddressOption = Annotated[
    str | None,
    typer.Option(
        metavar="auto|HOST:PORT",
        help="Ray cluster to connect to, from one of its machines. [default: start Ray on this machine]",
        rich_help_panel=_WHERE,
    ),
]
StorageOption = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        help="Folder for checkpoints, shared by all machines. [default: storage in $SPARSESEARCH_HOME]",
        rich_help_panel=_WHERE,
    ),
]
MovedDataOption = Annotated[
    str | None,
    typer.Option("--data", metavar="SOURCE", help="Where the study's data is now.", rich_help_panel=_WHERE),
]
MovedDeviceOption = Annotated[str | None, device_option(_WHERE, help="Device to go on on: auto, cpu or cuda[:N].")]
MovedStorageOption = Annotated[
    str | None,
    typer.Option("--storage", metavar="PATH", help="Where the checkpoints are now.", rich_help_panel=_WHERE),
]

StudyOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Name of the study. [default: derived from backbone and budget]",
        rich_help_panel=OUTPUT_PANEL,
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
        help="Log the study to MLflow while it runs; open it with: sparsesearch ui",
        rich_help_panel=OUTPUT_PANEL,
    ),
]
JsonOption = Annotated[bool, json_option(OUTPUT_PANEL)]
