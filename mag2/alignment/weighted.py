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
    """A model whose graphs weight the edge from a text to a clip by their similarity in an outside encoder's space.

    The model's own features need not lie in that space: a call brings `vision_language` features of the same clips
    beside them, CLIP's of their frames for example. Their cosine with the texts becomes the weights of the graph's
    edges (`mag2.alignment.edge_weights`). A clip of zeros, which is padding, has the same similarity with all texts,
    and so the same weight for all of them, or for any `top_k` of them.

    Called as the model is, with one more name: ``model(visual, audio, flow, vision_language=...)``.

    Shapes: vision_language (B, T, D), as many clips as the guides get; the rest, and what is returned, is the model's.

    Args:
        model: one with guides attached (`mag2.adapters.<model>.with_mag2`, `mag2.attach`), all of which get the same
            weights, or one that takes `edge_weight` (B, T, M) in its call, such as `MLAVL`. It is used, not copied:
            `mag2.detach` gives it back, and its plug-in is saved with `mag2.save_plugin(weighted.model, folder)`.
            Put gradient checkpoints around this module, not around a guide inside: there the weights are gone when it
            runs again, and an error says so.
        texts: (M, D) of the encoder whose images the clips are, or `TextFeatures` of it, whose visual texts are meant;
            row m is about the action that row m of the guides' own texts is about. They may be other features of it.
        temperature, top_k, scale: of `mag2.alignment.edge_weights`. centre: of `clip_text_similarity`.

    Raises:
        ValueError: texts that are no matrix or not as many as a guide has, settings as `edge_weights` refuses them, a
            model without a guide that takes weights, a folded guide; or, when it is called, no vision_language
            features, or those of another shape.
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
        """Cosine of clips (B, T, D) with the texts, (B, T, M); `mag2.alignment.name_actions` names actions by it."""
        return clip_text_similarity(vision_language, self.texts, centre=self.centre)

    def weights(self, vision_language: Tensor) -> Tensor:
        """The edge weights (B, T, M) of clips (B, T, D)."""
        return edge_weights(self.similarity(vision_language), **self.settings)

    def forward(self, *features: Any, vision_language: Tensor | None = None, **named: Any) -> Any:
        """Run the model."""
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
        """The model's own."""
        model: Any = self.model
        return model.loss(output, label)

    @property
    def branches(self) -> dict[str, nn.Module]:
        """The model's branches, if it has any; guided ones train with the weights that they run with later."""
        parts = getattr(self.model, "branches", {})
        return {name: self._around(part) if weightable(part) else part for name, part in parts.items()}

    def start_fusion(self) -> None:
        """The model's own."""
        model: Any = self.model
        model.start_fusion()

    def _around(self, part: nn.Module) -> "SimilarityWeighted":
        return SimilarityWeighted(part, self.texts, centre=self.centre, **self.settings)

    def extra_repr(self) -> str:
        """Its settings, for print(model)."""
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
