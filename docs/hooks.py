"""Pages that are made when the site is built: the reference of every public name, and the files at the top."""

import contextlib
import importlib
import inspect
import io
import re
import tempfile
from pathlib import Path
from typing import Any

import jupytext
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]

# The public modules, in the order of CONTRIBUTING's map.
MODULES = (
    "mag2.texts",
    "mag2.guidance",
    "mag2.fusion",
    "mag2.grading",
    "mag2.losses",
    "mag2.mlavl",
    "mag2.metrics",
    "mag2.context",
    "mag2.projection",
    "mag2.plugin",
    "mag2.alignment",
    "mag2.adapters",
    "mag2.baselines",
    "mag2.data",
    "mag2.programmes",
    "mag2.extraction",
    "mag2.encoders",
    "mag2.training",
    "mag2.scoring",
    "mag2.figures",
    "mag2.report",
    "mag2.published",
    "mag2.saving",
)
# Files at the top of the repository that are pages of the site too.
TOP = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md", "security.md": "SECURITY.md"}


def public_names(module_name: str) -> list[str]:
    """What a module says is public, by the places where it is defined: classes, then functions, then values.

    A module among the names stands for its own public names.
    """
    module = importlib.import_module(module_name)
    names: list[tuple[int, str]] = []
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.ismodule(value):
            names += [(0, each) for each in public_names(f"{module_name}.{name}")]
        elif inspect.isclass(value):
            names.append((0, f"{value.__module__}.{name}"))
        elif inspect.isfunction(value):
            names.append((1, f"{value.__module__}.{name}"))
        else:
            names.append((2, f"{module_name}.{name}"))
    return [name for _, name in sorted(names, key=lambda each: each[0])]


def reference_page(module_name: str) -> str:
    """The page of one module: its first sentence, then each public name."""
    module = importlib.import_module(module_name)
    lines = [f"# {module_name}", "", inspect.cleandoc(module.__doc__ or ""), ""]
    for name in public_names(module_name):
        lines += [f"::: {name}", "    options:", "      heading_level: 2", ""]
    return "\n".join(lines)


def tutorial_page(path: Path) -> str:
    """A script in cells as a page: its text, its code, and below each cell what it printed here."""
    names: dict[str, Any] = {"__name__": "__main__"}
    parts = []
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for cell in jupytext.reads(path.read_text(encoding="utf-8"), fmt="py:percent").cells:
            if cell.cell_type == "markdown":
                parts.append(cell.source)
                continue
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(cell.source, path.name, "exec"), names)
            parts.append(f"```python\n{cell.source}\n```")
            if printed.getvalue():
                parts.append(f"```text\n{printed.getvalue().rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def overview() -> str:
    """The page of `mag2` itself: a table of the names that it exports, each with its place in the reference."""
    package = importlib.import_module("mag2")
    places = {name.rpartition(".")[2]: name for module in MODULES for name in public_names(module)}
    lines = ["# mag2", "", "What `from mag2 import ...` gives.", "", "| name | |", "| --- | --- |"]
    for name in package.__all__:
        if not name.startswith("__"):
            first = inspect.cleandoc(getattr(package, name).__doc__).partition("\n\n")[0].replace("\n", " ")
            lines.append(f"| [`{name}`][{places[name]}] | {first} |")
    return "\n".join(lines) + "\n"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the reference to the navigation, before the last section."""
    pages: list[Any] = [{"mag2": "reference/mag2.md"}] + [{each: f"reference/{each}.md"} for each in MODULES]
    config.nav.insert(len(config.nav) - 1, {"Reference": pages})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that no file in docs holds."""
    made = {"reference/mag2.md": overview()}
    made |= {f"reference/{each}.md": reference_page(each) for each in MODULES}
    made |= {page: linked_from_docs((ROOT / source).read_text(encoding="utf-8")) for page, source in TOP.items()}
    made |= {
        f"tutorials/{path.stem}.md": tutorial_page(path) for path in sorted((ROOT / "examples/tutorials").glob("*.py"))
    }
    for path, content in made.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links to the files at the top, which read `../CHANGELOG.md` in docs, point to their pages."""
    for path, source in TOP.items():
        markdown = markdown.replace(f"](../{source}", f"]({path}")
    return markdown


def linked_from_docs(text: str) -> str:
    """Links of a file at the top of the repository, as they read from inside docs."""
    return re.sub(r"\]\(docs/", "](", text)
