"""The figures that need the model, or what was recorded while it trained: grades, fusion, clips."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mag2.figures.chosen import Chosen, LeftOutError, same_target
from mag2.figures.embeddings import draw_fused_features, draw_grade_patterns
from mag2.figures.files import Drawing
from mag2.figures.grade_weights import draw_grade_weights
from mag2.figures.predictions import Case, draw_cases
from mag2.figures.views import BRANCHES, clip_contributions, fused_features, grade_names, grade_weights
from mag2.training.recording import read_recorded, recorded_epochs
from mag2.training.run_folder import Training

__all__ = ["best_and_worst", "fused", "patterns", "weights"]

CASES = 3
MOST_PANELS = 4
OCCLUSION = "by replacing it with the mean of the others (occlusion)"
QUERIES = {"texts": "texts", "learnable": "learnable vectors"}
TSNE = (
    "t-SNE keeps neighbours together, distances between groups mean little. Below each panel of 20 videos or more "
    "stands the Spearman of each score with the mean score of its five nearest neighbours, found in the features "
    "themselves."
)


def patterns(chosen: Chosen) -> Drawing:
    """The decoded grades early in training, by kind of query (the paper's Fig. 2)."""
    training = chosen.training
    method = [each for each in same_target(chosen.run, training) if each.heading.method == training.heading.method]
    recorded = {each: recorded_epochs(each.folder) for each in method}
    with_some = [set(epochs) for epochs in recorded.values() if epochs]
    common = set.intersection(*with_some) if with_some else set()
    if not common:
        raise LeftOutError("no grades of an early epoch were recorded: train with --record 2")
    epoch = min(common)
    shown = [each for each in method if epoch in recorded[each]][:MOST_PANELS]
    found = {each: read_recorded(each.folder, epoch) for each in shown}
    name = next((f"grades{suffix}" for suffix in BRANCHES if f"grades{suffix}" in found[shown[0]]), None)
    shown = [each for each in shown if name in found[each]]
    if name is None or not shown:
        raise LeftOutError(f"{training.name} decodes no grades")
    panels = {_queries(each): found[each][name].numpy() for each in shown}
    scale, minimum = (float(training.described.get(name, usual)) for name, usual in (("scale", 1.0), ("minimum", 0.0)))
    score = minimum + found[shown[0]]["label"].double().numpy() * scale
    branch = BRANCHES[name.removeprefix("grades")]
    footer = f"{training.about}; {branch} after epoch {epoch} of {training.result.get('epochs', '?')}"
    figure = draw_grade_patterns(panels, score, words=_words(chosen, branch, panels), unit=chosen.unit, footer=footer)
    alone = "" if len(panels) > 1 else " Only this kind of query was recorded."
    caption = f"t-SNE of the decoded {branch} of the test videos, coloured by {chosen.unit}: {footer}. {TSNE}{alone}"
    return Drawing(f"grade-patterns{chosen.stem}", f"Grade patterns early in training, {chosen.unit}", caption, figure)


def weights(chosen: Chosen) -> Drawing:
    """The weight of each grade against ascending score (Fig. 3)."""
    panels = grade_weights(chosen.trained, chosen.dataset)
    if not panels:
        raise LeftOutError(f"{chosen.training.name} returns no weights of grades")
    words = {
        branch: names
        for branch, each in panels.items()
        if (names := grade_names(chosen.trained, branch, each.shape[1])) is not None
    }
    footer = chosen.footer(_weights_of(chosen))
    figure = draw_grade_weights(panels, chosen.score, words=words, unit=chosen.unit, footer=footer)
    caption = (
        f"Weight of each grade against ascending true {chosen.unit} of the test videos, as a running mean: {footer}. "
        f"The dotted line is where all grades weigh the same."
    )
    return Drawing(f"grade-weights{chosen.stem}", f"Weights of the grades, {chosen.unit}", caption, figure)


def best_and_worst(chosen: Chosen) -> Drawing:
    """The videos with the least and the greatest error, with their clips (Fig. 4)."""
    found = chosen.predictions
    order = np.argsort(np.abs(found.predicted - found.score), kind="stable")
    count = min(CASES, len(order) // 2)
    if not count:
        raise LeftOutError("best and worst cases need two test videos or more")
    places = {name: place for place, name in enumerate(chosen.dataset.test.names)}
    if not set(found.names) <= set(places):
        raise LeftOutError("the predictions are of other videos than the test set")
    cases = [
        Case(
            found.names[each],
            float(found.score[each]),
            float(found.predicted[each]),
            *clip_contributions(chosen.trained, chosen.dataset, places[found.names[each]]),
        )
        for each in map(int, (*order[:count], *order[::-1][:count]))
    ]
    footer = chosen.footer(chosen.protocol)
    figure = draw_cases(
        cases[:count],
        cases[count:],
        unit=chosen.unit,
        method=OCCLUSION,
        axis="clips from the beginning of the video"
        if chosen.trained.about["clip_seconds"] is None
        else "seconds of the video",
        footer=footer,
    )
    caption = (
        f"The {count} test videos with the least error (left) and the {count} with the greatest (right), and what each "
        f"clip adds to the predicted {chosen.unit}, {OCCLUSION}: {footer}."
    )
    return Drawing(f"best-and-worst{chosen.stem}", f"Best and worst cases, {chosen.unit}", caption, figure)


def fused(chosen: Chosen) -> Drawing:
    """Features before and after the fusion (Fig. 5)."""
    panels: dict[str, NDArray[Any]] = {}
    others = [each for each in same_target(chosen.run, chosen.training) if each is not chosen.training]
    own = fused_features(chosen.trained, chosen.dataset)
    if own is None:
        raise LeftOutError(f"{chosen.training.name} has no fusion of the library's designs")
    panels[f"without {own.design}: clips as they enter it"] = own.before
    panels[f"with {own.design}"] = own.after
    for each in others:
        other = _other_design(chosen, each) if len(panels) < MOST_PANELS else None
        if other is not None and f"with {other.design}" not in panels:
            panels[f"with {other.design}"] = other.after
    footer = chosen.footer(_weights_of(chosen))
    figure = draw_fused_features(panels, chosen.score, unit=chosen.unit, footer=footer)
    caption = (
        f"t-SNE of the features of the test videos, means over their clips, coloured by {chosen.unit}: {footer}. "
        f"Without {own.design} are the guided visual and audio clips of the same trained model side by side. {TSNE}"
    )
    return Drawing(f"fused-features{chosen.stem}", f"Fused features, {chosen.unit}", caption, figure)


def _other_design(chosen: Chosen, training: Training) -> Any:
    try:
        return fused_features(chosen.model_of(training), chosen.dataset)
    except LeftOutError:
        return None


def _queries(training: Training) -> str:
    """What a model decodes its grades from, and its name."""
    config = ((training.described.get("model") or {}).get("base") or {}).get("config") or {}
    queries = QUERIES.get(str(config.get("queries")))
    return training.name if queries is None else f"{training.name}: {queries}"


def _words(chosen: Chosen, branch: str, panels: dict[str, NDArray[Any]]) -> tuple[str, ...] | None:
    try:
        return grade_names(chosen.trained, branch, next(iter(panels.values())).shape[1])
    except LeftOutError:
        return None


def _weights_of(chosen: Chosen) -> str:
    return f"weights of epoch {chosen.trained.about['epoch']}"
