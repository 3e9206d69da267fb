"""Print what small studies leave in their database, clocks aside: `python tests/store_tables.py [--projection]`.

Studies of seeds 0, 1 and 2 on three families run inline, one thread each, so two versions of the program that mean
the same print the same bytes on one machine. `--projection` prints only what a change of the tables or of their words
keeps: number, fidelity, key, counts, seed and cost of each trial, and what was measured.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

BACKBONES = ("deit_pico", "convnext_pico", "swin_pico")
SEEDS = (0, 1, 2)
CLOCKS = {"created_at", "updated_at", "started_at", "ended_at", "latency_ms", "confirmed", "seconds"}
TINY = {"epochs": 1, "images_per_epoch": 48, "batch_size": 24}


def run_study(home: Path, backbone: str, seed: int) -> Path:
    """Run one study in an empty folder and return its database."""
    document = {
        "name": "study",
        "backbone": backbone,
        "budget": {"unit": "fraction", "low": 0.3 if backbone == "deit_pico" else 0.75, "high": 0.9},
        "data": {"num_val_images": 120},
        "seed": seed,
        "precision": "float32",
        "device": "cpu",
        "dispatcher": "inline",
        "fidelity": {
            "evaluations": 8,
            "finalists": 2,
            "dense": {**TINY, "epochs": 2},
            "supernet_training": TINY,
            "finetune": TINY,
        },
    }
    (home / "study.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    program = "from sparsesearch.cli import main; main()"
    subprocess.run(
        [sys.executable, "-c", program, "run", "study.yaml", "--no-mlflow", "--quiet"],
        cwd=home,
        env={**os.environ, "SPARSESEARCH_HOME": str(home), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return home / "studies.db"


def rows(database: Path, table: str) -> list[dict[str, Any]]:
    """The rows of a table in the order of its keys."""
    connection = sqlite3.connect(database)
    connection.row_factory = sqlite3.Row
    order = "study_id, number" + (", step" if table == "measurements" else "") if table != "studies" else "id"
    found = [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY {order}")]
    connection.close()
    return found


def tables(database: Path) -> list[str]:
    """Every column but clocks, a line a row."""
    lines = []
    for table in ("studies", "trials", "measurements"):
        for row in rows(database, table):
            lines.append(f"{table} " + json.dumps({k: v for k, v in row.items() if k not in CLOCKS}))
    return [line.replace(str(database.parent), "HOME") for line in lines]


def projection(database: Path) -> list[str]:
    """What trials are and what they measured, a line each."""
    (study,) = rows(database, "studies")
    stages = json.loads(study["spec"])["resolved"]["geometry"]["stages"]
    lines = []
    for trial in rows(database, "trials"):
        counts = []
        for step in json.loads(trial["schedule"])["steps"]:
            height, width = stages[step["stage"]]["grid"]
            kept = math.floor((step["keep_ratio"] + 1e-9) * height * width)
            counts.append((step["stage"], step["block"], max(1, kept)))
        fields = ("number", "fidelity", "key", "seed", "macs", "params")
        lines.append(json.dumps({**{name: trial[name] for name in fields}, "counts": counts}))
    for row in rows(database, "measurements"):
        lines.append(json.dumps([row["number"], row["step"], row["seed"], json.loads(row["metrics"])]))
    return lines


def main() -> None:
    """Run all studies and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--projection", action="store_true")
    show = projection if parser.parse_args().projection else tables
    for backbone in BACKBONES:
        for seed in SEEDS:
            with tempfile.TemporaryDirectory() as folder:
                lines = show(run_study(Path(folder), backbone, seed))
            sys.stdout.write("\n".join([f"# {backbone}, seed {seed}", *lines]) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
