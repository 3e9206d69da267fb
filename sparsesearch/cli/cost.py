"""`cost` and `spaces`: what a schedule costs, and which are possible."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table

from sparsesearch.cli.console import out
from sparsesearch.cli.options import JsonOption
from sparsesearch.cli.subject import AtOption, BackboneOption, ImageSizeOption, KeepOption, RhoOption, ScheduleOption
from sparsesearch.cli.tables import gmacs
from sparsesearch.cost.analytic import AnalyticCost, block_table
from sparsesearch.cost.rows import BlockCost
from sparsesearch.resources import bundled
from sparsesearch.schedule import Schedule
from sparsesearch.search.reach import attainable
from sparsesearch.space.definition import load_space, space_for_backbone


def cost(
    backbone: BackboneOption = None,
    schedule: ScheduleOption = None,
    rho: RhoOption = None,
    at: AtOption = "",
    keep: KeepOption = "",
    image_size: ImageSizeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Price a schedule in multiply-adds (what this literature calls FLOPs), block by block.

    Linear layers, convolutions and matrix products count, attention and predictors included; normalisation and
    element-wise work do not. Trains nothing and writes nothing.

    For example:

    sparsesearch cost --backbone deit_s --at 3,6,9 --keep 0.7,0.49,0.343

    sparsesearch cost --schedule best.yaml
    """
    from sparsesearch.export.subject import find_subject  # takes seconds to load

    found = find_subject(backbone=backbone, schedule=schedule, rho=rho, at=at, keep=keep, image_size=image_size)
    geometry, steps = found.geometry, found.schedule
    model = AnalyticCost()
    sparse, dense = model.estimate(geometry, steps), model.estimate(geometry, Schedule())
    if as_json:
        document = {
            "backbone": geometry.name,
            "macs": sparse.macs,
            "dense_macs": dense.macs,
            "params": sparse.params,
            "dense_params": geometry.params,
            "schedule": steps.canonical(geometry).model_dump(mode="json"),
        }
        typer.echo(json.dumps(document))
        return
    table = Table(title=f"{geometry.name}: {steps.describe(geometry)}")
    rows = block_table(geometry, steps)
    parts = {
        "attention" if geometry.stages[0].mixer == "attention" else "mixing": [row.attention_macs for row in rows],
        "mlp": [row.mlp_macs for row in rows],
        "fast path": [row.fast_path_macs for row in rows],
        "predictor": [row.predictor_macs for row in rows],
        "matching": [row.matching_macs for row in rows],
        "other": [row.other_macs for row in rows],
    }
    shown = {name: macs for name, macs in parts.items() if any(macs)}
    for column in ("part", "tokens", *shown, "MMACs"):
        table.add_column(column, justify="left" if column == "part" else "right")
    for number, row in enumerate(rows):
        table.add_row(
            row.name,
            _tokens(row),
            *(f"{macs[number] / 1e6:,.2f}" if macs[number] else "" for macs in shown.values()),
            f"{row.macs / 1e6:,.2f}",
        )
    out.print(table)
    typer.echo(
        f"{gmacs(sparse.macs)} GMACs ({sparse.macs:,} multiply-adds), {sparse.macs / dense.macs:.1%} of dense "
        f"{gmacs(dense.macs)}; {sparse.params / 1e6:.2f} M parameters"
    )


def _tokens(row: BlockCost) -> str:
    """Tokens that enter, those that leave where they are fewer, and those on the slow path where there is another."""
    if row.tokens_in != row.tokens_out:
        return f"{row.tokens_in} > {row.tokens_out}"
    if row.block is not None and row.tokens_slow != row.tokens_out:
        return f"{row.tokens_slow} of {row.tokens_in} slow"
    return f"{row.tokens_in}"


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
