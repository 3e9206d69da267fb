"""Latency profiles: `python -m sparsesearch.latency.profile` needs only torch, timm and pydantic.

`sparsesearch profile` is the same command in a full installation. Each field of `ProfilePlan` is an option of both.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from sparsesearch.artifacts.output_files import check_new_file
from sparsesearch.errors import SparseSearchError
from sparsesearch.latency.command_options import add_options
from sparsesearch.latency.profile.document import write_profile
from sparsesearch.latency.profile.profile_plan import ProfilePlan, run_plan


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns exit code 0, 1 (failure) or 2 (invalid input)."""
    options = vars(_parser().parse_args(arguments))
    output, as_json, quiet = options.pop("output"), options.pop("json"), options.pop("quiet")
    force = options.pop("force")

    shown = 0

    def show(percent: int) -> None:
        nonlocal shown
        shown += percent
        if not quiet:
            sys.stderr.write(f"\rmeasured {shown} %")
            sys.stderr.flush()

    try:
        if output is not None:
            check_new_file(output, force=force)
        profile = run_plan(ProfilePlan(**options), on_percent=show)
        if not quiet:
            sys.stderr.write("\n")
        if output is not None:
            write_profile(profile, output)
    except SparseSearchError as error:
        sys.stderr.write(f"sparsesearch: {error}\n")
        return error.exit_code
    if as_json:
        sys.stdout.write(profile.model_dump_json() + "\n")
    else:
        written = [] if output is None else [f"written: {output}; next: sparsesearch profile import {output}"]
        sys.stdout.write("\n".join([*profile.sentences(), *written, ""]))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sparsesearch.latency.profile",
        description="Measure the latency of schedules of a backbone on this device, for searches with a latency budget "
        "on any machine; requires only torch, timm and pydantic.",
    )
    add_options(parser, ProfilePlan)
    parser.add_argument("--json", action="store_true", help="print the profile as JSON")
    parser.add_argument("--quiet", "-q", action="store_true", help="do not show progress")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the profile to this file")
    parser.add_argument("--force", action="store_true", help="overwrite an existing file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
