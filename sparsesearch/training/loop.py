"""The training loop: epochs of an objective, resumable bit by bit after every step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn

from sparsesearch.data.task import Batch
from sparsesearch.errors import SparseSearchError
from sparsesearch.sparsify.draws import Draws
from sparsesearch.study.progress import Bar
from sparsesearch.study.spec import TrainSpec
from sparsesearch.training.arithmetic import Arithmetic
from sparsesearch.training.augmentation import Augmenter
from sparsesearch.training.processes import Processes, share_statistics_
from sparsesearch.training.training_step import Objective
from sparsesearch.training.updates import Updates

_READ_EVERY = 20
"""Steps between two readings of the loss on a GPU, each of which waits for the device."""

PREDICTOR_PREFIX = "sparsity."


class NonFiniteLossError(SparseSearchError):
    """The loss became NaN or infinite; the trial fails, the study continues."""


def lr_factor(step: int, *, total: int, warmup: float, final: float = 0.0) -> float:
    """Fraction of the peak learning rate at a step: linear warm-up from 0, then cosine decay to `final`."""
    num_warmup = max(1, round(warmup * total))
    if step < num_warmup:
        return (step + 1) / num_warmup
    cosine = 0.5 * (1.0 + math.cos(math.pi * (step - num_warmup) / max(1, total - num_warmup)))
    return final + (1.0 - final) * cosine


def parameter_groups(model: nn.Module, spec: TrainSpec) -> list[dict[str, object]]:
    """Four groups: backbone and predictors, each with and without weight decay (1-D parameters and biases)."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        is_embedding = name.endswith(("cls_token", "pos_embed"))
        if parameter.requires_grad and (spec.train_embeddings or not is_embedding):
            is_predictor = name.startswith(PREDICTOR_PREFIX)
            decays = parameter.ndim > 1 and not is_embedding and not name.endswith("reg_token")
            groups.setdefault((is_predictor, decays), []).append(parameter)
    return [
        {
            "params": parameters,
            "peak_lr": spec.predictor_lr if is_predictor else spec.lr,
            "frozen_epochs": 0 if is_predictor else spec.frozen_epochs,
            "weight_decay": spec.weight_decay if decays else 0.0,
        }
        for (is_predictor, decays), parameters in sorted(groups.items())
    ]


def _augmenter(model: Any, spec: TrainSpec) -> Augmenter | None:
    """What changes the images and labels of a training, None if nothing does."""
    changes = spec.augmentation
    return Augmenter(changes, num_classes=model.num_classes) if changes.changes_batches else None


class Asked(NamedTuple):
    """What is asked of a training between two steps.

    Attributes:
        stop: Write a checkpoint and end, so that the training can go on later.
        cut: End the epoch here, as the time for the training is over.
        save: Write a checkpoint.
    """

    stop: bool = False
    cut: bool = False
    save: bool = False


class TrainingRun:
    """A model and its optimizer during a training, in one or several processes.

    Args:
        model: Trained in place.
        spec: Hyperparameters.
        steps_per_epoch: Optimizer steps of one epoch.
        arithmetic: Device and precision.
        processes: The processes that train the model together; None for this one alone.

    Attributes:
        spec: Hyperparameters.
        epochs_done: Finished epochs.
        steps_done: Finished steps of the epoch under way.
        average: The model with the moving average of its weights, in evaluation mode; None without `ema_decay`.
    """

    def __init__(
        self,
        model: nn.Module,
        spec: TrainSpec,
        *,
        steps_per_epoch: int,
        arithmetic: Arithmetic,
        processes: Processes | None = None,
    ) -> None:
        self._model = model
        self.spec = spec
        self._steps_per_epoch = steps_per_epoch
        self._arithmetic = arithmetic
        self._processes = processes or Processes()
        share_statistics_(model, self._processes)
        is_cuda = arithmetic.device.type == "cuda"
        groups = parameter_groups(model, spec)
        self._optimizer = torch.optim.AdamW(groups, lr=spec.lr, betas=(0.9, 0.999), fused=is_cuda or None)
        self._updates = Updates(
            model,
            self._optimizer,
            arithmetic=arithmetic,
            processes=self._processes,
            micro_batch=spec.micro_batch or spec.batch_size,
            clip_grad=spec.clip_grad,
            augmenter=_augmenter(model, spec),
        )
        self._average = None if spec.ema_decay is None else ModelEmaV3(model, decay=spec.ema_decay)
        self.average: nn.Module | None = None if self._average is None else self._average.module
        self._read_every = _READ_EVERY if is_cuda else 1
        self._unread: list[Tensor] = []
        self._loss_sum = 0.0
        self.epochs_done = 0
        self.steps_done = 0

    def epoch(
        self,
        batches: Iterable[Batch],
        objective: Objective,
        *,
        seed: int,
        bar: Bar,
        ask: Callable[[], Asked] = Asked,
        save: Callable[[], None] | None = None,
    ) -> float | None:
        """Train one epoch, or the rest of one that was begun.

        Args:
            batches: The batches that are left of the epoch; this process's share of each.
            objective: The loss.
            seed: Seed of the random numbers of this epoch.
            bar: Advanced by one per step.
            ask: Called after each step; what one process is asked for, all do.
            save: Writes a checkpoint; called by all processes.

        Returns:
            The mean loss; None if the training was asked to stop.

        Raises:
            NonFiniteLossError: The loss is NaN or infinite.
        """
        self._model.train()
        total = self.spec.epochs * self._steps_per_epoch
        for batch in batches:
            step = self.epochs_done * self._steps_per_epoch + self.steps_done
            spec = self.spec
            factor = lr_factor(min(step, total - 1), total=total, warmup=spec.warmup, final=spec.final_lr)
            for group in self._optimizer.param_groups:
                group["lr"] = group["peak_lr"] * factor if self.epochs_done >= group["frozen_epochs"] else 0.0
            self._unread.append(self._updates.update(batch, objective, number=step, draws=Draws(seed, step)))
            if self._average is not None:
                self._average.update(self._model)
            self.steps_done += 1
            if len(self._unread) >= self._read_every:
                self._read_losses(bar)
            asked = Asked(*self._processes.any_of(ask()))
            if (asked.save or asked.stop) and save is not None:
                self._read_losses(bar)
                save()
            if asked.stop:
                return None
            if asked.cut:
                break
        self._read_losses(bar)
        mean = self._loss_sum / max(1, self.steps_done)
        self.epochs_done, self.steps_done, self._loss_sum = self.epochs_done + 1, 0, 0.0
        return mean

    def _read_losses(self, bar: Bar) -> None:
        """Read the losses of the last steps, and check them."""
        if not self._unread:
            return
        losses = self._processes.sum_(torch.stack(self._unread)).tolist()
        first = self.epochs_done * self._steps_per_epoch + self.steps_done - len(losses)
        self._unread.clear()
        for step, loss in enumerate(losses, first):
            if not math.isfinite(loss):
                raise NonFiniteLossError(f"the loss became {loss} at step {step} (epoch {self.epochs_done + 1})")
            self._loss_sum += loss
        bar.advance(len(losses), note=f"loss {losses[-1]:.3f}")

    def state(self) -> dict[str, Tensor]:
        """Model and optimizer as flat tensors, sufficient for an exact continuation."""
        tensors = {f"model.{name}": tensor for name, tensor in self._model.state_dict().items()}
        if self.average is not None:
            tensors |= {f"average.{name}": tensor for name, tensor in self.average.state_dict().items()}
        names = {id(parameter): name for name, parameter in self._model.named_parameters()}
        for parameter, moments in self._optimizer.state.items():
            for key, tensor in moments.items():
                tensors[f"optimizer.{key}.{names[id(parameter)]}"] = tensor
        tensors["epochs_done"] = torch.tensor(self.epochs_done)
        if self.steps_done:
            tensors["steps_done"] = torch.tensor(self.steps_done)
            tensors["loss_sum"] = torch.tensor(self._loss_sum, dtype=torch.float64)
        for key, value in self._updates.scaler.state_dict().items():
            tensors[f"scaler.{key}"] = torch.tensor(value, dtype=torch.float64)
        return tensors

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the result of `state`."""
        self._model.load_state_dict(model_tensors(tensors))
        if self.average is not None:
            self.average.load_state_dict(model_tensors(tensors, prefix="average."))
        self._optimizer.state.clear()
        for name, parameter in self._model.named_parameters():
            moments = {}
            for key in ("step", "exp_avg", "exp_avg_sq"):
                stored = tensors.get(f"optimizer.{key}.{name}")
                if stored is not None:  # in the memory format of the parameter, as fused AdamW requires
                    moments[key] = torch.empty_like(parameter if stored.ndim else stored, device=parameter.device)
                    moments[key].copy_(stored)
            if moments:
                self._optimizer.state[parameter] = moments
        scaler = {key.removeprefix("scaler."): t.item() for key, t in tensors.items() if key.startswith("scaler.")}
        if scaler:
            whole = {key: int(scaler[key]) for key in ("growth_interval", "_growth_tracker")}
            self._updates.scaler.load_state_dict(scaler | whole)
        self.epochs_done = int(tensors["epochs_done"])
        self.steps_done = int(tensors.get("steps_done", 0))
        self._loss_sum = float(tensors.get("loss_sum", 0.0))


def model_tensors(tensors: Mapping[str, Tensor], *, prefix: str = "model.") -> dict[str, Tensor]:
    """The model's tensors in the result of `TrainingRun.state`."""
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
