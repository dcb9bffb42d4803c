"""MLAVL, the paper's model: projection, context, guidance, fusion and grading in the order of its figure."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mag2.context import SharedSpecificContextEncoder
from mag2.fusion import make_fusion
from mag2.grading import PromptGuidedGrading
from mag2.guidance import ActionGraphGuidance, make_guides
from mag2.losses import mlavl_loss
from mag2.mlavl.folded import FoldedMLAVL, checked_features, entered
from mag2.mlavl.released import THEIR_CLIP, our_weights, released_texts
from mag2.nn.modules import evaluating
from mag2.nn.pretrained import Pretrained
from mag2.nn.state_dicts import accept_former_keys, check_names, count_layers, load_strictly, without_prefix
from mag2.projection import TokenProjection
from mag2.texts import LiveTexts, ProjectedTexts, Provenance, TextFeatures

__all__ = ["MLAVL"]


class MLAVL(Pretrained):
    """Score performances by visual clips, audio clips and texts: the paper's full model, MLAVL (CVPR 2025).

    MLAVL is short for multidimensional language-guided audio-visual learning.

    Shapes: visual (B, T, visual_dim), audio (B, T, audio_dim), clip_mask (B, T), True where a clip is real. Returns a
    dict with the entries of `PromptGuidedGrading` (score (B,) in [0, 1] among them) and the projected texts for the
    loss: texts_visual (M, d), texts_audio (M, d), texts_audio_visual_grades (2N, d), texts_grades (N, d).

    Args:
        texts: the `TextFeatures` of the sport; the model keeps a copy and learns one projection for all four sets. Or
            a `mag2.texts.LiveTexts`, a trained module that computes the features at every call (Table 5).
        visual_dim, audio_dim: widths of the features; 768 (Video Swin or TimeSformer, AST).
        dim: d, 256 (released).
        n_heads: attention heads; 8 (supplement).
        n_context: layers of the context encoder; 1 (released).
        n_fusion: layers of the fusion's decoder; 2 (released).
        n_grading: layers of the grading decoder; 3 (supplement).
        dropout: 0.3 (released training command).
        guidance: "graph" (MAG2), or a design of Table 1 (a key of `mag2.guidance.GUIDES`).
        residual: True adds the guided clips to the clips (our option); False replaces the clips by them (released).
        fusion: "avcf", or a design of Table 3 (a key of `mag2.fusion.FUSIONS`).
        queries, use_pe: as in `PromptGuidedGrading` (Table 4, rows 11 and 12); by default texts without position code.
        control, control_seed: what to remove from both graphs, as in `ActionGraphGuidance`. The projected texts are
            changed where they enter the graphs; the grading uses them unchanged.
        released: reproduce two errors of the released code: the position code is indexed by the number of the video in
            the batch, and the audio graph uses at most as many texts as the visual one has. The score is then not
            clamped to [0, 1] in evaluation.
        provenance: origin of the texts; by default the one that they carry.

    Raises:
        ValueError: in the constructor: an unknown guidance, fusion, queries or control. In `forward`: features of
            another shape or width, no audio, lengths that differ, a mask of another shape or type, a video without a
            real clip, or `edge_weight` with another guidance than "graph".
    """

    def __init__(
        self,
        texts: TextFeatures | LiveTexts,
        *,
        visual_dim: int = 768,
        audio_dim: int = 768,
        dim: int = 256,
        n_heads: int = 8,
        n_context: int = 1,
        n_fusion: int = 2,
        n_grading: int = 3,
        dropout: float = 0.3,
        guidance: str = "graph",
        residual: bool = False,
        fusion: str = "avcf",
        queries: str = "texts",
        use_pe: bool = False,
        control: str | None = None,
        control_seed: int = 0,
        released: bool = False,
        provenance: Provenance | None = None,
    ):
        super().__init__()
        self.released = released
        self.sizes = {
            "visual_dim": visual_dim,
            "audio_dim": audio_dim,
            "dim": dim,
            "n_heads": n_heads,
            "n_context": n_context,
            "n_fusion": n_fusion,
            "n_grading": n_grading,
            "dropout": dropout,
            "guidance": guidance,
            "residual": residual,
            "fusion": fusion,
            "queries": queries,
            "use_pe": use_pe,
            "control": control,
            "control_seed": control_seed,
            "released": released,
        }
        self.text_sizes = texts.sizes
        self.project_visual = TokenProjection(visual_dim, dim)
        self.project_audio = TokenProjection(audio_dim, dim)
        rows = texts if isinstance(texts, LiveTexts) else texts.rows
        self.owned_texts = ProjectedTexts(rows, dim, provenance or texts.provenance)
        self.context = SharedSpecificContextEncoder(dim, n_heads=n_heads, n_layers=n_context, dropout=dropout)
        self.guide_visual, self.guide_audio = make_guides(
            guidance, dim, n_heads=n_heads, dropout=dropout, control=control, control_seed=control_seed
        )
        self.fusion = make_fusion(fusion, dim, n_heads=n_heads, n_layers=n_fusion, dropout=dropout)
        self.grading = PromptGuidedGrading(
            dim,
            n_grades=texts.n_grades,
            queries=queries,
            use_pe=use_pe,
            n_heads=n_heads,
            n_layers=n_grading,
            dropout=dropout,
            released=released,
        )
        accept_former_keys(self, FORMER_KEYS)

    def forward(
        self,
        visual: Tensor,
        audio: Tensor | None = None,
        flow: Tensor | None = None,
        clip_mask: Tensor | None = None,
        *,
        edge_weight: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Score a batch; see the class for shapes and the returned dict.

        Args:
            visual: (B, T, visual_dim).
            audio: (B, T, audio_dim); required.
            flow: not used; all models of the library accept the same three features.
            clip_mask: (B, T), True where a clip is real.
            edge_weight: (B, T, M), weights of the edges from texts to clips, the same in both graphs: the music of a
                clip should fit the action that the clip shows.
        """
        visual, audio = checked_features(visual, audio, clip_mask, self.sizes)
        # All texts of the sport go through the projection together: one set of statistics for all of them.
        visual_texts, audio_texts, audio_visual_grades, grades = self.owned_texts().split(self.text_sizes)
        graph_texts = audio_texts[: len(visual_texts)] if self.released else audio_texts

        weighted = {} if edge_weight is None else {"edge_weight": edge_weight}
        if weighted and self.sizes["guidance"] != "graph":
            raise ValueError(f"edge_weight is for the graph; this model's guidance is {self.sizes['guidance']!r}")
        guide_audio = self.guide_visual if self.guide_audio is None else self.guide_audio
        visual = self.context(self.project_visual(visual, clip_mask), clip_mask)
        audio = self.context(self.project_audio(audio, clip_mask), clip_mask)
        guided_visual = self.guide_visual(visual, visual_texts, clip_mask=clip_mask, **weighted)
        guided_audio = guide_audio(audio, graph_texts, clip_mask=clip_mask, **weighted)
        visual, audio = entered(visual, guided_visual, self.sizes), entered(audio, guided_audio, self.sizes)
        fused = self.fusion(visual, audio, clip_mask)
        own_queries = self.grading.queries is not None
        prompts = () if own_queries else (audio_visual_grades, grades)
        graded = self.grading(fused, visual, *prompts, clip_mask=clip_mask)
        return graded | {
            "texts_visual": visual_texts,
            "texts_audio": audio_texts,
            "texts_audio_visual_grades": audio_visual_grades,
            "texts_grades": grades,
        }

    def fold(self) -> FoldedMLAVL:
        """Return an equal model without texts, for deployment: graphs folded, projected grade texts as constants.

        It equals this model in evaluation, and holds no text encoder. This model stays as it is.

        Raises:
            ValueError: another guidance than "graph", or the control "no_edges".
        """
        if not isinstance(self.guide_visual, ActionGraphGuidance):
            raise ValueError(f"only the graph folds; this model's guidance is {self.sizes['guidance']!r}")
        assert isinstance(self.guide_audio, ActionGraphGuidance)
        with torch.no_grad(), evaluating(self):
            visual, audio, *grades = self.owned_texts().split(self.text_sizes)
        graph_texts = audio[: len(visual)] if self.released else audio
        guides = {"guide_visual": self.guide_visual.fold(visual), "guide_audio": self.guide_audio.fold(graph_texts)}
        folded = FoldedMLAVL(**self.sizes, n_grades=self.grading.n_grades).to(visual.device, visual.dtype)
        ours = {f"{name}.{key}": value for name, guide in guides.items() for key, value in guide.state_dict().items()}
        kept = {key: value for key, value in self.state_dict().items() if key.startswith(UNFOLDED)}
        folded.load_state_dict({**kept, **ours, "prompts": torch.cat(grades)})
        return folded.train(self.training)

    def with_constant_texts(self) -> "MLAVL":
        """Return an equal model whose texts are constants: the features that its `LiveTexts` computes now.

        It equals this model in evaluation, and is saved without a text tower. A model whose texts are constants
        already is returned unchanged.
        """
        if self.live_texts is None:
            return self
        with torch.no_grad(), evaluating(self):
            texts = self.live_texts.features()
        sizes: dict[str, Any] = self.sizes
        constant = MLAVL(texts, **sizes, provenance=self.provenance)
        state = {key: value for key, value in self.state_dict().items() if not key.startswith("owned_texts.live.")}
        load_strictly(constant, {**state, "owned_texts.texts": texts.rows})
        some = next(self.parameters())
        return constant.to(some.device, some.dtype).train(self.training)

    @property
    def texts(self) -> Tensor | None:
        """The text features (2M + 3N, D); None where a `LiveTexts` computes them."""
        return self.owned_texts.texts

    @property
    def live_texts(self) -> LiveTexts | None:
        """The module that computes the texts at every call; None where they are constants."""
        return self.owned_texts.live

    @property
    def provenance(self) -> Provenance:
        """Origin of the texts: prompts, encoder or file, sport."""
        return self.owned_texts.provenance

    def loss(self, output: Mapping[str, Tensor], label: Tensor) -> dict[str, Tensor]:
        """Compute the paper's loss (`mag2.losses.mlavl_loss`).

        `output` is what `forward` returned, `label` (B,) in [0, 1]. Returns a dict of scalars; "total" is the sum.
        """
        return mlavl_loss(output, label)

    @property
    def config(self) -> dict[str, Any] | None:
        """The arguments that build this model again, as plain values for JSON.

        Of the texts it has their number, width, prompts and source. None where the texts are a `LiveTexts`, which has
        weights of its own.
        """
        if self.texts is None:
            return None
        texts = {"rows": self.text_sizes, "width": self.texts.shape[1], **self.provenance.config}
        return {**self.sizes, "owned_texts": texts}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "MLAVL":
        """Build the model that `config` describes, with texts of zeros; load its state afterwards."""
        sizes = {"residual": False, **config}
        owned = sizes.pop("owned_texts")
        parts = [torch.zeros(rows, owned["width"]) for rows in owned["rows"]]
        texts = TextFeatures(visual=parts[0], audio=parts[1], audio_visual_grades=parts[2], grades=parts[3])
        return cls(texts, **sizes, provenance=Provenance.from_config(owned))

    @classmethod
    def from_released(
        cls,
        state_dict: Mapping[str, Tensor],
        *,
        text_features: TextFeatures | Tensor,
        n_text: int | None = None,
        use_pe: bool = False,
        dropout: float = 0.3,
        n_head: int = 8,
        **sizes: Any,
    ) -> "MLAVL":
        """Load a checkpoint of the authors, with ``released=True`` and in evaluation mode.

        Args:
            state_dict: of the authors' `MLAVL`, with or without the prefix ``module.``. Keys of their CLIP tower are
                ignored.
            text_features: `TextFeatures`, or their matrix (rows, D) in the released row order.
            n_text: number of visual texts; half the action rows by default.
            use_pe, dropout, n_head: arguments by the authors' names; no weight shows them.
            sizes: their in_dim, hidden_dim, n_encoder, n_decoder, n_query; ignored, because the shapes of the weights
                give these sizes.

        Raises:
            ValueError: a key is missing, unexpected or of another shape, or the texts do not fit the model.
            TypeError: an argument of another name.
        """
        check_names(sizes, ("in_dim", "hidden_dim", "n_encoder", "n_decoder", "n_query"), "MLAVL.from_released")
        state = {k: v for k, v in without_prefix(state_dict).items() if not k.startswith(THEIR_CLIP)}
        shapes = {key: tuple(value.shape) for key, value in state.items()}
        try:
            n_grades, dim = shapes["regressor_V.weight"]
            visual_dim, audio_dim = shapes["proj_visual.0.weight"][1], shapes["proj_audio.0.weight"][1]
        except KeyError as missing:
            raise ValueError(
                f"{missing.args[0]} is not among the keys; give the state_dict of a released MLAVL"
            ) from None
        model = cls(
            released_texts(text_features, n_grades, n_text),
            visual_dim=visual_dim,
            audio_dim=audio_dim,
            dim=dim,
            n_heads=n_head,
            n_context=count_layers(state, "SSCEncoder"),
            n_fusion=count_layers(state, "T_decoder"),
            n_grading=count_layers(state, "GradeDecoder"),
            dropout=dropout,
            use_pe=use_pe,
            released=True,
        )
        assert model.texts is not None
        load_strictly(model, our_weights(state) | {"owned_texts.texts": model.texts})
        return model.eval()


# The parts of a model that folding leaves as they are.
UNFOLDED = ("project_visual.", "project_audio.", "context.", "fusion.", "grading.")
# Version 0.1 had the texts and their projection beside the other parts.
FORMER_KEYS = {
    "texts": "owned_texts.texts",
    "project_texts": "owned_texts.projection",
    "live_texts": "owned_texts.live",
}
