"""What training expects of a model; any other model is refused with one sentence that names the part."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from mag2.nn.modules import unwrapped

__all__ = ["ContractError", "ScoringModel", "branches_of", "check_model", "check_output", "check_total"]


@runtime_checkable
class ScoringModel(Protocol):
    """What `fit`, `train`, `predict` and the tables expect of a model, which is a `torch.nn.Module`.

    These optional attributes of a model are used too:

    - `takes_vision_language` (bool, False): True to be called also with ``vision_language=(B, T, D)``, features of the
      clips in the space of a text encoder. Example: `mag2.alignment.SimilarityWeighted`.
    - `branches` (mapping of name to module): `train` fits each of them first. A branch is a scoring model too.
    - `start_fusion()`: called after the branches are trained and before the model is; required with `branches`.
      Example: `mag2.baselines.PAMFN`.
    - `min_clips`, `max_clips` (whole numbers), of any module inside: the smallest and the largest number of clips that
      it accepts; used where whole videos are scored. Example: `mag2.baselines.QTD`.
    - `lr_scale` (a number above 0), of any module inside: its parameters train at the recipe's learning rate times this
      number. Example: `mag2.texts.TrainableTextEncoder`.
    """

    def forward(self, visual: Any, audio: Any, flow: Any, /) -> Mapping[str, Any]:
        """Score B videos.

        Args:
            visual: (B, T, D) clip features.
            audio, flow: (B, T, D) clip features, or None if the dataset has none.

        Returns:
            A mapping with "score", a tensor (B,) of scores in [0, 1] in the order of the batch; and any other entries
            that `loss` needs.
        """

    def loss(self, output: Any, label: Any, /) -> Mapping[str, Any]:
        """Compute the training loss.

        Args:
            output: what `forward` returned, its floating-point tensors in float32.
            label: (B,) in [0, 1].

        Returns:
            A mapping with "total", a scalar tensor whose gradient trains the model; and any other entries.
        """


class ContractError(ValueError):
    """The error about a model that is no `ScoringModel`: one sentence with the part, what it is, and what to give."""


def check_model(model: nn.Module) -> None:
    """Check a model as far as possible without running it.

    Raises:
        ContractError: `forward` or `loss` is missing or has other arguments, an `lr_scale` is no number above 0, or no
            parameter is trainable.
    """
    inner = unwrapped(model)
    name = type(inner).__name__
    named = ("vision_language",) if getattr(inner, "takes_vision_language", False) else ()
    _check_call(f"{name}.forward", inner.forward, ("visual", "audio", "flow"), named)
    loss: Any = getattr(inner, "loss", None)
    if loss is None:
        raise ContractError(f'{name} has no loss; define loss(self, output, label) that returns {{"total": loss}}')
    # torch's own losses take two tensors.
    if not callable(loss) or (getattr(loss, "__module__", None) or "").startswith("torch.nn"):
        raise ContractError(
            f"{name}.loss is {_described(loss)}; define loss(self, output, label) that takes what forward returned "
            f'and returns {{"total": loss}}'
        )
    _check_call(f"{name}.loss", loss, ("output", "label"))
    for part in inner.modules():
        scale = getattr(part, "lr_scale", 1.0)
        if isinstance(scale, bool) or not isinstance(scale, int | float) or not scale > 0:
            raise ContractError(f"{type(part).__name__}.lr_scale is {_described(scale)}; give a number above 0")
    if not any(parameter.requires_grad for parameter in inner.parameters()):
        raise ContractError(f"{name} has no parameter that learns; set requires_grad on some")


def check_output(model: nn.Module, output: object, videos: int) -> None:
    """Check what `forward` returned for this number of videos.

    Raises:
        ContractError: it is no mapping, or has no "score" (B,).
    """
    name = type(unwrapped(model)).__name__
    if not isinstance(output, Mapping):
        raise ContractError(
            f'{name} returned {_described(output)}; return a mapping with "score", {{"score": scores}} for example'
        )
    if "score" not in output:
        raise ContractError(f'{name} returned {_keys(output)}; add "score", a tensor ({videos},) here')
    score = output["score"]
    if not isinstance(score, Tensor) or not score.is_floating_point() or score.shape != (videos,):
        raise ContractError(
            f'{name} returned as "score" {_described(score)}; give one floating-point number for each video, '
            f"a tensor ({videos},) here"
        )


def check_total(model: nn.Module, losses: object) -> None:
    """Check what `loss` returned in training.

    Raises:
        ContractError: it is no mapping, or has no "total" that is one number with a gradient.
    """
    name = f"{type(unwrapped(model)).__name__}.loss"
    if not isinstance(losses, Mapping):
        raise ContractError(
            f'{name} returned {_described(losses)}; return a mapping with "total", {{"total": loss}} for example'
        )
    if "total" not in losses:
        raise ContractError(f'{name} returned {_keys(losses)}; add "total", the scalar that is trained')
    total = losses["total"]
    if not isinstance(total, Tensor) or total.numel() != 1:
        raise ContractError(f'{name} returned as "total" {_described(total)}; give a scalar tensor, loss.mean() say')
    if not total.requires_grad:
        raise ContractError(
            f'{name} returned a "total" without gradient; compute it from the output, without detach() or no_grad()'
        )


def branches_of(model: nn.Module) -> dict[str, nn.Module]:
    """The `branches` of a model, by name; none for most models.

    Raises:
        ContractError: they are no mapping of names to modules, or there is no `start_fusion()`.
    """
    name, branches = type(model).__name__, getattr(model, "branches", {})
    if not isinstance(branches, Mapping | nn.ModuleDict):
        raise ContractError(f"{name}.branches is {_described(branches)}; give a dict of name to module")
    for key, branch in branches.items():
        if not isinstance(branch, nn.Module):
            raise ContractError(f"{name}.branches has {_described(branch)} as {key!r}; give a module there")
    if len(branches) and not callable(getattr(model, "start_fusion", None)):
        raise ContractError(f"{name} has branches and no start_fusion(); define it, it is called once they are trained")
    return dict(branches.items())


def _check_call(
    name: str, function: Callable[..., object], given: tuple[str, ...], named: tuple[str, ...] = ()
) -> None:
    """Refuse a function that cannot be called with these arguments by position and by name."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a compiled or built-in one; its call decides
        return
    try:
        signature.bind(*given, **dict.fromkeys(named))
    except TypeError:
        call = ", ".join([*given, *(f"{each}=..." for each in named)])
        defined = ", ".join(["self", *given, *(f"{each}=None" for each in named)])
        raise ContractError(
            f"{name} takes ({', '.join(signature.parameters)}) and is called as ({call}); "
            f"define it as {name.rpartition('.')[2]}({defined})"
        ) from None


def _keys(mapping: Mapping) -> str:
    return f"a mapping of {', '.join(map(str, mapping))}" if mapping else "an empty mapping"


def _described(value: object) -> str:
    if isinstance(value, Tensor):
        kind = "" if value.is_floating_point() else f" of {value.dtype}"
        return f"a tensor {tuple(value.shape)}{kind}"
    if isinstance(value, int | float | str):
        return f"{type(value).__name__} {value!r}"
    return f"a {type(value).__name__}"
