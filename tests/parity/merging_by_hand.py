"""A ViT with merging and pruning as the papers describe it: one image, one token and one pair at a time.

Source: ToMe (arXiv:2210.09461), section 3 and appendix D.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Merging:
    """Merge `count` pairs, of similar keys or of similar tokens."""

    count: int
    on_tokens: bool = False


@dataclass(frozen=True)
class Pruning:
    """Drop the `count` patch tokens that the class token attends to least; the others stand in order of attention."""

    count: int


Steps = Mapping[tuple[int, str], Merging | Pruning]
"""By block and phase."""


def merge(x: Tensor, sizes: list[float], metric: Tensor, count: int, *, protected: int) -> tuple[Tensor, list[float]]:
    """Merge `count` pairs of the whole sequence `T x C`, the first `protected` tokens excepted."""
    alone = [i for i in range(0, len(x), 2) if i < protected]
    first = [i for i in range(0, len(x), 2) if i >= protected]
    fixed = [i for i in range(1, len(x), 2) if i < protected]
    second = [i for i in range(1, len(x), 2) if i >= protected]
    edges = []
    for i in first:
        cosines = [torch.cosine_similarity(metric[i], metric[j], dim=0).item() for j in second]
        best = max(range(len(second)), key=cosines.__getitem__)
        edges.append((cosines[best], i, second[best]))
    edges.sort(key=lambda edge: -edge[0])
    apart = [i for _, i, _ in edges[count:]]
    if protected:
        apart.sort()
    order = sorted([*alone, *fixed]) + apart + second
    members = {i: [i] for i in order}
    for _, i, j in edges[:count]:
        members[j].append(i)
    merged = [sum(sizes[i] for i in members[j]) for j in order]
    tokens = [
        sum((x[i] * sizes[i] for i in members[j]), torch.zeros_like(x[0])) / size
        for j, size in zip(order, merged, strict=True)
    ]
    return torch.stack(tokens), merged


def logits(model: nn.Module, image: Tensor, steps: Steps) -> Tensor:
    """Logits of a dense timm ViT in evaluation mode for one image `3 x H x W`, with proportional attention."""
    prefix = model.num_prefix_tokens
    x = model.norm_pre(model._pos_embed(model.patch_embed(image[None])))[0]
    sizes = [1.0] * len(x)
    keys = class_row = None
    for index, block in enumerate(model.blocks):
        for phase in ("before_block", "before_ffn"):
            if phase == "before_ffn":
                y, keys, class_row = _attention(block.attn, block.norm1(x), sizes)
                x = x + block.ls1(y)
            match steps.get((index, phase)):
                case Merging(count, on_tokens):
                    metric = x if on_tokens else keys
                    before = sizes
                    x, sizes = merge(x, before, metric, count, protected=prefix)
                    keys = keys if keys is None else merge(keys, before, metric, count, protected=prefix)[0]
                case Pruning(count):
                    ranked = sorted(range(prefix, len(x)), key=lambda i: -class_row[i].item())
                    kept = [*range(prefix), *ranked[: len(ranked) - count]]
                    x, keys, sizes = x[kept], keys[kept], [sizes[i] for i in kept]
        x = x + block.ls2(block.mlp(block.norm2(x)))
    x = model.norm(x)
    if model.global_pool == "token":
        return model.forward_head(x[None])[0]
    total = sum(sizes[prefix:])
    pooled = sum((x[i] * sizes[i] / total for i in range(prefix, len(x))), torch.zeros_like(x[0]))
    return model.head(model.fc_norm(pooled))


def _attention(attn: nn.Module, x: Tensor, sizes: list[float]) -> tuple[Tensor, Tensor, Tensor]:
    """Proportional attention over `T x C`: output, keys averaged over heads, and the row of the first token."""
    heads, width = attn.num_heads, x.shape[1] // attn.num_heads
    q, k, v = functional.linear(x, attn.qkv.weight, attn.qkv.bias).split(x.shape[1], dim=1)
    outputs, keys, rows = [], [], []
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        scores = q[:, part] @ k[:, part].T * width**-0.5 + torch.tensor(sizes, dtype=x.dtype).log()
        weights = scores.softmax(dim=1)
        outputs.append(weights @ v[:, part])
        keys.append(k[:, part])
        rows.append(weights[0])
    return attn.proj(torch.cat(outputs, dim=1)), torch.stack(keys).mean(0), torch.stack(rows).mean(0)
