"""`import-checkpoint`: weights trained elsewhere as a file of this package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sparsesearch.artifacts.schedule_file import read_schedule
from sparsesearch.cli.console import say
from sparsesearch.cli.options import JsonOption, check_target
from sparsesearch.errors import SpecError
from sparsesearch.text import macs_text


def import_checkpoint(
    path: Annotated[Path, typer.Argument(help="A training checkpoint or state dict: .pth, .pt, .safetensors.")],
    backbone: Annotated[str, typer.Option(help="Backbone it is of: deit_s, lvvit_s, or any that can be searched.")],
    rho: Annotated[
        float | None, typer.Option(metavar="R", help="Its rate, with the schedule of DynamicViT's papers: 0.7.")
    ] = None,
    schedule: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its schedule, if another: best.yaml, or steps as YAML or JSON.")
    ] = None,
    ema: Annotated[bool, typer.Option("--ema", help="Take the averaged weights (model_ema).")] = False,
    output: Annotated[Path, typer.Option("--output", "-o", help="Target file.")] = Path("model.safetensors"),
    force: Annotated[bool, typer.Option("--force", help="Write over the target file.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Import a checkpoint that was trained elsewhere, dense or sparse.

    Reads what DynamicViT's repository and those of DeiT, LV-ViT, ConvNeXt, Swin and timm save, and writes one
    safetensors file that carries its schedule. Without a rate or a schedule the checkpoint is taken as dense. No code
    of a file is ever run, and no parameter is left out.

    For example:

    sparsesearch import-checkpoint deit_b.pth --backbone deit_b --rho 0.6

    sparsesearch import-checkpoint best.pth --backbone lvvit_s --ema
    """
    if rho is not None and schedule is not None:
        raise SpecError("give either --rho or --schedule, not both")
    check_target(output)
    if output.exists() and not force:
        raise SpecError(f"{output} exists; name another file with -o, or write over it with --force")
    wanted = None if schedule is None else read_schedule(schedule)

    from sparsesearch.artifacts.checkpoint import save  # takes seconds to load
    from sparsesearch.artifacts.import_checkpoint import import_checkpoint as read

    done = read(path, backbone=backbone, rho=rho, schedule=wanted, ema=ema)
    save(done.model, output, card=done.card)
    if as_json:
        document = {
            "model": str(output),
            "backbone": done.card.backbone,
            "num_classes": done.card.num_classes,
            "params": done.num_params,
            "macs": done.card.macs,
            "dense_macs": done.dense_macs,
            "schedule": done.card.schedule.model_dump(mode="json"),
        }
        typer.echo(json.dumps(document))
        return
    typer.echo(
        f"{output}: {done.card.backbone}, {done.num_params / 1e6:.2f} M parameters, {done.card.num_classes} classes, "
        f"schedule {done.card.schedule.describe(done.geometry)}, {macs_text(done.card.macs)} "
        f"({done.card.macs / done.dense_macs:.1%} of dense)"
    )
    say(f'Next, in Python: import sparsesearch; model = sparsesearch.load("{output}")')
