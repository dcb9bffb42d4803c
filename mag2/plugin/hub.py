"""`save_pretrained`, `from_pretrained` and `push_to_hub` for modules that can say how they were built."""

from pathlib import Path
from typing import Any

from huggingface_hub import PyTorchModelHubMixin, constants
from torch import nn

from mag2.plugin.folders import library_version, load_into, read_weights, weights_of, write_folder
from mag2.plugin.kinds import name_of

ABOUT, WEIGHTS = constants.CONFIG_NAME, constants.SAFETENSORS_SINGLE_FILE


class Pretrained(PyTorchModelHubMixin, library_name="mag2", tags=["action-quality-assessment"]):
    """A module of a registered kind that saves to a folder or to the Hugging Face Hub and loads from either.

    `config` (a dict of plain values) says how it was built, `from_config` builds it again; the texts are among the
    weights, their prompts and source in the config. Weights are safetensors and load strictly.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """An instance; the mixin would keep every argument that it can turn into JSON, and `config` says it better."""
        return object.__new__(cls)

    def _save_pretrained(self, save_directory: Path) -> None:
        module: Any = self
        if module.config is None:
            raise ValueError(f"this {type(self).__name__} was built with code of your own; save its state_dict")
        from mag2.plugin.attaching import attached

        if attached(module):
            raise ValueError(f"something is attached to this {type(self).__name__}; save_plugin it and detach it first")
        about = {"mag2": library_version(), "kind": name_of(self), "built": module.config}
        write_folder(Path(save_directory), (WEIGHTS, ABOUT), weights_of(module), about)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Any:
        """Load from a local folder or from the hub, in evaluation mode.

        Args:
            pretrained_model_name_or_path: a folder that `save_pretrained` wrote, or "owner/name" on the hub.
            options: those of the hub (revision, token, cache_dir, local_files_only, force_download), `map_location`,
                and arguments of the constructor that shall differ, such as `dropout`.

        Raises:
            ValueError: no such folder, not one of this class, or a missing, unexpected or misshapen weight.
        """
        given = str(pretrained_model_name_or_path)
        if not Path(given).is_dir() and (Path(given).is_absolute() or given.startswith(".") or given.count("/") != 1):
            raise ValueError(f"no folder {given}; give one that save_pretrained wrote, or 'owner/name' on the hub")
        return super().from_pretrained(pretrained_model_name_or_path, **options)

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        config: dict[str, Any] | None = None,
        map_location: str = "cpu",
        strict: bool = True,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        **changed: Any,
    ) -> Any:
        if not strict:
            raise ValueError("weights that do not fit are not loaded; leave out strict=False")
        wanted = f"{cls.__module__}.{cls.__qualname__}"
        if not isinstance(config, dict) or config.get("kind") != wanted:
            found = "no config.json" if config is None else f"a {config.get('kind')!r}"
            raise ValueError(f"{model_id} holds {found}; {cls.__name__}.from_pretrained reads a {wanted!r}")
        path = Path(model_id) / WEIGHTS
        if not Path(model_id).is_dir():
            from huggingface_hub import hf_hub_download

            path = Path(
                hf_hub_download(
                    model_id,
                    WEIGHTS,
                    revision=revision,
                    cache_dir=cache_dir,
                    force_download=force_download,
                    local_files_only=local_files_only,
                    token=token,
                )
            )
        built: Any = cls
        module: nn.Module = built.from_config({**config["built"], **changed})
        load_into(module, read_weights(path, config.get("sha256")), path)
        return module.to(map_location).eval()
