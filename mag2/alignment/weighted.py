"""Any model with MAG2, its edges weighted by the similarity of every clip with every action text."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mag2.alignment.similarity import clip_text_similarity, edge_weights
from mag2.nn.feature_rows import check_feature_rows
from mag2.nn.modules import unwrapped
from mag2.plugin import edge_weights_of, n_texts_of, weightable
from mag2.texts import TextFeatures

__all__ = ["SimilarityWeighted"]


class SimilarityWeighted(nn.Module):
    """Run a model with edge weights from the similarity of clips and texts in the space of another encoder.

    The model's own features need not be in that space. Each call also gets `vision_language` features of the same
    clips, for example CLIP features of their frames. Their cosines with the texts become the weights of the edges from
    texts to clips (`mag2.alignment.edge_weights`). A clip of zeros, which is padding, has the same similarity with all
    texts, and so equal weights.

    Called as the model, with one more argument: ``weighted(visual, audio, flow, vision_language=...)``.

    Shapes: vision_language (B, T, D), with T the number of clips that the guides get. Other shapes and the returned
    values are those of the model.

    Args:
        model: has guides attached (`mag2.adapters.<model>.with_mag2`, `mag2.attach`), which all get the same weights;
            or accepts `edge_weight` (B, T, M) in its call, as `MLAVL` does. It is used, not copied: `mag2.detach`
            works on ``weighted.model``, and `mag2.save_plugin(weighted.model, folder)` saves its plug-in. Put gradient
            checkpoints around this module, not around a guide inside the model.
        texts: (M, D) text features of the encoder of `vision_language`, or `TextFeatures` of it, whose visual texts are
            used. Row m is about the same action as row m of the guides' own texts, which may be of another encoder.
        temperature, top_k, scale: as in `mag2.alignment.edge_weights`.
        centre: as in `mag2.alignment.clip_text_similarity`.

    Raises:
        ValueError: in the constructor: texts that are no matrix of finite numbers, or not as many as a guide has;
            settings that `edge_weights` refuses; a model without a guide that accepts weights; a folded guide. When
            called: no `vision_language`, or one of another shape.
        RuntimeError: a gradient checkpoint around a guide inside the model runs it again without weights.
    """

    takes_vision_language = True

    def __init__(
        self,
        model: nn.Module,
        texts: Tensor | TextFeatures,
        *,
        temperature: float = 0.05,
        top_k: int | None = None,
        scale: float | None = None,
        centre: bool = True,
    ):
        super().__init__()
        rows = texts.visual if isinstance(texts, TextFeatures) else texts
        check_feature_rows(rows, "texts want")
        self.settings: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "scale": scale}
        self.centre = centre
        edge_weights(rows.new_zeros(1, 1, len(rows)), **self.settings)  # refuses settings that mean nothing
        self.by_argument = "edge_weight" in inspect.signature(unwrapped(model).forward).parameters
        if not self.by_argument:
            _check_guides(model, len(rows))
        self.model = model
        self.texts: Tensor
        self.register_buffer("texts", rows.detach().float().clone())

    def similarity(self, vision_language: Tensor) -> Tensor:
        """Return the cosines (B, T, M) of clips (B, T, D) with the texts, for `mag2.alignment.name_actions`."""
        return clip_text_similarity(vision_language, self.texts, centre=self.centre)

    def weights(self, vision_language: Tensor) -> Tensor:
        """Return the edge weights (B, T, M) for clips (B, T, D)."""
        return edge_weights(self.similarity(vision_language), **self.settings)

    def forward(self, *features: Any, vision_language: Tensor | None = None, **named: Any) -> Any:
        """Run the model with the edge weights of `vision_language` (B, T, D).

        `features` and `named` are the model's own arguments; its output is returned.
        """
        if vision_language is None:
            raise ValueError(
                f"{type(unwrapped(self.model)).__name__} with weighted edges wants vision_language=(B, T, "
                f"{self.texts.shape[1]}), the clips in the space of its texts"
            )
        weights = self.weights(vision_language)
        if self.by_argument:
            return self.model(*features, edge_weight=weights, **named)
        with edge_weights_of(self.model, weights):
            return self.model(*features, **named)

    def loss(self, output: Mapping[str, Tensor], label: Tensor) -> dict[str, Tensor]:
        """Compute the loss of the model: `output` is what `forward` returned, `label` (B,) in [0, 1]."""
        model: Any = self.model
        return model.loss(output, label)

    @property
    def branches(self) -> dict[str, nn.Module]:
        """The model's `branches`, if any; those with guides are wrapped in `SimilarityWeighted` too."""
        parts = getattr(self.model, "branches", {})
        return {name: self._around(part) if weightable(part) else part for name, part in parts.items()}

    def start_fusion(self) -> None:
        """Call the model's `start_fusion`."""
        model: Any = self.model
        model.start_fusion()

    def _around(self, part: nn.Module) -> "SimilarityWeighted":
        return SimilarityWeighted(part, self.texts, centre=self.centre, **self.settings)

    def extra_repr(self) -> str:
        """Settings, for print(model)."""
        shown = {"texts": tuple(self.texts.shape)}
        shown |= {name: value for name, value in self.settings.items() if value is not None}
        return ", ".join(f"{name}={value}" for name, value in shown.items())


def _check_guides(model: nn.Module, n_texts: int) -> None:
    with edge_weights_of(model, torch.zeros(0)):  # refuses models whose guides take no weights
        pass
    for place in weightable(model):
        own = n_texts_of(place.module)
        if own is not None and own != n_texts:
            raise ValueError(f"{place!r} has {own} texts, so weights want as many, got {n_texts} texts")
