"""Texts and MAG2 in PAMFN, and in any model with its places: `model_r`, `model_f`, `model_a` and `stage1`."""

from typing import Any

import torch
from torch import Tensor, nn

from mag2.fusion import make_decoder
from mag2.grading import GradeHead
from mag2.guidance import ActionGraphGuidance
from mag2.nn.state_dicts import accept_former_keys
from mag2.plugin import FeaturePlug, Placement, Plug, insert, submodule
from mag2.plugin.attaching import check
from mag2.plugin.places import listed
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

    The score of the model is its output, or the entry "score" of a dict, or the first of a tuple.
    """

    def __init__(self, at: str, module: nn.Module):
        super().__init__(at, module)
        self.tokens: Tensor | None = None

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and deepcopy: tokens of a call that never came to its end are left out."""
        return {**self.__dict__, "tokens": None}

    def hooks(self, model: nn.Module) -> list[Any]:
        """Keep the tokens at the place, mix the scores at the end of the model."""
        keep = submodule(model, self.at).register_forward_hook(self._keep_tokens)
        return [keep, model.register_forward_hook(self._mix_scores)]

    def _keep_tokens(self, target: nn.Module, args: tuple, output: Any) -> None:
        if self.enabled:
            features = output[0] if isinstance(output, (tuple, list)) else output
            self.tokens = features.transpose(1, 2)

    def _mix_scores(self, model: nn.Module, args: tuple, output: Any) -> Any:
        if not self.enabled or self.tokens is None:
            return None
        tokens, self.tokens = self.tokens, None
        score = self.module(tokens)
        if isinstance(output, dict):
            if "score" not in output:
                raise ValueError(f"{self!r} mixes into the entry 'score' of a dict; this one has {listed(output)}")
            return {**output, "score": self._mixed(output["score"], score)}
        if isinstance(output, (tuple, list)):
            return rebuilt(output, [self._mixed(output[0], score), *output[1:]])
        return self._mixed(output, score)

    def _mixed(self, own: Tensor, other: Tensor) -> Tensor:
        w: Any = self.module.w
        score = (1 - w) * own + w * other.view_as(own)
        return score if self.module.training else score.clamp(0, 1)  # w is free; labels are not


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


def with_mag2(model: nn.Module, texts: TextFeatures, *, dropout: float = 0.3, control: str | None = None) -> nn.Module:
    """The "+MAG2" of Table 4: guidance after the embedding of every branch, (B, d, T).

    Video and flow get the visual texts, audio the music texts. Each guide is attached to its branch, so that it trains
    with the branch and freezes with it. The model is changed in place and returned; `mag2.detach` undoes it.
    `control` removes something from every guide, for comparison (`ActionGraphGuidance`).

    Raises:
        ValueError: the model lacks one of the branches, or is guided there already; an unknown control.
    """
    texts_of = {"model_r": texts.visual, "model_f": texts.visual, "model_a": texts.audio}
    # All places before the first guide: a model without one of them stays as it was.
    widths = {name: int(submodule(model, f"{name}.embedding.4").num_features) for name in texts_of}  # type: ignore[arg-type]
    guides = {
        name: ActionGraphGuidance(widths[name], rows, dropout=dropout, control=control)
        for name, rows in texts_of.items()
    }
    plugs = {name: FeaturePlug("embedding", guide, Placement(layout="bdt")) for name, guide in guides.items()}
    for name, plug in plugs.items():
        try:
            check(submodule(model, name), [plug])
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    for name, plug in plugs.items():
        insert(submodule(model, name), plug)
    return model
