"""A training script in the style of timm's train.py, which knows nothing of sparse models, alone and under DDP."""

import json
import subprocess
import sys

import pytest

TRAIN = """
import argparse, json
import torch
import torch.nn as nn
from timm.models import create_model
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3, NativeScaler, ParseKwargs, init_distributed_device
from torch.nn.parallel import DistributedDataParallel as NativeDDP

parser = argparse.ArgumentParser()
parser.add_argument("--models", nargs="+")
parser.add_argument("--model-kwargs", nargs="*", default={}, action=ParseKwargs)
parser.add_argument("--num-classes", type=int, default=4)
parser.add_argument("--device", default="cpu")
parser.add_argument("--lr", type=float, default=1e-3)
parser.add_argument("--updates", type=int, default=8)
parser.add_argument("--grad-checkpointing", action="store_true")
args = parser.parse_args()
args.dist_backend, args.dist_url = None, None
device = init_distributed_device(args)

for wanted in args.models:
    torch.manual_seed(args.rank)
    name, _, own = wanted.partition(":")
    model = create_model(name, pretrained=False, num_classes=args.num_classes, drop_rate=0.0,
                         **args.model_kwargs, **json.loads(own or "{}"))
    if args.grad_checkpointing:
        model.set_grad_checkpointing(enable=True)
    model.to(device=device)
    optimizer = create_optimizer_v2(model, opt="adamw", lr=args.lr, weight_decay=0.05)
    scaler = NativeScaler(device=device.type)
    ema = ModelEmaV3(model, decay=0.9)
    bare = model
    if args.distributed:
        model = NativeDDP(model, device_ids=[device], broadcast_buffers=True)
    scheduler, _ = create_scheduler_v2(optimizer, sched="cosine", num_epochs=1, updates_per_epoch=args.updates,
                                       step_on_epochs=False)
    criterion = nn.CrossEntropyLoss()
    generator = torch.Generator().manual_seed(args.rank)
    target = torch.arange(8) % args.num_classes
    images = 0.1 * torch.randn(8, 1, 32, 32, generator=generator)
    for index, label in enumerate(target.tolist()):  # a bright square whose place is the class
        images[index, :, 8 * label : 8 * label + 8, 4:20] += 2
    losses = []
    model.train()
    for update in range(args.updates):
        optimizer.zero_grad()
        loss = criterion(model(images), target)
        scaler(loss, optimizer, clip_grad=1.0, parameters=model.parameters())
        missing = [key for key, parameter in bare.named_parameters() if parameter.grad is None]
        scorers = {key: parameter for key, parameter in bare.sparsity.predictors.named_parameters()
                   if not key.endswith("out_conv.4.bias")}  # it moves all scores alike
        idle = [key for key, parameter in scorers.items() if not parameter.grad.abs().max() > 0]
        ema.update(bare)
        scheduler.step_update(update)
        losses.append(loss.item())
    weights = torch.cat([parameter.detach().flatten() for parameter in bare.parameters()])
    low, high = weights.clone(), weights.clone()
    if args.distributed:
        torch.distributed.all_reduce(low, op=torch.distributed.ReduceOp.MIN)
        torch.distributed.all_reduce(high, op=torch.distributed.ReduceOp.MAX)
    ema.module.eval()
    with torch.no_grad():
        shape = list(ema.module(images).shape)
    row = json.dumps({"model": name, "rank": args.rank, "world": args.world_size, "losses": losses, "missing": missing,
                      "scorers": len(scorers), "idle": idle, "shape": shape,
                      "apart": float((high - low).abs().max())})
    with open(f"rank{args.rank}.jsonl", "a") as file:  # lines of two processes on one stream may be mixed
        print(row, file=file)
if args.distributed:
    torch.distributed.destroy_process_group()
"""


@pytest.fixture
def run(tmp_path):
    (tmp_path / "train.py").write_text(TRAIN, encoding="utf-8")

    def start(processes, *arguments):
        module = ["-m", "sparsesearch.timm", "train.py", "--models", *arguments]
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [sys.executable, *(launcher if processes > 1 else []), *module]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        files = sorted(tmp_path.glob("rank*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]

    return start


CLASSLESS = "sparse_vit_little_patch16_reg1_gap_256:" + json.dumps(
    {"img_size": 32, "patch_size": 4, "embed_dim": 48, "num_heads": 3, "depth": 8, "in_chans": 1}
)
MODELS = ["sparse_deit_pico", CLASSLESS, "sparse_lvvit_pico", "sparse_convnext_pico", "sparse_swin_pico"]


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_predictors_are_taught_and_the_loss_falls(run, processes):
    rows = run(processes, *MODELS, "--model-kwargs", "schedule=rho=0.7")
    assert len(rows) == len(MODELS) * processes
    for row in rows:
        assert row["world"] == processes
        assert row["missing"] == [], row["model"]
        assert row["idle"] == [], row["model"]
        assert row["scorers"] > 0
        assert row["losses"][-1] < row["losses"][0], row["model"]
        assert row["shape"] == [8, 4]
        assert row["apart"] == 0.0
