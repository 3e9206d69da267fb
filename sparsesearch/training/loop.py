"""The training loop: epochs of an objective, resumable bit by bit after every epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from sparsesearch.data.task import Batch
from sparsesearch.errors import SparseSearchError
from sparsesearch.study.progress import Bar
from sparsesearch.study.spec import TrainSpec
from sparsesearch.training.arithmetic import Arithmetic

PREDICTOR_PREFIX = "sparsity."

Objective = Callable[[Batch, int, torch.Generator], Tensor]
"""(batch, global step, generator) -> scalar loss. The generator is the only source of randomness."""


class NonFiniteLossError(SparseSearchError):
    """The loss became NaN or infinite; the trial fails, the study continues."""


def lr_factor(step: int, *, total: int, warmup: float) -> float:
    """Fraction of the peak learning rate at a step: linear warm-up from 0, then cosine decay to 0."""
    num_warmup = max(1, round(warmup * total))
    if step < num_warmup:
        return (step + 1) / num_warmup
    return 0.5 * (1.0 + math.cos(math.pi * (step - num_warmup) / max(1, total - num_warmup)))


def parameter_groups(model: nn.Module, spec: TrainSpec) -> list[dict[str, object]]:
    """Four groups: backbone and predictors, each with and without weight decay (1-D parameters and biases)."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_predictor = name.startswith(PREDICTOR_PREFIX)
            decays = parameter.ndim > 1 and not name.endswith(("cls_token", "pos_embed", "reg_token"))
            groups.setdefault((is_predictor, decays), []).append(parameter)
    return [
        {
            "params": parameters,
            "peak_lr": spec.predictor_lr if is_predictor else spec.lr,
            "weight_decay": spec.weight_decay if decays else 0.0,
        }
        for (is_predictor, decays), parameters in sorted(groups.items())
    ]


class TrainingRun:
    """A model and its optimizer during a training.

    Args:
        model: Trained in place.
        spec: Hyperparameters.
        steps_per_epoch: Optimizer steps of one epoch.
        arithmetic: Device and precision.
    """

    def __init__(self, model: nn.Module, spec: TrainSpec, *, steps_per_epoch: int, arithmetic: Arithmetic) -> None:
        self._model = model
        self._spec = spec
        self._steps_per_epoch = steps_per_epoch
        self._arithmetic = arithmetic
        self._optimizer = torch.optim.AdamW(parameter_groups(model, spec), lr=spec.lr, betas=(0.9, 0.999))
        self.epochs_done = 0

    def epoch(self, batches: Iterable[Batch], objective: Objective, *, seed: int, bar: Bar) -> float:
        """Train one epoch; returns the mean loss.

        Args:
            batches: The epoch's batches.
            objective: The loss.
            seed: Seed of the random numbers of this epoch.
            bar: Advanced by one per step.

        Raises:
            NonFiniteLossError: The loss is NaN or infinite.
        """
        self._model.train()
        generator = torch.Generator().manual_seed(seed)
        step = self.epochs_done * self._steps_per_epoch
        total = self._spec.epochs * self._steps_per_epoch
        losses: list[float] = []
        for batch in batches:
            factor = lr_factor(min(step, total - 1), total=total, warmup=self._spec.warmup)
            for group in self._optimizer.param_groups:
                group["lr"] = group["peak_lr"] * factor
            self._optimizer.zero_grad(set_to_none=True)
            loss = objective(self._arithmetic.to_device(batch), step, generator)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise NonFiniteLossError(f"the loss became {value} at step {step} (epoch {self.epochs_done + 1})")
            if loss.requires_grad:
                loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self._model.parameters(), self._spec.clip_grad)
            self._optimizer.step()
            losses.append(value)
            step += 1
            bar.advance(note=f"loss {value:.3f}")
        self.epochs_done += 1
        return sum(losses) / max(1, len(losses))

    def state(self) -> dict[str, Tensor]:
        """Model and optimizer as flat tensors, sufficient for an exact continuation."""
        tensors = {f"model.{name}": tensor for name, tensor in self._model.state_dict().items()}
        names = {id(parameter): name for name, parameter in self._model.named_parameters()}
        for parameter, moments in self._optimizer.state.items():
            for key, tensor in moments.items():
                tensors[f"optimizer.{key}.{names[id(parameter)]}"] = tensor
        tensors["epochs_done"] = torch.tensor(self.epochs_done)
        return tensors

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the result of `state`."""
        self._model.load_state_dict(
            {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
        )
        self._optimizer.state.clear()
        for name, parameter in self._model.named_parameters():
            moments = {}
            for key in ("step", "exp_avg", "exp_avg_sq"):
                stored = tensors.get(f"optimizer.{key}.{name}")
                if stored is not None:
                    moments[key] = stored.clone() if key == "step" else stored.to(parameter.device, copy=True)
            if moments:
                self._optimizer.state[parameter] = moments
        self.epochs_done = int(tensors["epochs_done"])


def model_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The model's tensors in the result of `TrainingRun.state`."""
    return {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
