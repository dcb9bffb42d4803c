"""Saving: files written atomically, folders of weights and JSON, the classes that a JSON may name, the hub."""

from mag2.saving.folders import library_version
from mag2.saving.hub import HubStorage
from mag2.saving.registry import register

__all__ = ["HubStorage", "library_version", "register"]
