"""Folders that earlier versions of mag2 saved, kept as they were, and what makes such a set of a new version.

    python -m tests.saved FOLDER      # writes one folder a case; run at each release, and commit the result

Each case keeps `expected.npz` beside what the library wrote: the weights of the model before anything was attached
("base/..."), the inputs of a call ("input/0", ...) and the output of the saved model in evaluation mode ("output").
Cases in `WITH_STATE` keep the state_dict of the whole, as users keep it, in `state.pt`. `training` and `table` are
folders of `fit` and of `examples/table4.py --rows 1 3 --targets TES --epochs 1`. `tests/test_saved.py` builds the bases
anew, loads every set and compares.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mag2 import MLAVL, ActionGraphGuidance, SimilarityWeighted, TextFeatures, attach, save_plugin
from mag2.adapters import cofinal, gdlt, pamfn, qtd
from mag2.baselines import GDLT, PAMFN, QTD, CoFInAl
from mag2.data.features import ClipFeatures
from mag2.data.labels import Example
from mag2.data.performances import assemble
from mag2.training import Epoch, History, Recipe, Run, fit
from mag2.vocabulary import make_prompts

DIM, CLIPS, BATCH = 8, 5, 2
SETS = sorted(path for path in Path(__file__).parent.iterdir() if path.is_dir() and path.name[0].isdigit())


class Scorer(nn.Module):
    """A model of somebody's own."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(DIM, DIM), nn.ReLU())
        self.head = nn.Linear(DIM, 1)

    def forward(self, clips: Tensor) -> Tensor:
        return self.head(self.encoder(clips).mean(dim=1)).squeeze(1)


def numbers(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def texts() -> TextFeatures:
    """The prompts of a sport with features that are narrow, so that what is kept stays small."""
    prompts = make_prompts("rhythmic_gymnastics", 4)
    rows = numbers(len(prompts.rows), 6, seed=2)
    return TextFeatures.from_rows(rows, prompts, sport="rhythmic_gymnastics", source="random:2")


def guide(**options) -> ActionGraphGuidance:
    return ActionGraphGuidance(DIM, texts().visual, **options)


@dataclass(frozen=True)
class Case:
    """A model before anything is attached, what is attached, and what the model is called with.

    Attributes:
        base: builds the bare model; of models that are saved whole, the whole.
        plug: attaches, in place; None where the model is saved whole.
        inputs: of a call.
        compared: whether the output is kept. Not where a later version is meant to compute something else.
    """

    base: Callable[[], nn.Module]
    plug: Callable[[nn.Module], object] | None
    inputs: tuple[Tensor, ...]
    compared: bool = True


CLIP_FEATURES = numbers(BATCH, CLIPS, DIM, seed=3)
THREE = tuple(numbers(BATCH, 8, DIM, seed=seed) for seed in (4, 5, 6))


def two_places(model: nn.Module) -> None:
    attach(model, [guide(), guide(hidden=3, dropout=0.1)], at=["encoder.0", "encoder"], start="replace", freeze=True)


def texts_and_mag2(adapter, **grading) -> Callable[[nn.Module], None]:
    def plug(model: nn.Module) -> None:
        adapter.with_texts(model, texts(), **grading)
        adapter.with_mag2(model, texts())

    return plug


def folded(model: nn.Module) -> None:
    whole = guide().eval()
    attach(model, whole.fold(), at="encoder", layout="btd", side="output")


def small_qtd() -> QTD:
    """QTD's evaluator has a fixed width: its weights follow a rule, so that they need not be kept."""
    model = QTD(in_dim=DIM, dim=8, n_queries=6, feed_forward=8, max_len=16)
    with torch.no_grad():
        for weight in model.evaluator.parameters():
            weight.copy_(((torch.arange(weight.numel()) * 7 % 13 - 6) / 60).view_as(weight))
    return model


def mlavl(**options) -> MLAVL:
    return MLAVL(texts(), visual_dim=DIM, audio_dim=DIM, dim=8, n_heads=2, n_fusion=1, n_grading=1, **options)


CASES: dict[str, Case] = {
    "two_places": Case(Scorer, two_places, (CLIP_FEATURES,)),
    "identity": Case(Scorer, lambda m: attach(m, guide(), at="encoder", start="identity"), (CLIP_FEATURES,)),
    "in_a_part": Case(Scorer, lambda m: attach(m.encoder, guide(), at="0", side="input"), (CLIP_FEATURES,)),
    "control": Case(Scorer, lambda m: attach(m, guide(control="permuted_texts"), at="encoder"), (CLIP_FEATURES,)),
    "no_edges": Case(Scorer, lambda m: attach(m, guide(control="no_edges"), at="encoder"), (CLIP_FEATURES,)),
    "gat": Case(Scorer, lambda m: attach(m, guide(convolution="gat"), at="encoder"), (CLIP_FEATURES,)),
    "folded": Case(Scorer, folded, (CLIP_FEATURES,)),
    "gdlt": Case(lambda: GDLT(in_dim=DIM, dim=DIM), texts_and_mag2(gdlt), (CLIP_FEATURES,)),
    "cofinal": Case(lambda: CoFInAl(in_dim=DIM, dim=DIM), texts_and_mag2(cofinal), (CLIP_FEATURES,)),
    "qtd": Case(small_qtd, texts_and_mag2(qtd), (CLIP_FEATURES,)),
    "pamfn": Case(
        lambda: PAMFN(visual_dim=DIM, flow_dim=DIM, audio_dim=DIM, dim=8, n_kinds=2, ms_heads=1, cm_heads=1),
        texts_and_mag2(pamfn, dim=8, n_heads=2, n_layers=1),
        THREE,
        compared=False,
    ),
    "whole_guide": Case(guide, None, (CLIP_FEATURES,)),
    "whole_folded_guide": Case(lambda: guide().eval().fold(), None, (CLIP_FEATURES,)),
    "whole_mlavl": Case(mlavl, None, THREE[:2]),
    "whole_folded_mlavl": Case(lambda: mlavl().eval().fold(), None, THREE[:2]),
}


def weighted(model: nn.Module) -> SimilarityWeighted:
    """Around the model of case "weighted", whose plug is saved from inside it."""
    return SimilarityWeighted(model, texts())


def settled(model: nn.Module, inputs: tuple[Tensor, ...]) -> nn.Module:
    """Statistics of BatchNorm that are those of some batches and not the initial ones; then evaluation mode."""
    with torch.no_grad():
        for step in range(3):
            model.train()(*(each + 0.1 * step for each in inputs))
    return model.eval()


def write(case: Case, folder: Path, seed: int) -> None:
    """Save one case."""
    torch.manual_seed(seed)
    model = case.base()
    folder.mkdir(parents=True)
    keys = set() if case.plug is None else {key for key in model.state_dict() if not key.startswith(BY_RULE)}
    if case.plug is not None:
        case.plug(model)
    settled(model, case.inputs)
    if case.plug is None:
        model.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)
    else:
        save_plugin(model, folder)
    state = model.state_dict()
    if folder.name in WITH_STATE:
        torch.save(state, folder / "state.pt")
    if not case.compared:
        return
    arrays = {f"base/{key}": state[key].numpy() for key in keys}
    arrays |= {f"input/{number}": value.numpy() for number, value in enumerate(case.inputs)}
    with torch.no_grad():
        arrays["output"] = score(model(*case.inputs)).numpy()
    np.savez_compressed(folder / "expected.npz", **arrays)


BY_RULE = ("evaluator.",)
WITH_STATE = ("two_places", "whole_mlavl")


def score(output) -> Tensor:
    return output["score"] if isinstance(output, dict) else output


TRAINING = "training"  # the folder of a training that was stopped after its first epoch
TRAINED = "trained"  # the folder of a finished training with its model, since 0.2


def small_training(
    folder: Path, on_epoch: Callable[[Epoch], None] | None = None, *, keep_model: bool = False
) -> History:
    """Two epochs of a small guided model on features that are the same on every machine."""
    rows = (torch.arange(12 * CLIPS * DIM) * 37 % 101).view(12, CLIPS, DIM) / 50 - 1
    features = {"visual": ClipFeatures.stack([video.numpy() for video in rows])}
    labels = [Example(f"v{i}", (i * 5 % 12) / 12, f"v{i}") for i in range(12)]
    dataset = assemble("own", "score", scale=1.0, clips=CLIPS, train=labels[:8], test=labels[8:], features=features)
    torch.manual_seed(0)
    model = gdlt.with_mag2(GDLT(in_dim=DIM, dim=DIM, dropout=0.0), texts(), dropout=0.0, start="replace")
    run = Run(epochs=2, folder=folder, checkpoint_seconds=0)
    return fit(model, dataset, Recipe(batch=4), run, on_epoch, keep_model=keep_model)


def write_training(folder: Path) -> None:
    """A training that is stopped after its first epoch."""

    def stop(epoch: Epoch) -> None:
        raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        small_training(folder, stop)


def write_trained(folder: Path) -> None:
    """A finished training with its model, its predictions and texts."""
    small_training(folder, keep_model=True)
    for path in [folder / "checkpoint.pt", folder / ".lock", *folder.glob("events.out.*")]:
        path.unlink(missing_ok=True)


def write_all(folder: Path) -> None:
    """Save every case."""
    write_training(folder / TRAINING)
    write_trained(folder / TRAINED)
    for seed, (name, case) in enumerate(CASES.items()):
        write(case, folder / name, seed)
