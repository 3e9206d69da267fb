"""Speed-up from saved multiply-adds: timm's dense model, ours, and an upper bound without routing.

For each model at one rate, with DynamicViT's hand-crafted schedule, three versions of the same weights are timed in
turn, round by round, so that load on the machine affects all of them equally; a speed-up is the median over rounds of
the ratio in one round.

- `dense`: timm's model without changes.
- `ours`: the same after `sparsify_`, including predictors, top-k and indexing; no trace is recorded.
- `ceiling`: the speed if selection and data movement were free. A ViT keeps the first tokens of each image (a copy of a
  contiguous slice). In ConvNeXt and Swin, the first rows of the batch (as many as there are slow ones) go through norm
  and feed-forward network and the others through the fast path, each as a contiguous view, and the results are
  concatenated. No predictors are run. The outputs are meaningless.

Gain kept is `(speed-up - 1) / (MACs ratio - 1)`: 1 means that the whole saving becomes speed. The ratio of dense
multiply-adds to those of a version includes predictors for `ours`, but not for `ceiling`, which has none.

Example: python benchmarks/sparse_speed.py --models convnext_tiny,swin_tiny --batch-size 8 --threads 1
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparsesearch.backbones.registry import create_model, geometry, resolve_name
from sparsesearch.backbones.sparsity import Sparsity, sparsity_of
from sparsesearch.backbones.transforms import family_of, sparsify_
from sparsesearch.cost.analytic import block_table, dense_macs
from sparsesearch.papers.schedules import paper_schedule
from sparsesearch.sparsify.grid_call import GridCall


@dataclass(frozen=True)
class Version:
    """Saving and speed-up of one sparse version, relative to the dense model.

    Attributes:
        ms: Median duration of one forward pass.
        macs_ratio: Dense multiply-adds over those of this version.
        speed_up: Median over rounds.
    """

    ms: float
    macs_ratio: float
    speed_up: float

    @property
    def gain_kept(self) -> float:
        """Fraction of the saving that becomes speed."""
        return (self.speed_up - 1) / (self.macs_ratio - 1)

    def __str__(self) -> str:
        return f"{self.ms:8.2f} ms {self.speed_up:.3f}x of {self.macs_ratio:.3f} gain {self.gain_kept:.2f}"


@dataclass(frozen=True)
class Result:
    """One row of the table."""

    model: str
    batch_size: int
    threads: int
    compiled: bool
    channels_last: bool
    dtype: str
    device: str
    rho: float
    rounds: int
    clock: str
    dense_ms: float
    ours: Version
    ceiling: Version

    def line(self) -> str:
        """The result as text."""
        how = "compiled" if self.compiled else "eager"
        return (
            f"{self.model:13s} b{self.batch_size:<3d} t{self.threads} {how} {self.dtype} {self.device}  "
            f"dense {self.dense_ms:8.2f} ms | ours {self.ours} | ceiling {self.ceiling} | "
            f"of the ceiling {self.ours.gain_kept / self.ceiling.gain_kept:.2f}"
        )


class PrefixSplit:
    """Replacement of a `Split` that takes the first rows, without an index."""

    def __init__(self, fraction: float) -> None:
        self.fraction = fraction

    def run(self, x_RC: Tensor, *, slow: Callable[[Tensor], Tensor], fast: Callable[[Tensor], Tensor] | None) -> Tensor:
        """As `Split.run`, with the first rows on the slow path."""
        num_slow = round(self.fraction * x_RC.shape[0])
        assert fast is not None
        return torch.cat((slow(x_RC[:num_slow]), fast(x_RC[num_slow:])))


class PrefixBlock(nn.Module):
    """A block of a ViT that runs on the first tokens only."""

    def __init__(self, block: nn.Module, num_tokens: int) -> None:
        super().__init__()
        self.block, self.num_tokens = block, num_tokens

    def forward(self, x_BTC: Tensor, **kwargs: Any) -> Tensor:
        """Run the block on the first tokens."""
        y_BTC: Tensor = self.block(x_BTC[:, : self.num_tokens].contiguous(), **kwargs)
        return y_BTC


def ceiling_of(sparse: nn.Module, dense: nn.Module) -> nn.Module:
    """The `ceiling` version of a sparse model, see the module docstring."""
    sparsity = sparsity_of(sparse)
    resolved = sparsity.schedule.resolve(sparsity.geometry)
    if len(sparsity.geometry.stages) == 1:
        cut: Any = copy.deepcopy(dense)
        for step in resolved:
            cut.blocks[step.block] = PrefixBlock(cut.blocks[step.block], step.num_tokens + cut.num_prefix_tokens)
        built: nn.Module = cut
        return built
    model = copy.deepcopy(sparse)
    state = sparsity_of(model).state
    family = family_of(model)
    for step in resolved:
        split = PrefixSplit(step.num_tokens / step.num_before)
        block = family.block(model, step.stage, step.block)
        block.register_forward_pre_hook(partial(put_split, split), with_kwargs=True)
    state.plan = replace(state.plan, steps=())
    return model


def put_split(split: Any, _block: nn.Module, _args: object, kwargs: dict[str, Any]) -> None:
    """Set the split of a forward pass."""
    call: GridCall = kwargs["call"]
    call.trace.split = split


def versions(
    name: str, rho: float, *, device: str, dtype: torch.dtype
) -> tuple[dict[str, nn.Module], dict[str, float]]:
    """The three versions of a model, and the ratio of dense multiply-adds to those of each."""
    dense = create_model(name).eval()
    sparse = copy.deepcopy(dense)
    shape = geometry(dense, resolve_name(name))
    schedule = paper_schedule(shape, rho)
    sparsify_(sparse, schedule)
    sparsity: Sparsity = sparsity_of(sparse)
    sparsity.state.record = False
    models = {"dense": dense, "ours": sparse, "ceiling": ceiling_of(sparse, dense)}
    rows = block_table(shape, schedule)
    ours, scoring = sum(row.macs for row in rows), sum(row.selection_macs for row in rows)
    ratios = {"ours": dense_macs(shape) / ours, "ceiling": dense_macs(shape) / (ours - scoring)}
    return {key: model.to(device, dtype).eval() for key, model in models.items()}, ratios


@torch.inference_mode()
def measure(calls: dict[str, Callable[[], Tensor]], *, rounds: int, device: str, clock: str) -> dict[str, list[float]]:
    """Milliseconds of each call in each round; the order is reversed in every other round."""
    now = time.perf_counter if clock == "wall" else time.process_time
    times: dict[str, list[float]] = {key: [] for key in calls}
    for number in range(rounds + 3):
        order = list(calls) if number % 2 else list(reversed(calls))
        for key in order:
            if device != "cpu":
                torch.cuda.synchronize()
            start = now()
            calls[key]()
            if device != "cpu":
                torch.cuda.synchronize()
            if number >= 3:
                times[key].append(1e3 * (now() - start))
    return times


def run(name: str, options: argparse.Namespace, *, batch_size: int, threads: int) -> Result:
    """Measure one model at one batch size."""
    torch.set_num_threads(threads)
    dtype = {"float32": torch.float32, "bf16": torch.bfloat16}[options.dtype]
    models, ratios = versions(name, options.rho, device=options.device, dtype=dtype)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch_size, 3, 224, 224, generator=generator).to(options.device, dtype)
    if options.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
        models = {key: model.to(memory_format=torch.channels_last) for key, model in models.items()}
    if options.compile:
        torch._dynamo.reset()
        for model in models.values():
            model.compile(fullgraph=True)
    calls: dict[str, Callable[[], Tensor]] = {key: partial(model, images) for key, model in models.items()}
    took = measure(calls, rounds=options.rounds, device=options.device, clock=options.clock)

    def version(key: str) -> Version:
        per_round = [dense / own for dense, own in zip(took["dense"], took[key], strict=True)]
        return Version(statistics.median(took[key]), ratios[key], statistics.median(per_round))

    return Result(
        model=name,
        batch_size=batch_size,
        threads=threads,
        compiled=options.compile,
        channels_last=options.channels_last,
        dtype=options.dtype,
        device=options.device,
        rho=options.rho,
        rounds=options.rounds,
        clock=options.clock,
        dense_ms=statistics.median(took["dense"]),
        ours=version("ours"),
        ceiling=version("ceiling"),
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Speed of sparse models against the multiply-adds that they save.")
    parser.add_argument("--models", default="deit_s,convnext_tiny,swin_tiny")
    parser.add_argument("--rho", type=float, default=0.7)
    parser.add_argument("--batch-size", default="8,32")
    parser.add_argument("--threads", default="1")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--channels-last", action="store_true", help="weights and images of all three in NHWC")
    parser.add_argument("--dtype", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu: processor time of all threads, for one thread on a busy machine",
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results = []
    for name in options.models.split(","):
        for batch_size in map(int, options.batch_size.split(",")):
            for threads in map(int, options.threads.split(",")):
                result = run(name, options, batch_size=batch_size, threads=threads)
                results.append(result)
                print(result.line(), flush=True)
    if options.json:
        options.json.write_text(json.dumps([asdict(result) for result in results], indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
