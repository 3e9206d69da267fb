"""Weights as they are found elsewhere: makers of checkpoints with known defects, and what is to come of each.

A checkpoint is made in four steps, each of which may have a defect: the tensors, their names, the document around them
and the file. `outcome` tells what reading the result must give, so that defects can be combined at random.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import pickle
import random
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PureWindowsPath
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from sparsesearch.backbones.registry import create_model

Tensors = dict[str, Tensor]
Step = Literal["tensors", "names", "document", "file"]
STEPS: tuple[Step, ...] = ("tensors", "names", "document", "file")
ENTRY = "blocks.1.mlp.fc1.weight"
"""A tensor that every ViT has, to which defects of one tensor happen."""


@dataclass(frozen=True)
class Defect:
    """One step of making a checkpoint.

    Attributes:
        step: What it changes.
        change: Tensors to tensors, tensors to a document, or (path, document) to the path that is given to the program.
        refused: Words of the one line that refuses the result; None if it is read.
        entry: The entry that is taken from the document.
        ema: What is asked for: averaged weights, trained ones, or either.
        values: What becomes of the tensors of the model when they are read.
        head: Why the head is left out; None if it is loaded.
        left_out: Tensors that are left out.
        has_entries: Whether the file can hold entries; safetensors cannot.
    """

    step: Step
    change: Callable[..., Any]
    refused: str | None = None
    entry: str = ""
    ema: bool | None = None
    values: Callable[[Tensors], Tensors] = dict
    head: str | None = None
    left_out: int = 0
    has_entries: bool = True


@dataclass(frozen=True)
class Outcome:
    """What reading a checkpoint must give.

    Attributes:
        refused: Words one of which the line that refuses it has; empty if it is read.
        entry: The entry that is taken.
        values: Name to tensor of everything that is loaded.
        head: Why the head is left out.
        left_out: Tensors that are left out.
    """

    refused: tuple[str, ...] = ()
    entry: str = ""
    values: Mapping[str, Tensor] = field(default_factory=dict)
    head: str | None = None
    left_out: int = 0


@cache
def _state(backbone: str, num_classes: int, in_chans: int, image_size: int, seed: int) -> Tensors:
    model = create_model(backbone, num_classes=num_classes, in_chans=in_chans, image_size=image_size, seed=seed)
    return dict(model.state_dict())


def weights_of(
    backbone: str = "deit_pico", *, num_classes: int = 10, in_chans: int = 1, image_size: int = 32, seed: int = 7
) -> Tensors:
    """The state dict of a new dense model; `draw` changes what initialisation sets to a constant."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: tensor + 0.01 * torch.rand(tensor.shape, generator=generator) if tensor.is_floating_point() else tensor
        for name, tensor in _state(backbone, num_classes, in_chans, image_size, seed).items()
    }


def write(path: Path, tensors: Tensors, defects: Sequence[str]) -> Path:
    """Write a checkpoint with defects, at most one of each step; returns the path to give to the program."""
    chosen = {DEFECTS[name].step: DEFECTS[name] for name in defects}
    assert len(chosen) == len(defects), "one defect of a step"
    content: Any = dict(tensors)
    for step in STEPS[:-1]:
        if step in chosen:
            content = chosen[step].change(content)
    made: Path = (chosen["file"].change if "file" in chosen else _torch)(path, content)
    return made


def random_defects(rng: random.Random, *, readable: bool) -> list[str]:
    """Draw defects that can be combined, at most one of each step.

    Args:
        rng: Where they are drawn from.
        readable: Whether to draw only from those that do not forbid to read the file.
    """
    drawn = []
    for step in STEPS:
        kinds = [name for name, defect in DEFECTS.items() if defect.step == step]
        if readable:
            kinds = [name for name in kinds if DEFECTS[name].refused is None]
        if rng.random() < 0.7:
            drawn.append(rng.choice(kinds))
    if all(DEFECTS[name].has_entries for name in drawn):
        return drawn
    return [name for name in drawn if DEFECTS[name].step != "document"]


def ema_asked_for(defects: Sequence[str]) -> bool | None:
    """Which weights are asked for: averaged ones, trained ones, or either."""
    return next((DEFECTS[name].ema for name in defects if DEFECTS[name].ema is not None), None)


def outcome(tensors: Tensors, defects: Sequence[str]) -> Outcome:
    """What reading a checkpoint of `write` must give."""
    found = [DEFECTS[name] for name in defects]
    refused = tuple(defect.refused for defect in found if defect.refused is not None)
    if refused:
        return Outcome(refused)
    values = tensors
    for defect in found:
        values = defect.values(values)
    head = next((defect.head for defect in found if defect.head is not None), None)
    if head is not None:
        values = {name: tensor for name, tensor in values.items() if not name.startswith("head.")}
    return Outcome(
        entry=next((defect.entry for defect in found if defect.entry), ""),
        values=values,
        head=head,
        left_out=sum(defect.left_out for defect in found),
    )


def _one(change: Callable[[Tensor], Tensor], name: str = ENTRY) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {**tensors, name: change(tensors[name])}


def _all(change: Callable[[Tensor], Tensor]) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {
        name: change(tensor) if tensor.is_floating_point() else tensor for name, tensor in tensors.items()
    }


def _with(value: float) -> Callable[[Tensor], Tensor]:
    def change(tensor: Tensor) -> Tensor:
        tensor = tensor.clone()
        tensor.view(-1)[3:5] = value
        return tensor

    return change


def _without(*names: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if not name.startswith(names)}


def _prefixed(*prefixes: str, but: int = 0, more: Sequence[str] = ()) -> Callable[[Tensors], Tensors]:
    def change(tensors: Tensors) -> Tensors:
        text = "".join(prefixes)
        named = {
            f"{text if number >= but else ''}{name}": tensor for number, (name, tensor) in enumerate(tensors.items())
        }
        return named | {name: torch.zeros(2) for name in more}

    return change


def _in_and_outside(tensors: Tensors) -> Tensors:
    name, tensor = next(iter(tensors.items()))
    return {**_prefixed("model.")(tensors), name: tensor}


def _head(num_classes: int) -> Callable[[Tensors], Tensors]:
    def change(tensors: Tensors) -> Tensors:
        dim = tensors["head.weight"].shape[1]
        return {**tensors, "head.weight": torch.zeros(num_classes, dim), "head.bias": torch.zeros(num_classes)}

    return change


def _compiled_blocks(tensors: Tensors) -> Tensors:
    return {name.replace("blocks.0.", "blocks.0._orig_mod."): tensor for name, tensor in tensors.items()}


def _decoy(tensors: Tensors) -> Tensors:
    """Other values, which must not be taken."""
    return {name: torch.full_like(tensor, 5) for name, tensor in tensors.items()}


def _in(*entries: str, decoys: Sequence[str] = (), **others: object) -> Callable[[Tensors], object]:
    def change(tensors: Tensors) -> object:
        content: object = tensors
        for entry in reversed(entries):
            content = {entry: content}
        assert isinstance(content, dict)
        return {**{name: _decoy(tensors) for name in decoys}, **content, "epoch": 3, **others}

    return change


class Trainer:
    """Something that a checkpoint had better not hold."""


def _arguments() -> argparse.Namespace:
    """What training scripts store in addition to the weights."""
    return argparse.Namespace(
        lr=np.float64(0.1), epochs=np.int64(300), flag=np.bool_(True), run=np.str_("a"), best=np.float32(79.3),
        output=Path("/data/run"), windows=PureWindowsPath("c:/run"), betas=(0.9, 0.999),
    )  # fmt: skip


def _torch(path: Path, content: object) -> Path:
    torch.save(content, path.with_suffix(".pth"))
    return path.with_suffix(".pth")


def _legacy(path: Path, content: object) -> Path:
    torch.save(content, path.with_suffix(".pth.tar"), _use_new_zipfile_serialization=False)
    return path.with_suffix(".pth.tar")


def _legacy_cut(path: Path, content: object) -> Path:
    whole = _legacy(path, content).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path


def _flat(tensors: Any) -> Tensors:
    """The tensors as safetensors stores them."""
    return {name: value.detach().contiguous().clone() for name, value in tensors.items()}


def _safetensors(name: str) -> Callable[[Path, object], Path]:
    def change(path: Path, content: object) -> Path:
        target = path.with_name(f"{path.name}{name}")
        save_file(_flat(content), target)
        return target

    return change


def _shards(path: Path, content: object, *, lost: bool = False, outer: bool = False) -> Path:
    tensors = _flat(content)
    path.mkdir()
    where = {name: f"model-0000{1 + number % 2}-of-00002.safetensors" for number, name in enumerate(tensors)}
    for file in set(where.values()):
        save_file({name: tensor for name, tensor in tensors.items() if where[name] == file}, path / file)
    if lost:
        (path / "model-00002-of-00002.safetensors").unlink()
    if outer:
        where = {name: f"../{path.name}/{file}" for name, file in where.items()}
    index = path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}), encoding="utf-8")
    return index


def _folder(name: str) -> Callable[[Path, object], Path]:
    def change(path: Path, content: object) -> Path:
        path.mkdir()
        (path / "config.json").write_text("{}", encoding="utf-8")
        if name == "model.safetensors":
            save_file(_flat(content), path / name)
        elif name == "pytorch_model.bin":
            torch.save(content, path / name)
        return path

    return change


def _bytes(make: Callable[[bytes], bytes], suffix: str = ".pth") -> Callable[[Path, object], Path]:
    def change(path: Path, content: object) -> Path:
        file = io.BytesIO()
        torch.save(content, file)
        path.with_suffix(suffix).write_bytes(make(file.getvalue()))
        return path.with_suffix(suffix)

    return change


def _cut_safetensors(path: Path, content: object) -> Path:
    made = _safetensors(".safetensors")(path, content)
    made.write_bytes(made.read_bytes()[:-7])
    return made


def _tar(blob: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        entry = tarfile.TarInfo("weights.pth")
        entry.size = len(blob)
        archive.addfile(entry, io.BytesIO(blob))
    return file.getvalue()


def _zip(blob: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("weights.pth", blob)
    return file.getvalue()


def _numpy(blob: bytes) -> bytes:
    file = io.BytesIO()
    np.savez(file, a=np.zeros(2))
    return file.getvalue()


def _script(path: Path, content: object) -> Path:
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(path.with_suffix(".pt")))
    return path.with_suffix(".pt")


_LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 88\n"
_ROUNDED = _all(lambda tensor: tensor.to(torch.bfloat16).float())
_HALVED = _all(lambda tensor: tensor.half().float())
_OPTIMIZER = {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}

DEFECTS: dict[str, Defect] = {
    "half": Defect("tensors", _all(Tensor.half), values=_HALVED),
    "bfloat16": Defect("tensors", _all(Tensor.bfloat16), values=_ROUNDED),
    "float64": Defect("tensors", _all(Tensor.double)),
    "a parameter": Defect("tensors", _one(torch.nn.Parameter)),
    "not contiguous": Defect("tensors", _one(lambda tensor: tensor.t().contiguous().t())),
    "shared storage": Defect("tensors", lambda t: {**t, "blocks.2.norm1.weight": t["norm.weight"]},
                             values=lambda t: {**t, "blocks.2.norm1.weight": t["norm.weight"]}),
    "no counters": Defect("tensors", lambda t: {n: v for n, v in t.items() if not n.endswith("num_batches_tracked")}),
    "another head": Defect("tensors", _head(1000), head="1000 -> 10 classes"),
    "no head": Defect("tensors", _without("head."), head="the file has none"),
    "half a head": Defect("tensors", _without("head.bias"), head="it is incomplete"),
    "nan": Defect("tensors", _one(_with(float("nan"))), f"{ENTRY} has NaN or infinite values, 2 of 9,216"),
    "inf": Defect("tensors", _one(_with(float("inf"))), f"{ENTRY} has NaN or infinite values, 2 of 9,216"),
    "nan in half": Defect("tensors", lambda t: _all(Tensor.half)(_one(_with(float("nan")))(t)), "NaN or infinite"),
    "too large for float32": Defect("tensors", _one(lambda v: v.double() + 1e300), "NaN or infinite values, 9,216 of"),
    "int8": Defect("tensors", _one(lambda v: (v * 100).to(torch.int8)), "is int8, not floating-point: quantized"),
    "complex": Defect("tensors", _one(lambda v: v.to(torch.complex64)), "is complex64; save it as float32"),
    "missing": Defect("tensors", _without(ENTRY), f"1 missing ({ENTRY})"),
    "unknown": Defect("tensors", lambda t: {**t, "blocks.1.gamma": torch.ones(48)}, "1 unknown (blocks.1.gamma)"),
    "misshapen": Defect("tensors", _one(lambda v: v[:, :-1]), f"{ENTRY} is 192x47 instead of 192x48"),
    "no square of positions": Defect("tensors", _one(lambda v: v[:, :-4], "pos_embed"), "pos_embed is 1x61x48 inst"),
    "a predictor": Defect("tensors", lambda t: {**t, "score_predictor.0.in_conv.0.weight": torch.ones(48)},
                          "has 1 predictors, so it is a sparse deit_pico"),
    "DDP": Defect("names", _prefixed("module.")),
    "compiled": Defect("names", _prefixed("_orig_mod.")),
    "DDP of compiled": Defect("names", _prefixed("module._orig_mod.")),
    "compiled DDP": Defect("names", _prefixed("_orig_mod.module.")),
    "blocks compiled": Defect("names", _compiled_blocks),
    "Lightning": Defect("names", _prefixed("model.", more=("criterion.weight", "metric.total")), left_out=2),
    "Lightning, compiled": Defect("names", _prefixed("model._orig_mod.")),
    "averaged by torch": Defect("names", _prefixed("module.", more=("n_averaged",)), left_out=1),
    "backbone": Defect("names", _prefixed("backbone.")),
    "encoder in a model": Defect("names", _prefixed("model.encoder.")),
    "some without a prefix": Defect("names", _prefixed("backbone.", but=2)),
    "FSDP": Defect("names", _prefixed("_fsdp_wrapped_module.")),
    "two models": Defect("names", _in_and_outside, "so it holds several models"),
    "flat FSDP": Defect("names", lambda t: {"_fsdp_wrapped_module._flat_param": torch.zeros(9)}, "parameters of FSDP"),
    "another prefix": Defect("names", _prefixed("student."), "114 unknown (student.cls_token"),
    "timm's averaged": Defect("document", _in("state_dict_ema", decoys=("state_dict",)), entry="state_dict_ema"),
    "DeiT's averaged": Defect("document", _in("model_ema", decoys=("model",)), entry="model_ema"),
    "both averaged": Defect("document", _in("state_dict_ema", decoys=("model_ema", "model")), entry="state_dict_ema"),
    "trained asked for": Defect("document", _in("model", decoys=("model_ema",)), entry="model", ema=False),
    "averaged asked for": Defect("document", _in("model_ema", decoys=("model",)), entry="model_ema", ema=True),
    "no averaged": Defect("document", _in("model"), "has no averaged weights", ema=True),
    "averaged is None": Defect("document", _in("state_dict", state_dict_ema=None), entry="state_dict"),
    "state_dict before model": Defect("document", _in("state_dict", decoys=("model",)), entry="state_dict"),
    "one deeper": Defect("document", _in("model", "state_dict"), entry="model.state_dict"),
    "DeepSpeed": Defect("document", _in("module"), entry="module"),
    "arguments": Defect("document", lambda t: _in("model", args=_arguments())(t), entry="model"),
    "optimizer as well": Defect("document", _in("model", optimizer=_OPTIMIZER), entry="model"),
    "objects": Defect("document", lambda t: _in("model", args=Trainer())(t), "objects that could run code"),
    "optimizer only": Defect("document", lambda t: {"optimizer": _OPTIMIZER, "epoch": 1}, "state of an optimizer"),
    "an optimizer": Defect("document", lambda t: _OPTIMIZER, "only the state of an optimizer"),
    "a teacher": Defect("document", lambda t: {"teacher": t, "student": t}, "it has the entries student, teacher"),
    "a list": Defect("document", lambda t: [1, 2], "expected a mapping of tensors, got a list"),
    "a tensor": Defect("document", lambda t: torch.zeros(2), "expected a mapping of tensors, got a tensor"),
    "no tensors": Defect("document", lambda t: {"model": {"a": 1}}, "model of "),
    "old torch": Defect("file", _legacy),
    "safetensors": Defect("file", _safetensors(".safetensors"), has_entries=False),
    "safetensors by another name": Defect("file", _safetensors(".bin"), has_entries=False),
    "shards": Defect("file", _shards, has_entries=False),
    "folder of shards": Defect("file", lambda path, content: _shards(path, content).parent, has_entries=False),
    "Hugging Face folder": Defect("file", _folder("model.safetensors"), has_entries=False),
    "older Hugging Face folder": Defect("file", _folder("pytorch_model.bin")),
    "lost shard": Defect("file", lambda p, c: _shards(p, c, lost=True), "of which 1 are missing", has_entries=False),
    "shards elsewhere": Defect("file", lambda p, c: _shards(p, c, outer=True), "in the same folder", has_entries=False),
    "another folder": Defect("file", _folder("none"), "is a folder without model.safetensors"),
    "absent": Defect("file", lambda path, content: path, "no such weights file"),
    "empty": Defect("file", _bytes(lambda blob: b""), "is empty"),
    "text": Defect("file", _bytes(lambda blob: b"hello"), "it is neither a torch file nor safetensors"),
    "web page": Defect("file", _bytes(lambda blob: b"\n<!DOCTYPE html><html>"), "is a web page"),
    "LFS pointer": Defect("file", _bytes(lambda blob: _LFS), "is a Git LFS pointer, not the file itself; run git"),
    "LFS pointer to safetensors": Defect("file", _bytes(lambda blob: _LFS, ".safetensors"), "is a Git LFS pointer"),
    "truncated": Defect("file", _bytes(lambda blob: blob[: len(blob) // 2]), "it is truncated or damaged"),
    "truncated safetensors": Defect("file", _cut_safetensors, "is not a readable safetensors file", has_entries=False),
    "tar": Defect("file", _bytes(_tar, ".tar"), "is a tar archive"),
    "gzip": Defect("file", _bytes(gzip.compress, ".gz"), "is a compressed archive"),
    "zip of files": Defect("file", _bytes(_zip, ".zip"), "is a zip archive of other files"),
    "NumPy": Defect("file", _bytes(_numpy, ".npz"), "is a NumPy archive"),
    "TorchScript": Defect("file", _script, "is not a readable checkpoint"),
    "noise": Defect("file", _bytes(lambda blob: bytes(range(256)) * 9), "it is neither a torch file nor safetensors"),
    "another pickle": Defect("file", _bytes(lambda blob: pickle.dumps({1: 2})), "a pickle that torch did not write"),
    "a function": Defect("file", _bytes(lambda blob: pickle.dumps(print)), "it is a pickle that torch did not write"),
    "objects in old torch": Defect(
        "file", lambda p, c: _legacy(p, {"model": c, "args": Trainer()}), "contains objects that could run code; save"
    ),
    "truncated old torch": Defect("file", _legacy_cut, "it is truncated or damaged"),
}  # fmt: skip
