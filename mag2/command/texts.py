"""`mag2 texts`: the prompts of a sport and their features."""

from collections.abc import Sequence
from pathlib import Path

from mag2.command.parser import Command, make_parser, print_json
from mag2.saving.arguments import given_path, whole_number
from mag2.saving.places import check_folder_place
from mag2.saving.sentences import unknown_name

__all__ = ["COMMAND"]

_ABOUT = """Show the prompts of a sport, or of action terms of your own, and save their features for --texts."""
_EXAMPLES = (
    "mag2 texts figure_skating",
    "mag2 texts --actions handspring round-off 'back tuck' --encoder minilm --out gymnastics-texts",
)


def _run(arguments: Sequence[str]) -> int:
    from mag2.texts import TextFeatures
    from mag2.vocabulary import ACTIONS, OTHER_ACTIONS

    sports = ACTIONS | OTHER_ACTIONS
    parser = make_parser("texts", _ABOUT, *_EXAMPLES)
    add = parser.add_argument
    add("sport", nargs="?", metavar="SPORT", help=f"one of {', '.join(sports)}")
    add("--actions", nargs="+", metavar="TERM", help="your own action terms instead, 2 or more")
    add("--encoder", default="shipped", help="shipped (MiniLM), a name such as open_clip:ViT-B-16/openai, or a file")
    add("--grades", type=whole_number(3, 8), default=6, help="number of grades, 3 to 8 (6)")
    add("--out", type=given_path, metavar="FOLDER", help="folder to save the features to")
    options = parser.parse_args(list(arguments))
    if (options.sport is None) == (options.actions is None):
        parser.error(f"give a sport, of {', '.join(sports)}, or --actions, not both")
    if options.sport is not None and options.sport not in sports:
        parser.error(f"{unknown_name('sport', options.sport, sports)}; for another sport give --actions TERM TERM ...")
    if options.out is not None:
        check_folder_place(options.out, " with --out")
    if options.actions is None:
        made = TextFeatures.load(options.sport, options.encoder, n_grades=options.grades)
    else:
        encoder = "minilm" if options.encoder == "shipped" else options.encoder
        made = TextFeatures.encode(options.actions, encoder, n_grades=options.grades)
    if options.out is not None:
        made.save(options.out)
    prompts = made.prompts
    sets = {} if prompts is None else {"visual": prompts.visual, "audio": prompts.audio, "grades": prompts.grades}
    if options.json:
        about = {"sport": made.sport, "source": made.source, "width": made.width, "rows": made.sizes}
        print_json({**about, "prompts": {name: list(rows) for name, rows in sets.items()}, "out": _text(options.out)})
        return 0
    print(made)
    for name, rows in sets.items():
        print(f"\n{name}:", *(f"  {row}" for row in rows), sep="\n")
    if options.out is not None:
        print(f"\nWritten: {options.out}; give it with --texts {options.out}")
    return 0


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


COMMAND = Command("texts", "show the prompts of a sport and save their features", _run)
