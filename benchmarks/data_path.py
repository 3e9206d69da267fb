"""From a folder of JPEGs to batches: seconds and memory of opening, hashing speed, and images per second.

    OMP_NUM_THREADS=1 python benchmarks/data_path.py /tmp/imagenet_shaped [--against COMMIT] [--distinct-files 20000]

The folder has ImageNet's shape: 1,000 classes, JPEGs of 500 x 375 pixels and about 110 KB, in `train` and `val`. It is
made when it does not exist, by hard links of a few hundred files with noise whose spectrum is that of photographs.

Everything runs in processes of its own, in turn with what it is compared with. The decoder's limit is a bare loop of
decoding, random resized crop and RandAugment, in as many processes as there are loader processes. Next to elapsed time,
processor time of all these processes is given, which other load on the machine changes less. With `--against`, a commit
is measured as well. `--drop-caches` (root only) empties the kernel's caches before one of the openings.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

NUM_CLASSES = 1000
VAL_EVERY = 20
NUM_PHOTOGRAPHS = 400
SIZE, NUM_BYTES = (375, 500), 110_000
BATCH = 128
MEASURE = """
import json, multiprocessing, os, sys, time
from pathlib import Path
task, folder, images, workers, state = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
from sparsesearch.data.inputs import open_task, preprocessing_of
from sparsesearch.backbones.lookup import resolve_name
from sparsesearch.data.decoding import decoded
from sparsesearch.data.task import Epoch
from sparsesearch.study.spec import RAND_AUGMENT, DataSpec

def megabytes(key):
    (line,) = [line for line in open("/proc/self/status") if line.startswith(key)]
    return int(line.split()[1]) / 1024

def cpu(pids):
    times = (open(f"/proc/{pid}/stat").read().rpartition(")")[2].split() for pid in pids)
    return sum(int(fields[11]) + int(fields[12]) for fields in times) / os.sysconf("SC_CLK_TCK")

backbone = resolve_name("deit_s")
data = DataSpec(source=f"folder:{folder}", workers=workers)
before, start, cpu_start = megabytes("VmRSS"), time.perf_counter(), time.process_time()
if task == "open":
    opened = open_task(data, backbone=backbone, **({"state": state} if state else {}))
    found = {"images": opened.num_train, "state": getattr(opened, "state", ""), "seconds": time.perf_counter() - start,
             "cpu_s": time.process_time() - cpu_start, "peak_mb": megabytes("VmHWM") - before,
             "kept_mb": megabytes("VmRSS") - before}
elif task == "load":
    opened = open_task(data, backbone=backbone, **({"state": state} if state else {}))
    warm_up = list(opened.fresh_epoch(Epoch(0, 0, batch_size=BATCH, num_images=BATCH)))
    pids, done = {os.getpid(), *(child.pid for child in multiprocessing.active_children())}, 0
    start = time.perf_counter()
    began = cpu(pids)
    for batch in opened.fresh_epoch(Epoch(1, 0, batch_size=BATCH, num_images=images)):
        pids |= {child.pid for child in multiprocessing.active_children()}
        done += len(batch.labels)
        if done >= images // BATCH * BATCH:
            found = {"rate": done / (time.perf_counter() - start), "cpu_ms": 1e3 * (cpu(pids) - began) / done}
else:
    transform = preprocessing_of(backbone, data).transform(is_training=True, rand_augment=RAND_AUGMENT)
    paths = [str(path) for name in sorted(os.listdir(f"{folder}/train"))[:images]
             for path in [next(Path(f"{folder}/train/{name}").iterdir())]]
    paths = (paths * (images // len(paths) + 1))[: images // workers]
    def loop(barrier, spent):
        barrier.wait()
        start = time.process_time()
        for path in paths:
            transform(decoded(path, mode="RGB", what=path))
        spent.put(time.process_time() - start)
    barrier, spent = multiprocessing.Barrier(workers + 1), multiprocessing.Queue()
    loops = [multiprocessing.Process(target=loop, args=(barrier, spent)) for _ in range(workers)]
    [each.start() for each in loops]
    barrier.wait()
    start = time.perf_counter()
    times = [spent.get() for _ in loops]
    done = workers * len(paths)
    found = {"rate": done / (time.perf_counter() - start), "cpu_ms": 1e3 * sum(times) / done}
print(json.dumps(found))
""".replace("BATCH", str(BATCH))


def photographs(count: int, *, seed: int) -> Iterator[bytes]:
    """JPEGs of the size of ImageNet's: noise with a spectrum of 1/f."""
    rng = np.random.default_rng(seed)
    rows, columns = np.fft.fftfreq(SIZE[0])[:, None], np.fft.rfftfreq(SIZE[1])[None, :]
    spectrum = 1 / np.maximum(np.hypot(rows, columns), 1 / max(SIZE))
    for _ in range(count):
        grey, *colours = (np.fft.irfft2(np.fft.rfft2(rng.normal(size=SIZE)) * spectrum, s=SIZE) for _ in range(4))
        pixels = np.stack([grey + 0.3 * colour for colour in colours], axis=-1)
        pixels = (pixels - pixels.mean()) / pixels.std() * 55 + 118
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        yield min((_jpeg(image, quality) for quality in range(60, 99, 3)), key=lambda file: abs(len(file) - NUM_BYTES))


def _jpeg(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=quality)
    return file.getvalue()


def make_folder(root: Path, *, images: int, distinct: int) -> None:
    """Write the folder: each class has the same number of images, and each file the same number of links."""
    sources = root / "distinct"
    sources.mkdir(parents=True)
    made = list(photographs(min(distinct, NUM_PHOTOGRAPHS), seed=0))
    files = [sources / f"{number:05d}.JPEG" for number in range(distinct)]
    for number, file in enumerate(files):
        # Bytes after the end of an image make it another file.
        file.write_bytes(made[number % len(made)] + number.to_bytes(8, "little"))
    for number in range(images):
        label, position = number % NUM_CLASSES, number // NUM_CLASSES
        split = "val" if position % VAL_EVERY == 0 else "train"
        folder = root / "data" / split / f"n{1440764 + label:08d}"
        folder.mkdir(parents=True, exist_ok=True)
        os.link(files[number % distinct], folder / f"{folder.name}_{position:05d}.JPEG")
    shutil.rmtree(sources)
    time.sleep(3)  # files that were written just now are not remembered


@contextmanager
def checkout(commit: str | None) -> Iterator[Path]:
    """The sources of a commit; of this checkout for None."""
    here = Path(__file__).resolve().parents[1]
    if commit is None:
        yield here
        return
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            ["git", "worktree", "add", "--detach", folder, commit], cwd=here, check=True, capture_output=True
        )
        try:
            yield Path(folder)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", folder], cwd=here, check=True)


def measure(
    task: str, folder: Path, *, sources: Path, home: Path, images: int = 0, workers: int = 0, state: str = ""
) -> dict[str, Any]:
    """What a new process measures."""
    environment = os.environ | {"PYTHONPATH": str(sources), "SPARSESEARCH_HOME": str(home)}
    command = [sys.executable, "-c", MEASURE, task, str(folder), str(images), str(workers), state]
    done = subprocess.run(command, cwd=sources, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def openings(folder: Path, *, sources: Path, home: Path, rounds: int, drop_caches: bool) -> dict[str, dict[str, Any]]:
    """Opening for the first time, again, and in a process that is told what another has found."""
    found = {"first": measure("open", folder, sources=sources, home=home)}
    if drop_caches:
        empty_caches()
        found["again, kernel caches empty"] = measure("open", folder, sources=sources, home=home)
    kinds = {"again": ""} | ({"worker": str(found["first"]["state"])} if found["first"]["state"] else {})
    runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind, state in kinds.items():
            runs[kind].append(measure("open", folder, sources=sources, home=home, state=state))
    return found | {kind: _medians(made) for kind, made in runs.items()}


def _medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    numbers = {key: median(run[key] for run in runs) for key, value in runs[0].items() if key != "state"}
    return numbers | {"least_s": min(run["seconds"] for run in runs)}


def show_openings(name: str, found: dict[str, dict[str, Any]]) -> None:
    """Print them as a table."""
    for kind, run in found.items():
        least = f" (least {run['least_s']:.1f})" if "least_s" in run else ""
        print(
            f"{name:8s} {kind:28s} {run['seconds']:7.1f} s{least}, {run['cpu_s']:6.1f} s CPU, memory "
            f"+{run['peak_mb']:.0f} MB at most, +{run['kept_mb']:.0f} MB kept",
            flush=True,
        )


def rates(
    folder: Path, sides: dict[str, tuple[Path, Path]], *, workers: list[int], images: int, rounds: int, state: str
) -> dict[str, list[dict[str, Any]]]:
    """Images per second of the decoder and of the loaders, in turn."""
    kinds = [("limit", count, "now") for count in workers]
    kinds += [("load", count, name) for name in sides for count in workers]
    kinds += [("load", 0, "before")] if "before" in sides else []
    runs: dict[tuple[str, int, str], list[dict[str, Any]]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for task, count, name in kinds:
            sources, home = sides[name]
            told = state if name == "now" else ""
            found = measure(task, folder, sources=sources, home=home, images=images, workers=count, state=told)
            runs[task, count, name].append(found)
    for (task, count, name), made in runs.items():
        limits = runs["limit", max(1, count), "now"]
        ratios = [run["rate"] / limit["rate"] for run, limit in zip(made, limits, strict=True)]
        cpu = [limit["cpu_ms"] / run["cpu_ms"] for run, limit in zip(made, limits, strict=True)]
        print(
            f"{task:5s} {name:6s} {count} processes: {median(run['rate'] for run in made):6.1f} images/s (most "
            f"{max(run['rate'] for run in made):.1f}), {median(ratios):.2f} of the limit ({min(ratios):.2f} to "
            f"{max(ratios):.2f}); {median(run['cpu_ms'] for run in made):.2f} ms CPU an image, "
            f"{median(cpu):.2f} of the limit's",
            flush=True,
        )
    return {f"{task} {name} {count}": made for (task, count, name), made in runs.items()}


def distinct_files(root: Path, *, sources: Path, count: int, drop_caches: bool) -> dict[str, Any]:
    """Opening files without links for the first time."""
    with tempfile.TemporaryDirectory(dir=root) as folder, tempfile.TemporaryDirectory() as home:
        make_folder(Path(folder), images=count, distinct=count)
        if drop_caches:
            empty_caches()
        run = measure("open", Path(folder) / "data", sources=sources, home=Path(home))
    print(f"{count:,} distinct files, the first time: {run['seconds']:.1f} s, {run['cpu_s']:.1f} s CPU")
    return run


def empty_caches() -> None:
    """Empty the kernel's caches of files and folders; root only."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def main() -> None:
    """Make the folder if necessary, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--distinct", type=int, default=NUM_PHOTOGRAPHS, help="files that are linked")
    parser.add_argument("--against", help="a commit to compare with")
    parser.add_argument("--distinct-files", type=int, default=0, help="also hash so many files without links")
    parser.add_argument("--loaded", type=int, default=4096, help="images of each measurement of the loader")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--drop-caches", action="store_true")
    parser.add_argument("--out", type=Path, help="JSON with all numbers")
    arguments = parser.parse_args()
    data = arguments.folder / "data"
    if not data.exists():
        make_folder(arguments.folder, images=arguments.images, distinct=arguments.distinct)
    results: dict[str, Any] = {}
    with (
        checkout(None) as ours,
        checkout(arguments.against) as theirs,
        tempfile.TemporaryDirectory() as first_home,
        tempfile.TemporaryDirectory() as second_home,
    ):
        sides = {"now": (ours, Path(first_home))}
        if arguments.against:
            sides["before"] = (theirs, Path(second_home))
        rounds, drop = arguments.rounds, arguments.drop_caches
        for name, (sources, home) in sides.items():
            found = openings(data, sources=sources, home=home, rounds=rounds, drop_caches=drop)
            show_openings(name, found)
            results[f"open {name}"] = found
        state = str(results["open now"]["first"]["state"])
        results |= rates(data, sides, workers=arguments.workers, images=arguments.loaded, rounds=rounds, state=state)
        if count := arguments.distinct_files:
            results["distinct files"] = distinct_files(arguments.folder, sources=ours, count=count, drop_caches=drop)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
