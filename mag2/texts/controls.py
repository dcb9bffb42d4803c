"""Controls: parts to remove from a guide, to measure what they contribute: the texts in four ways, or the edges."""

import torch
from torch import Tensor
from torch.nn import functional as F

TEXT_CONTROLS = ("zero_texts", "random_texts", "permuted_texts", "centred_texts")
CONTROLS = (*TEXT_CONTROLS, "no_edges")

__all__ = ["CONTROLS", "TEXT_CONTROLS", "controlled"]


def controlled(texts: Tensor, control: str | None, seed: int = 0) -> Tensor:
    """Return texts (M, D) changed by a control.

    Args:
        texts: (M, D) features or projected texts, of any float type.
        control: "zero_texts": zeros. "random_texts": each row is replaced by a random direction of the same length.
            "permuted_texts": the rows in another order, none in its own place. "centred_texts": the rows minus their
            mean, which is all that a clip of the complete graph receives from them. None: the texts as given.
        seed: seed of the random draws, which are the same on every device. No global random state is read or changed.

    Returns:
        Texts (M, D), of the dtype and on the device of the given ones.

    Raises:
        ValueError: the control is none of `TEXT_CONTROLS`.
    """
    if control is None:
        return texts
    if control not in TEXT_CONTROLS:
        hint = "; 'no_edges' is for the guide: ActionGraphGuidance(control='no_edges')" if control in CONTROLS else ""
        raise ValueError(f"no control {control!r} of texts; there are {', '.join(TEXT_CONTROLS)}{hint}")
    if control == "zero_texts":
        return torch.zeros_like(texts)
    if control == "centred_texts":
        return texts - texts.mean(dim=0)
    generator = torch.Generator().manual_seed(seed)
    if control == "random_texts":
        directions = F.normalize(torch.randn(texts.shape, generator=generator), dim=1).to(texts)
        return directions * texts.norm(dim=1, keepdim=True)
    # One random cycle through all rows: no row stays in its place.
    cycle = torch.randperm(len(texts), generator=generator)
    order = torch.empty_like(cycle)
    order[cycle] = cycle.roll(1)
    return texts[order.to(texts.device)]
