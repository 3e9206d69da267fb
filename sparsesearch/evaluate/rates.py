"""How long the phases of a study take for an image, from the speeds of the dense model."""

from __future__ import annotations

from dataclasses import dataclass

from sparsesearch.evaluate.throughput import Speeds

# Work for an image relative to one pass through the dense model. The windowed part of dense training is cheap; a
# supernet step runs two schedules, one of them sometimes dense; a screened schedule resumes from a cached prefix.
_DENSE_WINDOWED, _SUPERNET, _SCREEN, _SPARSE = 0.55, 1.6, 0.6, 0.7


@dataclass(frozen=True)
class AtOnce:
    """How many of the devices that speeds were measured on work at the same time.

    Attributes:
        reference: For what runs alone, the dense and the supernet training.
        trials: For evaluations and fine-tunings.
    """

    reference: float = 1.0
    trials: float = 1.0


@dataclass(frozen=True)
class Rates:
    """Seconds of wall time for an image.

    Attributes:
        dense: Of the dense training.
        validate: Of validating the dense model or the supernet.
        supernet: Of the supernet training.
        counts: Of learning token counts.
        screen: Of evaluating a schedule.
        finetune: Of a fine-tuning.
        validate_sparse: Of validating a fine-tuned schedule.
    """

    dense: float
    validate: float
    supernet: float
    counts: float
    screen: float
    finetune: float
    validate_sparse: float

    @classmethod
    def of(cls, speeds: Speeds, *, windowed: bool, at_once: AtOnce = AtOnce()) -> Rates:
        """The rates on devices of these speeds.

        Args:
            speeds: Measured speeds of the dense model and of the data.
            windowed: Whether dense training has the crop curriculum.
            at_once: How many such devices there are.
        """
        train, infer = speeds.train_s, speeds.infer_s
        alone, beside = at_once.reference, at_once.trials
        return cls(
            dense=speeds.with_loading(train * (_DENSE_WINDOWED if windowed else 1.0), at_once=alone),
            validate=speeds.with_loading(infer),
            supernet=speeds.with_loading(train * _SUPERNET + infer, at_once=alone),
            counts=speeds.with_loading(train + infer, at_once=beside),
            screen=infer * _SCREEN / beside,
            finetune=speeds.with_loading(train * _SPARSE + infer, at_once=beside),
            validate_sparse=speeds.with_loading(infer * _SPARSE, at_once=beside),
        )
