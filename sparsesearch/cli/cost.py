"""`cost` and `spaces`: what a schedule costs, and which are possible."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from sparsesearch.cli.console import out
from sparsesearch.cli.options import JsonOption, parse_numbers
from sparsesearch.cli.tables import gmacs
from sparsesearch.cost.analytic import AnalyticCost, block_table
from sparsesearch.errors import ScheduleError, SpecError
from sparsesearch.export.recipe import read_recipe
from sparsesearch.geometry import BackboneGeometry
from sparsesearch.resources import bundled
from sparsesearch.schedule import Schedule
from sparsesearch.search.proposals import attainable
from sparsesearch.space.definition import load_space, space_for_backbone


def cost(
    backbone: Annotated[
        str | None, typer.Option(help="Backbone: deit_t, deit_s, deit_b, deit_pico or a timm ViT.")
    ] = None,
    at: Annotated[str, typer.Option(help="Blocks (0-based) with a predictor in front: 3,6,9. '' is dense.")] = "",
    keep: Annotated[str, typer.Option(help="Share of the initial tokens kept from each on: 0.7,0.49,0.343.")] = "",
    recipe: Annotated[Path | None, typer.Option(help="Price the schedule of this best.yaml instead.")] = None,
    image_size: Annotated[int | None, typer.Option(min=8, help="Pixels, if not the backbone's own.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Price a schedule in multiply-adds (what this literature calls FLOPs), block by block.

    Linear layers, convolutions and matrix products count, attention and predictors included; normalisation and
    element-wise work do not. Trains nothing and writes nothing.

    For example:

    sparsesearch cost --backbone deit_s --at 3,6,9 --keep 0.7,0.49,0.343

    sparsesearch cost --recipe best.yaml
    """
    geometry, schedule = _recipe(recipe) if recipe is not None else _typed(backbone, at, keep, image_size=image_size)
    model = AnalyticCost()
    sparse, dense = model.estimate(geometry, schedule), model.estimate(geometry, Schedule())
    if as_json:
        document = {
            "backbone": geometry.name,
            "macs": sparse.macs,
            "dense_macs": dense.macs,
            "params": sparse.params,
            "dense_params": geometry.params,
            "schedule": schedule.canonical(geometry).model_dump(mode="json"),
        }
        typer.echo(json.dumps(document))
        return
    table = Table(title=f"{geometry.name}: {schedule.describe(geometry)}")
    for column in ("part", "tokens", "attention", "mlp", "predictor", "MMACs"):
        table.add_column(column, justify="left" if column == "part" else "right")
    for row in block_table(geometry, schedule):
        parts = (row.attention_macs, row.mlp_macs, row.predictor_macs)
        table.add_row(
            row.name,
            f"{row.tokens_in}" if row.tokens_in == row.tokens_out else f"{row.tokens_in} > {row.tokens_out}",
            *(f"{m / 1e6:,.2f}" if m else "" for m in parts),
            f"{row.macs / 1e6:,.2f}",
        )
    out.print(table)
    typer.echo(
        f"{gmacs(sparse.macs)} GMACs ({sparse.macs:,} multiply-adds), {sparse.macs / dense.macs:.1%} of dense "
        f"{gmacs(dense.macs)}; {sparse.params / 1e6:.2f} M parameters"
    )


def _recipe(path: Path) -> tuple[BackboneGeometry, Schedule]:
    """The backbone of a recipe, with the head and input that it was searched with, and its schedule."""
    recipe = read_recipe(path)
    import torch

    from sparsesearch.backbones.registry import create_model, geometry

    with torch.device("meta"):
        model = create_model(
            recipe.backbone, num_classes=recipe.num_classes, in_chans=recipe.in_chans, image_size=recipe.image_size
        )
    return geometry(model, recipe.backbone), recipe.schedule


def _typed(backbone: str | None, at: str, keep: str, *, image_size: int | None) -> tuple[BackboneGeometry, Schedule]:
    if backbone is None:
        raise SpecError("say what to price: --backbone deit_s, or --recipe best.yaml")
    blocks = parse_numbers(at, what="--at")
    if any(block != int(block) or block < 0 for block in blocks):
        raise ScheduleError(f"--at {at!r} must be whole block numbers from 0")
    schedule = Schedule.at([int(block) for block in blocks], parse_numbers(keep, what="--keep"))
    from sparsesearch.backbones.registry import backbone_geometry

    return backbone_geometry(backbone, image_size=image_size), schedule


def spaces(
    name: Annotated[str | None, typer.Argument(help="A bundled space or a .yaml file; without it: list.")] = None,
    backbone: Annotated[str | None, typer.Option(help="Show what budgets the space reaches on this backbone.")] = None,
) -> None:
    """List the bundled search spaces, or show one and the budgets that it reaches.

    For example:

    sparsesearch spaces

    sparsesearch spaces deit_small --backbone deit_s
    """
    if name is None and backbone is None:
        for path in sorted(bundled("spaces").glob("*.yaml")):
            typer.echo(f"{path.stem:<16}{path.read_text(encoding='utf-8').splitlines()[0].removeprefix('# ')}")
        return
    if backbone is None:
        space = load_space(name or "isotropic")
    else:
        from sparsesearch.backbones.registry import backbone_geometry, resolve_name

        geometry = backbone_geometry(backbone)
        space = load_space(name) if name else space_for_backbone(resolve_name(backbone))
        space = space.for_geometry(geometry)
        low, high = attainable(geometry, space)
        dense = AnalyticCost().estimate(geometry, Schedule()).macs
        high = min(high, dense)  # predictors that drop nothing only add to it
        typer.echo(
            f"{geometry.name}: budgets from {low / 1e9:.4f} to {high / 1e9:.4f} GFLOPs (multiply-adds), "
            f"{low / dense:.1%} to {high / dense:.1%} of dense"
        )
    for key, value in space.model_dump(mode="json").items():
        typer.echo(f"{key}: {value}")
