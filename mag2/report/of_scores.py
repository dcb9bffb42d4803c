"""The page of scored performances: the score, how sure it is, the grades, and what each clip adds."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mag2.figures import Drawing, draw_contributions
from mag2.figures.style import readable
from mag2.report.page import (
    Column,
    Entry,
    Heading,
    Items,
    Page,
    Picture,
    Points,
    Section,
    Sentence,
    SortableTable,
    TableBlock,
    number,
)
from mag2.scoring.conformal import Interval
from mag2.scoring.scores import NamedAction, Score, Scores
from mag2.vocabulary import GRADE_WORDS

__all__ = ["read_scores", "scores_page"]

MOST = 20  # performances whose clips are shown


def scores_page(scores: Scores) -> Page:
    """The page of what `mag2.Trained.score` returned."""
    one = scores[0].name if len(scores) == 1 else f"{len(scores)} performances"
    seeds = ", ".join(str(seed) for seed in scores.seeds if seed is not None)
    sections = []
    if len(scores) > 1:
        sections.append(Section("Scores", [TableBlock(_table(scores))]))
    for score in scores.performances[:MOST]:
        sections.append(Section(readable(score.name, 40), _performance(scores, score)))
    if len(scores) > MOST:
        left = f"Clips are shown of the first {MOST} of {len(scores)} performances."
        sections.append(Section("Not shown", [Sentence(left)]))
    sections.append(Section("What stands behind the numbers", [Items(scores.notes)]))
    return Page(
        title=f"{scores.target} of {readable(one, 60)}",
        lead=[f"Scored by {scores.model}, trained on {scores.data}{f', seed {seeds}' if seeds else ''}."],
        marks=[note for note in scores.notes if "SIMULATED" in note],
        sections=sections,
    )


def read_scores(path: Path) -> Scores:
    """The scores of a JSON file that `mag2 score --json` printed.

    Raises:
        ValueError: it is another file, or damaged.
    """
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        performances = tuple(
            Score(
                **{
                    **each,
                    "by_seed": tuple(each["by_seed"]),
                    "contributions": {
                        method: [math.nan if value is None else float(value) for value in values]
                        for method, values in each["contributions"].items()
                    },
                    "seconds": each["seconds"] and [(float(begin), float(end)) for begin, end in each["seconds"]],
                    "actions": each["actions"] and [NamedAction(**action) for action in each["actions"]],
                }
            )
            for each in plain["performances"]
        )
        interval = plain["interval"]
        if interval is not None:
            filled = {key: math.nan if value is None else value for key, value in interval.items()}
            interval = Interval(**filled)
        scores = Scores(
            **{
                **plain,
                "seeds": tuple(plain["seeds"]),
                "notes": tuple(map(str, plain["notes"])),
                "performances": performances,
                "interval": interval,
            }
        )
        if not performances or not all(math.isfinite(each.score) for each in performances):
            raise ValueError("no scores")
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ValueError(f"{path} holds no scores; write them with: mag2 score ... --json > {path.name}") from None
    return scores


def _table(scores: Scores) -> SortableTable:
    columns = [Column("performance", "text", name=True), Column(scores.target, first=True)]
    if scores.interval is not None:
        columns += [Column("from"), Column("to")]
    if len(scores.seeds) > 1:
        columns.append(Column("spread of seeds"))
    columns += [Column("clips", first=True), Column("of")]
    rows = []
    for each in scores.performances:
        line = [Entry(each.name), number(each.score)]
        line += [number(each.low), number(each.high)] if scores.interval is not None else []
        line += [number(each.spread)] if len(scores.seeds) > 1 else []
        rows.append([*line, number(each.clips), number(each.of)])
    interval = "" if scores.interval is None else f", with the {scores.interval.level:.0%} interval"
    return SortableTable(f"{scores.target} of {len(rows)} performances{interval}", columns, rows)


def _performance(scores: Scores, score: Score) -> list[Any]:
    more = []
    if score.low is not None and score.high is not None and scores.interval is not None:
        more.append(f"{scores.interval.level:.0%} interval {score.low:.4g} to {score.high:.4g}")
    if score.spread is not None:
        shown = ", ".join(f"{each:.4g}" for each in score.by_seed)
        more.append(f"seeds {shown} (standard deviation {score.spread:.2g})")
    more.append(f"{score.clips} of {score.of} clips, from clip {score.first + 1}")
    blocks: list[Any] = [
        Sentence(f"Performance: {score.name}"),
        Points(f"{score.score:.4g}", f"{scores.target}; {'; '.join(more)}."),
    ]
    if score.grades:
        blocks += [Heading("Grades"), TableBlock(_grades(score.grades))]
    if score.contributions:
        blocks.append(Heading("Clips"))
        blocks += [Picture.of(_drawing(scores, score, method)) for method in score.contributions]
        blocks.append(TableBlock(_clips(scores, score), folded=f"The {score.clips} clips as a table"))
    return blocks


def _grades(grades: Mapping[str, Sequence[float]]) -> SortableTable:
    rows = []
    for kind, weights in grades.items():
        for place, (weight, word) in enumerate(zip(weights, _words(kind, len(weights)), strict=True), start=1):
            rows.append([Entry(kind.replace("_", "-")), Entry(str(place), place), Entry(word), number(weight, 3)])
    columns = [Column("branch", "text"), Column("rank"), Column("grade", "text"), Column("weight")]
    return SortableTable("Weight of each grade, from the worst", columns, rows)


def _words(kind: str, count: int) -> list[str]:
    """The words of the shipped prompts for so many grades; of own prompts only their rank is known here."""
    paired = kind == "audio_visual" and count % 2 == 0
    words = GRADE_WORDS.get(count // 2 if paired else count, ())
    if not words:
        return [""] * count
    music = ("without fitting music", "with fitting music")
    return [f"{word} {each}" for word in words for each in music] if paired else list(words)


def _clips(scores: Scores, score: Score) -> SortableTable:
    columns = [Column("clip")]
    columns += [Column("from, s"), Column("to, s")] if score.seconds is not None else []
    columns += [Column(f"points, {method}", first=True) for method in score.contributions]
    columns += [Column("most like", "text"), Column("similarity")] if score.actions is not None else []
    rows = []
    for clip in range(score.clips):
        line = [Entry(str(score.first + clip + 1), score.first + clip + 1)]
        line += [number(each) for each in score.seconds[clip]] if score.seconds is not None else []
        line += [number(values[clip], 3) for values in score.contributions.values()]
        if score.actions is not None:
            action = score.actions[clip]
            line += [Entry(action.action), number(action.similarity, 3)]
        rows.append(line)
    return SortableTable(f"What each clip adds to the {scores.target}", columns, rows)


def _drawing(scores: Scores, score: Score, method: str) -> Drawing:
    borders = np.arange(score.first, score.first + score.clips + 1, dtype=float)
    axis = "clips from the beginning of the video"
    if score.seconds is not None:
        axis = "seconds of the video"
        borders = np.array([*(begin for begin, _ in score.seconds), score.seconds[-1][1]])
    about = f"{readable(score.name, 40)}; {scores.model}, trained on {scores.data}"
    figure = draw_contributions(np.array(score.contributions[method]), borders, axis=axis, footer=f"{about}; {method}")
    caption = f"What each clip adds to the predicted {scores.target}, in points, by {method}: {about}."
    return Drawing("contributions", f"Contribution of each clip, {method}", caption, figure)
