"""`import-checkpoint`: convert weights that were trained elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sparsesearch.artifacts.output_files import check_new_file
from sparsesearch.artifacts.schedule_file import read_schedule
from sparsesearch.cli.model_argument import ImageSizeOption, say_which_is_meant
from sparsesearch.cli.options import ForceOption, JsonOption
from sparsesearch.console.streams import say
from sparsesearch.errors import SpecError
from sparsesearch.text import macs_text


def import_checkpoint(
    path: Annotated[Path, typer.Argument(help="A training checkpoint or state dict: .pth, .pt, .safetensors.")],
    backbone: Annotated[str, typer.Option(help="Backbone of the checkpoint: deit_s, lvvit_s or any supported model.")],
    rho: Annotated[
        float | None, typer.Option(metavar="R", help="Keep ratio of the DynamicViT papers' schedule: 0.7.")
    ] = None,
    schedule: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Any other schedule: best.yaml, or steps as YAML or JSON.")
    ] = None,
    ema: Annotated[
        bool | None,
        typer.Option("--ema/--no-ema", help="Require averaged weights, or ignore them. [default: averaged if any]"),
    ] = None,
    image_size: ImageSizeOption = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Output file.")] = Path("model.safetensors"),
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Import a dense or sparse checkpoint that was trained elsewhere.

    Reads checkpoints of the DynamicViT, DeiT, LV-ViT, ConvNeXt, Swin and timm repositories, and writes one safetensors
    file that includes the schedule. Without --rho or --schedule, the checkpoint is read as dense. Code in a file is
    never executed, and every parameter must match. Averaged weights are preferred, as in timm.

    For example:

    sparsesearch import-checkpoint deit_b.pth --backbone deit_b --rho 0.6

    sparsesearch import-checkpoint best.pth --backbone lvvit_s --ema
    """
    if rho is not None and schedule is not None:
        raise SpecError("give either --rho or --schedule, not both")
    check_new_file(output, force=force)
    say_which_is_meant(backbone)
    wanted = None if schedule is None else read_schedule(schedule)

    from sparsesearch.artifacts.checkpoint import save  # takes seconds to load
    from sparsesearch.artifacts.import_checkpoint import import_checkpoint as read

    done = read(path, backbone=backbone, rho=rho, schedule=wanted, ema=ema, image_size=image_size)
    save(done.model, output, card=done.card)
    say(done.loaded)
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
