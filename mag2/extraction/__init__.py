"""From videos to the features that models use: decoding, encoders by name or function, and the files of the features.

It needs the extra `video`: `pip install 'mag2[video]'`. The packages of the extra are imported by the first call that
needs them.
"""

from mag2.extraction.extracting import Extracted, extract
from mag2.extraction.faults import VideoError
from mag2.extraction.images import ImageTower
from mag2.extraction.loading import load_encoder
from mag2.extraction.networks import VideoNetwork
from mag2.extraction.transformer_models import SpectrogramTransformer, TimeSformer

__all__ = [
    "Extracted",
    "ImageTower",
    "SpectrogramTransformer",
    "TimeSformer",
    "VideoError",
    "VideoNetwork",
    "extract",
    "load_encoder",
]
