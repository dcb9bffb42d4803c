"""Texts and MAG2 in PAMFN, and in any model with its places: `model_r`, `model_f`, `model_a` and `stage1`."""

import threading
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from mag2.fusion import make_decoder
from mag2.grading import GradeHead
from mag2.guidance import ActionGraphGuidance
from mag2.nn.state_dicts import accept_former_keys
from mag2.plugin import Plug, attach, insert, submodule
from mag2.plugin.homes import unhook
from mag2.plugin.places import listed, paths
from mag2.plugin.plug import Hook, OutsideHook
from mag2.plugin.structured import rebuilt
from mag2.texts import ProjectedTexts, Provenance, TextFeatures

__all__ = ["ScorePlug", "TokenGrading", "with_mag2", "with_texts"]


class TokenGrading(nn.Module):
    """The audio-visual half of DPG over any tokens: 2N grade texts decode them, and their head gives a score.

    Shapes: tokens (B, L, c) -> score (B,) in [0, 1].

    Args:
        in_dim: c.
        grades: (2N, D) texts, from worst to best.
        dim, n_heads, n_layers, dropout: of the decoder.
        provenance: where the texts are from; by default what they say themselves.
    """

    def __init__(
        self,
        in_dim: int,
        grades: Tensor,
        *,
        dim: int,
        n_heads: int,
        n_layers: int,
        dropout: float,
        provenance: Provenance | None = None,
    ):
        super().__init__()
        self.sizes = {"in_dim": in_dim, "dim": dim, "n_heads": n_heads, "n_layers": n_layers, "dropout": dropout}
        self.owned_texts = ProjectedTexts(grades, dim, provenance)
        self.project_tokens = nn.Linear(in_dim, dim)
        self.decoder = make_decoder(dim, n_heads, n_layers, dropout)
        self.head = GradeHead(len(grades), dim)
        self.w = nn.Parameter(torch.tensor(0.5))
        accept_former_keys(self, {"texts": "owned_texts.texts", "project_texts": "owned_texts.projection"})  # 0.1

    def forward(self, tokens: Tensor) -> Tensor:
        """Grade the tokens."""
        queries = self.owned_texts()
        grades = self.decoder(queries.expand(tokens.shape[0], *queries.shape), self.project_tokens(tokens))
        return self.head(grades)[0]

    @property
    def config(self) -> dict[str, Any]:
        """What builds it again, for JSON."""
        return {**self.sizes, "owned_texts": self.owned_texts.description}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "TokenGrading":
        """To load weights and texts into."""
        sizes = dict(config)
        grades, provenance = ProjectedTexts.blank(sizes.pop("owned_texts"))
        return cls(grades=grades, provenance=provenance, **sizes)


class ScorePlug(Plug):
    """Grades the features (B, c, L) that come out of a module, and mixes that score into the score of the model.

    The score of the model is its output, or the entry "score" of a dict, or the first of a tuple. The plug lives in
    the model; `at` is the path of the module whose features it grades.
    """

    def __init__(self, at: str, guide: nn.Module):
        super().__init__(at, guide)
        self.inner = at

    @property
    def key(self) -> str:
        """Its name in the model."""
        return "score"

    @property
    def how(self) -> str:
        """A second score."""
        return "mixed into the score"

    def home(self, model: nn.Module) -> nn.Module:
        """The model."""
        return model

    def check(self, model: nn.Module) -> None:
        """Is the path there?"""
        submodule(model, self.at)

    def hooks(self) -> list[Hook]:
        """Behind the model."""
        return [Hook(self.key, ScorePlug.on_output)]

    def enter(self, home: nn.Module, root: nn.Module) -> None:
        """Have the module keep its features until the model is done."""
        submodule(root, self.at).register_forward_hook(Kept())

    def leave(self, home: nn.Module, root: nn.Module) -> None:
        """Undo that, where the module is still there."""
        part = paths(root).get(self.at)
        if part is not None:
            unhook(part, lambda hook: isinstance(hook, Kept))

    def on_output(self, home: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
        """Grade the kept features, and mix the scores."""
        part = submodule(home, self.at)
        kept = next((hook for hook in part._forward_hooks.values() if isinstance(hook, Kept)), None)
        features = None if kept is None else kept.taken(part)
        if not self.enabled:
            return None
        if features is None:
            raise RuntimeError(
                f"{self!r} has no features to grade: {self.at!r} was exchanged, or the model did not call it; detach "
                f"the model, and attach the texts again"
            )
        score = self.guide(features.transpose(1, 2))
        if isinstance(output, dict):
            if "score" not in output:
                raise ValueError(f"{self!r} mixes into the entry 'score' of a dict; this one has {listed(output)}")
            return {**output, "score": self._mixed(output["score"], score)}
        if isinstance(output, (tuple, list)):
            return rebuilt(output, [self._mixed(output[0], score), *output[1:]])
        return self._mixed(output, score)

    def _mixed(self, own: Tensor, other: Tensor) -> Tensor:
        w: Any = self.guide.w
        score = (1 - w) * own + w * other.view_as(own)
        return score if self.guide.training else score.clamp(0, 1)  # w is free; labels are not


class Kept(OutsideHook):
    """A hook behind a module that keeps its features until they are taken: replicas and threads have their own."""

    def __init__(self) -> None:
        self.of_thread = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and deepcopy: features of a call that never came to its end are left out."""
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.of_thread = threading.local()

    def __call__(self, part: nn.Module, args: tuple, output: Any) -> None:
        """Keep the output; torch calls it."""
        setattr(self.of_thread, f"of_{id(part)}", output[0] if isinstance(output, (tuple, list)) else output)

    def taken(self, part: nn.Module) -> Tensor | None:
        """The features of the last call, which are kept no longer."""
        features = getattr(self.of_thread, f"of_{id(part)}", None)
        setattr(self.of_thread, f"of_{id(part)}", None)
        return features


def with_texts(
    model: nn.Module,
    texts: TextFeatures,
    *,
    dim: int = 256,
    n_heads: int = 8,
    n_layers: int = 3,
    dropout: float = 0.3,
) -> nn.Module:
    """The "+Texts" of Table 4: PAMFN has no queries, so the audio-visual grade texts give a second score.

    They decode the fused tokens of stage 1 as in DPG, and the score is ``(1 - w) * own + w * theirs``, w learned from
    0.5. The paper does not say how it put texts into PAMFN; this is our reading. The model is changed in place and
    returned; `mag2.detach` undoes it.

    Args:
        dim, n_heads, n_layers, dropout: of the decoder, as in `PromptGuidedGrading`.

    Raises:
        ValueError: the model has no `stage1`, or texts grade there already.
    """
    width = int(submodule(model, "fc.1").in_channels)  # type: ignore[arg-type]
    sizes: dict[str, Any] = {"dim": dim, "n_heads": n_heads, "n_layers": n_layers, "dropout": dropout}
    return insert(model, ScorePlug("stage1", TokenGrading(width, texts.audio_visual_grades, **sizes)))


def with_mag2(
    model: nn.Module,
    texts: TextFeatures,
    *,
    dropout: float = 0.3,
    control: str | None = None,
    start: str = "residual",
) -> nn.Module:
    """The "+MAG2" of Table 4: guidance after the embedding of every branch, (B, d, T).

    Video and flow get the visual texts, audio the music texts. In the fusion stage PAMFN detaches the features of video
    and flow, so that guides there train only while their branches do: attach before the branches are trained. A model
    that is in its fusion stage already gets a warning. The model is changed in place and returned; `mag2.detach`
    undoes it.

    Args:
        control: what to remove from every guide, for comparison (`ActionGraphGuidance`).
        start: how the guides enter, as in `mag2.attach`.

    Raises:
        ValueError: the model lacks one of the branches, or is guided there already; an unknown control or start.
    """
    texts_of = {"model_r": texts.visual, "model_f": texts.visual, "model_a": texts.audio}
    guides = []
    for name, rows in texts_of.items():
        width: Any = submodule(model, f"{name}.embedding.4").num_features
        guides.append(ActionGraphGuidance(int(width), rows, dropout=dropout, control=control))
    attach(model, guides, at=[f"{name}.embedding" for name in texts_of], layout="bdt", start=start)
    # The authors' class has no stages: it fuses branches that are trained.
    if getattr(model, "fusing", True):
        warnings.warn(
            "this PAMFN fuses trained branches and detaches the features of video and flow: the guides in model_r and "
            "model_f do not train; attach them before the branches are trained",
            stacklevel=2,
        )
    return model
