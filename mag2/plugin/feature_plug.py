"""The plug that guides the input or output features of a module."""

import re
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from mag2.plugin.checks import check_shards
from mag2.plugin.placement import LAYOUTS, Placement
from mag2.plugin.places import listed
from mag2.plugin.plug import Hook, Plug
from mag2.plugin.signature import Index, Signature, accepts, refusal, title
from mag2.plugin.starts import IdentityStart
from mag2.plugin.structured import entries, pick, put
from mag2.plugin.watch import watch_training

__all__ = ["FeaturePlug"]


class FeaturePlug(Plug):
    """A plug that guides the input or output features of a module; `mag2.attach` makes it.

    Args:
        at: path of the module.
        guide: the module that maps clips (B, T, d) to clips (B, T, d).
        placement: which features are guided, and which arguments hold masks and weights; the whole output by default.

    Raises:
        ValueError: when it is attached: the module at the path has no argument of a name that the placement has, or the
            guide accepts no edge weights or mask where the placement has some. When the model is called: features of
            another kind, width or layout.
        RuntimeError: when the model is called: the module is sharded and the plug is not, or a gradient checkpoint runs
            it again without the edge weights of the first run.
    """

    is_counted = True

    def __init__(self, at: str, guide: nn.Module, placement: Placement | None = None):
        super().__init__(at, guide)
        self.placement = placement or Placement()
        self.names: tuple[str, ...] = ()
        self.outer_weights: Tensor | None = None  # the weights of an `edge_weights_of` around the call
        self.had_outer_weights = False  # whether the last call had any

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and deepcopy: weights of an `edge_weights_of` do not travel with a copy."""
        return {**super().__getstate__(), "outer_weights": None}

    @property
    def key(self) -> str:
        """Name of the plug in its home: the side, and the item if there is one."""
        item = "" if self.placement.item is None else f"_{self.placement.item}"
        return re.sub(r"\W", "_", f"on_{self.placement.side}{item}")

    @property
    def how(self) -> str:
        """How the guide's output enters the model: "residual", "identity" or "replace"."""
        return self.placement.start

    @property
    def config(self) -> dict[str, Any]:
        """The options of `attach`, as plain values for JSON."""
        return asdict(self.placement)

    @classmethod
    def from_config(cls, at: str, guide: nn.Module, config: dict[str, Any]) -> "FeaturePlug":
        """Build the plug that `config` describes."""
        # Version 0.1 did not say how a guide enters: it replaced the features, or was an `IdentityStart`.
        start = "identity" if isinstance(guide, IdentityStart) else "replace"
        return cls(at, guide, Placement(**{"start": start, **config}))

    @property
    def spot(self) -> tuple:
        """What the plug occupies: its class, the side, and the item; names of arguments become positions."""
        item: Any = self.placement.item
        if self.placement.side == "input":
            item = self.names.index(item) if item in self.names else item or 0
        return (type(self), self.placement.side, item)

    def check(self, model: nn.Module) -> None:
        """Raise a ValueError unless the path exists and its module has the arguments of the placement."""
        home = self.home(model)
        signature = Signature(home)
        self.names = signature.in_order
        names = ["mask", "padding_mask", "edge_weight"] + ["item"] * (self.placement.side == "input")
        for name in names:
            index = getattr(self.placement, name)
            if index is not None and not signature.has(index):
                raise ValueError(
                    f"{self!r}: {name}={index!r} is no argument of that {type(home).__name__}; "
                    f"it takes {listed((*signature.in_order, *signature.by_name))}"
                )
        if self.placement.edge_weight is not None:
            self.check_takes_weights()
        masked = self.placement.mask is not None or self.placement.padding_mask is not None
        if masked and not accepts(self.guide, "clip_mask"):
            raise ValueError(f"{self!r} takes no clip_mask; leave the mask out, or attach a guide that takes one")

    def check_takes_weights(self) -> None:
        """Raise a ValueError where the guide accepts no edge weights."""
        if not accepts(self.guide, "edge_weight"):
            why = refusal(self.guide, "edge_weight") or "it takes no edge_weight"
            raise ValueError(f"{self!r} cannot hear edge weights, {why}; attach an ActionGraphGuidance")

    def hooks(self) -> list[Hook]:
        """One hook, which runs after the module for its output, before it for its input."""
        if self.placement.side == "output":
            return [Hook(self.key, FeaturePlug.on_output)]
        return [Hook(self.key, FeaturePlug.on_input, before=True)]

    def describe(self, at: str) -> str:
        """Describe the plug in words: guide, side, item and the path `at`."""
        item = "" if self.placement.item is None else f"[{self.placement.item!r}]"
        return f"{title(self.guide)} on the {self.placement.side}{item} of {at or 'the model itself'!r}"

    def on_output(self, home: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
        """Return the module's output with guided features; None where the plug is disabled."""
        return self._run(self._behind, home, args, kwargs, output) if self.enabled else None

    def on_input(self, home: nn.Module, args: tuple, kwargs: dict) -> Any:
        """Return the module's arguments with guided features; None where the plug is disabled."""
        return self._run(self._before, home, args, kwargs) if self.enabled else None

    def _run(self, step: Callable[..., Any], home: nn.Module, *call: Any) -> Any:
        """Guide, and note that it went well or that it never did."""
        check_shards(self, home)
        if torch.compiler.is_compiling():
            return step(*call)
        try:
            answer = step(*call)
        except Exception:
            self.failed = self.calls == 0
            raise
        self.count()
        if self.training and torch.is_grad_enabled():
            watch_training(self)
        return answer

    def _behind(self, args: tuple, kwargs: dict, output: Any) -> Any:
        item, arguments = self.placement.item, self._arguments(args, kwargs)
        if item is None:
            return self._guided(output, arguments)
        return put(output, item, self._guided(self._part(output, item), arguments))

    def _before(self, args: tuple, kwargs: dict) -> Any:
        item = self.placement.item or 0
        index = self._find(item, args, kwargs)
        if index is None:
            raise ValueError(
                f"{self!r}: the call had {len(args)} positional arguments and the names {listed(kwargs)}; "
                f"no {item!r} among them, set item= to one that is"
            )
        arguments = self._arguments(args, kwargs)
        if isinstance(index, str):
            return args, {**kwargs, index: self._guided(kwargs[index], arguments)}
        return (*args[:index], self._guided(args[index], arguments), *args[index + 1 :]), kwargs

    def _find(self, index: Index, args: tuple, kwargs: dict) -> Index | None:
        """Where in this call the argument is: a caller may give it by position or by name."""
        if isinstance(index, str):
            if index in kwargs:
                return index
            index = self.names.index(index) if index in self.names else len(args)
        if index < len(args):
            return index
        name = self.names[index] if index < len(self.names) else None
        return name if name in kwargs else None

    def _argument(self, index: Index | None, args: tuple, kwargs: dict) -> Any:
        """The value of an argument of this call; None where the call does not give it."""
        place = None if index is None else self._find(index, args, kwargs)
        if place is None:
            return None
        return kwargs[place] if isinstance(place, str) else args[place]

    def _arguments(self, args: tuple, kwargs: dict) -> dict[str, Tensor]:
        """What the guide gets in this call beside the clips."""
        found = {"clip_mask": self._clip_mask(args, kwargs), "edge_weight": self._edge_weight(args, kwargs)}
        return {name: value for name, value in found.items() if value is not None}

    def _clip_mask(self, args: tuple, kwargs: dict) -> Tensor | None:
        """The mask (B, T) of this call, True where a clip is real."""
        mask = self._argument(self.placement.mask, args, kwargs)
        padding = self._argument(self.placement.padding_mask, args, kwargs)
        for value in (mask, padding):
            if value is not None and not isinstance(value, (Tensor, torch.fx.Proxy)):
                raise ValueError(f"{self!r} wants a tensor as its mask, got a {type(value).__name__}")
        if mask is not None:
            return mask.bool()
        # Masks that are added to scores mark padding by a large negative number and what is real by 0.
        return None if padding is None else padding == 0

    def _edge_weight(self, args: tuple, kwargs: dict) -> Tensor | None:
        """The weights (B, T, M) of this call: its own, otherwise those of an `edge_weights_of` around it."""
        own = self._argument(self.placement.edge_weight, args, kwargs)
        weights = self.outer_weights if own is None else own
        self._check_recomputation()
        # Compiled code does not read signatures; there the guide itself refuses.
        if weights is not None and not torch.compiler.is_compiling():
            self.check_takes_weights()
        return weights

    def _check_recomputation(self) -> None:
        """Refuse to run again in the backward pass, as checkpointing does, without the weights of the first time."""
        if torch.compiler.is_compiling():
            return
        if torch._C._current_graph_task_id() == -1:  # torch.utils.checkpoint reads the same: -1 is no backward pass
            if self.had_outer_weights != (self.outer_weights is not None):
                self.had_outer_weights = self.outer_weights is not None
        elif self.had_outer_weights and self.outer_weights is None:
            raise RuntimeError(
                f"{self!r} runs again in the backward pass, after its edge weights went back: run that pass inside "
                f"`edge_weights_of`, or let nothing around it be checkpointed"
            )

    def forward(self, features: Any, **arguments: Tensor) -> Tensor:
        """Guide features in the layout of the placement; a symbolic trace (`torch.fx`) calls it.

        `arguments` are clip_mask (B, T) and edge_weight (B, T, M), where there are any.
        """
        return self._guided(features, arguments)

    def _guided(self, features: Any, arguments: dict[str, Tensor]) -> Tensor:
        if isinstance(features, torch.fx.Proxy):
            tracer: Any = features.tracer
            return tracer.create_proxy("call_module", tracer.path_of_module(self), (features,), arguments)
        self._check_features(features)
        there, back = LAYOUTS[self.placement.layout]
        clips = features.permute(there)
        if (mask := arguments.get("clip_mask")) is not None and mask.shape != clips.shape[:2]:
            raise ValueError(f"{self!r} wants a mask of shape {tuple(clips.shape[:2])}, got {tuple(mask.shape)}")
        guided = self.guide(clips, **arguments)
        if not isinstance(guided, Tensor) or guided.shape != clips.shape:
            made = f"shape {tuple(guided.shape)}" if isinstance(guided, Tensor) else f"a {type(guided).__name__}"
            raise ValueError(f"{self!r}: a guide keeps the shape of clips {tuple(clips.shape)}, this one made {made}")
        if self.placement.start == "residual":
            guided = clips + guided
        return guided.permute(back)

    def _check_features(self, features: Any) -> None:
        if isinstance(features, PackedSequence):
            raise ValueError(
                f"{self!r} wants a tensor there, got a PackedSequence; attach it behind "
                f"torch.nn.utils.rnn.pad_packed_sequence, or run the module on padded batches"
            )
        if not isinstance(features, Tensor):
            parts = entries(features)
            offer = f" of {listed(parts)}; say which with item=" if parts or isinstance(features, (tuple, dict)) else ""
            raise ValueError(f"{self!r} wants a tensor there, got a {type(features).__name__}{offer}")
        if features.is_nested:
            raise ValueError(
                f"{self!r} got a nested tensor, which torch's encoder makes of padded batches in evaluation; "
                f"set `use_nested_tensor = False` on the nn.TransformerEncoder"
            )
        if features.dim() != 3:
            how = (
                "; flatten time and space into one axis first, (B, T * H * W, C), or (B, C, T * H * W) with "
                "layout='bdt', or attach behind the pooling over space"
                if features.dim() > 3
                else ""
            )
            raise ValueError(f"{self!r} wants features of three axes, got shape {tuple(features.shape)}{how}")
        self._check_width(features)

    def _check_width(self, features: Tensor) -> None:
        width, layout = getattr(self.guide, "dim", None), self.placement.layout
        given = features.shape[LAYOUTS[layout][0][2]]
        if width is not None and given != width:
            fits = [name for name, (there, _) in LAYOUTS.items() if features.shape[there[2]] == width]
            hint = f"layout {' or '.join(map(repr, fits))} would fit" if fits else f"build the guide {given} wide"
            raise ValueError(
                f"{self!r} is {width} wide, with layout {layout!r} the features {tuple(features.shape)} are "
                f"{given} wide; {hint}"
            )

    def _part(self, output: Any, item: Index) -> Any:
        if isinstance(output, torch.fx.Proxy):
            raise ValueError(f"{self!r} picks {item!r} from an output, which torch.fx cannot trace; detach, then trace")
        if isinstance(output, Tensor):
            raise ValueError(
                f"{self!r} picks {item!r} from an output of several parts, and this output is one tensor "
                f"{tuple(output.shape)}; leave item= out"
            )
        try:
            return pick(output, item)
        except LookupError:
            raise ValueError(
                f"{self!r}: the output is a {type(output).__name__} of {listed(entries(output))}; "
                f"no {item!r} among them"
            ) from None
