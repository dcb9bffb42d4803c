"""The results of a table's cells, checked before a page is made of them."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mag2.saving.bounded_json import is_number
from mag2.training.cells import Cell, finished_results

__all__ = ["table_results"]

# What version 0.1 wrote; later versions add to it.
_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "last_epoch": dict,
    "best_on_test": dict,
    "epochs": int,
    "parameters": int,
    "train": int,
    "test": int,
    "clips": int,
    "texts": str,
    "data": str,
    "seconds": (int, float),
}
_MEASURES = ("epoch", "spearman", "mse", "rl2")
_PROTOCOLS = ("last_epoch", "best_on_test", "best_mse_on_test")


def table_results(out: Path) -> dict[Cell, dict[str, Any]]:
    """The finished cells of a table's folder, of any run, and their results.

    Raises:
        ValueError: a file is damaged, or is not the result of a table's cell; one sentence with what to do.
    """
    results = finished_results(out)
    for cell, result in results.items():
        fault = _fault(result)
        if fault is not None:
            raise ValueError(
                f"{cell.folder(out) / 'result.json'} is damaged or foreign: {fault}; delete it, and the same command "
                f"trains the cell again"
            )
    return results


def _fault(result: Any) -> str | None:
    """What is wrong with a result, as a clause; None where nothing is."""
    if not isinstance(result, dict):
        return "its result is no object"
    for name, kind in _KINDS.items():
        if not isinstance(result.get(name), kind) or isinstance(result[name], bool):
            return f"its result has no {name} of a training"
    if not isinstance(result.get("top1"), int | float | None):
        return "its top1 is no number"
    for protocol in _PROTOCOLS:
        measured = result.get(protocol)
        if measured is not None and not (
            isinstance(measured, dict) and all(_is_measure(measured.get(m)) for m in _MEASURES)
        ):
            return f"its {protocol} lacks a measure"
    return None


def _is_measure(value: Any) -> bool:
    return is_number(value) and not math.isinf(value)
