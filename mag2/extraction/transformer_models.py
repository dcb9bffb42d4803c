"""Encoders of the transformers library: TimeSformer for pictures, AST (audio spectrogram transformer) for sound."""

import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mag2.encoders import from_seed, seed_of
from mag2.extraction.faults import needed, reason
from mag2.extraction.timing import Timing
from mag2.extraction.weights import is_file_name, read_weights
from mag2.nn.state_dicts import load_strictly

__all__ = ["PUBLISHED", "SpectrogramTransformer", "TimeSformer", "load_ast", "load_timesformer"]

# The weights of a name alone.
PUBLISHED = {
    "timesformer": "facebook/timesformer-base-finetuned-k400",
    "ast": "MIT/ast-finetuned-audioset-10-10-0.4593",
}
# An AST frame is 25 ms of sound, and one begins every 10 ms.
WINDOW, HOP = Fraction(25, 1000), Fraction(10, 1000)


class TimeSformer(nn.Module):
    """TimeSformer as an encoder of clips: the class token after the last layer, from frames spread evenly.

    Shapes: pictures (H, W, 3) uint8 are prepared one by one; clips (B, F, 3, h, w) float32 -> features (B, D).

    Args:
        model: a `TimesformerModel`; it uses `config.num_frames` frames of a clip.
        processor: a `TimesformerVideoProcessor`, which has the size, mean and standard deviation.
        source: origin of the weights, in words.
        random: whether the weights are untrained.
    """

    name = "timesformer"

    def __init__(self, model: Any, processor: Any, *, source: str, random: bool = False):
        super().__init__()
        self.model, self.processor, self.source, self.random = model, processor, source, random
        self.frames: int = model.config.num_frames
        self.about = {
            "resize": dict(processor.size),
            "crop": dict(processor.crop_size),
            "mean": list(processor.image_mean),
            "std": list(processor.image_std),
        }

    def prepare(self, picture: Tensor) -> Tensor:
        """Resize, crop and normalise a picture (H, W, 3) to (3, h, w), float32."""
        return self.processor(picture.permute(2, 0, 1)[None], return_tensors="pt")["pixel_values"][0, 0]

    def forward(self, clips: Tensor) -> Tensor:
        """Features (B, D) of prepared clips."""
        return self.model(clips).last_hidden_state[:, 0]


class SpectrogramTransformer(nn.Module):
    """AST as an encoder of sound: the mean of class and distillation token after the last layer, as in its classifier.

    Sound of less than 10.24 seconds, on which AST was trained, is padded by the extractor of transformers.

    Shapes: windows (S,) float32 in [-1, 1] are prepared one by one; spectrograms (B, L, M) -> features (B, D).

    Args:
        model: an `ASTModel`.
        extractor: an `ASTFeatureExtractor`, which makes the spectrogram.
        source: origin of the weights, in words.
        random: whether the weights are untrained.
    """

    name = "ast"

    def __init__(self, model: Any, extractor: Any, *, source: str, random: bool = False):
        super().__init__()
        self.model, self.extractor, self.source, self.random = model, extractor, source, random
        self.rate: int = extractor.sampling_rate
        self.about = {
            "bins": extractor.num_mel_bins,
            "length": extractor.max_length,
            "mean": extractor.mean,
            "std": extractor.std,
            # The library takes torchaudio where that is installed; the two differ in the last digits.
            "spectrogram": "numpy" if hasattr(extractor, "mel_filters") else "torchaudio",
        }

    def check(self, timing: Timing) -> None:
        """Raise a ValueError where the clips of a `Timing` are too short for a spectrogram, or too long for AST."""
        most = WINDOW + HOP * (self.extractor.max_length - 1)
        if not WINDOW <= timing.seconds <= most:
            raise ValueError(
                f"AST reads {float(WINDOW):g} to {float(most):g} seconds of sound, and a clip lasts "
                f"{float(timing.seconds):.3f}; choose other frames or fps"
            )

    def prepare(self, window: Tensor) -> Tensor:
        """Return the spectrogram (L, M) of a window (S,): L frames of M mel bands."""
        made = self.extractor(window.numpy(), sampling_rate=self.rate, return_tensors="pt")
        return made["input_values"][0].float()

    def forward(self, spectrograms: Tensor) -> Tensor:
        """Features (B, D) of spectrograms (B, L, M)."""
        return self.model(spectrograms).pooler_output


def load_timesformer(weights: str) -> TimeSformer:
    """TimeSformer with weights: a name on the hub, "" for Kinetics-400's, a local folder or file, `random:SEED`.

    A name or folder has its own preprocessing. A file and random weights are of the base size and take the defaults of
    transformers.

    Raises:
        ValueError: no such file, weights that do not fit, or a download that failed.
    """
    library = needed("transformers")
    kinds = library.TimesformerModel, library.TimesformerConfig, library.TimesformerVideoProcessor
    return TimeSformer(
        **_loaded("timesformer", weights, kinds, strip="timesformer."), **_origin("timesformer", weights)
    )


def load_ast(weights: str) -> SpectrogramTransformer:
    """AST with weights: a name on the hub, "" for AudioSet's, a local folder or file, `random:SEED`.

    A name or folder has its own preprocessing. A file and random weights are of the base size and take the defaults of
    transformers.

    Raises:
        ValueError: no such file, weights that do not fit, or a download that failed.
    """
    library = needed("transformers")
    kinds = library.ASTModel, library.ASTConfig, library.ASTFeatureExtractor
    parts = _loaded("ast", weights, kinds, strip="audio_spectrogram_transformer.")
    return SpectrogramTransformer(parts["model"], parts["processor"], **_origin("ast", weights))


def _loaded(name: str, weights: str, kinds: tuple[Any, Any, Any], strip: str) -> dict[str, Any]:
    """The model and what prepares its input."""
    with warnings.catch_warnings():
        # Kaldi's filters, which AST was trained with, are so narrow that some are empty.
        warnings.filterwarnings("ignore", "At least one mel filter has all zero values")
        return _model_and_processor(name, weights, *kinds, strip)


def _model_and_processor(
    name: str, weights: str, model_kind: Any, config_kind: Any, processor_kind: Any, strip: str
) -> dict[str, Any]:
    seed = seed_of(weights)
    if seed is not None:
        with from_seed(seed):
            return {"model": model_kind(config_kind()), "processor": processor_kind()}
    place = Path(weights).expanduser()
    if weights and is_file_name(weights) and not place.is_dir():
        model = model_kind(config_kind())
        load_strictly(model, read_weights(place, strip=strip, without=("classifier.",)))
        return {"model": model, "processor": processor_kind()}
    origin = str(place) if weights and place.is_dir() else weights or PUBLISHED[name]
    try:
        model = model_kind.from_pretrained(origin, dtype=torch.float32)
        return {"model": model, "processor": _processor(processor_kind, origin, place)}
    except Exception as error:  # whatever the download raises
        raise ValueError(f"could not load {origin!r} as {name}: {reason(error)}") from error


def _processor(kind: Any, origin: str, place: Path) -> Any:
    """The preprocessing that lies beside the weights; the library's own where a folder has none."""
    if place.is_dir() and origin == str(place) and not list(place.glob("*preprocessor_config.json")):
        return kind()
    return kind.from_pretrained(origin)


def _origin(name: str, weights: str) -> dict[str, Any]:
    if seed_of(weights) is not None:
        return {"source": weights, "random": True}
    if weights and (is_file_name(weights) or Path(weights).expanduser().is_dir()):
        return {"source": f"the local {Path(weights).name}"}
    return {"source": f"the hub's {weights or PUBLISHED[name]}"}
