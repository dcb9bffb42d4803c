"""The page of a run: of a table's folder, or of one training's."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mag2.figures import make_figures
from mag2.figures.chosen import Chosen, LeftOutError, choose
from mag2.report.page import (
    Code,
    Facts,
    Items,
    Page,
    Picture,
    Section,
    Sentence,
    SortableTable,
    TableBlock,
)
from mag2.report.results import measure_tables, notes_of, prediction_table, protocols_of, training_table
from mag2.training.report import PROTOCOLS, what_is_simulated
from mag2.training.run_folder import RunFolder

__all__ = ["run_page"]


def run_page(
    run: RunFolder,
    *,
    row: str | None = None,
    target: str | None = None,
    seed: int | None = None,
    figures: bool = True,
    data: str | Path | None = None,
) -> Page:
    """The page of a run; arguments as `mag2.report.write_report`."""
    names = list(dict.fromkeys(training.data for training in run.trainings))
    sections = [_results(run)]
    if figures:
        sections.append(_figures(run, row=row, target=target, seed=seed, data=data))
    predicted = _predictions(run, row=row, target=target, seed=seed)
    sections += [*([predicted] if predicted.blocks else []), _settings(run)]
    chosen = {"--row": row, "--target": target, "--seed": seed, "--data": data}
    sections.append(
        _repeat(
            run, [word for name, given in chosen.items() if given is not None for word in (name, str(given))], figures
        )
    )
    return Page(
        title=f"{run.title}: {'SIMULATED data' if run.simulated else ' and '.join(names)}",
        lead=_lead(run, names),
        marks=_marks(run, names),
        sections=sections,
    )


def _lead(run: RunFolder, names: list[str]) -> list[str]:
    targets = ", ".join(dict.fromkeys(training.target.name for training in run.trainings))
    seeds = ", ".join(map(str, run.seeds)) or "not recorded"
    return [
        f"Data: {', '.join(names)}. Targets: {targets}. Seeds: {seeds}. Trainings: {len(run.trainings)}.",
        *(_sizes(run)),
    ]


def _sizes(run: RunFolder) -> list[str]:
    found = {
        (result["train"], result["test"], result["clips"])
        for training in run.trainings
        if {"train", "test", "clips"} <= (result := training.result).keys()
    }
    return [
        f"{train} training and {test} test performances, {clips} clips each." for train, test, clips in sorted(found)
    ]


def _marks(run: RunFolder, names: list[str]) -> list[str]:
    marks = []
    if run.simulated:
        marks.append(
            f"{what_is_simulated(names)} They exercise the whole pipeline and say nothing about the paper's numbers, "
            "which are therefore not printed here."
        )
    if not run.published_known and not run.simulated:
        marks.append(
            "This folder does not say what the paper prints: an earlier version wrote it. The same command "
            "again, which trains nothing that is done, adds it."
        )
    return marks


def _results(run: RunFolder) -> Section:
    tables = [table for table in measure_tables(run) if table.rows]
    blocks: list[Any] = [
        Sentence("Protocols: " + "; ".join(PROTOCOLS[name] for name in protocols_of(run)) + "."),
        Sentence("A click on the heading of a column sorts its table.", scripted=True),
        *(TableBlock(table) for table in tables),
        *(Sentence(note) for note in notes_of(run)),
        TableBlock(training_table(run), folded="Every training" if run.grid else ""),
    ]
    return Section("Results", blocks)


def _figures(run: RunFolder, **options: Any) -> Section:
    made = make_figures(run, **options)
    blocks: list[Any] = [Picture.of(drawing) for drawing in made.drawings]
    if made.left_out:
        blocks += [Sentence("Figures that this run cannot give:"), Items(made.left_out)]
    return Section("Figures", blocks)


def _predictions(run: RunFolder, **options: Any) -> Section:
    tables: list[SortableTable] = []
    for training in choose(run, **options):
        try:
            tables.append(prediction_table(Chosen(run, training)))
        except LeftOutError:
            continue  # the figures say it
    return Section("Predictions", [TableBlock(table, folded=table.caption) for table in tables])


def _settings(run: RunFolder) -> Section:
    blocks: list[Any] = [Facts([(name, _plain(value)) for name, value in run.settings.items()])]
    last: Mapping[str, Any] = run.runs[-1] if run.runs else {}
    about = [(name, _plain(last[name])) for name in ("device", "epochs", "python", "machine") if name in last]
    about += [(f"version of {name}", _plain(version)) for name, version in (last.get("versions") or {}).items()]
    recipes = last.get("recipes") or {}
    names = {heading.key: heading.name for heading in run.headings}
    about += [
        (f"recipe of row {key} ({names[key]})", _plain(recipe)) for key, recipe in recipes.items() if key in names
    ]
    return Section("Settings and versions", [*blocks, Facts(about)] if about else blocks)


def _repeat(run: RunFolder, chosen: Sequence[str], figures: bool) -> Section:
    folder = shlex.quote(str(run.path))
    commands = [str(each["command"]) for each in run.runs if each.get("command")]
    # Earlier versions recorded no --out where the usual folder was taken.
    commands = [each if _names_out(each) else f"{each} --out {folder}" for each in commands]
    blocks: list[Any] = []
    if commands:
        blocks += [Sentence("The trainings:"), Code("\n".join(dict.fromkeys(commands)))]
    else:
        blocks.append(Sentence("This folder was trained from Python: nothing in it says by which call."))
    options = "".join(f" {shlex.quote(word)}" for word in chosen)
    without = "" if figures else " --no-figures"
    lines = [f"mag2 report {folder}{options}{without}", *([f"mag2 figures {folder}{options}"] if figures else [])]
    blocks += [Sentence("This page and its figures:" if figures else "This page:"), Code("\n".join(lines))]
    return Section("Repeat it", blocks)


def _names_out(command: str) -> bool:
    return any(word == "--out" or word.startswith("--out=") for word in command.split())


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(each)}" for name, each in value.items() if each is not None)
    if value is None:
        return "default"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
