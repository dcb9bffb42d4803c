"""The golden numbers: what the authors' released code returned, to hold ours against."""

import json
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

HERE = Path(__file__).parent
SHARED = Path(__file__).parents[3] / "shared" / "golden"

# What has been read for a comparison, by file: conftest prints what is left at the end of a run.
compared: dict[str, set[str]] = {}
opened: dict[str, "Golden"] = {}


class Golden:
    """One case of the released code: its weights, inputs, outputs and gradients."""

    def __init__(self, path: Path):
        self.name = path.stem
        self.arrays = dict(np.load(path, allow_pickle=False))
        self.meta: dict = json.loads(str(self.arrays["meta"]))
        self.args: dict = self.meta.get("args", {})

    @cached_property
    def parameters(self) -> dict[str, Tensor]:
        """The released parameters by their released names."""
        codes = self.under("param")
        return {key: code.to(torch.float32) * self._tensor(f"scale/{key}") for key, code in codes.items()}

    @cached_property
    def buffers(self) -> dict[str, Tensor]:
        """The buffers as they were before the run."""
        return self.under("buffer")

    @property
    def state_dict(self) -> dict[str, Tensor]:
        """Parameters and buffers together, fresh copies."""
        return {key: value.clone() for key, value in {**self.parameters, **self.buffers}.items()}

    def under(self, folder: str) -> dict[str, Tensor]:
        """All arrays below a folder such as `in`, `out`, `grad`, without its name."""
        prefix = folder + "/"
        return {k[len(prefix) :]: self._tensor(k) for k in self.arrays if k.startswith(prefix)}

    def input(self, name: str) -> Tensor:
        """The input of that name."""
        return self._tensor(f"in/{name}")

    def check(
        self, key: str, ours: Tensor | float | np.ndarray, *, rtol: float = 1e-4, atol: float | None = None
    ) -> None:
        """Hold ours against the array `key` (`out/score`, `grad/clips`, ...); the tolerance is that of float32."""
        theirs = self._tensor(key)
        compared.setdefault(self.name, set()).add(key)
        ours = torch.as_tensor(ours, dtype=theirs.dtype).detach()
        reach = float(theirs.abs().max()) if theirs.numel() and theirs.is_floating_point() else 0.0
        if atol is None:
            atol = 1e-5 * max(1.0, reach) if key.startswith("grad") else 1e-5
        assert ours.shape == theirs.shape, f"{self.name}: {key} is {tuple(theirs.shape)}, ours {tuple(ours.shape)}"
        torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol, msg=lambda m: f"{self.name}: {key}: {m}")

    def skip(self, key: str) -> None:
        """Count `key` as compared elsewhere in the same test (a property stated by other means)."""
        compared.setdefault(self.name, set()).add(key)

    def check_parameter_gradients(self, gradients: dict[str, Tensor | None]) -> None:
        """Hold gradients, by released parameter name, against every `gradnorm/` and `gradparam/` array."""
        for name, theirs in self.under("gradnorm").items():
            ours = gradients[name]
            self.check(f"gradnorm/{name}", torch.zeros_like(theirs) if ours is None else ours.norm())
        for name, theirs in self.under("gradparam").items():
            ours = gradients[name]
            self.check(f"gradparam/{name}", torch.zeros_like(theirs) if ours is None else ours)

    def uncompared(self) -> list[str]:
        """The result arrays that no `check` has read so far."""
        results = [
            k for k in self.arrays if k.split("/")[0] in {"out", "after", "grad", "gradfull", "gradnorm", "gradparam"}
        ]
        return sorted(set(results) - compared.get(self.name, set()))

    def _tensor(self, key: str) -> Tensor:
        return torch.from_numpy(np.array(self.arrays[key]))


def names(pattern: str) -> list[str]:
    """The cases that match a glob, wherever they are to be had."""
    found = {path.stem for folder in (HERE, SHARED) for path in folder.glob(f"{pattern}.npz")}
    return sorted(found)


def golden(name: str) -> Golden:
    """Open a case; skip the test where the file is on no disk."""
    for folder in (HERE, SHARED):
        if (path := folder / f"{name}.npz").is_file():
            return opened.setdefault(name, Golden(path))
    pytest.skip(f"golden file {name}.npz is not in tests/golden and there is no ../shared/golden")
