"""Wrappers of a model or its submodules: the names that they add, and those inside which nothing may be attached.

Most of these classes are of packages that need not be installed: they are recognised by their names.
"""

import gc
from collections.abc import Iterator

import torch
from torch import nn

__all__ = ["base_of", "inside", "is_adapter", "is_sharded", "kept_copies", "names_of", "parallel_around", "walk"]

# Classes that call what they wrap and add nothing, and the attribute under which they keep it.
_WRAPPERS = {
    "DistributedDataParallel": "module",
    "DataParallel": "module",
    "AveragedModel": "module",
    "ModelEma": "ema",
    "ModelEmaV2": "module",
    "ModelEmaV3": "module",
    "BaseTuner": "model",
    "LoraModel": "model",
    "PeftModel": "base_model",
    "DeepSpeedEngine": "module",
    "_FabricModule": "_forward_module",
}
# Attributes that torch's own wrappers use and no model does.
_KEPT_AS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
_PARALLEL = {"DistributedDataParallel", "FullyShardedDataParallel", "DeepSpeedEngine"}


def names_of(module: nn.Module) -> set[str]:
    """Return the names of the classes of a module, base classes included."""
    return {cls.__name__ for cls in type(module).__mro__}


def inside(module: nn.Module) -> str | None:
    """Return the attribute of a wrapper that holds the wrapped module; None where a module is no wrapper."""
    parts = module._modules
    names = [*_KEPT_AS, *(_WRAPPERS[cls.__name__] for cls in type(module).__mro__ if cls.__name__ in _WRAPPERS)]
    # Not parts.get, which scripted modules do not have.
    return next((name for name in names if name in parts and parts[name] is not None), None)


def base_of(model: nn.Module) -> nn.Module:
    """Return the model without its wrappers: compiled, parallel, sharded, averaged, or adapted by PEFT."""
    while (name := inside(model)) is not None:
        model = model._modules[name]  # type: ignore[assignment]
    return model


def is_adapter(module: nn.Module) -> bool:
    """Whether a module is a layer of PEFT around the layer that it adapts, its `base_layer`."""
    return "base_layer" in module._modules and ("lora_A" in module._modules or "BaseTunerLayer" in names_of(module))


def kept_copies(module: nn.Module) -> dict[str, nn.Module] | None:
    """Return the copies of a submodule that PEFT trains (`modules_to_save`), by the names of adapters; or None."""
    parts = module._modules
    if "modules_to_save" not in parts or "original_module" not in parts:
        return None
    copies: nn.Module = parts["modules_to_save"]  # type: ignore[assignment]
    return {name: copy for name, copy in copies._modules.items() if copy is not None}


def walk(module: nn.Module, path: str = "", *, used: bool = True) -> Iterator[tuple[str, nn.Module, bool]]:
    """Yield every module below a module with its dotted path, without the names that wrappers of submodules add.

    The third value is True for the module that is in use at its path: the inside of a wrapper, the copy of a submodule
    that PEFT trains (its original where adapters are off), an adapted layer of PEFT as a whole.
    """
    copies = kept_copies(module)
    wrapped = inside(module)
    yield path, module, used and wrapped is None and copies is None
    for name, part in list(module._modules.items()):
        if part is None:
            continue
        if name == wrapped:
            yield from walk(part, path, used=used)
        elif copies is not None and name == "modules_to_save":
            for adapter, copy in copies.items():
                yield from walk(copy, path, used=used and adapter in _active(module))
        elif copies is not None and name == "original_module":
            yield from walk(part, path, used=used and not copies.keys() & _active(module))
        elif name == "base_layer" and is_adapter(module):
            below = walk(part, path, used=used)
            yield (*next(below)[:2], False)
            yield from below
        else:
            yield from walk(part, f"{path}.{name}" if path else name, used=used)


def _active(module: nn.Module) -> set[str]:
    """The adapters in use of a wrapper of PEFT."""
    if getattr(module, "disable_adapters", False) is True:
        return set()
    active = getattr(module, "active_adapters", None) or getattr(module, "active_adapter", None)
    return {active} if isinstance(active, str) else set(active or kept_copies(module) or ())


def is_sharded(module: nn.Module) -> bool:
    """Whether parameters of a module are sharded over several processes (`fully_shard`, FSDP, tensor parallel)."""
    if any("FullyShardedDataParallel" in names_of(part) for part in module.modules()):
        return True
    return any(hasattr(parameter, "full_tensor") for parameter in module.parameters())


def parallel_around(part: nn.Module) -> str | None:
    """Return the name of the wrapper that has counted or sharded the parameters of a module already; or None."""
    if is_sharded(part):
        return "fully_shard or FSDP"
    for wrapper in _parallel_wrappers():
        if any(inner is part for inner in wrapper.modules()):
            return type(wrapper).__name__
    return None


def _parallel_wrappers() -> Iterator[nn.Module]:
    """All DDP and FSDP wrappers of this process: a module does not know what wraps it."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        for value in gc.get_objects():
            if issubclass(type(value), nn.Module) and _PARALLEL & {cls.__name__ for cls in type(value).__mro__}:
                yield value
