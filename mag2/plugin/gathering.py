"""The complete weights of guides that are sharded or offloaded."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from mag2.plugin.wrappers import names_of
from mag2.saving.folders import weights_of

__all__ = ["gathered"]


@contextlib.contextmanager
def gathered(model: nn.Module, guides: Sequence[nn.Module]) -> Iterator[list[dict[str, Tensor]]]:
    """Yield the complete state dicts of guides, on the CPU.

    Raises:
        ValueError: weights that cannot be gathered from here.
    """
    with _summoned(model, guides):
        yield [_whole(guide) for guide in guides]


def _whole(guide: nn.Module) -> dict[str, Tensor]:
    """The state of a guide; every process of a sharded model has to come here."""
    for key, parameter in guide.named_parameters():
        if "FlatParameter" in {cls.__name__ for cls in type(parameter).__mro__}:
            raise ValueError(_cannot(guide, f"{key} is of several parameters; give the model that FSDP made"))
    weights = weights_of(guide)
    return {key: _offloaded(guide, key) if value.is_meta else value for key, value in weights.items()}


def _offloaded(guide: nn.Module, key: str) -> Tensor:
    """A weight that accelerate keeps elsewhere while its module does not run."""
    path, _, name = key.rpartition(".")
    hook: Any = getattr(guide.get_submodule(path), "_hf_hook", None)
    for each in (hook, *getattr(hook, "hooks", ())):
        weights = getattr(each, "weights_map", None)
        if weights is not None:
            return weights[name].detach().cpu().contiguous().clone()
    raise ValueError(_cannot(guide, f"{key} is on the meta device and has no values"))


def _cannot(guide: nn.Module, why: str) -> str:
    return f"{type(guide).__name__} cannot be saved: {why}"


@contextlib.contextmanager
def _summoned(model: nn.Module, guides: Sequence[nn.Module]) -> Iterator[None]:
    """The parameters of a model in FSDP as a whole, in every process."""
    sharded = [part for part in model.modules() if "FullyShardedDataParallel" in names_of(part)]
    inside = {part for wrapper in sharded for part in wrapper.modules()}
    if not any(guide in inside for guide in guides):
        yield
        return
    from torch.distributed.fsdp import FullyShardedDataParallel

    with FullyShardedDataParallel.summon_full_params(model, writeback=False):
        yield
