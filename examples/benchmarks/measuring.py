"""How everything is measured: the ways of one comparison in turn in one process, the median of several rounds."""

import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

Ways = dict[str, Callable[[], object]]
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm")


@dataclass(frozen=True)
class Sizes:
    """The sizes that are measured; the defaults are the paper's.

    Attributes:
        batch, clips, dim, heads: B, T, d and the heads of attention.
        feature: the width of the features that are read.
        lengths: the T of section `length`.
        videos: of a dataset that is read; `crop`: None for the dataset's own crop length, or clips a video has here.
        training: videos to train and test on, clips and epochs of section `bf16`.
    """

    batch: int = 64
    clips: int = 95
    dim: int = 256
    heads: int = 8
    feature: int = 768
    lengths: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048)
    videos: int = 120
    crop: int | None = None
    training: tuple[int, int, int, int] = (480, 400, 16, 40)


PAPER = Sizes()
TINY = Sizes(4, 6, 16, 2, 24, (4, 8), 12, 5, (12, 12, 5, 1))


@dataclass(frozen=True)
class Plan:
    """The settings of a section: sizes, counted rounds, device, whether to try `torch.compile`, whether to profile."""

    sizes: Sizes
    rounds: int
    device: str
    compile: bool = True
    profile: bool = False


@dataclass(frozen=True)
class Row:
    """One way of a comparison: a number, its unit, and its ratio to the comparison's first way."""

    way: str
    value: float
    unit: str
    ratio: float | None


@dataclass(frozen=True)
class Comparison:
    """Several ways of doing one thing, notes about them, and where each spends its time."""

    title: str
    rows: list[Row]
    notes: tuple[str, ...] = ()
    profiles: Mapping[str, str] = field(default_factory=dict)


def timed(title: str, ways: Ways, plan: Plan, notes: tuple[str, ...] = ()) -> Comparison:
    """The comparison of the median seconds of each way."""
    medians = measure(ways, plan.rounds, plan.device)
    first = next(iter(medians.values()))
    profiles = {name: profiled(way, plan.device) for name, way in ways.items()} if plan.profile else {}
    return Comparison(title, [Row(way, 1000 * s, "ms", s / first) for way, s in medians.items()], notes, profiles)


def measure(ways: Ways, rounds: int, device: str) -> dict[str, float]:
    """Median seconds of each way, all in turn in every round, after one round that is not counted."""
    timed = [{name: seconds(way, device) for name, way in ways.items()} for _ in range(rounds + 1)]
    return {name: statistics.median(each[name] for each in timed[1:]) for name in ways}


def seconds(way: Callable[[], object], device: str) -> float:
    """How long one call takes."""
    wait(device)
    started = time.perf_counter()
    way()
    wait(device)
    return time.perf_counter() - started


def wait(device: str) -> None:
    """Wait until the device is done: a GPU works asynchronously."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def profiled(way: Callable[[], object], device: str) -> str:
    """The operators that one call spends most of its time in, and how fast its matrix products are."""
    with FlopCounterMode(display=False) as counter:
        way()
    with profile() as seen:
        way()
        wait(device)
    kind = "device" if torch.device(device).type == "cuda" else "cpu"
    times = {event.key: getattr(event, f"self_{kind}_time_total") / 1000 for event in seen.key_averages()}
    total, products = sum(times.values()), sum(times.get(f"aten::{name}", 0) for name in PRODUCTS)
    lines = [f"{name[:43]:44s}{ms:9.1f} ms{100 * ms / total:6.1f} %" for name, ms in Counter(times).most_common(12)]
    counts = counter.get_flop_counts()["Global"]
    flops = sum(count for operator, count in counts.items() if operator.__name__ in PRODUCTS)
    speed = f", {flops / 1e6 / products:.0f} GFLOP/s" if products else ""
    lines.append(f"matrix products: {flops / 1e9:.4g} GFLOP, {100 * products / total:.0f} % of the time{speed}")
    return "\n".join(lines)


def peak_bytes(way: Callable[[], object], device: str) -> int:
    """The most memory that one call holds at a time beyond what was there before it.

    On a GPU the allocator's own count. On the CPU every allocation and release of torch's allocator during the call,
    as its profiler records them, summed in order; scratch space that a matrix library takes for itself is not in it.
    """
    way()  # gradients and packed weights are allocated once and stay
    if torch.device(device).type == "cuda":
        wait(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        way()
        wait(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        way()
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak
