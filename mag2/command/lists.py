"""`mag2 datasets`, `mag2 models` and `mag2 recipes`: what there is, one line each."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from mag2.command.parser import Command, make_parser, print_json

__all__ = ["COMMANDS"]


def _datasets() -> list[dict[str, Any]]:
    from mag2.data import DATASETS, SimulatableSpec

    return [
        {
            "name": spec.name,
            "sport": spec.sport,
            "targets": list(spec.targets),
            "clips": spec.clips,
            "simulated": isinstance(spec, SimulatableSpec),
        }
        for spec in DATASETS.values()
    ]


def _dataset_line(each: dict[str, Any]) -> str:
    simulated = "" if each["simulated"] else "; read only"
    sport = each["sport"].replace("_", " ")
    return f"{each['name']:10}{sport}; targets {', '.join(each['targets'])}; crops of {each['clips']} clips{simulated}"


def _models() -> list[dict[str, Any]]:
    from mag2.command.models import KNOWN, PLUGS

    return [
        {
            "name": name,
            "method": model.method,
            "about": model.about,
            "needs": list(model.needs),
            "rows": [f"{name}{plug}" for plug in (PLUGS if model.adapter else ("",))],
        }
        for name, model in KNOWN.items()
    ]


def _model_line(each: dict[str, Any]) -> str:
    more = f"; also {' '.join(each['rows'][1:])}" if len(each["rows"]) > 1 else ""
    return f"{each['name']:10}{each['about']}; {', '.join(each['needs'])}{more}"


def _recipes() -> list[dict[str, Any]]:
    from mag2.command.models import KNOWN
    from mag2.published import recipes

    settings = [{"model": name, **asdict(model.recipe)} for name, model in KNOWN.items()]
    epochs = [{"dataset": dataset, "target": target, **asdict(each)} for (dataset, target), each in recipes().items()]
    return [*settings, *epochs]


def _recipe_line(each: dict[str, Any]) -> str:
    if "dataset" in each:
        name = f"{each['dataset']} {each['target']}"
        return f"{name:16}{each['epochs']} epochs; labels are scores divided by {each['score_scale']:g}"
    clip = "" if each["grad_clip"] is None else f", gradients clipped at {each['grad_clip']:g}"
    what = (
        f"{each['optimizer']}, rate {each['lr']:g}, weight decay {each['weight_decay']:g}, batches of {each['batch']}"
    )
    return f"{each['model']:16}{what}, {each['schedule']} schedule{clip}"


def _command(
    name: str, about: str, example: str, find: Callable[[], list[dict[str, Any]]], line: Callable[[dict[str, Any]], str]
) -> Command:
    def run(arguments: Sequence[str]) -> int:
        options = make_parser(name, about, example).parse_args(list(arguments))
        if options.json:
            print_json(find())
        else:
            print("\n".join(line(each) for each in find()))
        return 0

    return Command(name, f"{about[0].lower()}{about[1:].rstrip('.')}", run)


COMMANDS = (
    _command("datasets", "List the datasets, one line each.", "mag2 datasets", _datasets, _dataset_line),
    _command("models", "List the models, one line each.", "mag2 models --json", _models, _model_line),
    _command(
        "recipes", "List how models are trained, and how long on each target.", "mag2 recipes", _recipes, _recipe_line
    ),
)
