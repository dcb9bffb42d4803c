"""Table 6: MLAVL with features of several encoders and texts of two text encoders, and other audio-visual models.

    python examples/table6.py                       # simulated data
    python examples/table6.py --data /path/FS1000   # FS1000's released files: measured and published results

The folders `video`, `audio` and `flow` contain the released features (TimeSformer, AST, I3D); `video_C3D` and
`audio_VGGish` those of other encoders. "BERT" is the shipped MiniLM, which is a BERT. "CLIP" is OpenAI's ViT-B-16 of
open_clip, downloaded once, or what `--texts` names (the authors' FS_text_feature.npy, or another encoder). On simulated
data "CLIP" is a small text encoder with random weights, and features are an eighth as wide as the real ones.
"""

import sys
from functools import partial

import interrupts
from rows import ALL, AUDIO_VISUAL, build_mlavl, build_pamfn
from torch import nn

from mag2.baselines import SGN, MBertLate, SkatingMixer
from mag2.published import table
from mag2.training.command import main
from mag2.training.recipes import mbert, mixer, mlavl, pamfn, sgn
from mag2.training.tables import Heading, ModelInputs, Row, Table, published
from mag2.training.text_cache import load_texts

MODALITIES = {"C3D": "visual", "TF": "visual", "VGGish": "audio", "AST": "audio", "I3D": "flow"}
ENCODERS = ("BERT", "CLIP")


def build_mbert(inputs: ModelInputs) -> nn.Module:
    """M-BERT with late fusion."""
    return MBertLate(visual_dim=inputs.widths["visual"], audio_dim=inputs.widths["audio"], **inputs.settings)


def build_mixer(inputs: ModelInputs) -> nn.Module:
    """Skating-Mixer."""
    return SkatingMixer(visual_dim=inputs.widths["visual"], audio_dim=inputs.widths["audio"], **inputs.settings)


def build_sgn(inputs: ModelInputs) -> nn.Module:
    """SGN; its teacher reads the action texts."""
    widths = {"visual_dim": inputs.widths["visual"], "audio_dim": inputs.widths["audio"]}
    return SGN(inputs.texts().visual, **widths, **inputs.settings)


def build_mlavl_with(inputs: ModelInputs, encoder: str) -> nn.Module:
    """MLAVL with texts of a BERT or of a CLIP."""
    chosen = "shipped" if encoder == "BERT" else inputs.clip
    return build_mlavl(inputs, texts=load_texts(inputs.sport, chosen))


BUILDS = {
    "M-BERT (Late)": (build_mbert, mbert, {}),
    "MLP-Mixer": (build_mixer, mixer, {}),
    "SGN": (build_sgn, sgn, {}),
    "PAMFN": (build_pamfn, pamfn, {"stages": 4}),
}


def made_row(number: int, method: str, features: str) -> Row:
    """A row of the paper's table, by the names that it has there."""
    heading = Heading(str(number), method, features, published(6, method=method, features=features))
    names = features.split("+")
    extractors = {MODALITIES[name]: name for name in names if name not in ENCODERS}
    needs = ALL if "flow" in extractors else AUDIO_VISUAL
    if method == "MLAVL":
        build = partial(build_mlavl_with, encoder=names[-1])
        return Row(heading, build, mlavl, needs, extractors=extractors, guided=True)
    build, recipe, more = BUILDS[method]
    return Row(heading, build, recipe, needs, extractors=extractors, **more)


TABLE6 = Table(
    name="table6",
    title="Table 6",
    targets={"FS1000": ("TES", "PCS")},
    rows=tuple(made_row(number, row["method"], row["features"]) for number, row in enumerate(table(6), 1)),
    facts=lambda: (
        "BERT is MiniLM, shipped with the library. CLIP is what `--texts` names or, without it, ViT-B-16 of OpenAI; "
        "for narrow models (`--size small`, simulated data) a small tower whose weights are random."
    ),
)

if __name__ == "__main__":
    sys.exit(interrupts.run(main, TABLE6))
