"""Every model of the library, small: how it is built, what it reads, and what its output and its loss are made of."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from mag2 import MLAVL, TextFeatures
from mag2.adapters import cofinal, gdlt, pamfn, qtd
from mag2.baselines import GDLT, PAMFN, QTD, SGN, CoFInAl, MBertLate, ModalityBranch, SkatingMixer
from mag2.texts import LearnedPrompts, LiveTexts, TrainableTextEncoder
from mag2.vocabulary import Prompts

BATCH, CLIPS = 3, 7
WIDTHS = {"visual": 12, "audio": 10, "flow": 8}
TEXTS = TextFeatures.for_sport("rhythmic_gymnastics", n_grades=4)
AUDIO_VISUAL, ALL = ("visual", "audio"), tuple(WIDTHS)


def features(batch: int = BATCH, clips: int = CLIPS, seed: int = 1) -> list[Tensor]:
    """Visual, audio and flow, as every model is called with them."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, clips, width, generator=generator) for width in WIDTHS.values()]


def labels(batch: int = BATCH) -> Tensor:
    return torch.linspace(0.2, 0.9, batch)


@dataclass(frozen=True)
class Model:
    """A model of the catalogue.

    Attributes:
        make: builds it; takes the rates of dropout.
        entries: of the output. terms: of the loss, beside the total.
        reads: the modalities that reach its score.
        teacher: entries that training adds. aligned: terms that they add.
        rates: its dropout arguments.
        idle: patterns of parameters that this loss need not reach, each for a reason that its comment gives.
        clips: the least that it takes.
        masks: takes `clip_mask`. saves: describes itself for a folder.
        alone: such patterns where a video has one clip.
        wide: terms of the loss that are float32 in half precision too.
        draws: samples in training, beside dropout.
        detached: modalities of which no gradient comes back.
    """

    make: Callable[..., nn.Module]
    entries: frozenset[str]
    terms: frozenset[str]
    reads: tuple[str, ...] = ("visual",)
    teacher: frozenset[str] = frozenset()
    aligned: frozenset[str] = frozenset()
    rates: tuple[str, ...] = ("dropout",)
    idle: tuple[str, ...] = ()
    alone: tuple[str, ...] = ()
    clips: int = 1
    masks: bool = False
    saves: bool = True
    wide: tuple[str, ...] = ()
    draws: bool = False
    detached: tuple[str, ...] = ()

    def build(self, rate: float = 0.0) -> nn.Module:
        """The same weights at every call, and one rate for every dropout."""
        torch.manual_seed(0)
        return self.make(**dict.fromkeys(self.rates, rate))

    def learning(self, model: nn.Module, clips: int = CLIPS) -> dict[str, nn.Parameter]:
        """The parameters that the loss has to reach."""
        idle = self.idle + (self.alone if clips == 1 else ())
        return {
            name: parameter
            for name, parameter in model.named_parameters()
            if parameter.requires_grad and not any(fnmatch(name, pattern) for pattern in idle)
        }


def entries(*names: str) -> frozenset[str]:
    return frozenset(" ".join(names).split())


# --- MLAVL and its designs ---

GRADED = "grades_{0} queries_{0} weights_{0} score_{0}"
SETS = ("visual", "audio", "audio_visual_grades", "grades")
MLAVL_MODEL = Model(
    partial(MLAVL, TEXTS, visual_dim=12, audio_dim=10, dim=16, n_heads=4, n_fusion=1, n_grading=1),
    entries("score", *(GRADED.format(b) for b in ("audio_visual", "visual")), *(f"texts_{name}" for name in SETS)),
    entries(
        "mse agreement/audio_visual agreement/visual triplet/grades_audio_visual triplet/grades_visual",
        *(f"triplet/texts_{name}" for name in SETS),
    ),
    AUDIO_VISUAL,
    masks=True,
    wide=("mse", "total"),  # in the wider of the dtypes of score and label
)


def design(**options) -> Model:
    return replace(MLAVL_MODEL, make=partial(MLAVL_MODEL.make, **options))


FEW = Prompts(
    visual=("a [XXX] video of a back spin", "a [XXX] video of gliding"),
    audio=("a [XXX] music suitable for a back spin", "a [XXX] music suitable for gliding"),
    audio_visual_grades=tuple(f"a [XXX] {word} performance" for word in ("dull", "fair", "good", "splendid")),
    grades=("a [XXX] bad performance", "a [XXX] perfect performance"),
)


@cache
def live_texts(live: type) -> LiveTexts:
    """Few prompts before a small tower with the real vocabulary, which takes long to make."""
    import open_clip

    torch.manual_seed(0)
    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    return live(open_clip.CLIP(24, vision, text).eval(), open_clip.get_tokenizer("ViT-B-16"), FEW)


def with_live_texts(live: type, dropout: float = 0.0) -> nn.Module:
    texts = copy.deepcopy(live_texts(live))
    return MLAVL(texts, visual_dim=12, audio_dim=10, dim=16, n_heads=4, n_fusion=1, n_grading=1, dropout=dropout)


DESIGNS = {
    "MLAVL": MLAVL_MODEL,
    "MLAVL residual": design(residual=True),
    "MLAVL mlp": design(guidance="mlp"),
    "MLAVL shared transformer": design(guidance="shared_transformer"),
    "MLAVL dual transformer": design(guidance="dual_transformer"),
    "MLAVL decoder": design(fusion="decoder"),
    "MLAVL dual decoder": design(fusion="dual_decoder"),
    "MLAVL shared cross-attention": design(fusion="shared_cross_attention"),
    "MLAVL learnable queries": design(queries="learnable"),
    "MLAVL learnable queries, position code": design(queries="learnable", use_pe=True),
    "MLAVL without edges": design(control="no_edges"),
    "MLAVL learned prompts": replace(MLAVL_MODEL, make=partial(with_live_texts, LearnedPrompts), saves=False),
    "MLAVL trained text encoder": replace(
        MLAVL_MODEL, make=partial(with_live_texts, TrainableTextEncoder), saves=False
    ),
}

# --- the models of the field ---

COFINAL = Model(
    partial(CoFInAl, in_dim=12, dim=16),
    entries("score grades coarse coarse_reversed fine fine_class"),
    entries("coarse coarse_reversed fine triplet"),
    rates=("dropout", "fine_dropout"),
)


def qtd_model(**options: Any) -> nn.Module:
    """Its scores are no sigmoids either (see `mixer`)."""
    model = QTD(**{"in_dim": 12, "dim": 16, "n_queries": 5, "feed_forward": 24, "max_len": 20, **options})
    nn.init.constant_(model.evaluator.layer3_mean.bias, 0.5)
    return model


QTD_MODEL = Model(
    qtd_model,
    entries("score features query_scores query_weights self_map_0 self_map_1 cross_map_0 cross_map_1"),
    entries("mse consistency"),
    idle=("evaluator.layer3_weight.bias",),  # one number added to every logit of a soft-max
    alone=("decoder.layers.?.norm2.*",),  # the query of an attention over one clip
    wide=("mse", "consistency", "total"),
)
SQUARED = entries("mse")
LEVELS = entries("score", *(f"features_{i}" for i in range(4)))
BRANCH = Model(
    partial(ModalityBranch, in_dim=12, dim=8), LEVELS, SQUARED, rates=("dropout", "embedding_dropout"), clips=4
)
# The branches of video and flow, and the head of the audio branch, learn by a loss of their own before the fusion.
BRANCHES = ("model_r.*", "model_f.*", "model_a.fc.*")
# The mixed branch starts from zeros, which no weight changes; an expert that the policy does not draw does not learn.
UNDRAWN = ("stage1.conv.[01].weight", "stage1.short_cut.[01].weight", "stage?.f_fusion.ffn.*")
FUSED = Model(
    partial(PAMFN, visual_dim=12, audio_dim=10, flow_dim=8, dim=8, n_kinds=3),
    entries("score tokens", *(f"logits_{i} actions_{i}" for i in range(3))),
    SQUARED,
    ALL,
    rates=("embedding_dropout", "feature_dropout", "attention_dropout", "fc_dropout", "head_dropout", "branch_dropout"),
    idle=BRANCHES + UNDRAWN,
    clips=4,
    draws=True,
    detached=("visual", "flow"),
)


def mixer(**options: float) -> nn.Module:
    """Its scores are no sigmoids and start around 0, where evaluation cuts them off; these are around one half."""
    model = SkatingMixer(visual_dim=12, audio_dim=10, dim=16, **options)
    nn.init.constant_(model.output.linear.bias, 0.5)
    nn.init.normal_(model.output.linear.weight, std=0.02)
    return model


MBERT = Model(
    partial(
        MBertLate, visual_dim=12, audio_dim=10, dim=16, n_heads=2, n_layers=2, n_joint=2, rank=6, attention_dropout=0.0
    ),
    entries("score visual_tokens audio_tokens"),
    SQUARED,
    AUDIO_VISUAL,
    masks=True,
)
MIXER = Model(
    mixer,
    entries("score features"),
    SQUARED,
    AUDIO_VISUAL,
    masks=True,
)
SGN_MODEL = Model(
    partial(SGN, TEXTS.visual[:6], visual_dim=12, audio_dim=10, dim=16, n_heads=2, n_atoms=4),
    entries("score atoms attention"),
    SQUARED,
    AUDIO_VISUAL,
    teacher=entries("teacher_score teacher_atoms teacher_attention"),
    aligned=entries("teacher_mse attention feature contrast"),
    alone=("*.cross_attention.query.*", "*.cross_attention.key.*"),  # attention over one clip is 1
    masks=True,
)


def fusing(**rates: float) -> nn.Module:
    model = FUSED.make(**rates)
    model.start_fusion()
    return model


FIELD = {
    "GDLT": Model(partial(GDLT, in_dim=12, dim=16, n_heads=2), entries("score grades weights"), entries("mse triplet")),
    "CoFInAl": COFINAL,
    "CoFInAl one way": replace(
        COFINAL,
        make=partial(COFINAL.make, reversed_branch=False),
        entries=COFINAL.entries - {"coarse_reversed"},
        terms=COFINAL.terms - {"coarse_reversed"},
    ),
    **{
        f"QTD {positional}": replace(QTD_MODEL, make=partial(QTD_MODEL.make, positional=positional))
        for positional in ("query", "query_memory", "memory", "none")
    },
    "QTD redrawn, as wide": replace(QTD_MODEL, make=partial(qtd_model, dim=12, query_var=3.0)),
    "PAMFN": FUSED,
    "PAMFN fusing": replace(FUSED, make=fusing, idle=UNDRAWN),
    "ModalityBranch": BRANCH,
    "ModalityBranch audio": replace(
        BRANCH, make=partial(ModalityBranch, in_dim=10, dim=8, modality="audio"), reads=("audio",)
    ),
    "ModalityBranch flow": replace(
        BRANCH, make=partial(ModalityBranch, in_dim=8, dim=8, modality="flow"), reads=("flow",)
    ),
    "SkatingMixer": MIXER,
    "MBertLate": MBERT,
    "MBertLate mid": replace(MBERT, make=partial(MBERT.make, fusion="mid")),
    "SGN": SGN_MODEL,
}

# --- texts and guidance in the models of the field ---

ADAPTERS = {"GDLT": gdlt, "CoFInAl": cofinal, "QTD query_memory": qtd, "PAMFN": pamfn}
GRADING = {"PAMFN": {"dim": 8, "n_heads": 2, "n_layers": 1}}  # of the decoder that its texts bring


def adapted(name: str, row: str, **rates: float) -> nn.Module:
    adapter, model = ADAPTERS[name], FIELD[name].make(**rates)
    (rate,) = set(rates.values())
    if "+Texts" in row:
        adapter.with_texts(model, TEXTS, **({**GRADING[name], "dropout": rate} if name in GRADING else {}))
    if "+MAG2" in row:
        adapter.with_mag2(model, TEXTS, dropout=rate)
    return model


def row_of(name: str, row: str) -> Model:
    """A row of Table 4; the queries that texts replace do not learn any more."""
    return replace(FIELD[name], make=partial(adapted, name, row))


ROWS = {f"{name} {row}": row_of(name, row) for name in ADAPTERS for row in ("+Texts", "+MAG2", "+Texts+MAG2")}
MODELS = {**DESIGNS, **FIELD, **ROWS}

# One of each model of the field: how it is built, and the features that it is called with.
ONE_OF_EACH = {
    name: (
        MODELS[name].build,
        tuple(part for modality, part in zip(WIDTHS, features(), strict=True) if modality in MODELS[name].reads),
    )
    for name in ("GDLT", "CoFInAl", "QTD query", "PAMFN", "ModalityBranch", "SkatingMixer", "MBertLate", "SGN")
}
