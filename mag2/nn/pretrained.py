"""Modules that say how they were built. What saves and loads them is set from above, by `mag2.saving`."""

from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from torch import nn

__all__ = ["Pretrained", "Storage", "arguments_of"]

Module = TypeVar("Module", bound="Pretrained")


def arguments_of(values: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a constructor from its `locals()`, at its first line."""
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
    """A module that saves to a folder or to the Hugging Face Hub, and loads from either.

    Subclasses have `config`, the plain values (and modules of this kind) that `from_config` builds the module again
    from, and a name in `mag2.saving.registry`. The texts are among the weights, their prompts and source in the config.
    Weights are safetensors and load strictly.
    """

    _storage: ClassVar[Any]  # a `Storage`
    arguments: dict[str, Any]  # of the constructor, as a subclass notes them, unless it has a `config` of its own

    @property
    def config(self) -> dict[str, Any] | None:
        """What builds it again, for JSON; None where it was built with code of one's own."""
        return self.arguments

    @classmethod
    def from_config(cls: type[Module], config: dict[str, Any]) -> Module:
        """The module to load weights into."""
        return cls(**config)

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """Save into a folder: `config.json`, `model.safetensors`, and a model card.

        Args:
            save_directory: made where it is not there.
            options: `push_to_hub=True` uploads as well, under `repo_id` or the name of the folder; others are those of
                `push_to_hub`.

        Raises:
            ValueError: it was built with code of one's own, or something is attached to it.
        """
        return self._storage.save(self, save_directory, **options)

    @classmethod
    def from_pretrained(cls: type[Module], pretrained_model_name_or_path: str | Path, **options: Any) -> Module:
        """Load from a local folder or from the hub, in evaluation mode.

        Args:
            pretrained_model_name_or_path: a folder that `save_pretrained` wrote, or "owner/name" on the hub.
            options: those of the hub (revision, token, cache_dir, local_files_only, force_download), `map_location`,
                and arguments of the constructor that shall differ, such as `dropout`.

        Raises:
            ValueError: no such folder, not one of this class, or a missing, unexpected or misshapen weight.
        """
        return cls._storage.load(cls, pretrained_model_name_or_path, **options)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload to the Hugging Face Hub: commit_message, private, token, revision, create_pr. Returns a URL."""
        return self._storage.push(self, repo_id, **options)
