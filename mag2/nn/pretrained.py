"""Modules with a record of how they were built. `mag2.saving` sets what saves and loads them."""

from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from torch import nn

__all__ = ["Pretrained", "Storage", "arguments_of"]

Module = TypeVar("Module", bound="Pretrained")


def arguments_of(values: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a constructor from its `locals()`, at its first line."""
    return {name: value for name, value in values.items() if name not in ("self", "__class__")}


class Storage(Protocol):
    """Saves a `Pretrained` module into a folder, and loads it from one or from the Hugging Face Hub."""

    def save(self, module: "Pretrained", folder: str | Path) -> str | None:
        """Write weights and config; may take options by name."""

    def load(self, cls: type[Module], source: str | Path, **changed: Any) -> Module:
        """Build the module again, in evaluation mode; may take options by name."""

    def push(self, module: "Pretrained", repo_id: str) -> str:
        """Upload weights and config; may take options by name."""


class Pretrained(nn.Module):
    """Base class of modules that are saved to, and loaded from, a folder or the Hugging Face Hub.

    A subclass has a property `config`, from which `from_config` builds the module again, and a name in
    `mag2.saving.registry`. Texts are saved with the weights, their prompts and source with the config. Weights are
    safetensors and are loaded strictly: all keys and shapes must fit.
    """

    _storage: ClassVar[Any]  # a `Storage`
    arguments: dict[str, Any]  # of the constructor, as a subclass notes them, unless it has a `config` of its own

    @property
    def config(self) -> dict[str, Any] | None:
        """The arguments that build it again, as plain values for JSON; None if it was built with your own code."""
        return self.arguments

    @classmethod
    def from_config(cls: type[Module], config: dict[str, Any]) -> Module:
        """Build the module that `config` describes; its weights are loaded afterwards."""
        return cls(**config)

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """Save into a folder: `config.json`, `model.safetensors`, and a model card.

        Args:
            save_directory: made if it does not exist.
            options: `push_to_hub=True` uploads the files too, under `repo_id` or the name of the folder; others are
                those of `push_to_hub`.

        Returns:
            The URL of the commit if the files were uploaded, else None.

        Raises:
            ValueError: it was built with your own code, or something is attached to it.
        """
        return self._storage.save(self, save_directory, **options)

    @classmethod
    def from_pretrained(cls: type[Module], pretrained_model_name_or_path: str | Path, **options: Any) -> Module:
        """Load from a local folder or from the hub, in evaluation mode.

        Args:
            pretrained_model_name_or_path: a folder that `save_pretrained` wrote, or "owner/name" on the hub.
            options: those of the hub (revision, token, cache_dir, local_files_only, force_download), `map_location`,
                and new values for arguments of the constructor, such as `dropout`.

        Raises:
            ValueError: no such folder, a folder of another class, or a missing or unexpected weight, or one of another
                shape.
        """
        return cls._storage.load(cls, pretrained_model_name_or_path, **options)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload to the Hugging Face Hub, and return the URL of the commit.

        Args:
            repo_id: "owner/name".
            options: commit_message, private, token, revision, create_pr, as in `huggingface_hub`.

        Raises:
            ValueError: as `save_pretrained`.
        """
        return self._storage.push(self, repo_id, **options)
