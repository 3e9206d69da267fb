"""Cause seeded faults in real studies, one study a seed, and check that nothing is lost, doubled or stuck.

    python -m tests.chaos --seeds 0:12 --out chaos.jsonl

Each seed has one kind of fault, at a random moment; consecutive seeds have different kinds. After it, the study is
resumed until it is finished, and its tables are read without the program's own code. Seeds that are in the file are not
repeated, so that an interrupted run goes on. Ends with exit code 1 if something did not hold.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from random import Random
from typing import Any

from tests.chaos.faults import KINDS, NotInstalledError
from tests.chaos.study import Place, StuckError
from tests.chaos.tables import Row, contents, problems
from tests.small_disk import CannotMountError

Calm = dict[str, list[Row]]


def calm_study(folder: Path) -> Calm:
    """The tables of a study that was left alone."""
    found: Calm = {}
    place = Place(folder / "calm", check=lambda place: found.update(contents(place)))
    place.finish(place.start("run"))
    place.resume_to_the_end(tries=0)
    return found


def one(seed: int, kind: str, *, folder: Path, calm: Calm, keep: bool) -> dict[str, Any]:
    """Cause the fault of a seed; returns a row of the report."""
    wrong: list[str] = []
    place = Place(folder / f"seed-{seed}", check=lambda place: wrong.extend(problems(place, calm)))
    started = time.monotonic()
    row: dict[str, Any] = {"seed": seed, "kind": kind, "outcome": "held"}
    try:
        KINDS[kind](place, Random(seed))
    except (CannotMountError, NotInstalledError) as error:
        row |= {"outcome": "not caused", "why": str(error)}
    except StuckError as error:
        row |= {"outcome": "stuck", "why": str(error)}
    if wrong:
        row |= {"outcome": "broken", "why": "; ".join(wrong)}
    row |= {"codes": place.codes, "seconds": round(time.monotonic() - started, 1)}
    if row["outcome"] in ("stuck", "broken"):
        log = place.root / "log.txt"
        row["log"] = log.read_text(encoding="utf-8", errors="replace").splitlines()[-30:] if log.exists() else []
    elif not keep:
        shutil.rmtree(place.root, ignore_errors=True)
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """Numbers of outcomes by kind, in Markdown."""
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in rows:
        counts[row["kind"]][row["outcome"]] += 1
    outcomes = ("held", "broken", "stuck", "not caused")
    lines = [f"| fault | {' | '.join(outcomes)} |", "|---|--:|--:|--:|--:|"]
    for kind in KINDS:
        if kind in counts:
            lines.append(f"| {kind} | {' | '.join(str(counts[kind][outcome]) for outcome in outcomes)} |")
    return "\n".join(lines)


def main() -> int:
    """Run the seeds that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default=f"0:{len(KINDS)}", metavar="FROM:TO", help="TO is not included")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS), metavar="KIND")
    parser.add_argument("--minutes", type=float, help="begin no other seed after this time")
    parser.add_argument("--out", type=Path, help="a JSON line for each seed")
    parser.add_argument("--keep", action="store_true", help="keep the folders of all studies")
    arguments = parser.parse_args()
    first, _, last = arguments.seeds.partition(":")
    old = arguments.out.read_text(encoding="utf-8").splitlines() if arguments.out and arguments.out.exists() else []
    rows: list[dict[str, Any]] = [json.loads(line) for line in old]
    done, started = {row["seed"] for row in rows}, time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="sparsesearch-chaos-"))
    calm = calm_study(folder)
    for seed in range(int(first), int(last)):
        is_late = arguments.minutes is not None and time.monotonic() - started > 60 * arguments.minutes
        if seed in done or is_late:
            continue
        kind = arguments.kinds[seed % len(arguments.kinds)]
        row = one(seed, kind, folder=folder, calm=calm, keep=arguments.keep)
        rows.append(row)
        how = f"{row['outcome']} after {row['seconds']:.0f} s, exit codes {row['codes']}"
        print(f"seed {seed}, {kind}: {how}", flush=True)
        for line in [row["why"], *row.get("log", [])] if "why" in row else []:
            print(f"    {line}", flush=True)
        if arguments.out is not None:
            with arguments.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
    print(table(rows))
    if not any(row["outcome"] in ("stuck", "broken") for row in rows):
        shutil.rmtree(folder, ignore_errors=True)
        return 0
    print(f"the studies that did not hold are in {folder}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
