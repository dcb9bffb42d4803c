"""Devices by name, refused where they compute nothing here."""

import torch

__all__ = ["checked_device"]


def checked_device(name: str | torch.device) -> torch.device:
    """Return the device of that name.

    Raises:
        ValueError: no such device, one that this machine does not have, or "meta", which holds no numbers.
    """
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):  # torch lists every device that it was ever built for
        shown = repr(str(name)[:60])
        raise ValueError(f"device {shown} cannot be used here: there is no such; give cpu, cuda or cuda:1") from None
    if device.type == "meta":
        raise ValueError("the device 'meta' computes no numbers; give cpu or cuda")
    try:
        torch.empty(1, device=device)
    except Exception as error:  # each backend raises its own
        reason = (str(error).strip().splitlines() or ["it is not there"])[0].partition(". ")[0]
        raise ValueError(f"device {str(name)!r} cannot be used here: {reason:.120}") from None
    return device
