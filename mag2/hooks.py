"""Reading a module's weights in place of calling it: when that is the same."""

from torch import nn


def as_built(part: nn.Module) -> bool:
    """Whether nothing is hooked to a module and its `forward` is its class's, so that its weights tell all it does."""
    hooks = (part._forward_hooks, part._forward_pre_hooks, part._backward_hooks, part._backward_pre_hooks)
    return not any(hooks) and "forward" not in vars(part)
