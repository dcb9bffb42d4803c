"""Questions about modules: what wraps them, whether they were changed, which parameter others follow."""

import contextlib
from collections.abc import Iterator

from torch import nn

__all__ = ["evaluating", "first_floating", "is_unmodified", "uncompiled", "unwrapped"]


def is_unmodified(part: nn.Module) -> bool:
    """Whether a module has no hooks and the `forward` of its class, so that its weights describe it completely."""
    hooks = (part._forward_hooks, part._forward_pre_hooks, part._backward_hooks, part._backward_pre_hooks)
    return not any(hooks) and "forward" not in vars(part)


def uncompiled(module: nn.Module) -> nn.Module:
    """The module inside what `torch.compile` returns."""
    return getattr(module, "_orig_mod", module)


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside `torch.compile`, DDP or both."""
    while True:
        if isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
            model = model.module
        elif (inner := uncompiled(model)) is not model:
            model = inner
        else:
            return model


def first_floating(*modules: nn.Module) -> nn.Parameter | None:
    """Return the first floating-point parameter of the first module that has one; others use its device and dtype."""
    return next((each for module in modules for each in module.parameters() if each.is_floating_point()), None)


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Set evaluation mode inside a `with` block; afterwards every submodule is in its earlier mode."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
