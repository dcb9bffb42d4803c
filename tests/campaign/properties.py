"""Properties that hold for every shape, seed and mask: each case draws a module, a shape and what is compared."""

import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["CASES"]

CLOSE = {"rtol": 1e-7, "atol": 1e-8}


def modules(rng: random.Random) -> tuple[str, nn.Module, Callable[..., Any], int]:
    """A random module in evaluation mode, how it is called with visual, audio and a mask, and the width it takes."""
    from mag2 import MLAVL, ActionGraphGuidance, AudioVisualFusion, PromptGuidedGrading, TextFeatures
    from mag2.baselines import SGN, MBertLate, SkatingMixer
    from mag2.context import SharedSpecificContextEncoder
    from mag2.fusion import FUSIONS, make_fusion

    heads = rng.choice((1, 2))
    dim = heads * rng.choice((2, 4, 6)) * 2
    sport = rng.choice(("rhythmic_gymnastics", "figure_skating", "artistic_swimming"))
    texts = TextFeatures.for_sport(sport, n_grades=rng.randrange(2, 7))
    rows = torch.randn(rng.randrange(1, 8), dim)
    fusion = rng.choice(sorted(FUSIONS))
    both = lambda m, v, a, mask: m(v, a, clip_mask=mask)  # noqa: E731
    choices: dict[str, tuple[Callable[[], nn.Module], Callable[..., Any]]] = {
        "guide": (
            lambda: ActionGraphGuidance(dim, rows, hidden=rng.choice((None, 3))),
            lambda m, v, a, k: m(v, clip_mask=k),
        ),
        "context": (lambda: SharedSpecificContextEncoder(dim, n_heads=heads), lambda m, v, a, k: m(v, k)),
        "avcf": (lambda: AudioVisualFusion(dim, n_heads=heads, n_layers=1), both),
        f"fusion {fusion}": (lambda: make_fusion(fusion, dim, n_heads=heads), both),
        "grading": (lambda: PromptGuidedGrading(dim, texts, n_heads=heads, n_layers=1), both),
        "mlavl": (
            lambda: MLAVL(
                texts, visual_dim=dim, audio_dim=dim, dim=dim, n_heads=heads, n_fusion=1, n_grading=1, fusion=fusion
            ),
            both,
        ),
        "folded mlavl": (
            lambda: MLAVL(texts, visual_dim=dim, audio_dim=dim, dim=dim, n_heads=heads, n_grading=1).eval().fold(),
            both,
        ),
        "sgn": (lambda: SGN(rows, visual_dim=dim, audio_dim=dim, dim=dim, n_heads=heads), both),
        "mbert": (lambda: MBertLate(visual_dim=dim, audio_dim=dim, dim=dim, n_heads=heads, n_layers=1), both),
        "mixer": (lambda: SkatingMixer(visual_dim=dim, audio_dim=dim, dim=dim), both),
    }
    name = rng.choice(sorted(choices))
    make, call = choices[name]
    module = make().double().eval()
    for key, buffer in module.named_buffers():
        if key.endswith(("running_mean", "running_var")):  # as after training: statistics of its own
            buffer.add_(torch.rand_like(buffer))
    return name, module, call, dim


def drawn(rng: random.Random, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Clips of video and audio (B, T, D), and a mask whose real clips come first."""
    batch, clips = rng.randrange(1, 5), rng.randrange(1, 9)
    visual, audio = torch.randn(2, batch, clips, dim, dtype=torch.float64)
    lengths = torch.tensor([rng.randrange(1, clips + 1) for _ in range(batch)])
    return visual, audio, torch.arange(clips) < lengths[:, None]


def kept(output: Any, mask: Tensor | None = None) -> list[Tensor]:
    """What is compared of an output: the score, or the real clips."""
    if isinstance(output, dict):
        return [output["score"]]
    if mask is not None and output.shape[:2] == mask.shape:
        return [output[mask]]
    return [output]


def same(left: list[Tensor], right: list[Tensor]) -> None:
    for one, two in zip(left, right, strict=True):
        torch.testing.assert_close(one, two, **CLOSE)


def padding(module: nn.Module, call: Callable, visual: Tensor, audio: Tensor, mask: Tensor, rng: random.Random) -> None:
    """What stands in padding, and how much padding there is, changes nothing."""
    before = kept(call(module, visual, audio, mask), mask)
    worth = rng.choice((0.0, 1e6, -3.0, float("nan"), float("inf")))
    other = [torch.where(mask[..., None], each, worth) for each in (visual, audio)]
    same(before, kept(call(module, *other, mask), mask))
    more = torch.zeros(len(mask), rng.randrange(1, 4), dtype=torch.bool)
    longer = [torch.cat([each, torch.full((*more.shape, each.shape[-1]), 7.0)], 1) for each in (visual, audio)]
    mask = torch.cat([mask, more], 1)
    same(before, kept(call(module, *longer, mask), mask))


def single(module: nn.Module, call: Callable, visual: Tensor, audio: Tensor, mask: Tensor, rng: random.Random) -> None:
    """A batch is its videos one by one."""
    whole = call(module, visual, audio, mask)
    for at in range(len(visual)):
        length = int(mask[at].sum())
        alone = call(module, visual[at : at + 1, :length], audio[at : at + 1, :length], None)
        if isinstance(whole, dict):
            same([whole["score"][at : at + 1]], [alone["score"]])
        elif whole.shape[:2] == mask.shape:
            same([whole[at : at + 1, :length]], [alone])


def order(module: nn.Module, call: Callable, visual: Tensor, audio: Tensor, mask: Tensor, rng: random.Random) -> None:
    """Videos in another order have the same outputs in that order."""
    new = torch.randperm(len(visual))
    whole = call(module, visual, audio, mask)
    other = call(module, visual[new], audio[new], mask[new])
    for key in whole if isinstance(whole, dict) else [None]:
        one, two = (whole[key], other[key]) if key is not None else (whole, other)
        if isinstance(one, Tensor) and one.dim() and len(one) == len(new) and key in (None, "score"):
            one, two = one[new], two
            if key is None and one.shape[:2] == mask.shape:
                one, two = one[mask[new]], two[mask[new]]
            same([one], [two])


def again(module: nn.Module, call: Callable, visual: Tensor, audio: Tensor, mask: Tensor, rng: random.Random) -> None:
    """Evaluation is deterministic, changes no weight and no input, and leaves the random state alone."""
    weights = {key: value.clone() for key, value in module.state_dict().items() if isinstance(value, Tensor)}
    inputs = [visual.clone(), audio.clone(), mask.clone()]
    state = torch.get_rng_state()
    one, two = (kept(call(module, visual, audio, mask), mask) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True)), "two calls differ"
    assert torch.equal(state, torch.get_rng_state()), "the random state moved"
    assert all(torch.equal(a, b) for a, b in zip(inputs, (visual, audio, mask), strict=True)), "an input was changed"
    for key, value in module.state_dict().items():
        if isinstance(value, Tensor):
            assert torch.equal(value, weights[key]), f"{key} was changed"


def follows(module: nn.Module, call: Callable, visual: Tensor, audio: Tensor, mask: Tensor, rng: random.Random) -> None:
    """Outputs have the dtype and the device of the inputs; on meta nothing may mix devices."""
    dtype = rng.choice((torch.float32, torch.float64, torch.bfloat16))
    module = module.to(dtype)
    output = kept(call(module, visual.to(dtype), audio.to(dtype), mask))[0]
    assert output.dtype == dtype, f"{output.dtype} of {dtype}"
    close = {torch.float32: 1e-4, torch.float64: 1e-9, torch.bfloat16: None}[dtype]
    if close is not None:
        full = kept(call(module.double(), visual, audio, mask))[0]
        assert output.shape == full.shape
    meta = module.to("meta")
    output = kept(
        call(
            meta,
            visual.to(dtype).to("meta").to(next(meta.parameters()).dtype),
            audio.to("meta", next(meta.parameters()).dtype),
            None,
        )
    )[0]
    assert output.device.type == "meta", output.device


def saved(
    name: str, module: nn.Module, call: Callable, visual: Tensor, audio: Tensor, mask: Tensor, folder: Path
) -> None:
    """Load equals save, to the bit."""
    if not hasattr(module, "save_pretrained"):
        return
    module.save_pretrained(folder / "saved")
    loaded = type(module).from_pretrained(folder / "saved").eval()
    one, two = (kept(call(each, visual, audio, mask), mask) for each in (module, loaded))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True)), "what is loaded computes other numbers"


def folded(module: nn.Module, call: Callable, visual: Tensor, audio: Tensor, mask: Tensor, rng: random.Random) -> None:
    """Fold equals guide."""
    if hasattr(module, "fold"):
        same(kept(call(module, visual, audio, mask), mask), kept(call(module.fold(), visual, audio, mask), mask))


def _case(what: str, rng: random.Random, folder: Path, outside: Path) -> Iterator[str]:
    torch.manual_seed(rng.randrange(2**31))
    name, module, call, dim = modules(rng)
    visual, audio, mask = drawn(rng, dim)
    yield f"{what} of {name}, dim {dim}, batch {len(mask)}, clips {mask.sum(1).tolist()} of {mask.shape[1]}"
    with torch.no_grad():
        if what == "load equals save":
            saved(name, module, call, visual, audio, mask, folder)
        else:
            PROPERTIES[what](module, call, visual, audio, mask, rng)


PROPERTIES: dict[str, Callable] = {
    "padding": padding,
    "batch equals single": single,
    "order of the batch": order,
    "same call again": again,
    "dtype and device follow": follows,
    "fold equals guide": folded,
}
CASES = {name: partial(_case, name) for name in (*PROPERTIES, "load equals save")}
