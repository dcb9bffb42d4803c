"""Whether an error is a sentence of ours, and whether a case touched anything outside its folder."""

import hashlib
import os
import traceback
from pathlib import Path

__all__ = ["bad_ending", "complaint", "snapshot"]

ROOT = Path(__file__).parents[2]
OURS = tuple(str(ROOT / folder) + os.sep for folder in ("mag2", "adapters", "baselines"))
LONGEST = 700


def complaint(error: BaseException) -> str | None:
    """What is wrong with an error, or None where it is one sentence of ours."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "nowhere"
    text = str(error)
    shown = f"{type(error).__name__} at {place}: {' '.join(text.split())[:200]}"
    if not isinstance(error, ValueError | TypeError | FloatingPointError):
        return f"not a sentence of ours: {shown}"
    if not place.startswith(OURS):
        return f"raised outside the library: {shown}"
    if "\n" in text or not text.strip():
        return f"not one line: {shown}"
    if any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in text):
        return f"control characters: {shown!r}"
    if len(text) > LONGEST:
        return f"{len(text)} characters long: {shown}"
    return None


def bad_ending(status: object, err: str) -> str | None:
    """What is wrong with how a command ended, or None: where it refuses, the last line of stderr is the sentence.

    Lines of progress may stand before it, no other refusal and no traceback.
    """
    lines = err.splitlines()
    refusals = [line for line in lines if "error: " in line]
    ended = status in (0, 1) if not refusals else status == 2 and refusals == lines[-1:]
    if ended and "Traceback" not in err and all(len(line) <= LONGEST for line in lines):
        return None
    return f"status {status} with {lines}"


def snapshot(folder: Path) -> dict[str, str]:
    """What lies in a folder, by path: kind, and a digest of the content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        kind = "link" if path.is_symlink() else "folder" if path.is_dir() else "file" if path.is_file() else "other"
        content = hashlib.sha256(path.read_bytes()).hexdigest() if kind == "file" else ""
        found[str(path.relative_to(folder))] = f"{kind} {content}"
    return found
