"""Broken inputs: a good folder, broken in one or two random ways, and read."""

import contextlib
import io
import random
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from tempfile import mkdtemp

import torch

from tests.campaign.judging import bad_ending
from tests.campaign.mutations import break_something, copy_tree
from tests.few import few_performances

__all__ = ["CASES"]

LENGTH, CLIPS = (4, 6), 4


def texts():
    from mag2 import TextFeatures

    return TextFeatures.for_sport("figure_skating")


# Good folders, each made once a process.


@cache
def dataset_folder(name: str) -> Path:
    from mag2 import TextFeatures
    from mag2.data import DATASETS, simulate

    spec = DATASETS[name]
    features = TextFeatures.for_sport(spec.sport)
    folder = Path(mkdtemp()) / "data"
    widths = {modality: 8 if modality != "visual" else 16 for modality in spec.features}
    train, test = (16, 8) if name == "RG" else (6, 4)
    simulate(features, spec=spec, train=train, test=test, length=LENGTH, widths=widths).write(folder)
    return folder


def read_dataset(name: str, folder: Path) -> torch.Tensor:
    from mag2.data import DATASETS, TARGETS

    dataset = DATASETS[name].read(folder, TARGETS[name][0], clips=CLIPS)
    return torch.stack(
        [part.batch(torch.arange(len(part))).visual.double().sum() for part in (dataset.train, dataset.test)]
    )


@cache
def store_folder() -> Path:
    folder = Path(mkdtemp()) / "data"
    copy_tree(dataset_folder("FS1000"), folder)
    read_dataset("FS1000", folder)
    return folder


@cache
def model_folder(kind: str) -> Path:
    from mag2 import save_plugin
    from mag2.baselines import GDLT
    from tests.saved import Scorer, mlavl, two_places
    from tests.saved import texts as narrow

    folder = Path(mkdtemp()) / "saved"
    if kind == "MLAVL":
        mlavl().save_pretrained(folder)
    elif kind == "folded":
        mlavl().eval().fold().save_pretrained(folder)
    elif kind == "GDLT":
        GDLT(in_dim=8, dim=8, n_grades=4).save_pretrained(folder) if _gdlt_takes() else GDLT().save_pretrained(folder)
    elif kind == "texts":
        narrow().save(folder)
    else:
        model = Scorer()
        two_places(model)
        save_plugin(model, folder)
    return folder


def _gdlt_takes() -> bool:
    import inspect

    from mag2.baselines import GDLT

    return {"in_dim", "dim", "n_grades"} <= set(inspect.signature(GDLT).parameters)


def load_model(kind: str, folder: Path) -> None:
    from mag2 import MLAVL, TextFeatures, load_plugin
    from mag2.baselines import GDLT
    from mag2.mlavl.folded import FoldedMLAVL
    from tests.saved import Scorer

    classes = {"MLAVL": MLAVL, "folded": FoldedMLAVL, "GDLT": GDLT}
    if kind in classes:
        classes[kind].from_pretrained(folder)
    elif kind == "texts":
        TextFeatures.from_saved(folder)
    else:
        load_plugin(Scorer(), folder)


@cache
def _dataset():
    from mag2.data import simulate
    from mag2.data.fs1000 import FS1000

    widths = {"visual": 8, "audio": 8, "flow": 8}
    return simulate(texts(), spec=FS1000(), train=6, test=4, length=LENGTH, widths=widths).dataset("TES", clips=CLIPS)


def _fit(folder: Path, stop: Callable[[object], object] | None = None):
    from mag2 import MLAVL
    from mag2.training import Recipe, Run, fit

    torch.manual_seed(0)
    model = MLAVL(texts(), visual_dim=8, audio_dim=8, dim=8, n_heads=2, n_fusion=1, n_grading=1)
    return fit(model, _dataset(), Recipe(batch=3), Run(3, folder=folder, checkpoint_seconds=0), on_epoch=stop)


@cache
def run_folder() -> Path:
    folder = Path(mkdtemp()) / "run"

    def stop(epoch) -> None:
        if epoch.epoch == 2:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        _fit(folder, stop)
    return folder


def resume(folder: Path) -> None:
    _fit(folder)


@cache
def table_folder() -> Path:
    folder = Path(mkdtemp()) / "out"
    _table(folder)
    return folder


def _table(folder: Path) -> None:
    """A table's command; where it refuses, its line becomes the error that is judged."""
    import table4

    from mag2.training.command import main

    few_performances(train=24, test=8, clips=4)
    arguments = ["--rows", "10", "--targets", "TES", "--epochs", "1", "--workers", "1", "--device", "cpu"]
    err, status = io.StringIO(), 0
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        try:
            status = main(table4.TABLE4, [*arguments, "--out", str(folder)])
        except SystemExit as ended:
            status = ended.code
    fault = bad_ending(status, err.getvalue())
    if fault is not None:
        raise AssertionError(fault)


# Cases: each yields what it does, then does it.


def _case(
    make: Callable[[], Path], read: Callable[[Path], object], rng: random.Random, folder: Path, outside: Path
) -> Iterator[str]:
    copy = folder / "case"
    copy_tree(make(), copy)
    yield "; ".join(break_something(rng, copy, outside) for _ in range(rng.choice((1, 1, 2))))
    read(copy)


def _dataset_case(rng: random.Random, folder: Path, outside: Path) -> Iterator[str]:
    name = rng.choice(("FS1000", "Fis-V", "RG", "LOGO"))
    for words in _case(partial(dataset_folder, name), partial(read_dataset, name), rng, folder, outside):
        yield f"{name}, {words}"


def _store_case(rng: random.Random, folder: Path, outside: Path) -> Iterator[str]:
    """Whatever happens to a store: the numbers are those of the files."""
    copy = folder / "case"
    copy_tree(store_folder(), copy)
    yield "store, " + break_something(rng, copy / ".mag2-cache", outside)
    assert torch.equal(read_dataset("FS1000", copy), read_dataset("FS1000", store_folder())), "other numbers"


def _save_case(rng: random.Random, folder: Path, outside: Path) -> Iterator[str]:
    kind = rng.choice(("MLAVL", "folded", "GDLT", "texts", "plug-in"))
    for words in _case(partial(model_folder, kind), partial(load_model, kind), rng, folder, outside):
        yield f"{kind}, {words}"


CASES = {
    "datasets": _dataset_case,
    "stores": _store_case,
    "saves": _save_case,
    "runs": partial(_case, run_folder, resume),
    "tables": partial(_case, table_folder, _table),
}
