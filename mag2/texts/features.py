"""Text features and their prompts: shipped with the library, read from files, or encoded by any text encoder."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mag2.encoders import TextEncoder, checked_features, load_text_encoder, source_of
from mag2.nn.feature_rows import check_feature_rows
from mag2.saving.folders import FORMAT, check_readable, library_version, read_json, read_weights, write_folder
from mag2.saving.torch_files import TorchFileError, load_torch
from mag2.texts.controls import controlled
from mag2.texts.provenance import Provenance, TextRows, provenance_of
from mag2.vocabulary import ACTIONS, GRADE_WORDS, Prompts, grade_words, make_prompts, with_article

__all__ = ["SHIPPED", "TextFeatures"]

_SETS = ("visual", "audio", "grades", "audio_visual_grades")
_FILES, _KIND = ("texts.safetensors", "texts.json"), "text_features"
SHIPPED = files("mag2") / "shipped" / "minilm.safetensors"
# The same for `mag2.vocabulary.OTHER_ACTIONS`.
SHIPPED_OTHER = files("mag2") / "shipped" / "minilm_elements.safetensors"


@dataclass(frozen=True, repr=False)
class TextFeatures:
    """The text features of one sport, and the prompts that they were made from.

    Each of the four sets may be a tensor of your own: ``TextFeatures(visual=..., audio=..., grades=...,
    audio_visual_grades=...)``.

    Args:
        visual: (M, D) features of the visual action texts.
        audio: (M, D) features of the audio action texts.
        grades: (N, D) features of the visual grade texts, from worst to best.
        audio_visual_grades: (2N, D) features of the audio-visual grade texts, from worst to best.
        prompts: the prompts of all rows; None where they are not known.
        sport: a key of `mag2.vocabulary.ACTIONS` or `OTHER_ACTIONS`, any other name, or None.
        source: the encoder or file that made the features, in words.

    Raises:
        ValueError: a set is no tensor (rows, D) of finite numbers; the widths differ; there are not 2N audio-visual
            grades for N grades; or there are not as many prompts as rows.
    """

    visual: Tensor
    audio: Tensor
    grades: Tensor
    audio_visual_grades: Tensor
    prompts: Prompts | None = None
    sport: str | None = None
    source: str = "given"

    def __post_init__(self) -> None:
        """Refuse rows that do not belong together."""
        parts = {name: getattr(self, name) for name in _SETS}
        for name, rows in parts.items():
            check_feature_rows(rows, f"texts.{name} wants")
        widths = {name: rows.shape[1] for name, rows in parts.items()}
        if len(set(widths.values())) > 1:
            raise ValueError(f"the text features want one width, got {widths}")
        if len(self.audio_visual_grades) != 2 * len(self.grades):
            raise ValueError(
                f"{len(self.grades)} grades want {2 * len(self.grades)} audio-visual grades, "
                f"got {len(self.audio_visual_grades)}"
            )
        if self.prompts is not None and len(self.prompts.rows) != len(self.rows):
            raise ValueError(f"{len(self.prompts.rows)} prompts for {len(self.rows)} feature rows")
        self._mark()

    def __setstate__(self, state: dict) -> None:
        """From pickle and deepcopy."""
        self.__dict__.update(state)
        self._mark()

    def __repr__(self) -> str:
        """Sport, sizes and source in one line."""
        sport = "" if self.sport is None else f"{self.sport!r}, "
        sizes = f"{len(self.visual)} visual, {len(self.audio)} audio, {self.n_grades} grades, {self.width} wide"
        return f"TextFeatures({sport}{sizes}, source={self.source!r})"

    def _mark(self) -> None:
        """Attach to each set where it is from: a module that receives one set can then save that too."""
        for name in _SETS:
            rows = getattr(self, name)
            known = provenance_of(rows)
            if self.prompts is not None or known.prompts is None:
                prompts = None if self.prompts is None else getattr(self.prompts, name)
                known = Provenance(prompts, self.source, self.sport)
            object.__setattr__(self, name, TextRows.of(rows, known))

    @property
    def provenance(self) -> Provenance:
        """Origin of all rows, in the order of `rows`."""
        return Provenance(None if self.prompts is None else self.prompts.rows, self.source, self.sport)

    @property
    def grade_provenance(self) -> Provenance:
        """Origin of the 2N audio-visual grades and the N grades, in this order."""
        prompts = None if self.prompts is None else self.prompts.audio_visual_grades + self.prompts.grades
        return Provenance(prompts, self.source, self.sport)

    @property
    def width(self) -> int:
        """D, the width of a feature row."""
        return self.visual.shape[1]

    @property
    def n_grades(self) -> int:
        """N, the number of visual grades."""
        return len(self.grades)

    @property
    def sizes(self) -> list[int]:
        """The numbers of rows of the four sets in the authors' order, [M, M, 2N, N]."""
        return [len(self.visual), len(self.audio), len(self.audio_visual_grades), len(self.grades)]

    @property
    def rows(self) -> Tensor:
        """All features (2M + 3N, D) in the authors' row order."""
        return torch.cat([self.visual, self.audio, self.audio_visual_grades, self.grades])

    @classmethod
    def for_sport(
        cls,
        sport: str,
        *,
        n_grades: int = 6,
        visual_template: str = "a video of",
        audio_template: str = "a music suitable for",
    ) -> "TextFeatures":
        """Return the features that the library ships for a sport: from MiniLM, D = 384, without any download.

        The shipped prompts have the six templates of Table 5 and 3 to 8 grades; for other prompts use `encode`.

        Args:
            sport: a key of `mag2.vocabulary.ACTIONS` or `OTHER_ACTIONS`.
            n_grades: N, 3 to 8; 6 in the paper (Table 2).
            visual_template, audio_template: the words before the action; the paper's choice (Table 5).

        Raises:
            ValueError: an unknown sport or number of grades, or a template without shipped features.
        """
        prompts = make_prompts(sport, n_grades, visual_template, audio_template)
        table, source = _shipped()
        unknown = [prompt for prompt in prompts.rows if prompt not in table]
        if unknown:
            raise ValueError(
                f"no shipped feature for the prompt {unknown[0]!r}; use TextFeatures.encode for it, "
                f"in a table's command --texts minilm"
            )
        rows = torch.stack([table[prompt] for prompt in prompts.rows])
        return cls.from_rows(rows, prompts, sport=sport, source=source)

    @classmethod
    def load(cls, sport: str, encoder: str = "shipped", **prompts: Any) -> "TextFeatures":
        """Return the features of a sport from an encoder, a file or a folder.

        Args:
            sport: a key of `ACTIONS` or `OTHER_ACTIONS` of `mag2.vocabulary`.
            encoder: "shipped" (`for_sport`); the name of an encoder (`encode`), "open_clip:ViT-B-16/openai" for
                example; a file of the authors (`from_released`), which has the paper's templates and six grades alone;
                or a folder that `save` wrote.
            prompts: n_grades, visual_template and audio_template, as in `for_sport`.

        Raises:
            ValueError: as the method that is used; or the file or folder has texts of another sport, or no features of
                these prompts.
        """
        if encoder == "shipped":
            return cls.for_sport(sport, **prompts)
        saved = (Path(encoder) / _FILES[1]).is_file()
        if not saved and Path(encoder).is_dir():
            raise ValueError(f"{encoder} is a folder without texts; give one that mag2 texts --out wrote")
        if not saved and not Path(encoder).is_file():
            return cls.encode(sport, encoder, **prompts)
        texts = cls.from_saved(encoder) if saved else cls.from_released(encoder)
        requested = make_prompts(sport, prompts.pop("n_grades", 6), **prompts)
        if texts.sport != sport:
            raise ValueError(f"{encoder} has the texts of {texts.sport}, those of {sport} are wanted")
        texts = texts.with_grades(len(requested.grades))
        if texts.prompts != requested:
            raise ValueError(f"{encoder} has no features of {requested.rows[0]!r}; name an encoder to make them")
        return texts

    @classmethod
    def from_released(cls, path: str | Path, *, n_grades: int = 6) -> "TextFeatures":
        """Read a text file of the authors: features of ViFi-CLIP, D = 512.

        The files are named `.npy` but are written by `torch.save`. The number of rows, 2M + 3N, determines the sport.

        Args:
            path: FS_text_feature.npy, RG_text_feature.npy or LOGO_text_feature.npy.
            n_grades: N; the authors' files have 6.

        Raises:
            ValueError: no such file, not a torch tensor (rows, D), or a number of rows that fits no sport.
        """
        path = Path(path)
        if not path.is_file():
            raise ValueError(f"no text file {path}; give the authors' FS_, RG_ or LOGO_text_feature.npy")
        try:
            rows = load_torch(path)
        except TorchFileError as fault:
            raise ValueError(f"{path} {fault}; give the authors' text file") from fault
        if not isinstance(rows, Tensor) or rows.dim() != 2:
            raise ValueError(f"{path} holds {_described(rows)}; a text file holds one tensor (rows, width)")
        by_rows: dict[int, str] = {}
        for known_sport, actions in ACTIONS.items():  # of equal numbers the first: not a sport that a user added
            by_rows.setdefault(2 * len(actions) + 3 * n_grades, known_sport)
        sport = by_rows.get(len(rows))
        if sport is None:
            known = ", ".join(f"{count} ({name})" for count, name in by_rows.items())
            raise ValueError(f"{path} has {len(rows)} rows; with {n_grades} grades there can be {known}")
        prompts = make_prompts(sport, n_grades)
        return cls.from_rows(rows.float(), prompts, sport=sport, source=f"released:{path.name}")

    @classmethod
    def encode(
        cls,
        actions: str | Sequence[str],
        encoder: str | TextEncoder = "open_clip:ViT-B-16/openai",
        *,
        checkpoint: str | Path | None = None,
        grades: int | Sequence[str] | None = None,
        n_grades: int = 6,
        visual_template: str = "a video of",
        audio_template: str = "a music suitable for",
        device: torch.device | str = "cpu",
        sport: str | None = None,
    ) -> "TextFeatures":
        """Encode the prompts of a sport, of the library or your own, with any text encoder.

        Args:
            actions: a key of `mag2.vocabulary.ACTIONS` or `OTHER_ACTIONS`; or a list of 2 to 2,000 action terms,
                ``["handspring", "round-off", ...]``.
            encoder: a name as in `mag2.encoders.load_text_encoder`, "minilm" for example; or a function from a list of
                P prompts to an array (P, D). The default is CLIP ViT-B/16 with OpenAI's weights.
            checkpoint: for an open_clip encoder, a file whose weights replace those of its name.
            grades: the grade words from worst to best, or their number N, 3 to 8.
            n_grades: N where `grades` is not given; 6 in the paper (Table 2).
            visual_template, audio_template: the words before the action; the paper's choice (Table 5).
            device: where an encoder that is loaded by name runs.
            sport: a name for the sport of your own action terms.

        Raises:
            ValueError: as `mag2.vocabulary.make_prompts` and `mag2.encoders.load_text_encoder`; or the function returns
                no finite array (P, D).
        """
        prompts = make_prompts(actions, n_grades if grades is None else grades, visual_template, audio_template)
        if isinstance(encoder, str):
            encode = load_text_encoder(encoder, checkpoint=checkpoint, device=device)
            source = source_of(encoder, checkpoint)
        else:
            encode, source = encoder, f"function {getattr(encoder, '__name__', type(encoder).__name__)}"
        rows = checked_features(encode(list(prompts.rows)), len(prompts.rows), source)
        return cls.from_rows(rows, prompts, sport=actions if isinstance(actions, str) else sport, source=source)

    def save(self, folder: str | Path) -> None:
        """Save features, prompts and source into a folder: `texts.safetensors` and `texts.json`.

        Texts that the folder holds already are overwritten. Files are written atomically.
        """
        weights = {name: getattr(self, name).detach().cpu().contiguous().as_subclass(Tensor) for name in _SETS}
        prompts = None if self.prompts is None else {name: list(getattr(self.prompts, name)) for name in _SETS}
        about = {"format": FORMAT, "mag2": library_version(), "kind": _KIND, "prompts": prompts}
        write_folder(Path(folder), _FILES, weights, {**about, "sport": self.sport, "source": self.source})

    @classmethod
    def from_saved(cls, folder: str | Path) -> "TextFeatures":
        """Read the features from a folder that `save` wrote.

        Raises:
            ValueError: no such folder, a damaged one, one with other content, or one that a later version of mag2
                wrote.
        """
        folder = Path(folder)
        path = folder / _FILES[1]
        about = read_json(path, "TextFeatures.save")
        check_readable(about, {"format", "mag2", "kind", "prompts", "sport", "source", "sha256"}, path)
        weights = read_weights(folder / _FILES[0], about.get("sha256"))
        if set(weights) != set(_SETS) or about.get("kind") != _KIND:
            raise ValueError(f"{folder} holds no text features; give a folder that TextFeatures.save wrote")
        prompts = about.get("prompts")
        if prompts is not None:
            try:
                prompts = Prompts(**{name: tuple(map(str, prompts[name])) for name in _SETS})
            except (KeyError, TypeError):
                raise ValueError(f"{path} has prompts that are no lists of texts; save the features again") from None
        return cls(**weights, prompts=prompts, sport=about.get("sport"), source=str(about.get("source", "given")))

    @classmethod
    def from_rows(
        cls, rows: Tensor, prompts: Prompts, *, sport: str | None = None, source: str = "given"
    ) -> "TextFeatures":
        """Split a matrix of features (2M + 3N, D) into the four sets.

        Args:
            rows: the features, in the order of `prompts.rows`.
            prompts: the prompts of the rows.
            sport, source: as in the class.

        Raises:
            ValueError: no matrix, or not as many rows as prompts.
        """
        sizes = [
            len(prompts.visual),
            len(prompts.audio),
            len(prompts.audio_visual_grades),
            len(prompts.grades),
        ]
        if rows.dim() != 2 or len(rows) != sum(sizes):
            raise ValueError(f"{sum(sizes)} prompts want as many feature rows, got {tuple(rows.shape)}")
        visual, audio, audio_visual_grades, grades = rows.split(sizes)
        return cls(visual, audio, grades, audio_visual_grades, prompts, sport, source)

    def with_grades(self, n_grades: int) -> "TextFeatures":
        """Return the same features with fewer grades; the action texts stay.

        Args:
            n_grades: the new N. Its grade words must be among the present ones.

        Raises:
            ValueError: a number of grades without words, a grade word that has no feature here, or present grades that
                are words of your own.
        """
        if n_grades == self.n_grades:
            return self
        if self.prompts is not None and self.prompts.grades != _standard_grades(self.n_grades):
            raise ValueError(
                f"these texts have {self.n_grades} grades of your own, {self.prompts.grades[0]!r} and so on, and "
                f"{n_grades} are needed; make texts of {n_grades} grades, or the model with {self.n_grades}"
            )
        have, fewer = grade_words(self.n_grades), grade_words(n_grades)
        absent = [word for word in fewer if word not in have]
        if absent:
            raise ValueError(
                f"these texts have {self.n_grades} grades and no {absent[0]!r}; "
                f"make them with n_grades={n_grades} from the start"
            )
        keep = [have.index(word) for word in fewer]
        both = [row for grade in keep for row in (2 * grade, 2 * grade + 1)]
        prompts = self.prompts and replace(
            self.prompts,
            grades=tuple(self.prompts.grades[row] for row in keep),
            audio_visual_grades=tuple(self.prompts.audio_visual_grades[row] for row in both),
        )
        grades, audio_visual = self.grades[keep], self.audio_visual_grades[both]
        return replace(self, grades=grades, audio_visual_grades=audio_visual, prompts=prompts)

    def controlled(self, control: str | None, seed: int = 0) -> "TextFeatures":
        """Return the same features with the visual and audio action texts changed by a control; grades stay.

        Args:
            control: "zero_texts", "random_texts", "permuted_texts" or "centred_texts" (`mag2.texts.controlled`);
                None returns these features.
            seed: seed of the random draws for the visual texts; the audio texts use `seed` + 1.

        Raises:
            ValueError: an unknown control.
        """
        if control is None:
            return self
        visual, audio = controlled(self.visual, control, seed), controlled(self.audio, control, seed + 1)
        return replace(self, visual=visual, audio=audio, source=f"{self.source}, {control}")


def _standard_grades(n_grades: int) -> tuple[str, ...]:
    return tuple(with_article(f"{word} performance") for word in GRADE_WORDS.get(n_grades, ()))


@cache
def _shipped() -> tuple[Mapping[str, Tensor], str]:
    from safetensors import safe_open

    table: dict[str, Tensor] = {}
    for path in (SHIPPED_OTHER, SHIPPED):
        with safe_open(str(path), framework="pt") as file:
            about = file.metadata()
            table |= zip(json.loads(about["prompts"]), file.get_tensor("features").float(), strict=True)
    return table, about["source"]


def _described(value: object) -> str:
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
