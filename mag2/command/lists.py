"""`mag2 datasets`, `mag2 models` and `mag2 recipes`: what there is."""

from collections.abc import Callable, Sequence
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
            "shipped": spec.shipped,
        }
        for spec in DATASETS.values()
    ]


def _dataset_line(each: dict[str, Any]) -> str:
    simulated = "" if each["simulated"] else "; read only"
    if each["shipped"]:
        simulated = f"; ships with the library: {each['shipped']}"
    sport = each["sport"].replace("_", " ")
    return f"{each['name']:14}{sport}; targets {', '.join(each['targets'])}; crops of {each['clips']} clips{simulated}"


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


def _run_recipes(arguments: Sequence[str]) -> int:
    from mag2.training.recipes import RECIPES
    from mag2.training.recipes.page import described, recipes_page

    about = "Print how every model is trained on each target, with the source of these settings."
    options = make_parser("recipes", about, "mag2 recipes --json").parse_args(list(arguments))
    if options.json:
        print_json(described(RECIPES))
    else:
        print(recipes_page(RECIPES), end="")
    return 0


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
    Command("recipes", "print how every model is trained, and where that is from", _run_recipes),
)
