"""MAG2, multidimensional action graph guidance: a graph of clips and action texts guides the clips."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mag2.projection import TokenProjection

# A graph convolution is any module called as `conv(x, edge_index)`, made from its widths.
Convolution = Callable[[int, int], nn.Module]


class ActionGraphGuidance(nn.Module):
    """Guide clips by the action texts of a sport through two graph convolutions (supplement, MAG2).

    Nodes are the T clips and the M texts of one modality. Every clip hears every other clip and every text; every
    text hears every other text; no text hears a clip and no node itself. Each layer is a SAGEConv with mean
    aggregation, ``x_i' = W_l mean_j(x_j) + b + W_r x_i``, d -> d/2 -> d, ReLU and dropout between; the clip rows go on.

    On this complete graph the means have a closed form, so that a layer costs O((T + M) d^2) and not
    O((T + M)^2 d): with n = T - 1 + M neighbours a clip's row is
    ``(W_r - W_l / n) x_i + W_l (sum_clips + sum_texts) / n + b``. The texts do not depend on the clips: they run
    once per batch. Any other graph or convolution runs on PyG message passing, with the same parameters.

    Shapes:
        clips (B, T, d); texts (M, d); clip_mask (B, T), True where a clip is real; edge_index (2, E) with clips as
        nodes 0..T-1 and texts as T..T+M-1, row 0 the sources; returns (B, T, d).

    Args:
        dim: d, the width of the clips; 256 in the paper.
        texts: (M, D) text features to own, together with a projection D -> d. Without, `forward` takes texts that
            are d wide already.
        hidden: width between the layers, d/2 (released code).
        dropout: between the layers; 0.3 (released training command).
        convolution: "sage" (the paper), "gcn", "gat", or a function from two widths to a module called as
            `conv(x, edge_index)`. All but "sage" run on message passing.

    Raises:
        ValueError: clips or texts of another shape or width, no texts where none are owned, or texts given where
            some are owned already.
    """

    def __init__(
        self,
        dim: int = 256,
        texts: Tensor | None = None,
        *,
        hidden: int | None = None,
        dropout: float = 0.3,
        convolution: str | Convolution = "sage",
    ):
        super().__init__()
        self.dim, self.hidden, self.dropout = dim, hidden or dim // 2, dropout
        self.released = False
        make = _convolution(convolution)
        self.conv1, self.conv2 = make(dim, self.hidden), make(self.hidden, dim)
        self.closed_form = convolution == "sage"
        self.texts: Tensor | None
        self.register_buffer("texts", None if texts is None else _checked_texts(texts).clone())
        self.projection = None if texts is None else TokenProjection(texts.shape[1], dim)

    def forward(
        self,
        clips: Tensor,
        texts: Tensor | None = None,
        *,
        clip_mask: Tensor | None = None,
        edge_index: Tensor | None = None,
    ) -> Tensor:
        """Guide the clips; see the class for shapes."""
        self._check_clips(clips, clip_mask)
        texts = self._project(texts)
        if edge_index is None and self.closed_form:
            return self._complete_graph(clips, texts, clip_mask)[0]
        if edge_index is None:
            edge_index = action_graph(clips.shape[1], len(texts), device=clips.device)
        return self._message_passing(clips, texts, clip_mask, edge_index)[:, : clips.shape[1]]

    def nodes(self, clips: Tensor, texts: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Both node sets after the second layer on the complete graph: clips (B, T, d) and texts (M, d)."""
        self._check_clips(clips, None)
        edge_index = action_graph(clips.shape[1], len(texts := self._project(texts)), device=clips.device)
        if self.closed_form:
            guided, between = self._complete_graph(clips, texts, None)
            return guided, _text_rows(self.conv2, between)
        rows = self._message_passing(clips, texts, None, edge_index)
        return rows[:, : clips.shape[1]], rows[0, clips.shape[1] :]

    @classmethod
    def from_released(cls, state_dict: dict[str, Tensor], **args) -> "ActionGraphGuidance":
        """The authors' `MAGG_Module`: its weights, and its arguments by their names (dropout; sizes are read off).

        Raises:
            ValueError: a key is missing or unknown.
        """
        from mag2.checkpoints import load_exactly, without_prefix

        state = without_prefix(state_dict)
        if "conv1.lin_l.weight" not in state:
            raise ValueError(f"no conv1.lin_l.weight among the keys; a MAGG_Module has {_SAGE_KEYS}")
        hidden, dim = state["conv1.lin_l.weight"].shape
        guide = cls(dim, hidden=hidden, dropout=args.get("dropout", 0.3))
        load_exactly(guide, state)
        guide.released = True
        return guide.eval()

    def _complete_graph(self, clips: Tensor, texts: Tensor, clip_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        first_clips = self._between(_clip_rows(self.conv1, clips, texts, clip_mask))
        first_texts = self._between(_text_rows(self.conv1, texts))
        return _clip_rows(self.conv2, first_clips, first_texts, clip_mask), first_texts

    def _message_passing(self, clips: Tensor, texts: Tensor, clip_mask: Tensor | None, edge_index: Tensor) -> Tensor:
        """The same two layers over any edges: the batch is one graph of B parts that no edge joins."""
        batch, n_nodes = len(clips), clips.shape[1] + len(texts)
        rows = torch.cat([clips, texts.expand(batch, *texts.shape)], dim=1).flatten(0, 1)
        parts = torch.arange(batch, device=clips.device).repeat_interleave(edge_index.shape[1]) * n_nodes
        edges = edge_index.to(clips.device).repeat(1, batch) + parts
        if clip_mask is not None:
            real = F.pad(clip_mask, (0, len(texts)), value=True).flatten()
            edges = edges[:, real[edges[0]]]
        rows = self._between(self.conv1(rows, edges))
        return self.conv2(rows, edges).view(batch, n_nodes, -1)

    def _between(self, rows: Tensor) -> Tensor:
        return F.dropout(rows.relu(), self.dropout, self.training)

    def _project(self, texts: Tensor | None) -> Tensor:
        if self.projection is None:
            if texts is None:
                raise ValueError("this guidance owns no texts: call it with texts (M, d), or build it with texts")
            if texts.dim() != 2 or texts.shape[1] != self.dim:
                raise ValueError(f"texts want shape (M, {self.dim}), got {tuple(texts.shape)}")
            return texts
        if texts is not None:
            raise ValueError("this guidance owns its texts already; call it with clips alone")
        return self.projection(self.texts)

    def _check_clips(self, clips: Tensor, clip_mask: Tensor | None) -> None:
        if not isinstance(clips, Tensor):
            raise ValueError(f"clips want a tensor (B, T, {self.dim}), got a {type(clips).__name__}")
        if clips.dim() != 3 or clips.shape[-1] != self.dim:
            raise ValueError(f"clips want shape (B, T, {self.dim}), got {tuple(clips.shape)}")
        if clip_mask is not None and clip_mask.shape != clips.shape[:2]:
            raise ValueError(f"clip_mask wants shape {tuple(clips.shape[:2])}, got {tuple(clip_mask.shape)}")

    def extra_repr(self) -> str:
        """Its sizes, for print(model)."""
        owned = "" if self.texts is None else f", texts={tuple(self.texts.shape)}"
        return f"dim={self.dim}, hidden={self.hidden}, dropout={self.dropout}{owned}"


def action_graph(n_clips: int, n_texts: int, *, device: torch.device | str | None = None) -> Tensor:
    """The complete action graph as edges (2, E): clips 0..T-1, texts T..T+M-1, row 0 the sources, row 1 the targets."""
    nodes = torch.arange(n_clips + n_texts, device=device)
    source, target = torch.meshgrid(nodes, nodes, indexing="ij")
    from_clip_to_text = (source < n_clips) & (target >= n_clips)
    keep = (source != target) & ~from_clip_to_text
    return torch.stack([source[keep], target[keep]])


def _clip_rows(conv: Any, clips: Tensor, texts: Tensor, clip_mask: Tensor | None) -> Tensor:
    """One SAGEConv layer at the clips of the complete graph, without a neighbour matrix."""
    if clip_mask is None:
        # One count for all clips: the mean over the others folds into the weights of the node itself.
        n_neighbours = clips.shape[1] - 1 + len(texts)
        if n_neighbours == 0:
            return conv.lin_r(clips) + conv.lin_l.bias
        own = conv.lin_r.weight - conv.lin_l.weight / n_neighbours
        heard = (clips.sum(dim=1) + texts.sum(dim=0)) / n_neighbours
        return F.linear(clips, own) + conv.lin_l(heard)[:, None]
    real = clip_mask[..., None].to(clips.dtype)
    others = (clips * real).sum(dim=1, keepdim=True) + texts.sum(dim=0) - clips * real
    counts = real.sum(dim=1, keepdim=True) - real + len(texts)
    return conv.lin_r(clips) + conv.lin_l(others / counts.clamp(min=1))


def _text_rows(conv: Any, texts: Tensor) -> Tensor:
    """One SAGEConv layer at the texts, which hear each other and no clip."""
    mean = (texts.sum(dim=0) - texts) / max(len(texts) - 1, 1)
    return conv.lin_r(texts) + conv.lin_l(mean)


_SAGE_KEYS = "conv1.lin_l, conv1.lin_r, conv2.lin_l and conv2.lin_r"


def _convolution(name: str | Convolution) -> Convolution:
    if callable(name):
        return name
    # PyG takes a second to import: only whoever builds a graph waits for it. Its import warns of a part of torch
    # that it uses and we do not.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        from torch_geometric.nn import GATConv, GCNConv, SAGEConv

    known: dict[str, Convolution] = {"sage": SAGEConv, "gcn": GCNConv, "gat": GATConv}
    if name not in known:
        raise ValueError(f"unknown convolution {name!r}; there are {', '.join(known)}, or give a function")
    return known[name]


def _checked_texts(texts: Tensor) -> Tensor:
    if not isinstance(texts, Tensor) or texts.dim() != 2 or len(texts) == 0:
        given = f"shape {tuple(texts.shape)}" if isinstance(texts, Tensor) else f"a {type(texts).__name__}"
        raise ValueError(f"texts want a tensor (M, D) with at least one row, got {given}")
    return texts.detach().float()
