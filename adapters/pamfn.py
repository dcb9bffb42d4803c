"""Texts and MAG2 in PAMFN, and in any model that has submodules `model_r`, `model_f`, `model_a`, `stage1` and `fc`."""

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
    """Score any tokens as the audio-visual branch of DPG does: 2N grade texts are the queries of a decoder.

    Shapes: tokens (B, L, c) -> score (B,) in [0, 1].

    Args:
        in_dim: c, the width of the tokens.
        grades: (2N, D) text features, from worst to best.
        dim, n_heads, n_layers, dropout: of the decoder, as in `mag2.grading.PromptGuidedGrading`.
        provenance: origin of the texts; by default the one that they carry.

    Raises:
        ValueError: the texts are no matrix of finite numbers.
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
        """Return the score (B,) in [0, 1] of tokens (B, L, c)."""
        queries = self.owned_texts()
        grades = self.decoder(queries.expand(tokens.shape[0], *queries.shape), self.project_tokens(tokens))
        return self.head(grades)[0]

    @property
    def config(self) -> dict[str, Any]:
        """The arguments that build this module again, as plain values for JSON."""
        return {**self.sizes, "owned_texts": self.owned_texts.description}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "TokenGrading":
        """Build the module that `config` describes, with texts of zeros; load its state afterwards."""
        sizes = dict(config)
        grades, provenance = ProjectedTexts.blank(sizes.pop("owned_texts"))
        return cls(grades=grades, provenance=provenance, **sizes)


class ScorePlug(Plug):
    """A plug that scores the output (B, c, L) of a submodule, and mixes this second score into the model's score.

    The model's score is its output, or the entry "score" of an output that is a dict, or the first entry of a tuple or
    list. The new score is ``(1 - w) * own + w * second`` with the learned ``guide.w``; in evaluation it is clamped to
    [0, 1].

    Args:
        at: path of the submodule whose output is scored.
        guide: maps tokens (B, L, c) to scores (B,) and has a parameter `w`, as `TokenGrading` does.

    Raises:
        ValueError: the model has no such path; or, when it is called, its output is a dict without "score".
        RuntimeError: when the model is called: the submodule did not run, or was replaced after attaching.
    """

    def __init__(self, at: str, guide: nn.Module):
        super().__init__(at, guide)
        self.inner = at

    @property
    def key(self) -> str:
        """Name of the plug in the model."""
        return "score"

    @property
    def how(self) -> str:
        """How it enters, in words: "mixed into the score"."""
        return "mixed into the score"

    def home(self, model: nn.Module) -> nn.Module:
        """The module that the plug is registered in: the model itself."""
        return model

    def check(self, model: nn.Module) -> None:
        """Raise a ValueError where the model has no submodule at `at`."""
        submodule(model, self.at)

    def hooks(self) -> list[Hook]:
        """One hook, which runs after the model."""
        return [Hook(self.key, ScorePlug.on_output)]

    def enter(self, home: nn.Module, root: nn.Module) -> None:
        """Register a hook on the submodule that keeps its output until the model has run."""
        submodule(root, self.at).register_forward_hook(Kept())

    def leave(self, home: nn.Module, root: nn.Module) -> None:
        """Remove that hook, if the submodule still exists."""
        part = paths(root).get(self.at)
        if part is not None:
            unhook(part, lambda hook: isinstance(hook, Kept))

    def on_output(self, home: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
        """Score the kept features and return the model's output with the mixed score."""
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
    """Add a second score from the audio-visual grade texts: "+Texts" in Table 4, for a model without queries.

    The 2N texts are the queries of a decoder over the output of `stage1`, as in DPG. The score becomes
    ``(1 - w) * own + w * second``; w is learned and starts at 0.5. The paper does not say how it put texts into PAMFN;
    this is our choice. The model is changed in place and returned; `mag2.detach` undoes it.

    Args:
        model: a PAMFN, or a model with its submodules `stage1` and `fc`.
        texts: whose audio-visual grade texts are used.
        dim, n_heads, n_layers, dropout: of the decoder, with the defaults of `mag2.grading.PromptGuidedGrading`.

    Raises:
        ValueError: the model has no `stage1` or no `fc.1`, or texts are attached there already.
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
    """Guide the embedded clips (B, d, T) of every branch by the action texts: "+MAG2" in Table 4.

    The guides of video and flow have the visual texts, the guide of audio has the audio texts. In its fusion stage
    PAMFN detaches the features of video and flow, so their guides train only while the branches train. Attach before
    the branches are trained; for a model that is in its fusion stage already, a warning is given. The model is changed
    in place and returned; `mag2.detach` undoes it. The paper does not say where it put MAG2 in PAMFN; this is our
    choice.

    Args:
        model: a PAMFN, or a model with its submodules `model_r`, `model_f` and `model_a`.
        texts: whose visual and audio action texts guide.
        dropout: of the guides; 0.3 (released training command).
        control: what to remove from every guide, for comparison, as in `ActionGraphGuidance`.
        start: how the output of the guides enters the model, as in `mag2.attach`.

    Raises:
        ValueError: the model lacks one of the branches, or a guide is attached there already; an unknown control or
            start.
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
