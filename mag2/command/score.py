"""`mag2 score`: score performances with the models of a run, and say what stands behind each score."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mag2.command.parser import Command, make_parser, print_json
from mag2.saving.arguments import given_path, real_number, whole_number
from mag2.saving.places import check_file_place, make_folder

if TYPE_CHECKING:
    from mag2.scoring import Scores, Trained

__all__ = ["COMMAND"]

_ABOUT = """Score performances in the target's units, with an interval, grades and the contribution of each clip.

RUN is the folder of `mag2 train`, of a table, or of one training, not of several of these. All targets in it are
scored; the score of several seeds of one row is their mean. FEATURES is a folder that `mag2 extract` wrote, or a .npy
of visual features. Without FEATURES, test videos of the run's own data are scored, which were not used for training."""
_EXAMPLES = (
    "mag2 score runs/train-simulated                                   three test videos of the demo",
    "mag2 score runs/train features --names routine1 --json",
    "mag2 score runs/train video/a.npy --audio audio/a.npy --clip-seconds 1.28",
)
FEW = 3  # test videos that are scored where none are named
METHODS = {"occlusion": "occlusion", "gradient": "gradient times input", "none": None}


def _run(arguments: Sequence[str]) -> int:
    parser = make_parser("score", _ABOUT, *_EXAMPLES)
    add = parser.add_argument
    add("run", type=given_path, metavar="RUN", help="folder with trained models")
    add(
        "features",
        nargs="?",
        type=given_path,
        metavar="FEATURES",
        help="folder of features, or a .npy of visual features",
    )
    for modality in ("audio", "flow", "vision-language"):
        add(
            f"--{modality}",
            type=given_path,
            metavar="FILE",
            help=f"{modality} features of the same performance, a .npy",
        )
    add("--names", nargs="+", metavar="NAME", help="videos to score, of the folder or of the test set")
    add("--row", help="one of several rows")
    add("--target", help="one of several targets: TES, or FS1000/TES")
    add("--seed", type=whole_number(0), help="one of several seeds; by default the mean of all")
    add(
        "--explain",
        nargs="+",
        choices=METHODS,
        default=["occlusion"],
        help="contribution of a clip: occlusion replaces the clip by the mean of the others (the default), gradient is "
        "faster",
    )
    add(
        "--level",
        type=real_number(0, 1, open_ends=True),
        default=0.9,
        help="level of the interval: intended share of new videos whose score is inside (0.9)",
    )
    add(
        "--clip-seconds",
        type=real_number(0, open_ends=True),
        metavar="SECONDS",
        help="duration of a clip, if the folder does not have it",
    )
    add("--data", type=given_path, metavar="FOLDER", help="present folder of the run's data, if they have moved")
    add("--device", default="cpu", help="device of the models: cpu, cuda, ... (cpu)")
    add("--out", type=given_path, metavar="FILE", help="write the scores as JSON to this file too")
    options = parser.parse_args(list(arguments))
    if options.out is not None:
        check_file_place(options.out)
    others = sorted({*options.explain} - {"none"})
    if others and "none" in options.explain:
        parser.error(f"--explain none gives no contributions; leave out {' and '.join(others)}")
    results = [_score(models, options) for models in _groups(options)]
    plain = [scores.plain | {"truth": truth} for scores, truth in results]
    if options.out is not None:
        from mag2.saving.atomic_io import write_atomically

        make_folder(options.out.parent)
        write_atomically(json.dumps(plain, indent=1, ensure_ascii=False) + "\n", options.out)
    if options.json:
        print_json(plain)
    else:
        print("\n\n".join(_sentences(scores, truth) for scores, truth in results))
        if options.out is not None:
            print(f"Written: {options.out}", file=sys.stderr)
    return 0


def _groups(options: Any) -> list[list["Trained"]]:
    """The trained models that belong together: all seeds of one target."""
    from mag2.scoring import find_trained, load_trained

    folders = find_trained(options.run, row=options.row, target=options.target, seed=options.seed)
    by_target: dict[tuple[str, str], list[Trained]] = {}
    for folder in folders:
        trained = load_trained(folder, device=options.device)
        by_target.setdefault((trained.dataset_name, trained.target), []).append(trained)
    for (_, target), models in by_target.items():
        rows = {str((each.about["row"] or {}).get("key")): None for each in models}
        if len(rows) > 1:
            raise ValueError(f"{options.run} has several rows for {target}: give --row, one of {', '.join(rows)}")
        _check_one_run(models, options.run, target)
    return list(by_target.values())


def _check_one_run(models: Sequence["Trained"], given: Path, target: str) -> None:
    """Refuse models of several runs, or several of one seed: their mean would be that of different models."""
    runs = list(dict.fromkeys(_run_of(each.folder) for each in models))
    if len(runs) > 1:
        shown = ", ".join(map(str, runs[:4])) + (" and more" if len(runs) > 4 else "")
        raise ValueError(
            f"{given} holds {len(runs)} runs with trained models of {target}, whose row keys and seeds may be the same "
            f"({shown}): give the folder of one of them"
        )
    by_seed: dict[Any, Trained] = {}
    for each in models:
        other = by_seed.setdefault(each.seed, each)
        if other is not each:
            seeds = "no" if each.seed is None else "one"
            raise ValueError(
                f"{given} holds several trained models of {seeds} seed for {target}, {other.folder} and {each.folder}: "
                f"give the folder of one of them"
            )


def _run_of(training: Path) -> Path:
    """The folder of the run that a training belongs to."""
    grid = next((parent for parent in training.parents if parent.name == "cells"), training)
    return grid.parent


def _score(models: Sequence["Trained"], options: Any) -> tuple["Scores", dict[str, float]]:
    """The scores, and the true scores of test videos of the run's own data by name."""
    from mag2.scoring import score_by

    explain = [method for name in options.explain if (method := METHODS[name]) is not None]
    common = {"explain": explain, "level": options.level, "clip_seconds": options.clip_seconds}
    files = {"audio": options.audio, "flow": options.flow, "vision_language": options.vision_language}
    more = {key: file for key, file in files.items() if file is not None}
    if options.features is None:
        if more:
            raise ValueError(f"--{next(iter(more)).replace('_', '-')} goes with a .npy of visual features: give it too")
        return _score_own(models, options, common)
    if more and options.features.is_dir():
        raise ValueError(f"{options.features} is a folder, which has all modalities: leave the other files out")
    features = {"visual": options.features, **more} if more else options.features
    return score_by(models, features, names=options.names, **common), {}


def _score_own(models: Sequence["Trained"], options: Any, common: dict[str, Any]) -> tuple["Scores", dict[str, float]]:
    from mag2.scoring import score_by

    test = models[0].dataset(options.data).test
    names = options.names or test.names[:FEW]
    scores = score_by(models, test, names=names, **common)
    true = test.in_units(test.label).tolist()
    return scores, {name: true[test.names.index(name)] for name in names}


def _sentences(scores: "Scores", truth: dict[str, float]) -> str:
    if not truth:
        return str(scores)
    held_out = ", ".join(f"{name} {score:.4g}" for name, score in truth.items())
    return f"{scores}\nThese are test videos of the run's own data; their true scores: {held_out}."


COMMAND = Command("score", "score performances with the models of a run, and explain the scores", _run)
