"""MAG2, multidimensional action graph guidance: a graph of clips and action texts guides the clips."""

import copy
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from mag2.guidance.action_graph import (
    EdgeWeights,
    SageLayer,
    action_graph,
    checked_clips,
    clip_rows,
    lone_rows,
    text_rows,
    weighted_clip_rows,
)
from mag2.guidance.folded import FoldedGuidance
from mag2.guidance.message_passing import Convolution, make_convolution
from mag2.nn.dropout import check_probability, dropout
from mag2.nn.pretrained import Pretrained
from mag2.nn.state_dicts import accept_former_keys, check_names, load_strictly, without_prefix
from mag2.texts.controls import CONTROLS, TEXT_CONTROLS, controlled
from mag2.texts.projected import ProjectedTexts, checked_rows
from mag2.texts.provenance import Provenance, provenance_of

__all__ = ["ActionGraphGuidance"]


class ActionGraphGuidance(Pretrained):
    """Guide clips by the action texts of a sport through two graph convolutions (supplement, MAG2).

    Nodes are the T clips and the M texts of one modality. A clip receives from every other clip and from every text; a
    text receives from every other text, from no clip, and no node from itself. Each layer is a SAGEConv with mean
    aggregation, ``x_i' = W_l mean_j(x_j) + b + W_r x_i``, d -> d/2 -> d, with ReLU and dropout between. The clip rows
    are the output.

    On this complete graph the means have a closed form (`mag2.guidance.action_graph`), so that a layer costs
    O((T + M) d^2) and not O((T + M)^2 d). The texts do not depend on the clips: they run once per batch. Any other
    graph or convolution runs on PyG message passing, with the same parameters. The closed form reads the parameters of
    both maps of a layer; maps that are hooked, pruned or exchanged are called instead.

    The mean of all texts is the same for every clip: in the complete graph the texts are a constant, whatever their
    order. `edge_weight` w_im >= 0 is the weight of the edge from text m to clip i, in both layers; edges between clips
    keep weight 1. Then ``mean_i = (sum_{j != i} x_j + sum_m w_im t_m) / (T - 1 + sum_m w_im)``, and 0 where the sum of
    weights is 0. Weights of 1 are the complete graph; `mag2.alignment.edge_weights` makes weights from a similarity.

    Shapes:
        clips (B, T, d); texts (M, d); clip_mask (B, T), True where a clip is real; edge_index (2, E) with clips as
        nodes 0..T-1 and texts as T..T+M-1, row 0 the sources; edge_weight (B, T, M); returns (B, T, d).

    Args:
        dim: d, the width of the clips; 256 in the paper.
        texts: (M, D) text features. The module keeps a copy of them and learns a projection D -> d; it then "owns"
            texts. Without them `forward` takes texts of width d.
        hidden: width between the two layers; d/2 by default (released code).
        dropout: probability of dropout between the two layers; 0.3 (released training command).
        convolution: "sage" (the paper), "gcn", "gat", or a function of two widths that returns a module, which is
            called as `conv(x, edge_index)`. All but "sage" run on message passing.
        control: what to remove, for comparison with the full module: one of `mag2.texts.CONTROLS`, or None.
            "random_texts", "permuted_texts" and "centred_texts" change the texts as `mag2.texts.controlled` does:
            owned texts before their projection, texts of a call as they are given. With "zero_texts" the graph
            receives zeros in the place of the projected texts (a projection of equal rows is undefined in BatchNorm).
            With "no_edges" no node receives anything, and the same layers are an MLP over clips. Owned parameters that
            a control leaves unused are frozen.
        control_seed: seed of the random draws of the control.
        provenance: origin of the owned texts; by default the one that the rows carry (`mag2.texts.TextRows`), as those
            of `TextFeatures` do.

    Raises:
        ValueError: in the constructor: `dim` is no whole number, an unknown control or convolution, a dropout that is
            no probability, or texts that are no matrix of finite numbers. In `forward`: clips, texts, mask or weights
            of another shape, width or type; weights below 0 or not finite; weights together with `edge_index` or a
            convolution other than "sage"; no texts where the module owns none; texts where it owns some.
    """

    accepts: ClassVar[frozenset[str]] = frozenset({"clip_mask", "edge_weight"})

    def __init__(
        self,
        dim: int = 256,
        texts: Tensor | None = None,
        *,
        hidden: int | None = None,
        dropout: float = 0.3,
        convolution: str | Convolution = "sage",
        control: str | None = None,
        control_seed: int = 0,
        provenance: Provenance | None = None,
    ):
        super().__init__()
        if not isinstance(dim, int):
            raise ValueError(f"dim is a {type(dim).__name__}: give the width of the clips first, (256, texts.visual)")
        if control is not None and control not in CONTROLS:
            raise ValueError(f"unknown control {control!r}; there are {', '.join(CONTROLS)}, or None")
        check_probability(dropout)
        self.dim, self.hidden, self.dropout = dim, hidden or dim // 2, dropout
        self.control, self.control_seed = control, control_seed
        self.convolution = convolution
        self.released = False
        make = self._layer_class()
        self.conv1, self.conv2 = make(dim, self.hidden), make(self.hidden, dim)
        self.closed_form = convolution == "sage"
        self.owned_texts: ProjectedTexts | None = None
        if texts is not None:
            rows = self._control(checked_rows(texts))
            self.owned_texts = ProjectedTexts(rows, dim, provenance or provenance_of(texts))
        accept_former_keys(self, {"texts": "owned_texts.texts", "projection": "owned_texts.projection"})  # 0.1
        self._freeze_unused()

    def forward(
        self,
        clips: Tensor,
        texts: Tensor | None = None,
        *,
        clip_mask: Tensor | None = None,
        edge_index: Tensor | None = None,
        edge_weight: Tensor | None = None,
    ) -> Tensor:
        """Guide the clips; see the class for shapes."""
        clips = checked_clips(clips, clip_mask, self.dim)
        texts = self._text_nodes(texts)
        if edge_weight is not None and (edge_index is not None or not self.closed_form):
            raise ValueError("edge_weight is for the complete graph with 'sage'; leave out edge_index or convolution")
        weights = None if edge_weight is None else EdgeWeights(edge_weight, (*clips.shape[:2], len(texts)))
        if edge_index is None and self.closed_form:
            return self._closed_form(clips, texts, clip_mask, weights)[0]
        if edge_index is None:
            edge_index = action_graph(clips.shape[1], len(texts), device=clips.device)
        return self._message_passing(clips, texts, clip_mask, edge_index)[:, : clips.shape[1]]

    def nodes(self, clips: Tensor, texts: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return all nodes after the second layer on the complete graph: clips (B, T, d) and texts (M, d).

        Takes clips (B, T, d) and texts (M, d) as `forward` does, and raises the same errors.
        """
        checked_clips(clips, None, self.dim)
        edge_index = action_graph(clips.shape[1], len(texts := self._text_nodes(texts)), device=clips.device)
        if self.closed_form:
            guided, between = self._closed_form(clips, texts, None, None)
            return guided, self._at_texts(self.conv2, between)
        rows = self._message_passing(clips, texts, None, edge_index)
        return rows[:, : clips.shape[1]], rows[0, clips.shape[1] :]

    def fold(self, texts: Tensor | None = None) -> FoldedGuidance:
        """Return an equal module without texts: they become two constant vectors.

        The copy equals this guide in evaluation, for every number of clips and every mask. (In training this guide
        projects its texts with the statistics of the batch, and dropout acts on them.) The copy keeps the weights of
        the layers. It may be trained further, but its constants do not change. This guide stays as it is.

        Args:
            texts: (M, d), as in `forward`; for a guide that owns none.

        Returns:
            A `FoldedGuidance`, in the mode (training or evaluation) of this guide.

        Raises:
            ValueError: a convolution other than "sage", the control "no_edges", or texts that `forward` refuses.
        """
        if not self.closed_form or self.control == "no_edges":
            raise ValueError("only the complete graph with 'sage' folds: other graphs do not sum up their texts")
        if self.owned_texts is None and texts is None:
            raise ValueError("this guidance owns no texts: fold it with those (M, d) that it is called with")
        # The copy is read in evaluation; this guide stays in the mode it is in.
        guide = copy.deepcopy(self).eval()
        like = next(guide.parameters())
        folded = FoldedGuidance(self.dim, hidden=self.hidden, dropout=self.dropout).to(like.device, like.dtype)
        with torch.no_grad():
            first = guide._text_nodes(texts)
            second = guide._at_texts(guide.conv1, first).relu()
            sums = {"text_sum1": first.sum(dim=0), "text_sum2": second.sum(dim=0)}
        layers = {key: value for key, value in guide.state_dict().items() if key.startswith(_LAYERS)}
        folded.load_state_dict(layers | sums | {"_extra_state": torch.tensor(len(first))})
        return folded.train(self.training)

    @classmethod
    def from_released(cls, state_dict: dict[str, Tensor], **args: Any) -> "ActionGraphGuidance":
        """Load the weights of the authors' `MAGG_Module`, in evaluation mode.

        Args:
            state_dict: their weights, with or without the prefix ``module.``.
            args: arguments by the authors' names. Only `dropout` is used; input_dim and hidden_dim are taken from the
                shapes of the weights.

        Raises:
            ValueError: a key is missing, unexpected or of another shape.
            TypeError: an argument of another name.
        """
        check_names(args, ("dropout", "input_dim", "hidden_dim"), "ActionGraphGuidance.from_released")
        state = without_prefix(state_dict)
        if "conv1.lin_l.weight" not in state:
            raise ValueError(f"no conv1.lin_l.weight among the keys; a MAGG_Module has {_SAGE_KEYS}")
        hidden, dim = state["conv1.lin_l.weight"].shape
        guide = cls(dim, hidden=hidden, dropout=args.get("dropout", 0.3))
        load_strictly(guide, state)
        guide.released = True
        return guide.eval()

    @property
    def texts(self) -> Tensor | None:
        """The owned text features (M, D) under the control; None where it owns none."""
        return None if self.owned_texts is None else self.owned_texts.kept

    @property
    def n_texts(self) -> int | None:
        """M, the number of owned texts, for which `edge_weight` has weights; None where it owns none."""
        return None if self.owned_texts is None else len(self.owned_texts)

    @property
    def provenance(self) -> Provenance | None:
        """Origin of the owned texts; None where it owns none."""
        return None if self.owned_texts is None else self.owned_texts.provenance

    @property
    def config(self) -> dict[str, Any] | None:
        """The arguments that build this module again, as plain values for JSON.

        Of owned texts it has shape, prompts and source. None with a convolution that was given as a function, which
        JSON cannot hold.
        """
        if not isinstance(self.convolution, str):
            return None
        names = ("dim", "hidden", "dropout", "convolution", "control", "control_seed", "released")
        texts = None if self.owned_texts is None else self.owned_texts.description
        return {name: getattr(self, name) for name in names} | {"owned_texts": texts}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ActionGraphGuidance":
        """Build the module that `config` describes, with owned texts of zeros; load its state afterwards."""
        sizes = dict(config)
        owned, released = sizes.pop("owned_texts"), sizes.pop("released")
        rows, provenance = (None, None) if owned is None else ProjectedTexts.blank(owned)
        guide = cls(**sizes, texts=rows, provenance=provenance)
        guide.released = released
        return guide

    def _layer_class(self) -> Convolution:
        if isinstance(self.convolution, str):
            return SageLayer if self.convolution == "sage" else make_convolution(self.convolution)
        return self.convolution

    def _closed_form(
        self, clips: Tensor, texts: Tensor, clip_mask: Tensor | None, weights: EdgeWeights | None
    ) -> tuple[Tensor, Tensor]:
        """The clips after the second layer and the texts after the first."""
        first_clips = self._between(self._at_clips(self.conv1, clips, texts, clip_mask, weights))
        first_texts = self._between(self._at_texts(self.conv1, texts))
        return self._at_clips(self.conv2, first_clips, first_texts, clip_mask, weights), first_texts

    def _at_clips(
        self, layer: Any, clips: Tensor, texts: Tensor, clip_mask: Tensor | None, weights: EdgeWeights | None
    ) -> Tensor:
        if self.control == "no_edges":
            return lone_rows(layer, clips)
        if weights is None:
            return clip_rows(layer, clips, texts.sum(dim=0), len(texts), clip_mask)
        return weighted_clip_rows(layer, clips, texts, clip_mask, weights)

    def _at_texts(self, layer: Any, texts: Tensor) -> Tensor:
        return lone_rows(layer, texts) if self.control == "no_edges" else text_rows(layer, texts)

    def _message_passing(self, clips: Tensor, texts: Tensor, clip_mask: Tensor | None, edge_index: Tensor) -> Tensor:
        """The same two layers over any edges: the batch is one graph of B parts that no edge joins."""
        if self.control == "no_edges":
            edge_index = edge_index[:, :0]
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
        # Dropout before ReLU, which keeps its zeros: autograd then stores the input of the next layer alone.
        return dropout(rows, self.dropout, self.training).relu()

    def _text_nodes(self, texts: Tensor | None) -> Tensor:
        """The texts (M, d) that enter the graph: owned or given, projected and controlled."""
        if self.owned_texts is None:
            if texts is None:
                raise ValueError("this guidance owns no texts: call it with texts (M, d), or build it with texts")
            if texts.dim() != 2 or texts.shape[1] != self.dim:
                raise ValueError(f"texts want shape (M, {self.dim}), got {tuple(texts.shape)}")
            return self._control(texts)
        if texts is not None:
            raise ValueError("this guidance owns its texts already; call it with clips alone")
        if self.control == "zero_texts":
            return self.owned_texts.kept.new_zeros(len(self.owned_texts), self.dim)
        return self.owned_texts()

    def _control(self, texts: Tensor) -> Tensor:
        return controlled(texts, self.control, self.control_seed) if self.control in TEXT_CONTROLS else texts

    def _freeze_unused(self) -> None:
        # DDP must see no parameter that gets no gradient.
        alone = self.control == "no_edges" and self.closed_form
        if self.owned_texts is not None and (alone or self.control == "zero_texts"):
            self.owned_texts.projection.requires_grad_(False)
        if alone:
            for name in _LAYERS:
                getattr(self, name).lin_l.weight.requires_grad_(False)

    def extra_repr(self) -> str:
        """Sizes and settings, for print(model)."""
        owned = "" if self.texts is None else f", texts={tuple(self.texts.shape)}"
        control = "" if self.control is None else f", control={self.control!r}"
        return f"dim={self.dim}, hidden={self.hidden}, dropout={self.dropout}{owned}{control}"


_LAYERS = ("conv1", "conv2")
_SAGE_KEYS = "conv1.lin_l, conv1.lin_r, conv2.lin_l and conv2.lin_r"
