"""The package: what it claims, what it imports, and where its lines may point."""

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_importing_mag2_imports_no_encoder_and_no_plots():
    code = "import mag2, mag2.adapters, mag2.baselines, sys; print(' '.join(sys.modules))"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert "mag2.mlavl" in loaded
    assert not loaded & {"open_clip", "matplotlib", "sentence_transformers", "transformers", "tensorboard", "pandas"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """Built in a copy of the tracked files, as a release would be."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for package in ("mag2", "adapters", "baselines"):
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                target = source / path.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder), str(source)]
    built = subprocess.run(command, capture_output=True, text=True)
    if built.returncode and "Could not find a version that satisfies the requirement setuptools" in built.stderr:
        pytest.skip("the build backend (setuptools) cannot be fetched here")
    assert built.returncode == 0, built.stderr
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_a_wheel_holds_mag2_and_nothing_else_at_its_top(wheel):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert tops == {"mag2", next(top for top in tops if top.endswith(".dist-info"))}
    names = set(wheel.namelist())
    assert {
        "mag2/adapters/cofinal.py",
        "mag2/baselines/gdlt.py",
        "mag2/programmes/LICENSE-isu.txt",
        "mag2/programmes/isu.zip",
        "mag2/programmes/isu_minilm.safetensors",
        "mag2/shipped/minilm.safetensors",
        "mag2/published/table4.csv",
        "mag2/py.typed",
    } <= names


def test_a_wheel_is_small_and_names_every_licence(wheel):
    assert sum(entry.compress_size for entry in wheel.infolist()) < 3_000_000
    licences = {name.partition(".dist-info/")[2] for name in wheel.namelist() if "LICENSE" in name}
    assert {"licenses/LICENSE", "licenses/mag2/programmes/LICENSE-isu.txt"} <= licences


def test_a_wheel_holds_every_file_of_the_library(wheel):
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "mag2").rglob("*.py")}
    modules |= {
        f"mag2/{path.relative_to(ROOT)}" for name in ("adapters", "baselines") for path in (ROOT / name).rglob("*.py")
    }
    assert modules <= set(wheel.namelist())


def imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("path", sorted((ROOT / "baselines").glob("*.py")), ids=lambda path: path.name)
def test_baselines_know_nothing_of_mag2_but_its_ground_floor(path):
    allowed = ("mag2.baselines", "mag2.nn")
    assert all(not name.startswith("mag2") or name.startswith(allowed) for name in imports(path))


@pytest.mark.parametrize("path", sorted((ROOT / "adapters").glob("*.py")), ids=lambda path: path.name)
def test_adapters_know_places_and_no_baseline_classes(path):
    assert not any(name.startswith("mag2.baselines") for name in imports(path))


@pytest.mark.parametrize("path", sorted((ROOT / "mag2").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_library_knows_no_adapter_no_baseline_and_no_example(path):
    assert not any(name.startswith(("mag2.adapters", "mag2.baselines", "examples")) for name in imports(path))


@pytest.mark.parametrize("folder", ["mag2", "adapters", "baselines"])
def test_nothing_moves_itself_to_a_gpu(folder):
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.Attribute) and node.attr == "cuda" and isinstance(node.ctx, ast.Load)) or (
                isinstance(node.value, ast.Name) and node.value.id == "torch"
            ), f"{path}: calls .cuda"
