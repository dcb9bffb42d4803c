"""Text features of a programme: one row of a text encoder for every executed element."""

import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from mag2.encoders import TextEncoder, load_text_encoder, source_of
from mag2.programmes.performances import Performance
from mag2.programmes.shipped import read_performances

__all__ = ["SHIPPED_WORDS", "ElementTexts", "descriptions_of"]

SHIPPED_WORDS = Path(__file__).parent / "isu_minilm.safetensors"


def descriptions_of(performances: Iterable[Performance]) -> tuple[str, ...]:
    """Every different description of an element of the performances, in the order of its first use."""
    return tuple(dict.fromkeys(element.description for each in performances for element in each.elements))


class ElementTexts:
    """Text features of the descriptions of elements, which are used as the clips of a performance.

    The features contain what the technical panel called: the element, its level and its marks, but not the grade of
    execution. No video is used: these are the features that a perfect recogniser of elements could give.

    Args:
        descriptions: the descriptions, each once.
        rows: their features (number of descriptions, width), kept as float32.
        source: name of the encoder that made the features.

    Raises:
        ValueError: a description is there twice, or there are not as many rows as descriptions.
    """

    def __init__(self, descriptions: Iterable[str], rows: Tensor, source: str = "given"):
        names = tuple(descriptions)
        if len(set(names)) != len(names):
            raise ValueError("the descriptions of element texts have one twice; give each once")
        if rows.dim() != 2 or len(rows) != len(names):
            raise ValueError(f"{len(names)} descriptions need {len(names)} feature rows, got {tuple(rows.shape)}")
        self.descriptions = names
        self.rows = rows.float()
        self.source = source
        self._index: Mapping[str, int] = {name: i for i, name in enumerate(names)}

    @property
    def width(self) -> int:
        """The width of a feature row."""
        return self.rows.shape[1]

    @classmethod
    def load(
        cls,
        encoder: str = "shipped",
        *,
        performances: Iterable[Performance] | None = None,
        checkpoint: str | Path | None = None,
        device: torch.device | str = "cpu",
    ) -> "ElementTexts":
        """Load or compute the features of all elements of some performances.

        Args:
            encoder: "shipped" (MiniLM, width 384, without a download), or a name as in
                `mag2.encoders.load_text_encoder`.
            performances: whose elements are encoded; the shipped ones by default.
            checkpoint, device: as in `load_text_encoder`.

        Raises:
            ValueError: as `load_text_encoder`; or performances or a checkpoint together with "shipped".
        """
        if encoder == "shipped":
            if performances is not None or checkpoint is not None:
                raise ValueError("the shipped features are as they are; name an encoder for other performances")
            return _shipped()
        encode = load_text_encoder(encoder, checkpoint=checkpoint, device=device)
        return cls.encode(encode, performances=performances, source=source_of(encoder, checkpoint))

    @classmethod
    def encode(
        cls, encoder: TextEncoder, *, performances: Iterable[Performance] | None = None, source: str = "given"
    ) -> "ElementTexts":
        """Compute the features of all elements of some performances with a function.

        Args:
            encoder: a function from P strings to an array (P, width).
            performances: whose elements are encoded; the shipped ones by default.
            source: name of the encoder.

        Raises:
            ValueError: the function returns no finite array (P, width).
        """
        descriptions = descriptions_of(read_performances() if performances is None else performances)
        return cls(descriptions, encoder(descriptions), source)

    def clips(self, performance: Performance) -> Tensor:
        """Return the features (T, width) float32 of the T executed elements of a performance, in their order.

        Raises:
            ValueError: an element whose description has no feature here.
        """
        return self.rows[torch.tensor(self.rows_of(performance), dtype=torch.long)]

    def rows_of(self, performance: Performance) -> list[int]:
        """Return the indices into `rows` of the T executed elements of a performance; ValueError as `clips`."""
        return [self._row(element.description) for element in performance.elements]

    def _row(self, description: str) -> int:
        row = self._index.get(description)
        if row is None:
            raise ValueError(f"no feature of the element {description!r}; encode the performances that have it")
        return row


@cache
def _shipped() -> ElementTexts:
    from safetensors import safe_open

    with safe_open(str(SHIPPED_WORDS), framework="pt") as file:
        about = file.metadata()
        return ElementTexts(json.loads(about["descriptions"]), file.get_tensor("features"), about["source"])
