"""`python -m sparsesearch.latency.bench`: the command `bench` where only torch and timm are installed."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from sparsesearch.artifacts.model_reference import find_model
from sparsesearch.errors import SparseSearchError, SpecError
from sparsesearch.latency.bench import table as text
from sparsesearch.latency.bench.bench_plan import BenchPlan, help_of
from sparsesearch.latency.bench.compare import compare
from sparsesearch.latency.bench.comparison import Comparison

_NUMBERS = {"threads": int, "runs": int, "seconds": float}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it: exit code 0, 1 (failure) or 2 (bad input)."""
    options = vars(_parser().parse_args(arguments))
    output, as_json = options.pop("output"), options.pop("json")
    try:
        plan = BenchPlan(**{one.name: options.pop(one.name) for one in fields(BenchPlan)})
        found = compare(find_model(**options), plan)
        if output is not None:
            write_document(found, output)
    except SparseSearchError as error:
        sys.stderr.write(f"sparsesearch: {error}\n")
        return error.exit_code
    sys.stdout.write(f"{json.dumps(found.document())}\n" if as_json else plain_text(found))
    return 0


def write_document(found: Comparison, path: Path) -> None:
    """Write a comparison as a JSON file.

    Raises:
        SpecError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found.document(), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise SpecError(f"cannot write {path}: {error.strerror}; name another file") from error


def plain_text(found: Comparison) -> str:
    """A comparison as lines of text."""
    table = [text.columns(found), *text.rows(found)]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join([text.title(found), *lines, text.conditions_line(found), *found.sentences(), ""])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sparsesearch.latency.bench",
        description="Time the dense and the sparse model of a schedule side by side; needs torch and timm only.",
    )
    parser.add_argument("--backbone", help="backbone: deit_s, or a timm model")
    parser.add_argument("--schedule", type=Path, metavar="FILE", help="best.yaml, model.safetensors, or steps as YAML")
    parser.add_argument("--rho", type=float, metavar="R", help="the papers' schedule at this rate: 0.7")
    parser.add_argument("--at", default="", help="blocks with a predictor in front: 3,6,9")
    parser.add_argument("--keep", default="", help="share of the tokens kept from each on: 0.7,0.49,0.343")
    parser.add_argument("--image-size", type=int, help="pixels, if not the backbone's own")
    for one in fields(BenchPlan):
        flag = f"--{one.name.replace('_', '-')}"
        if isinstance(one.default, bool):
            parser.add_argument(
                flag, action=argparse.BooleanOptionalAction, default=one.default, help=help_of(one.name)
            )
        else:
            parser.add_argument(flag, type=_NUMBERS.get(one.name, str), default=one.default, help=help_of(one.name))
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="also write the JSON into this file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
