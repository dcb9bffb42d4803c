"""`mag2 figures`: the paper's figures from one's own run."""

from collections.abc import Sequence

from mag2.command.parser import Command, add_choice, make_parser, print_json
from mag2.saving.arguments import given_path
from mag2.saving.places import absence_of

__all__ = ["COMMAND"]

_ABOUT = """Draw the figures of the paper for a run: vector graphics and PNG, with captions in figures.md."""


def _run(arguments: Sequence[str]) -> int:
    parser = make_parser("figures", _ABOUT, "mag2 figures runs/train-simulated --out figures")
    parser.add_argument("run", type=given_path, metavar="RUN", help="folder of a table's results, or of one training")
    parser.add_argument("--out", type=given_path, metavar="FOLDER", help="folder to write to (RUN/figures)")
    parser.add_argument(
        "--only", nargs="+", metavar="FIGURE", help="names of the figures to draw (all); an unknown name lists them"
    )
    parser.add_argument(
        "--formats", nargs="+", default=["svg", "png"], help="file formats: any of svg, png, pdf (svg png)"
    )
    add_choice(parser)
    options = parser.parse_args(list(arguments))
    if not options.run.is_dir():
        parser.error(f"{absence_of(options.run)}; give the folder of a run")
    try:
        from mag2.figures import draw_figures
    except ImportError as missing:
        parser.error(f"figures need {missing.name}: pip install 'mag2[figures]'")
    made = draw_figures(
        options.run,
        options.out,
        row=options.row,
        target=options.target,
        seed=options.seed,
        figures=options.only,
        formats=options.formats,
        data=options.data,
    )
    files, left_out = [str(path) for path in made.files], list(made.left_out)
    if options.json:
        print_json({"figures": files, "left_out": left_out})
    else:
        print("\n".join([*(f"Written: {file}" for file in files), *(f"Left out: {why}" for why in left_out)]))
    return 0


COMMAND = Command("figures", "draw the paper's figures from a run", _run)
