"""`extraction.json`: how the features of a folder were made, and which are finished."""

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mag2.extraction.encoder import Encoder
from mag2.extraction.faults import VideoError
from mag2.extraction.timing import Timing
from mag2.saving.atomic_io import read_json, replacing, write_atomically
from mag2.saving.folders import library_version

__all__ = ["FOLDERS", "MANIFEST", "Manifest", "settings_of"]

MANIFEST = "extraction.json"
# Where the loaders of mag2.data find each modality.
FOLDERS = {"visual": "video", "audio": "audio", "vision_language": "vision_language"}
FORMAT = 1
# Two videos of equal size are told apart by so many bytes of their beginning and their end.
_PRINTED = 1 << 16


def settings_of(encoders: Mapping[str, Encoder], timing: Timing, dtype: str, precision: str, no_sound: str) -> dict:
    """The settings that features of one folder share: "clips" for all of them, "features" for each modality."""
    features = {
        FOLDERS[key]: {**encoder.about, "precision": precision} | ({"no_sound": no_sound} if key == "audio" else {})
        for key, encoder in encoders.items()
    }
    clips = {"frames": timing.frames, "fps": str(timing.fps), "last": timing.last, "dtype": dtype}
    # As JSON gives it back: tuples are lists there.
    return json.loads(json.dumps({"clips": clips, "features": features}))


class Manifest:
    """The manifest of a folder; the file is written anew, atomically, before and after each video.

    Args:
        folder: of the features; it exists.
        settings: of this call, from `settings_of`.
        sources: origin of the weights of each modality, in words, by folder.

    Raises:
        ValueError: the folder has features that were made with other settings; the sentence names the difference.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], sources: Mapping[str, str]):
        self.folder, self.path = folder, folder / MANIFEST
        self._content: dict[str, Any] = {"format": FORMAT, "clips": settings["clips"], "features": {}, "videos": {}}
        if self.path.exists():
            self._content = read_json(self.path, "format", "clips", "features", "videos")
            if self._content["format"] != FORMAT:
                raise ValueError(f"a later version of mag2 wrote {self.path}; use that, or give another folder")
        self._check(settings)
        for place, made in settings["features"].items():
            width = {"width": w} if (w := self._content["features"].get(place, {}).get("width")) else {}
            self._content["features"][place] = {**made, "source": sources[place], **width}
        self._content["versions"] = _versions()

    def missing(self, name: str, path: Path, places: list[str]) -> list[str]:
        """Which of the feature folders still lack this video.

        Raises:
            VideoError: the file changed, and features of the earlier one would stay in folders that this call leaves
                out.
        """
        entry = self._content["videos"].get(name)
        if entry is None:
            return places
        if entry["print"] != _print(path):
            stale = [place for place, there in entry["made"].items() if there and place not in places]
            if stale:
                raise VideoError(
                    f"{path} is another file than {' and '.join(stale)}/{name}.npy was made of: make these features "
                    f"in the same call, or give another folder"
                )
            return places
        return [place for place in places if not self._is_there(name, place, entry)]

    def clips(self, name: str) -> int:
        """How many clips a finished video has."""
        return self._content["videos"][name]["clips"]

    def notes(self, name: str) -> list[str]:
        """The notes on a finished video."""
        return self._content["videos"][name]["notes"]

    def begin(self, name: str, path: Path) -> None:
        """Record that features of a video are about to be written, so that files that a killed call leaves are known.

        Features of an earlier file of that name are removed.
        """
        entry = self._content["videos"].get(name)
        print_ = _print(path)
        if entry is None or entry["print"] != print_:
            for place in entry["made"] if entry is not None else ():
                self._file(place, name).unlink(missing_ok=True)
            entry = {"file": path.name, "print": print_, "clips": None, "notes": [], "made": {}}
        self._content["videos"][name] = entry
        self._write()

    def write(self, name: str, features: Mapping[str, NDArray], silent: str | None, notes: list[str]) -> None:
        """Write the features of a video, by folder, and record them.

        `silent` is a folder that gets none because the video has no sound.

        Raises:
            ValueError: another width than the folder's.
        """
        entry = self._content["videos"][name]
        for place, rows in features.items():
            made = self._content["features"][place]
            if made.setdefault("width", rows.shape[1]) != rows.shape[1]:
                raise ValueError(
                    f"the features of {name} are {rows.shape[1]} wide where {self.folder / place} has {made['width']}"
                )
            (self.folder / place).mkdir(exist_ok=True)
            with replacing(self._file(place, name)) as partial, partial.open("wb") as file:
                np.save(file, rows)
            entry["clips"] = len(rows)
            entry["made"][place] = True
        if silent is not None:
            entry["made"][silent] = False
            self._file(silent, name).unlink(missing_ok=True)
        entry["notes"] = list(dict.fromkeys([*entry["notes"], *notes]))
        self._write()

    def _write(self) -> None:
        write_atomically(json.dumps(self._content, indent=1, ensure_ascii=False) + "\n", self.path)

    def _check(self, settings: Mapping[str, Any]) -> None:
        """Refuse settings that differ from those of the features that are there."""
        known = self._content["videos"]
        places = {place: sorted((self.folder / place).glob("*.npy")) for place in FOLDERS.values()}
        if any(files for place, files in places.items() if place in self._content["features"]):
            _check_equal(self._content["clips"], settings["clips"], f"{self.folder} holds features of")
        self._content["clips"] = settings["clips"]
        for place, wanted in settings["features"].items():
            made = self._content["features"].get(place)
            for file in places[place]:
                if made is None or file.stem not in known:
                    raise ValueError(f"extract did not make {file}; move it away, or give another folder")
            if places[place]:
                made = {key: value for key, value in made.items() if key not in ("source", "width")}
                _check_equal(made, wanted, f"{self.folder / place} holds features of")
            else:  # nothing is left of what earlier calls tried
                self._content["features"].pop(place, None)
                for entry in known.values():
                    entry["made"].pop(place, None)

    def _file(self, place: str, name: str) -> Path:
        return self.folder / place / f"{name}.npy"

    def _is_there(self, name: str, place: str, entry: Mapping[str, Any]) -> bool:
        if place not in entry["made"]:
            return False
        if not entry["made"][place]:  # it has no sound
            return True
        try:
            rows = np.load(self._file(place, name), mmap_mode="r", allow_pickle=False)
        except Exception:  # a damaged header can fail in any way; it is made anew
            return False
        return rows.shape == (entry["clips"], self._content["features"][place].get("width"))


def _check_equal(made: Mapping[str, Any], wanted: Mapping[str, Any], begin: str) -> None:
    for key in [*made, *wanted]:
        if made.get(key) != wanted.get(key):
            raise ValueError(
                f"{begin} {key} {made.get(key)}, this call has {key} {wanted.get(key)}; "
                f"give another folder, or the same settings"
            )


def _print(path: Path) -> str:
    """The size of a file and a hash of its beginning and end: the same wherever the file lies."""
    hash_ = hashlib.blake2b(digest_size=16)
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            for begin in (0, max(0, size - _PRINTED)):
                file.seek(begin)
                hash_.update(file.read(_PRINTED))
    except OSError as error:
        raise VideoError(f"{path} cannot be read ({error.strerror}): give the path of a video") from None
    return f"{size} {hash_.hexdigest()}"


def _versions() -> dict[str, str]:
    found = {"mag2": library_version()}
    for package in ("torch", "torchvision", "transformers", "open_clip_torch", "av", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
