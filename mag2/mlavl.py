"""MLAVL, the paper's model: projection, context, guidance, fusion and grading in the order of its figure."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mag2.baselines.released import count_layers, load_strictly, without_prefix
from mag2.context import SharedSpecificContextEncoder
from mag2.fusion import make_fusion
from mag2.grading import PromptGuidedGrading
from mag2.guidance import ActionGraphGuidance, FoldedGuidance
from mag2.knowledge import make_guides
from mag2.losses import mlavl_loss
from mag2.plugin.hub import Pretrained
from mag2.plugin.kinds import kind
from mag2.plugin.origins import Origin
from mag2.projection import TokenProjection
from mag2.prompting import LiveTexts
from mag2.texts import TextFeatures


@kind
class MLAVL(nn.Module, Pretrained):
    """Multidimensional language-guided audio-visual learning: clips and music in, a score out (CVPR 2025).

    Shapes: visual (B, T, visual_dim), audio (B, T, audio_dim), clip_mask (B, T), True where a clip is real. Returns a
    dict with the entries of `PromptGuidedGrading` (score (B,) among them) and the projected texts, which the loss
    reads: texts_visual (M, d), texts_audio (M, d), texts_audio_visual_grades (2N, d), texts_grades (N, d).

    Args:
        texts: the `TextFeatures` of the sport; the model keeps a copy and learns one projection for all four sets. Or
            a module of `mag2.prompting` that makes them anew at every call and learns (Table 5).
        visual_dim, audio_dim: widths of the features; 768 (Video Swin or TimeSformer, AST).
        dim: d, 256. n_heads: 8. n_context, n_fusion, n_grading: layers, 1, 2 and 3. dropout: 0.3. All as released.
        guidance: "graph" (MAG2), or a design of Table 1 (`mag2.knowledge.GUIDES`).
        fusion: "avcf", or a design of Table 3 (`mag2.fusion.FUSIONS`).
        queries, use_pe: what the grading decodes from, and whether it gets a position code: "texts" without one; see
            `PromptGuidedGrading` for rows 11 and 12 of Table 4.
        control, control_seed: what to take away from both graphs, for comparison (`ActionGraphGuidance`). Texts are
            changed as the graphs hear them, behind the projection; the other uses of the texts stay.
        released: reproduce two slips of the released code: the position code is read at the number of the video in
            the batch, and the audio graph has as many texts as the visual one.

    Raises:
        ValueError: features of another width, no audio, lengths that differ, or edge weights where no graph is.
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
        fusion: str = "avcf",
        queries: str = "texts",
        use_pe: bool = False,
        control: str | None = None,
        control_seed: int = 0,
        released: bool = False,
    ):
        super().__init__()
        self.released = released
        self.origin = texts.origin
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
            "fusion": fusion,
            "queries": queries,
            "use_pe": use_pe,
            "control": control,
            "control_seed": control_seed,
            "released": released,
        }
        self.texts: Tensor | None
        if isinstance(texts, TextFeatures):
            self.text_sizes = [len(texts.visual), len(texts.audio), 2 * texts.n_grades, texts.n_grades]
            self.register_buffer("texts", texts.rows.detach().float())
            self.live_texts = None
        else:
            self.text_sizes = list(texts.sizes)
            self.register_buffer("texts", None)
            self.live_texts = texts
        self.project_visual = TokenProjection(visual_dim, dim)
        self.project_audio = TokenProjection(audio_dim, dim)
        self.project_texts = TokenProjection(texts.width, dim)
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

    def forward(
        self,
        visual: Tensor,
        audio: Tensor | None = None,
        flow: Tensor | None = None,
        clip_mask: Tensor | None = None,
        *,
        edge_weight: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Score a batch; `flow` is not used (every model here takes the same three).

        `edge_weight` (B, T, M) weighs the edges from texts to clips in both graphs: what a clip shows is also what
        its music should suit.
        """
        audio = _beside(visual, audio)
        projected = self._projected_texts()
        visual_texts, audio_texts, audio_visual_grades, grades = projected.split(self.text_sizes)
        heard_texts = audio_texts[: len(visual_texts)] if self.released else audio_texts

        weighted = {} if edge_weight is None else {"edge_weight": edge_weight}
        if weighted and self.sizes["guidance"] != "graph":
            raise ValueError(f"edge_weight is for the graph; this model's guidance is {self.sizes['guidance']!r}")
        guide_audio = self.guide_visual if self.guide_audio is None else self.guide_audio
        visual = self.context(self.project_visual(visual), clip_mask)
        audio = self.context(self.project_audio(audio), clip_mask)
        visual = self.guide_visual(visual, visual_texts, clip_mask=clip_mask, **weighted)
        audio = guide_audio(audio, heard_texts, clip_mask=clip_mask, **weighted)
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

    def fold(self) -> "FoldedMLAVL":
        """The equal model without texts, for deployment: graphs folded, projected grade texts kept as constants.

        Equal to this model in evaluation. A trained text encoder is left behind as well.

        Raises:
            ValueError: a guidance that does not fold (see `ActionGraphGuidance.fold`).
        """
        return FoldedMLAVL.of(self)

    def _projected_texts(self) -> Tensor:
        # Every text of the sport goes through the projection together: one set of statistics for all.
        return self.project_texts(self.texts if self.live_texts is None else self.live_texts())

    def loss(self, output: Mapping[str, Tensor], label: Tensor) -> dict[str, Tensor]:
        """The objective of the paper, `mag2.losses.mlavl_loss`."""
        return mlavl_loss(output, label)

    @property
    def config(self) -> dict[str, Any] | None:
        """What builds it again, for JSON: sizes, and of the texts their number, width, prompts and source.

        None where the texts are a module: that one has weights of its own to bring.
        """
        if self.texts is None:
            return None
        texts = {"rows": self.text_sizes, "width": self.texts.shape[1], **self.origin.config}
        return {**self.sizes, "owned_texts": texts}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "MLAVL":
        """A model to load weights and texts into."""
        sizes = dict(config)
        owned = sizes.pop("owned_texts")
        parts = [torch.zeros(rows, owned["width"]) for rows in owned["rows"]]
        texts = TextFeatures(visual=parts[0], audio=parts[1], audio_visual_grades=parts[2], grades=parts[3])
        model = cls(texts, **sizes)
        model.origin = Origin.from_config(owned)
        return model

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
        **sizes,
    ) -> "MLAVL":
        """The authors' checkpoint, in evaluation mode, with their behaviour.

        Args:
            state_dict: of the authors' `MLAVL` (keys of their CLIP tower are passed over: its features are given).
            text_features: `TextFeatures`, or their matrix (rows, D) in the released row order.
            n_text: number of visual texts; half the action rows by default.
            use_pe, dropout, n_head: their arguments. Other sizes are read off the weights.

        Raises:
            ValueError: a key is missing or unknown, or the texts do not fit the model.
        """
        state = {k: v for k, v in without_prefix(state_dict).items() if not k.startswith(_THEIR_CLIP)}
        shapes = {key: tuple(value.shape) for key, value in state.items()}
        try:
            n_grades, dim = shapes["regressor_V.weight"]
            visual_dim, audio_dim = shapes["proj_visual.0.weight"][1], shapes["proj_audio.0.weight"][1]
        except KeyError as missing:
            raise ValueError(
                f"{missing.args[0]} is not among the keys; give the state_dict of a released MLAVL"
            ) from None
        model = cls(
            _released_texts(text_features, n_grades, n_text),
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
        renamed = _renamed(state)
        load_strictly(model, renamed | {"texts": model.texts})
        return model.eval()


@kind
class FoldedMLAVL(nn.Module, Pretrained):
    """A trained `MLAVL` without its texts; `MLAVL.fold` makes it.

    What clips hear of the action texts is two constant vectors a graph (`FoldedGuidance`), and what grades are decoded
    from is a constant as well. For scoring alone: it has no objective.

    Shapes: as `MLAVL`; returns the entries of `PromptGuidedGrading`.

    Args:
        sizes: those of the model (`MLAVL.sizes`), n_grades among them.

    Raises:
        ValueError: features of another width, no audio, or lengths that differ.
    """

    def __init__(self, **sizes):
        super().__init__()
        self.sizes = sizes
        dim, n_heads, dropout = sizes["dim"], sizes["n_heads"], sizes["dropout"]
        self.project_visual = TokenProjection(sizes["visual_dim"], dim)
        self.project_audio = TokenProjection(sizes["audio_dim"], dim)
        self.context = SharedSpecificContextEncoder(dim, n_heads=n_heads, n_layers=sizes["n_context"], dropout=dropout)
        self.guide_visual = FoldedGuidance(dim, dropout=dropout)
        self.guide_audio = FoldedGuidance(dim, dropout=dropout)
        self.fusion = make_fusion(sizes["fusion"], dim, n_heads=n_heads, n_layers=sizes["n_fusion"], dropout=dropout)
        self.grading = PromptGuidedGrading(
            dim,
            n_grades=sizes["n_grades"],
            queries=sizes["queries"],
            use_pe=sizes["use_pe"],
            n_heads=n_heads,
            n_layers=sizes["n_grading"],
            dropout=dropout,
            released=sizes["released"],
        )
        self.prompts: Tensor
        self.register_buffer("prompts", torch.zeros(3 * sizes["n_grades"], dim))

    @classmethod
    def of(cls, model: MLAVL) -> "FoldedMLAVL":
        """The folded copy of a model, which stays as it is."""
        was_training = model.training
        model.eval()
        with torch.no_grad():
            visual, audio, *grades = model._projected_texts().split(model.text_sizes)
        model.train(was_training)
        if not isinstance(model.guide_visual, ActionGraphGuidance):
            raise ValueError(f"only the graph folds; this model's guidance is {model.sizes['guidance']!r}")
        assert isinstance(model.guide_audio, ActionGraphGuidance)
        heard = audio[: len(visual)] if model.released else audio
        guides = {"guide_visual": model.guide_visual.fold(visual), "guide_audio": model.guide_audio.fold(heard)}
        folded = cls(**model.sizes, n_grades=model.grading.n_grades).to(visual.device, visual.dtype)
        ours = {f"{name}.{key}": value for name, guide in guides.items() for key, value in guide.state_dict().items()}
        kept = {key: value for key, value in model.state_dict().items() if key.startswith(_KEPT)}
        folded.load_state_dict({**kept, **ours, "prompts": torch.cat(grades)})
        return folded.train(was_training)

    def forward(
        self,
        visual: Tensor,
        audio: Tensor | None = None,
        flow: Tensor | None = None,
        clip_mask: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Score a batch."""
        heard = self.context(self.project_audio(_beside(visual, audio)), clip_mask)
        visual = self.guide_visual(self.context(self.project_visual(visual), clip_mask), clip_mask=clip_mask)
        audio = self.guide_audio(heard, clip_mask=clip_mask)
        fused = self.fusion(visual, audio, clip_mask)
        n_grades = self.sizes["n_grades"]
        prompts = () if self.grading.queries is not None else self.prompts.split([2 * n_grades, n_grades])
        return self.grading(fused, visual, *prompts, clip_mask=clip_mask)

    @property
    def config(self) -> dict[str, Any]:
        """What builds it again, for JSON."""
        return self.sizes

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "FoldedMLAVL":
        """A model to load weights and constants into."""
        return cls(**config)


# The parts of a model that folding leaves as they are.
_KEPT = ("project_visual.", "project_audio.", "context.", "fusion.", "grading.")


# The released module registers some parts twice (encoder and decoder also under `transformer.`), holds its text tower
# and a position table; ours has each part once.
_THEIR_CLIP = ("CLIP", "clip_model", "text_encoder", "model_clip")
_PASSED_OVER = ("transformer.", "pos_encoder.")
_RENAMED: dict[str, str] = {
    "w1": "grading.w",
    **TokenProjection.released_keys("proj_visual", "project_visual"),
    **TokenProjection.released_keys("proj_audio", "project_audio"),
    **TokenProjection.released_keys("proj_text", "project_texts"),
    "SSCEncoder.": "context.encoder.",
    "gcn_V.": "guide_visual.",
    "gcn_A.": "guide_audio.",
    "T_decoder.": "fusion.decoder.",
    **TokenProjection.released_keys("clip_fusion", "fusion.clip_wise.mix"),
    "GradeDecoder.": "grading.decoder.",
    "regressor_AV.": "grading.audio_visual.regressor.",
    "regressor_V.": "grading.visual.regressor.",
}


def _renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    ours = {}
    for key, value in state.items():
        if key.startswith(_PASSED_OVER):
            continue
        prefix = next((old for old in _RENAMED if key.startswith(old)), None)
        name = key if prefix is None else _RENAMED[prefix] + key[len(prefix) :]
        # Their 1x1 convolutions are linear maps here.
        ours[name] = value.squeeze(-1) if value.dim() == 3 else value
    return ours


def released_name(ours: str) -> str:
    """The released code's name of one of our parameters."""
    back = {new: old for old, new in _RENAMED.items()}
    prefix = next(new for new in back if ours.startswith(new))
    return back[prefix] + ours[len(prefix) :]


def _released_texts(texts: TextFeatures | Tensor, n_grades: int, n_text: int | None) -> TextFeatures:
    if isinstance(texts, TextFeatures):
        return texts
    rows = torch.as_tensor(texts).float()
    actions = len(rows) - 3 * n_grades
    visual = actions // 2 if n_text is None else n_text
    if not 0 < visual < actions:
        raise ValueError(f"{len(rows)} text rows and {n_grades} grades leave no room for {visual} visual texts")
    parts = rows.split([visual, actions - visual, 2 * n_grades, n_grades])
    return TextFeatures(visual=parts[0], audio=parts[1], audio_visual_grades=parts[2], grades=parts[3])


def _beside(visual: Tensor, audio: Tensor | None) -> Tensor:
    """The audio features, where they are there and fit the visual ones."""
    if audio is None:
        raise ValueError("MLAVL wants audio features beside the visual ones; for video alone see GDLT, CoFInAl, QTD")
    if visual.shape[:2] != audio.shape[:2]:
        raise ValueError(
            f"visual and audio want as many videos and clips, got {tuple(visual.shape)} and {tuple(audio.shape)}"
        )
    return audio
