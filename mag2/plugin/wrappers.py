"""What wraps a model or its parts: names that belong to no model, and kinds that nothing may be attached inside of."""

import gc
from collections.abc import Iterator

import torch
from torch import nn

__all__ = ["ADAPTED", "TRANSPARENT", "WHOLES", "base_of", "is_sharded", "parallel_around", "without_wrappers"]

# Attributes under which wrappers of parts keep what they wrap. What these hold stands for the wrapper:
TRANSPARENT = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
# and what PEFT's hold is only a part of what they compute.
ADAPTED = ("base_layer", "original_module")
# Classes that wrap a whole model, by name, as most are of packages that need not be there, and where the model is.
WHOLES = {
    "OptimizedModule": "_orig_mod",
    "DistributedDataParallel": "module",
    "DataParallel": "module",
    "FullyShardedDataParallel": "_fsdp_wrapped_module",
    "CheckpointWrapper": "_checkpoint_wrapped_module",
    "AveragedModel": "module",
    "ModelEma": "ema",
    "ModelEmaV2": "module",
    "ModelEmaV3": "module",
    "BaseTuner": "model",
    "PeftModel": "base_model",
}


def base_of(model: nn.Module) -> nn.Module:
    """The model inside whatever wraps all of it: compiled, parallel, sharded, averaged, or adapted by PEFT."""
    while True:
        names = [WHOLES[cls.__name__] for cls in type(model).__mro__ if cls.__name__ in WHOLES]
        inner = next((model._modules[name] for name in names if name in model._modules), None)
        if inner is None:
            return model
        model = inner


def without_wrappers(path: str) -> str:
    """A path or a key without the names that wrappers of parts put into it."""
    kept: list[str] = []
    names = iter(path.split("."))
    for name in names:
        if name == "modules_to_save":
            next(names, None)  # the name of an adapter
        elif name not in TRANSPARENT and name not in ADAPTED:
            kept.append(name)
    return ".".join(kept)


def is_sharded(module: nn.Module) -> bool:
    """Whether parameters of a module lie in shards over several processes (`fully_shard`, FSDP, tensor parallel)."""
    if any(cls.__name__ == "FullyShardedDataParallel" for part in module.modules() for cls in type(part).__mro__):
        return True
    return any(hasattr(parameter, "full_tensor") for parameter in module.parameters())


def parallel_around(part: nn.Module) -> str | None:
    """What has counted or sharded the parameters of a module already, or None."""
    if is_sharded(part):
        return "fully_shard or FSDP"
    for wrapper in _parallel_wrappers():
        if any(inner is part for inner in wrapper.modules()):
            return type(wrapper).__name__
    return None


def _parallel_wrappers() -> Iterator[nn.Module]:
    """All DDP wrappers of this process: a module does not know what wraps it."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        for value in gc.get_objects():
            if issubclass(type(value), nn.parallel.DistributedDataParallel):
                yield value
