"""`python -m sparsesearch.latency.bench`: the command `bench` with only torch, timm and pydantic installed."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from sparsesearch.artifacts.model_reference import find_model
from sparsesearch.artifacts.output_files import check_new_file
from sparsesearch.errors import SparseSearchError
from sparsesearch.latency.bench.bench_plan import BenchPlan
from sparsesearch.latency.bench.compare import compare
from sparsesearch.latency.bench.comparison import write_document
from sparsesearch.latency.bench.table import plain_text
from sparsesearch.latency.command_options import add_options, image_size_argument


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns exit code 0, 1 (failure) or 2 (invalid input)."""
    options = vars(_parser().parse_args(arguments))
    output, as_json, force = options.pop("output"), options.pop("json"), options.pop("force")
    try:
        if output is not None:
            check_new_file(output, force=force)
        plan = BenchPlan(**{one.name: options.pop(one.name) for one in fields(BenchPlan)})
        found = compare(find_model(**options), plan)
        if output is not None:
            write_document(found, output)
    except SparseSearchError as error:
        sys.stderr.write(f"sparsesearch: {error}\n")
        return error.exit_code
    sys.stdout.write(f"{json.dumps(found.document())}\n" if as_json else plain_text(found))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sparsesearch.latency.bench",
        description="Compare the latency of the dense and the sparse model of a schedule; requires only torch, timm "
        "and pydantic.",
    )
    parser.add_argument("--backbone", help="deit_s, or a timm model")
    parser.add_argument("--schedule", type=Path, metavar="FILE", help="best.yaml, model.safetensors, or steps as YAML")
    parser.add_argument("--rho", type=float, metavar="R", help="keep ratio of the papers' schedule, such as 0.7")
    parser.add_argument("--at", default="", help="blocks with a predictor before them, such as 3,6,9")
    parser.add_argument("--keep", default="", help="fraction of the tokens kept at each, such as 0.7,0.49,0.343")
    parser.add_argument(
        "--image-size",
        type=image_size_argument,
        help="pixels: 224, or height x width, 256x192 [default: the backbone's]",
    )
    add_options(parser, BenchPlan)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="also write the JSON to this file")
    parser.add_argument("--force", action="store_true", help="overwrite an existing file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
