"""MAG2 over the length of a video: time and peak memory, ours and the released way as far as that goes."""

import statistics
from collections.abc import Iterator
from functools import partial

import torch

from benchmarks.layer import TEXTS, backward, drawn
from benchmarks.measuring import Comparison, Plan, Row, measure, peak_bytes, seconds
from benchmarks.released import appended_edges, graph_a_video

MOST_SECONDS, MOST_BYTES = 60.0, 6 * 2**30  # for one video the released way
ROUND_SECONDS = 6.0  # for as many videos as fit
MIB = 2**20


def run(plan: Plan) -> Iterator[Comparison]:
    """At each length both ways, a video's share; then ours at all lengths in turn."""
    expected = 0.0  # seconds of a video the released way: four times those at half the length
    for clips in plan.sizes.lengths:
        needed = _message_bytes(clips, plan.sizes.dim)
        if expected > MOST_SECONDS or needed > MOST_BYTES:
            why = f"{needed / 2**30:.0f} GiB" if needed > MOST_BYTES else f"{expected:.0f} s"
            note = f"the released way was left out: it wants about {why} for one video"
            yield Comparison(_title(plan, clips), _alone(plan, clips), (note,))
            continue
        fitting = plan.sizes.batch if expected == 0 else int(ROUND_SECONDS / expected)
        comparison = _both(plan, clips, max(1, min(plan.sizes.batch, fitting)))
        expected = 4 * comparison.rows[1].value / 1000
        yield comparison
    yield from _doubling(plan)


def _both(plan: Plan, clips: int, videos: int) -> Comparison:
    """A video's time, ours in the whole batch, the released way in one of `videos`; the memory of such a batch."""
    guide, x, texts = drawn(plan, clips)
    few = x.detach()[:videos].clone().requires_grad_()
    edges = appended_edges(clips, TEXTS, plan.device)
    ways = {
        "ours": lambda: backward(guide(x, texts)),
        "graphs": lambda: backward(graph_a_video(guide, few, texts, edges, 0.0)),
        "edges": lambda: appended_edges(clips, TEXTS, plan.device),
    }
    medians = measure(ways, min(plan.rounds, 3), plan.device)
    batch = plan.sizes.batch
    # The released code appends the edges once for a batch: each video has its share of that time.
    ours, theirs = medians["ours"] / batch, medians["graphs"] / videos + medians["edges"] / batch
    our_peak = peak_bytes(lambda: backward(guide(few, texts)), plan.device)
    their_peak = peak_bytes(ways["graphs"], plan.device)
    among = f"peak memory, {videos} videos"
    rows = [
        Row("ours", 1000 * ours, "ms a video", 1.0),
        Row("released", 1000 * theirs, "ms a video", theirs / ours),
        Row(f"ours, {among}", our_peak / MIB, "MiB", 1.0),
        Row(f"released, {among}", their_peak / MIB, "MiB", their_peak / our_peak),
    ]
    notes = () if videos == batch else (f"the released way in a batch of {videos}, for the sake of time",)
    return Comparison(_title(plan, clips), rows, notes)


def _alone(plan: Plan, clips: int) -> list[Row]:
    guide, x, texts = drawn(plan, clips)

    def way() -> None:
        backward(guide(x, texts))

    took = measure({"ours": way}, min(plan.rounds, 3), plan.device)["ours"]
    rows = [Row("ours", 1000 * took / plan.sizes.batch, "ms a video", 1.0)]
    return [*rows, Row(f"ours, peak memory, {len(x)} videos", peak_bytes(way, plan.device) / MIB, "MiB", 1.0)]


def _doubling(plan: Plan) -> Iterator[Comparison]:
    """Each length against the one before, as the median of the ratios within a round."""
    lengths = plan.sizes.lengths
    ways = {}
    for clips in lengths:
        guide, x, texts = drawn(plan, clips)
        ways[clips] = partial(lambda guide, x, texts: backward(guide(x, texts)), guide, x, texts)
    rounds = [{clips: seconds(way, plan.device) for clips, way in ways.items()} for _ in range(plan.rounds + 1)][1:]
    memory = {clips: peak_bytes(way, plan.device) for clips, way in ways.items()}
    time_rows, memory_rows = [], []
    for clips in lengths:
        took = statistics.median(each[clips] for each in rounds)
        half = clips // 2
        ratio = statistics.median(each[clips] / each[half] for each in rounds) if half in ways else None
        time_rows.append(Row(f"T={clips}", 1000 * took, "ms", ratio))
        memory_rows.append(
            Row(f"T={clips}", memory[clips] / MIB, "MiB", memory[clips] / memory[half] if ratio else None)
        )
    where = f"ours, B={plan.sizes.batch}; ratio: to half the length"
    yield Comparison(f"MAG2 over T, time ({where})", time_rows)
    yield Comparison(f"MAG2 over T, peak memory ({where})", memory_rows)


def _message_bytes(clips: int, dim: int) -> int:
    """The memory of a video's messages: a row along every edge, in the wider layer."""
    edges = clips * (clips - 1) + TEXTS * (TEXTS - 1) + clips * TEXTS
    return edges * dim * torch.finfo(torch.float32).bits // 8


def _title(plan: Plan, clips: int) -> str:
    return f"MAG2, forward and backward, T={clips} (B={plan.sizes.batch} M={TEXTS} d={plan.sizes.dim})"
