"""Find the plugs of a model, wrapped or not."""

from torch import nn

from mag2.plugin.places import joined
from mag2.plugin.plug import Plug, plugs_in
from mag2.plugin.wrappers import walk

__all__ = ["find_plugs"]


def find_plugs(base: nn.Module, *, used: bool = False) -> dict[Plug, str]:
    """Return all plugs of a model with the paths of their places, in the order in which they were attached.

    Args:
        used: only those that are in use, where PEFT keeps several copies of a part.
    """
    found: dict[Plug, tuple[str, bool]] = {}
    for path, part, stands in walk(base):
        for plug in plugs_in(part) or ():
            if plug not in found or stands > found[plug][1]:
                found[plug] = joined(path, plug.inner), stands
    standing = {(place, plug.key) for plug, (place, stands) in found.items() if stands}
    return {
        plug: place
        for plug, (place, stands) in sorted(found.items(), key=lambda item: item[0].order)
        if stands or not used or (place, plug.key) not in standing
    }
