"""Change the classes of live modules, so that they run in a call of a sparse model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn
from torch.fx import Proxy

from sparsesearch.backbones.sparsity import describe_class, original_class
from sparsesearch.errors import BackboneError
from sparsesearch.sparsify.call import Call
from sparsesearch.sparsify.state import SparsityState
from sparsesearch.sparsify.teaching import tied

_CLASSES: dict[tuple[Any, Any], type[nn.Module]] = {}


def change_class_(module: nn.Module, mixin: Any, state: SparsityState, **attributes: Any) -> None:
    """Change the class of a module to a subclass of its class, in place.

    Args:
        module: The module.
        mixin: First base class of the subclass, before the class of the module.
        state: Stored as `sparsity_state`.
        attributes: Additional attributes; their names must start with `sparsity_`, so that `unpatch_` removes them.
    """
    module.__class__ = _subclass(mixin, type(module))
    module.__dict__["sparsity_state"] = state
    module.__dict__.update(attributes)


def unpatch_(model: nn.Module) -> None:
    """Restore the original classes of all modules of a model."""
    for module in model.modules():
        base = getattr(type(module), "sparsity_base", None)
        if base is not None:
            module.__class__ = base
            for name in [name for name in module.__dict__ if name.startswith("sparsity_")]:
                del module.__dict__[name]


def check_forward(model: nn.Module, base: type[nn.Module]) -> None:
    """Check that a model uses the forward methods of its family, which the sparse ones replace.

    Raises:
        BackboneError: The class of the model overrides one of them.
    """
    for name in ("forward", "forward_features"):
        if getattr(type(model), name) is not getattr(base, name):
            raise BackboneError(
                f"{describe_class(model)} overrides {name} of {base.__name__}, which a sparse model replaces; "
                "override forward_head, or parts of the model, instead"
            )


class SparseSequential(nn.Module):
    """Mixin for the class of a sequence of blocks or stages: passes on the call."""

    def forward(self, x: Tensor, **kwargs: Any) -> Tensor:
        """As in torch, with the same keyword arguments for each module."""
        sequence: Any = self
        for module in sequence:
            x = module(x, **kwargs)
        return x


class SparseStage(nn.Module):
    """Mixin for the class of a stage of a hierarchical model: downsampling, then its blocks."""

    def forward(self, x: Tensor, *, call: Call | None = None) -> Tensor:
        """As in timm; blocks are recomputed in the backward pass, if at all, after their steps."""
        if call is None:
            dense: Tensor = super().forward(x)
            return dense
        stage: Any = self
        y: Tensor = stage.blocks(stage.downsample(x), call=call)
        return y


class SparseModel(nn.Module):
    """Mixin for the class of a model: a forward pass is a call, which the caller may provide to read its trace."""

    sparsity_container: str

    def sparsity_call(self, call: Call | None = None) -> Any:
        """The call of a pass that begins: the given one, or a new one."""
        model: Any = self
        call = call or model.sparsity.begin(training=self.training)
        parts = (model, *getattr(model, self.sparsity_container))
        call.checkpoints = self.training and any(getattr(part, "grad_checkpointing", False) for part in parts)
        return call

    def forward(self, x: Tensor, *, call: Any = None) -> Tensor:
        """As in timm, in the given call or one of its own."""
        refuse_proxies(x)
        model: Any = self
        logits: Tensor = model.forward_head(model.forward_features(x, call=call))
        return logits

    def __prepare_scriptable__(self) -> nn.Module:
        """Refuse `torch.jit.script`, which asks for what it should compile.

        Raises:
            BackboneError: Always.
        """
        raise BackboneError("torch.jit.script does not support sparse models; use torch.export.export")

    def sparsity_tied(self, features: Tensor, call: Call) -> Tensor:
        """The same features; if the call teaches, what it does not use gets a gradient of zero, as DDP requires.

        This includes the token head of LV-ViT, which only has a loss of its own.
        """
        model: Any = self
        if not (self.training and call.options.teach):
            return features
        head: Any = getattr(model, "aux_head", None)
        return tied(features, [*model.sparsity.parameters(), *(() if head is None else head.parameters())])

    def forward_intermediates(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """As in timm."""
        call = self.sparsity_call()
        parts = [_Bound(part, call) for part in self._parts()]
        return self.sparsity_intermediates(parts, self.sparsity_tied(x, call), *args, **kwargs)

    def sparsity_intermediates(self, parts: Iterable[nn.Module], x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Run timm's `forward_intermediates` on a shallow copy of the model, with these blocks or stages."""
        run: Callable[..., Any] = original_class(self).forward_intermediates  # type: ignore[attr-defined]
        bound = type(self).__new__(type(self))
        bound.__dict__.update(self.__dict__)
        bound.__dict__["_modules"] = {**self._modules, self.sparsity_container: nn.ModuleList(parts)}
        bound.__dict__["grad_checkpointing"] = False
        return run(bound, x, *args, **kwargs)

    def _parts(self) -> Any:
        return self._modules[self.sparsity_container]


class _Bound(nn.Module):
    """A module that runs in a call."""

    def __init__(self, module: nn.Module, call: Call) -> None:
        super().__init__()
        self.module, self.call = module, call

    def forward(self, x: Tensor, **kwargs: Any) -> Tensor:
        y: Tensor = self.module(x, call=self.call, **kwargs)
        return y


def refuse_proxies(x: object) -> None:
    """Check that a model is not traced symbolically.

    Raises:
        BackboneError: It is.
    """
    if isinstance(x, Proxy):
        raise BackboneError(
            "torch.fx does not support sparse models; use torch.export.export, or forward_intermediates for features"
        )


def refuse_alone(state: SparsityState) -> None:
    """Check that a block may run outside of a call, as the block of the dense model.

    Raises:
        BackboneError: The plan has steps.
    """
    if state.plan.steps:
        raise BackboneError(
            "a block of a sparse model runs only in a call; call the whole model, use "
            "sparsesearch.backbones.segments, or pass call=new_call(model)"
        )


def _subclass(mixin: Any, base: Any) -> Any:
    if (mixin, base) not in _CLASSES:
        body = {"sparsity_base": base, "__doc__": base.__doc__, "__reduce_ex__": _reduce}
        _CLASSES[mixin, base] = type(f"Sparse{base.__name__}", (mixin, base), body)
    return _CLASSES[mixin, base]


def _reduce(module: nn.Module, protocol: object) -> tuple[Any, ...]:
    """How a module is pickled and copied: its class is made again from the classes that it was made of."""
    mixin = type(module).__bases__[0]
    state: Any = module.__getstate__()  # type: ignore[no-untyped-call]
    return _blank, (mixin, original_class(module)), state


def _blank(mixin: Any, base: Any) -> nn.Module:
    kind = _subclass(mixin, base)
    module: nn.Module = kind.__new__(kind)
    return module
