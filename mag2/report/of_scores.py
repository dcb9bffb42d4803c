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

SHOWN_LETTERS = 40  # of a name in a heading
MOST = 20  # performances whose clips are shown


Scored = tuple[Scores, Mapping[str, float]]  # the scores for one target, and true scores of some by name


def scores_page(scored: Sequence[Scored]) -> Page:
    """The page of what `mag2.Trained.score` returned, for one target or several."""
    everything = [scores for scores, _ in scored]
    names = list(dict.fromkeys(each.name for scores in everything for each in scores))
    targets = " and ".join(dict.fromkeys(scores.target for scores in everything))
    sections: list[Section] = []
    left = 0
    for scores, truth in scored:
        if len(scores) > 1:
            sections.append(Section(scores.target, [TableBlock(_table(scores, truth))]))
        for score in scores.performances:
            if len(sections) >= MOST:
                left += 1
                continue
            title = (
                readable(score.name, SHOWN_LETTERS)
                if len(scored) == 1
                else f"{scores.target}: {readable(score.name, SHOWN_LETTERS)}"
            )
            sections.append(Section(title, _performance(scores, score, truth.get(score.name))))
    notes = list(dict.fromkeys(note for scores in everything for note in scores.notes))
    if left:
        notes.append(f"{left} performances more are in the tables; their clips are not shown here.")
    marks = [note for note in notes if "SIMULATED" in note]
    behind = [note for note in notes if note not in marks]
    sections.append(Section("What stands behind the numbers", [Items(behind)]))
    one = readable(names[0], 60) if len(names) == 1 else f"{len(names)} performances"
    return Page(
        title=f"{targets} of {one}",
        lead=list(dict.fromkeys(map(_made_by, everything))),
        marks=marks,
        sections=sections,
    )


def _made_by(scores: Scores) -> str:
    seeds = ", ".join(str(seed) for seed in scores.seeds if seed is not None)
    return f"{scores.target} scored by {scores.model}, trained on {scores.data}{f', seed {seeds}' if seeds else ''}."


def read_scores(path: Path) -> list[Scored]:
    """The scores of a JSON file that `mag2 score` wrote.

    Raises:
        ValueError: it is another file, or damaged.
    """
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        scored = [_scored(each) for each in (plain if isinstance(plain, list) else [plain])]
        if not scored or not all(math.isfinite(each.score) for scores, _ in scored for each in scores):
            raise ValueError("no scores")
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ValueError(f"{path} holds no scores; write them with: mag2 score RUN --out {path.name}") from None
    return scored


def _scored(plain: dict[str, Any]) -> Scored:
    truth = plain.get("truth") or {}
    interval = plain["interval"]
    if interval is not None:
        known: dict[str, Any] = {key: math.nan if value is None else value for key, value in interval.items()}
        interval = Interval(**known)
    scores = Scores(
        **{
            **{key: value for key, value in plain.items() if key != "truth"},
            "seeds": tuple(plain["seeds"]),
            "notes": tuple(map(str, plain["notes"])),
            "performances": tuple(_score(each) for each in plain["performances"]),
            "interval": interval,
        }
    )
    return scores, {str(name): float(score) for name, score in truth.items()}


def _score(plain: dict[str, Any]) -> Score:
    return Score(
        **{
            **plain,
            "by_seed": tuple(plain["by_seed"]),
            "contributions": {
                method: [math.nan if value is None else float(value) for value in values]
                for method, values in plain["contributions"].items()
            },
            "seconds": plain["seconds"] and [(float(begin), float(end)) for begin, end in plain["seconds"]],
            "actions": plain["actions"] and [NamedAction(**action) for action in plain["actions"]],
        }
    )


def _table(scores: Scores, truth: Mapping[str, float]) -> SortableTable:
    columns = [Column("performance", "text", name=True), Column(scores.target, first=True)]
    if scores.interval is not None:
        columns += [Column("from"), Column("to")]
    if len(scores.seeds) > 1:
        columns.append(Column("spread of seeds"))
    columns += [Column("true score"), Column("error")] if truth else []
    columns += [Column("clips", first=True), Column("of")]
    rows = []
    for each in scores.performances:
        line = [Entry(each.name), number(each.score)]
        line += [number(each.low), number(each.high)] if scores.interval is not None else []
        line += [number(each.spread)] if len(scores.seeds) > 1 else []
        if truth:
            true = truth.get(each.name)
            line += [number(true), number(None if true is None else each.score - true)]
        rows.append([*line, number(each.clips), number(each.of)])
    interval = "" if scores.interval is None else f", with the {scores.interval.level:.0%} interval"
    return SortableTable(f"{scores.target} of {len(rows)} performances{interval}", columns, rows)


def _performance(scores: Scores, score: Score, true: float | None) -> list[Any]:
    more = [] if true is None else [f"true score {true:.4g}"]
    if score.low is not None and score.high is not None and scores.interval is not None:
        more.append(f"{scores.interval.level:.0%} interval {score.low:.4g} to {score.high:.4g}")
    if score.spread is not None:
        shown = ", ".join(f"{each:.4g}" for each in score.by_seed)
        more.append(f"seeds {shown} (standard deviation {score.spread:.2g})")
    more.append(f"{score.clips} of {score.of} clips, from clip {score.first + 1}")
    blocks: list[Any] = [
        *([] if readable(score.name, SHOWN_LETTERS) == score.name else [Sentence(f"Performance: {score.name}")]),
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
    """A line for each grade, a column for each branch; that of grades with music has two, without and with."""
    columns: dict[str, list[float]] = {}
    for kind, weights in grades.items():
        if kind == "audio_visual" and len(weights) % 2 == 0:
            columns |= {"without fitting music": list(weights[::2]), "with fitting music": list(weights[1::2])}
        else:
            columns[kind.replace("_", "-")] = list(weights)
    count = max(map(len, columns.values()))
    words = GRADE_WORDS.get(count, [f"grade {place + 1}" for place in range(count)])
    rows = [
        [
            Entry(str(place + 1), place + 1),
            Entry(words[place]),
            *(
                Entry(f"{weights[place]:.3f}", weights[place]) if place < len(weights) else Entry("")
                for weights in columns.values()
            ),
        ]
        for place in range(count)
    ]
    headings = [Column("rank"), Column("grade", "text"), *(Column(name) for name in columns)]
    return SortableTable("Weight of each grade, from the worst", headings, rows)


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
