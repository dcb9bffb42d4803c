"""Whole frames from interlaced ones, by FFmpeg's filter bwdif."""

from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["deinterlaced"]


def deinterlaced(frames: Iterable[Any], stream: Any, notes: list[str]) -> Iterator[Any]:
    """As many frames as are given; from the first interlaced one on, the filter merges the two fields of each frame.

    The filter changes neither progressive frames nor times. It returns a frame one frame later.
    """
    graph: Any = None
    shape: tuple[int, int, str] | None = None
    for frame in frames:
        if graph is None and not frame.interlaced_frame:
            yield frame
            continue
        if shape != (frame.width, frame.height, frame.format.name):
            if graph is not None:
                yield from _flushed(graph)
            else:
                notes.append("it is interlaced; its fields were merged into whole frames")
            graph, shape = _graph(frame, stream), (frame.width, frame.height, frame.format.name)
        graph.vpush(frame)
        yield from _pulled(graph)
    if graph is not None:
        yield from _flushed(graph)


def _graph(frame: Any, stream: Any) -> Any:
    from av.filter import Graph

    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or stream.time_base
    )
    merge = graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced")
    graph.link_nodes(source, merge, graph.add("buffersink")).configure()
    return graph


def _flushed(graph: Any) -> Iterator[Any]:
    graph.vpush(None)
    yield from _pulled(graph)


def _pulled(graph: Any) -> Iterator[Any]:
    from av.error import BlockingIOError as NothingYet
    from av.error import EOFError as NothingMore

    while True:
        try:
            yield graph.vpull()
        except (NothingYet, NothingMore):
            return
