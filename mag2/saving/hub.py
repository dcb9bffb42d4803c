"""`save_pretrained`, `from_pretrained` and `push_to_hub` of `mag2.nn.pretrained.Pretrained`."""

import inspect
import tempfile
from pathlib import Path
from typing import Any

from mag2.nn.pretrained import Module, Pretrained
from mag2.nn.state_dicts import check_names
from mag2.saving.atomic_io import write_atomically
from mag2.saving.checked_build import build_checked, check_arguments, expected_arguments
from mag2.saving.folders import (
    FORMAT,
    check_readable,
    library_version,
    load_into,
    read_json,
    read_weights,
    weights_of,
    write_folder,
)
from mag2.saving.registry import class_of, name_of_class
from mag2.saving.sentences import shortened

__all__ = ["HubStorage"]

ABOUT, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
_KEYS = {"format", "mag2", "kind", "built", "sha256"}


class HubStorage:
    """Saves and loads a module as `config.json` and `model.safetensors`, in a folder or on the Hugging Face Hub.

    The methods `save_pretrained`, `push_to_hub` and `from_pretrained` of every model call it.
    """

    def save(
        self,
        module: Pretrained,
        folder: str | Path,
        *,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        **hub: Any,
    ) -> str | None:
        """Write weights and config, and a model card if the folder has none.

        Args:
            module: the module.
            folder: made if it does not exist.
            repo_id: "owner/name" on the hub; the name of the folder by default.
            push_to_hub: True uploads the files too.
            hub: options of `push`.

        Returns:
            The URL of the commit, if the files were uploaded.

        Raises:
            ValueError: the module was built with code of your own, or something is attached to it.
            TypeError: an unknown option, or one of the hub without `push_to_hub`.
        """
        known = tuple(inspect.signature(self.push).parameters)[2:]
        check_names(hub, known, f"{type(module).__name__}.save_pretrained")
        if hub and not push_to_hub:
            raise TypeError(f"{next(iter(hub))} is for the hub: leave it out, or add push_to_hub=True")
        if module.config is None:
            raise ValueError(f"this {type(module).__name__} was built with code of your own; save its state_dict")
        if any(getattr(part, "holds_plugs", False) for part in module.modules()):
            raise ValueError(
                f"something is attached to this {type(module).__name__}; save_plugin it and detach it first"
            )
        folder = Path(folder)
        about = {
            "format": FORMAT,
            "mag2": library_version(),
            "kind": name_of_class(type(module)),
            "built": module.config,
        }
        write_folder(folder, (WEIGHTS, ABOUT), weights_of(module), about)
        if not (folder / CARD).exists():
            write_atomically(_card(module), folder / CARD)  # never through a link that leads nowhere
        return self.push(module, repo_id or folder.name, **hub) if push_to_hub else None

    def push(
        self,
        module: Pretrained,
        repo_id: str,
        *,
        commit_message: str = "Upload with mag2",
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        create_pr: bool = False,
    ) -> str:
        """Upload what `save` writes; the repository is made if it does not exist.

        Args:
            module: the module.
            repo_id: "owner/name" on the hub.
            commit_message: of the commit.
            private, token, revision, create_pr: as in `huggingface_hub`.

        Returns:
            The URL of the commit.

        Raises:
            ValueError: as `save`.
        """
        from huggingface_hub import HfApi

        api = HfApi(token=token)
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        with tempfile.TemporaryDirectory() as folder:
            self.save(module, folder)
            commit = api.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                commit_message=commit_message,
                revision=revision,
                create_pr=create_pr,
            )
        return str(commit.commit_url)

    def load(
        self,
        cls: type[Module],
        source: str | Path,
        *,
        map_location: Any = "cpu",
        strict: bool = True,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
        **changed: Any,
    ) -> Module:
        """Build the module of a folder or a repository, in evaluation mode.

        Args:
            cls: the class of the module.
            source: a folder, or "owner/name" on the hub.
            map_location: the device for the module.
            strict: must be True.
            revision, token, cache_dir, local_files_only, force_download: as in `huggingface_hub`.
            changed: arguments of the constructor with other values than the saved ones, `dropout` for example.

        Raises:
            ValueError: no such folder, another class in it, an argument that the class does not have, `strict=False`,
                or a missing or unexpected weight, or one of another shape.
        """
        if not strict:
            raise ValueError("weights that do not fit are not loaded; leave out strict=False")
        given = str(source)
        if Path(given).is_dir():
            about, weights = Path(given) / ABOUT, Path(given) / WEIGHTS
        elif Path(given).is_absolute() or given.startswith(".") or given.count("/") != 1:
            raise ValueError(f"no folder {given}; give one that save_pretrained wrote, or 'owner/name' on the hub")
        else:
            from huggingface_hub import hf_hub_download

            about, weights = (
                Path(
                    hf_hub_download(
                        given,
                        name,
                        revision=revision,
                        token=token,
                        cache_dir=cache_dir,
                        local_files_only=local_files_only,
                        force_download=force_download,
                    )
                )
                for name in (ABOUT, WEIGHTS)
            )
        return _load(cls, given, about, weights, changed).to(map_location).eval()


def _load(cls: type[Module], name: str, about: Path, weights: Path, changed: dict[str, Any]) -> Module:
    wanted = name_of_class(cls)
    if not about.is_file():
        raise ValueError(f"{name} holds no {ABOUT}; {cls.__name__}.from_pretrained reads a {wanted!r}")
    config = read_json(about, "save_pretrained")
    check_readable(config, _KEYS, about)
    kind = config.get("kind")
    if name_of_class(class_of(kind)) != wanted:
        raise ValueError(f"{name} holds a {kind!r}; {cls.__name__}.from_pretrained reads a {wanted!r}")
    if not isinstance(config.get("built"), dict):
        raise ValueError(f"{about} has no arguments of {cls.__name__} under 'built'; save it again")
    given, saved = config["built"], read_weights(weights, _digest(config, about))
    try:
        check_arguments(cls, changed)
    except ValueError as fault:
        raise ValueError(f"the call of {cls.__name__}.from_pretrained {fault}") from fault
    try:
        check_arguments(cls, given)
        module = build_checked(lambda: cls.from_config({**given, **changed}), cls, saved)
        if config.get("format") == FORMAT and config.get("mag2") == library_version():
            lacking = sorted((set(module.config or {}) | expected_arguments(cls)) - set(given))
            if lacking:  # a default would pass for what was saved
                raise ValueError(f"lacks {lacking[0]!r}, which mag2 {library_version()} writes")
    except ValueError as fault:
        raise ValueError(f"{about} {fault}; mag2 {config.get('mag2', 'unknown')!s:.40} wrote it") from fault
    load_into(module, saved, weights)
    return module


def _digest(config: dict[str, Any], about: Path) -> str | None:
    digest = config.get("sha256")
    if digest is not None and not isinstance(digest, str):
        raise ValueError(f"{about} has {shortened(digest)} as the digest of its weights; save again")
    return digest


def _card(module: Pretrained) -> str:
    from huggingface_hub import ModelCardData

    name = type(module).__name__
    data = ModelCardData(library_name="mag2", tags=["action-quality-assessment"])
    return (
        f"---\n{data.to_yaml()}\n---\n\n# {name}\n\nSaved by mag2 {library_version()}. Load it with\n\n"
        f"```python\nfrom mag2 import {name}\n\nmodel = {name}.from_pretrained(...)\n```\n"
    )


Pretrained._storage = HubStorage()
