"""The options of `run`, grouped into help panels; those of where it runs are in `place_options`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparsesearch.cli.data_options import WHAT
from sparsesearch.cli.options import database_option, json_option
from sparsesearch.cli.progress_option import OUTPUT_PANEL
from sparsesearch.study.spec import PickName, SamplerName, Strategy

_HOW = "How to search"
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
        min=0,
        metavar="N",
        help="Number of best schedules to fine-tune; 0 for none. [default: 5, for a front 24, training-free 0]",
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
        help="Sampler of schedules: evolution, gradients (evolution that starts from token counts learned by "
        "gradients), or Optuna's tpe, nsga2, gp or random. [default: evolution]",
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
PickOption = Annotated[
    PickName | None,
    typer.Option(
        metavar="RULE",
        help="Which schedule within the budget is the best: one-se (the cheapest that is not worse than the most "
        "accurate by more than one standard error of the difference), accuracy (the most accurate), knee (where more "
        "cost begins to gain little). [default: one-se]",
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
LatencyRuntimeOption = Annotated[
    str | None,
    typer.Option(
        "--latency-runtime",
        metavar="NAME",
        help="What runs the models on the target: torch, onnx, aoti or cuda-graph. [default: torch]",
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


PriorityOption = Annotated[
    int | None,
    typer.Option(
        min=-1000,
        max=1000,
        help="With --server: studies of a higher priority are run first. [default: 0]",
        rich_help_panel=OUTPUT_PANEL,
    ),
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
