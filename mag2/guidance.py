"""MAG2, multidimensional action graph guidance: a graph of clips and action texts guides the clips."""

import copy
import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mag2.dropout import dropout
from mag2.hooks import as_built
from mag2.plugin.hub import Pretrained
from mag2.plugin.kinds import kind
from mag2.plugin.origins import Origin, origin
from mag2.projection import TokenProjection

# A graph convolution is any module called as `conv(x, edge_index)`, made from its widths.
Convolution = Callable[[int, int], nn.Module]

# What to take away to see what it was worth: language in four ways, or the graph.
TEXT_CONTROLS = ("zero_texts", "random_texts", "permuted_texts", "centred_texts")
CONTROLS = (*TEXT_CONTROLS, "no_edges")


@kind
class ActionGraphGuidance(nn.Module, Pretrained):
    """Guide clips by the action texts of a sport through two graph convolutions (supplement, MAG2).

    Nodes are the T clips and the M texts of one modality. Every clip hears every other clip and every text; every
    text hears every other text; no text hears a clip and no node itself. Each layer is a SAGEConv with mean
    aggregation, ``x_i' = W_l mean_j(x_j) + b + W_r x_i``, d -> d/2 -> d, ReLU and dropout between; the clip rows go on.

    On this complete graph the means have a closed form, so that a layer costs O((T + M) d^2) and not
    O((T + M)^2 d): with n = T - 1 + M neighbours a clip's row is
    ``(W_r - W_l / n) x_i + W_l (sum_clips + sum_texts) / n + b``. The texts do not depend on the clips: they run
    once per batch. Any other graph or convolution runs on PyG message passing, with the same parameters. The closed
    form reads the parameters of both maps of a layer, and calls maps that are hooked, pruned or exchanged.

    A mean of all texts is the same for every clip: in the complete graph the texts are a constant, whatever their
    order. With `edge_weight` w_im >= 0 clip i hears text m that much (clips still hear each other with weight 1, in
    both layers), ``mean_i = (sum_{j != i} x_j + sum_m w_im t_m) / (T - 1 + sum_m w_im)``, 0 where nothing is heard.
    Weights of 1 are the complete graph; `mag2.alignment.edge_weights` makes them from a similarity.

    Shapes:
        clips (B, T, d); texts (M, d); clip_mask (B, T), True where a clip is real; edge_index (2, E) with clips as
        nodes 0..T-1 and texts as T..T+M-1, row 0 the sources; edge_weight (B, T, M); returns (B, T, d).

    Args:
        dim: d, the width of the clips; 256 in the paper.
        texts: (M, D) text features to own, together with a projection D -> d. Without, `forward` takes texts that
            are d wide already.
        hidden: width between the layers, d/2 (released code).
        dropout: between the layers; 0.3 (released training command).
        convolution: "sage" (the paper), "gcn", "gat", or a function from two widths to a module called as
            `conv(x, edge_index)`. All but "sage" run on message passing.
        control: what to take away, for comparison with the whole: one of `CONTROLS`. "random_texts",
            "permuted_texts" and "centred_texts" change the texts as `controlled` does, owned ones before their
            projection, others as they come. With "zero_texts" the graph hears zeros (behind the projection:
            BatchNorm over equal rows would divide by nothing). With "no_edges" nobody hears anybody, and the same
            layers are an MLP over clips. Owned parameters that a control leaves unused are frozen.
        control_seed: of what the control draws.

    Raises:
        ValueError: clips, texts or weights of another shape or width, weights below 0 or for another graph than the
            complete one, no texts where none are owned, texts given where some are owned, or an unknown control.
    """

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
    ):
        super().__init__()
        if control is not None and control not in CONTROLS:
            raise ValueError(f"unknown control {control!r}; there are {', '.join(CONTROLS)}, or None")
        self.dim, self.hidden, self.dropout = dim, hidden or dim // 2, dropout
        self.control, self.control_seed = control, control_seed
        self.convolution = convolution
        self.released = False
        make = _convolution(convolution)
        self.conv1, self.conv2 = make(dim, self.hidden), make(self.hidden, dim)
        self.closed_form = convolution == "sage"
        self.texts: Tensor | None
        self.register_buffer("texts", None if texts is None else self._control(_checked_texts(texts)).clone())
        self.projection = None if texts is None else TokenProjection(texts.shape[1], dim)
        self.origin = None if texts is None else origin(texts)
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
        _check_clips(clips, clip_mask, self.dim)
        texts = self._heard(texts)
        if edge_weight is not None and (edge_index is not None or not self.closed_form):
            raise ValueError("edge_weight is for the complete graph with 'sage'; leave out edge_index or convolution")
        weights = None if edge_weight is None else _Weights(edge_weight, (*clips.shape[:2], len(texts)))
        if edge_index is None and self.closed_form:
            return self._closed_form(clips, texts, clip_mask, weights)[0]
        if edge_index is None:
            edge_index = action_graph(clips.shape[1], len(texts), device=clips.device)
        return self._message_passing(clips, texts, clip_mask, edge_index)[:, : clips.shape[1]]

    def nodes(self, clips: Tensor, texts: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Both node sets after the second layer on the complete graph: clips (B, T, d) and texts (M, d)."""
        _check_clips(clips, None, self.dim)
        edge_index = action_graph(clips.shape[1], len(texts := self._heard(texts)), device=clips.device)
        if self.closed_form:
            guided, between = self._closed_form(clips, texts, None, None)
            return guided, self._at_texts(self.conv2, between)
        rows = self._message_passing(clips, texts, None, edge_index)
        return rows[:, : clips.shape[1]], rows[0, clips.shape[1] :]

    def fold(self, texts: Tensor | None = None) -> "FoldedGuidance":
        """The equal module without texts: what clips hear of them becomes two constant vectors.

        Equal to this guide in evaluation, at every number of clips and under every mask. (In training this guide
        projects its texts with the statistics of the batch and drops out some of their units.) The copy keeps the
        layers' weights and may be trained on, but then its constants stay as they are.

        Args:
            texts: (M, d), as `forward` takes them; for guides that own none.

        Raises:
            ValueError: another graph than the complete one with "sage", or texts as `forward` refuses them.
        """
        if not self.closed_form or self.control == "no_edges":
            raise ValueError("only the complete graph with 'sage' folds: other graphs do not sum up their texts")
        if self.projection is None and texts is None:
            raise ValueError("this guidance owns no texts: fold it with those (M, d) that it is called with")
        # The copy is read in evaluation; this guide stays in the mode it is in.
        guide = copy.deepcopy(self).eval()
        like = next(guide.parameters())
        folded = FoldedGuidance(self.dim, hidden=self.hidden, dropout=self.dropout).to(like.device, like.dtype)
        with torch.no_grad():
            first = guide._heard(texts)
            second = _text_rows(guide.conv1, first).relu()
            sums = {"text_sum1": first.sum(dim=0), "text_sum2": second.sum(dim=0)}
        layers = {key: value for key, value in guide.state_dict().items() if key.startswith(_LAYERS)}
        folded.load_state_dict(layers | sums | {"_extra_state": torch.tensor(len(first))})
        return folded.train(self.training)

    @classmethod
    def from_released(cls, state_dict: dict[str, Tensor], **args) -> "ActionGraphGuidance":
        """The authors' `MAGG_Module`: its weights, and its arguments by their names (dropout; sizes are read off).

        Raises:
            ValueError: a key is missing or unknown.
        """
        from mag2.baselines.released import load_strictly, without_prefix

        state = without_prefix(state_dict)
        if "conv1.lin_l.weight" not in state:
            raise ValueError(f"no conv1.lin_l.weight among the keys; a MAGG_Module has {_SAGE_KEYS}")
        hidden, dim = state["conv1.lin_l.weight"].shape
        guide = cls(dim, hidden=hidden, dropout=args.get("dropout", 0.3))
        load_strictly(guide, state)
        guide.released = True
        return guide.eval()

    @property
    def config(self) -> dict[str, Any] | None:
        """What builds it again, for JSON: sizes, and of owned texts their shape, prompts and source.

        None with a convolution that was given as a function, which JSON cannot hold.
        """
        if not isinstance(self.convolution, str):
            return None
        names = ("dim", "hidden", "dropout", "convolution", "control", "control_seed", "released")
        texts = None
        if self.texts is not None:
            texts = {"shape": list(self.texts.shape), **(self.origin or Origin()).config}
        return {name: getattr(self, name) for name in names} | {"owned_texts": texts}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ActionGraphGuidance":
        """A guidance to load weights and texts into."""
        sizes = dict(config)
        owned, released = sizes.pop("owned_texts"), sizes.pop("released")
        guide = cls(**sizes, texts=None if owned is None else torch.zeros(owned["shape"]))
        guide.origin = None if owned is None else Origin.from_config(owned)
        guide.released = released
        return guide

    def _closed_form(
        self, clips: Tensor, texts: Tensor, clip_mask: Tensor | None, weights: "_Weights | None"
    ) -> tuple[Tensor, Tensor]:
        """The clips after the second layer and the texts after the first."""
        first_clips = self._between(self._at_clips(self.conv1, clips, texts, clip_mask, weights))
        first_texts = self._between(self._at_texts(self.conv1, texts))
        return self._at_clips(self.conv2, first_clips, first_texts, clip_mask, weights), first_texts

    def _at_clips(
        self, conv: Any, clips: Tensor, texts: Tensor, clip_mask: Tensor | None, weights: "_Weights | None"
    ) -> Tensor:
        if self.control == "no_edges":
            return _lone_rows(conv, clips)
        if weights is None:
            return _clip_rows(conv, clips, texts.sum(dim=0), len(texts), clip_mask)
        return _weighted_clip_rows(conv, clips, texts, clip_mask, weights)

    def _at_texts(self, conv: Any, texts: Tensor) -> Tensor:
        return _lone_rows(conv, texts) if self.control == "no_edges" else _text_rows(conv, texts)

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
        # Dropout before ReLU, which keeps its zeros: the next layer's input is all that ReLU has to remember.
        return dropout(rows, self.dropout, self.training).relu()

    def _heard(self, texts: Tensor | None) -> Tensor:
        """The texts (M, d) as the graph hears them: owned or given, projected and controlled."""
        if self.projection is None:
            if texts is None:
                raise ValueError("this guidance owns no texts: call it with texts (M, d), or build it with texts")
            if texts.dim() != 2 or texts.shape[1] != self.dim:
                raise ValueError(f"texts want shape (M, {self.dim}), got {tuple(texts.shape)}")
            return self._control(texts)
        if texts is not None:
            raise ValueError("this guidance owns its texts already; call it with clips alone")
        assert self.texts is not None
        if self.control == "zero_texts":
            return self.texts.new_zeros(len(self.texts), self.dim)
        return self.projection(self.texts)

    def _control(self, texts: Tensor) -> Tensor:
        return controlled(texts, self.control, self.control_seed) if self.control in TEXT_CONTROLS else texts

    def _freeze_unused(self) -> None:
        # DDP must see no parameter that gets no gradient.
        alone = self.control == "no_edges" and self.closed_form
        if self.projection is not None and (alone or self.control == "zero_texts"):
            self.projection.requires_grad_(False)
        if alone:
            for name in _LAYERS:
                getattr(self, name).lin_l.weight.requires_grad_(False)

    def extra_repr(self) -> str:
        """Its sizes, for print(model)."""
        owned = "" if self.texts is None else f", texts={tuple(self.texts.shape)}"
        control = "" if self.control is None else f", control={self.control!r}"
        return f"dim={self.dim}, hidden={self.hidden}, dropout={self.dropout}{owned}{control}"


@kind
class FoldedGuidance(nn.Module, Pretrained):
    """A trained `ActionGraphGuidance` with its texts folded into constants; `ActionGraphGuidance.fold` makes it.

    Clips of the complete graph hear nothing of the texts but their sum and their number, so that is all it keeps of
    them: the sums of the rows that enter layer 1 and layer 2, and M. It needs torch alone.

    Shapes: clips (B, T, d), clip_mask (B, T), True where a clip is real; returns (B, T, d).

    Args:
        dim, hidden, dropout: as in `ActionGraphGuidance`. Weights, sums and M come with the state.

    Raises:
        ValueError: clips or mask of another shape or width.
    """

    def __init__(self, dim: int = 256, *, hidden: int | None = None, dropout: float = 0.3):
        super().__init__()
        self.dim, self.hidden, self.dropout = dim, hidden or dim // 2, dropout
        self.n_texts = 0
        self.conv1, self.conv2 = _SageWeights(dim, self.hidden), _SageWeights(self.hidden, dim)
        self.text_sum1: Tensor
        self.text_sum2: Tensor
        self.register_buffer("text_sum1", torch.zeros(dim))
        self.register_buffer("text_sum2", torch.zeros(self.hidden))

    def forward(self, clips: Tensor, clip_mask: Tensor | None = None) -> Tensor:
        """Guide the clips."""
        _check_clips(clips, clip_mask, self.dim)
        first = _clip_rows(self.conv1, clips, self.text_sum1, self.n_texts, clip_mask)
        first = dropout(first, self.dropout, self.training).relu()
        return _clip_rows(self.conv2, first, self.text_sum2, self.n_texts, clip_mask)

    @property
    def config(self) -> dict[str, Any]:
        """What builds it again, for JSON."""
        return {"dim": self.dim, "hidden": self.hidden, "dropout": self.dropout}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "FoldedGuidance":
        """A guidance to load weights, sums and their number into."""
        return cls(**config)

    # A sum is nothing without its count: M travels with the state, and stays a Python number for `T - 1 + M`.
    def get_extra_state(self) -> Tensor:
        """M, for the state."""
        return torch.tensor(self.n_texts)

    def set_extra_state(self, state: Tensor) -> None:
        """M, from a state."""
        self.n_texts = int(state)

    def extra_repr(self) -> str:
        """Its sizes, for print(model)."""
        return f"dim={self.dim}, hidden={self.hidden}, dropout={self.dropout}, n_texts={self.n_texts}"


def fold(model: nn.Module) -> nn.Module:
    """Fold every guide of a model, attached or its own; the model is changed in place and returned.

    `detach` still takes folded guides out again. Either all guides fold, or the model stays as it was. A bare guide,
    and a model with a `fold` of its own (`MLAVL`), are not changed: their folded copy is returned.

    Raises:
        ValueError: a guide that does not fold or owns no texts (see `ActionGraphGuidance.fold`), or no guide at all.
    """
    from mag2.plugin.attaching import attached, forget_compiled, unwrapped

    inner: Any = unwrapped(model)
    if hasattr(inner, "fold"):
        return inner.fold()
    folded = {part: part.fold() for part in inner.modules() if isinstance(part, ActionGraphGuidance)}
    if not folded:
        raise ValueError(f"{type(inner).__name__} has no ActionGraphGuidance to fold")
    for parent in list(inner.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, ActionGraphGuidance):
                setattr(parent, name, folded[child])
    for place in attached(inner):
        if isinstance(place.module, ActionGraphGuidance):
            place.plug.module = folded[place.module]
    forget_compiled()
    return model


def controlled(texts: Tensor, control: str | None, seed: int = 0) -> Tensor:
    """Texts (M, D) with something taken away: what a model makes of them says what that was worth.

    "zero_texts": zeros. "random_texts": every row a random direction of the same length. "permuted_texts": every row
    at another's place. "centred_texts": less their mean, which is all that the complete graph hears. None: as given.

    Args:
        texts: features or projected texts, of any float type.
        control: see above.
        seed: of what is drawn, the same on every device; no global random state is read or changed.

    Raises:
        ValueError: a control that is none of texts.
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
    # One random cycle through all rows: no row stays where it was.
    cycle = torch.randperm(len(texts), generator=generator)
    order = torch.empty_like(cycle)
    order[cycle] = cycle.roll(1)
    return texts[order.to(texts.device)]


def action_graph(n_clips: int, n_texts: int, *, device: torch.device | str | None = None) -> Tensor:
    """The complete action graph as edges (2, E): clips 0..T-1, texts T..T+M-1, row 0 the sources, row 1 the targets."""
    nodes = torch.arange(n_clips + n_texts, device=device)
    source, target = torch.meshgrid(nodes, nodes, indexing="ij")
    from_clip_to_text = (source < n_clips) & (target >= n_clips)
    keep = (source != target) & ~from_clip_to_text
    return torch.stack([source[keep], target[keep]])


def _clip_rows(conv: Any, clips: Tensor, text_sum: Tensor, n_texts: int, clip_mask: Tensor | None) -> Tensor:
    """One SAGEConv layer at the clips of the complete graph, without a neighbour matrix."""
    n_neighbours = clips.shape[1] - 1 + n_texts
    if n_neighbours == 0:
        return _lone_rows(conv, clips)
    if clip_mask is None and _readable(conv):
        # One count for all clips: the mean over the others folds into the weights of the node itself.
        own = conv.lin_r.weight - conv.lin_l.weight / n_neighbours
        heard = (clips.sum(dim=1) + text_sum) / n_neighbours
        return F.linear(clips, own) + conv.lin_l(heard)[:, None]
    others, counts = _other_clips(clips, clip_mask)
    return conv.lin_r(clips) + conv.lin_l((others + text_sum) / (counts + n_texts).clamp(min=1))


def _weighted_clip_rows(
    conv: Any, clips: Tensor, texts: Tensor, clip_mask: Tensor | None, weights: "_Weights"
) -> Tensor:
    """The same layer where clip i hears text m with weight w_im: the texts are mapped once, then weighed.

    Where the weights of each clip have a sum of their own, so has the matrix W_r - W_l / n_i that maps it: a second
    product over the clips cannot be saved, and the layer costs twice that of the complete graph.
    """
    weight, n_clips = weights.weight.to(clips.dtype), clips.shape[1]
    readable = _readable(conv)
    if weights.total is not None and clip_mask is None and n_clips > 1 and readable:
        # One count for all clips again.
        n_neighbours = n_clips - 1 + weights.total
        own = conv.lin_r.weight - conv.lin_l.weight / n_neighbours
        rows = F.linear(clips, own) + conv.lin_l(clips.sum(dim=1) / n_neighbours)[:, None]
        return rows + weight @ (F.linear(texts, conv.lin_l.weight) / n_neighbours)
    others, counts = _other_clips(clips, clip_mask)
    counts = counts + weight.sum(dim=-1, keepdim=True)
    # Whoever hears nothing hears 0, and sends no gradient into weights of 0.
    share = torch.where(counts > 0, 1 / counts.where(counts > 0, 1), 0).to(clips.dtype)
    if not readable:
        return conv.lin_r(clips) + conv.lin_l(share * (others + weight @ texts))
    mapped = F.linear(texts, conv.lin_l.weight)
    return _lone_rows(conv, clips) + share.to(mapped.dtype) * (F.linear(others, conv.lin_l.weight) + weight @ mapped)


def _other_clips(clips: Tensor, clip_mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """For every clip the sum of the other real clips (B, T, d) and their number (B, T, 1)."""
    if clip_mask is None:
        counts = clips.new_full((*clips.shape[:2], 1), clips.shape[1] - 1)
        return clips.sum(dim=1, keepdim=True) - clips, counts
    real = clip_mask[..., None].to(clips.dtype)
    kept = clips * real
    return kept.sum(dim=1, keepdim=True) - kept, real.sum(dim=1, keepdim=True) - real


def _lone_rows(conv: Any, rows: Tensor) -> Tensor:
    """One SAGEConv layer at nodes that hear nobody: their mean is 0."""
    if not _readable(conv):
        return conv.lin_r(rows) + conv.lin_l(rows.new_zeros(rows.shape[-1]))
    return F.linear(rows, conv.lin_r.weight, conv.lin_l.bias)


def _readable(conv: Any) -> bool:
    """Whether both maps of a layer are the linear ones that they look like, and not pruned, hooked or exchanged."""
    return all(type(part).__module__ in _LINEAR and as_built(part) for part in (conv.lin_l, conv.lin_r))


def _text_rows(conv: Any, texts: Tensor) -> Tensor:
    """One SAGEConv layer at the texts, which hear each other and no clip."""
    mean = (texts.sum(dim=0) - texts) / max(len(texts) - 1, 1)
    return conv.lin_r(texts) + conv.lin_l(mean)


class _Weights:
    """Checked weights (B, T, M) of the edges from texts to clips, and what those of each clip sum to.

    `total` is a number where all clips have the same (up to rounding), as softmax gives them, and no gradient is
    wanted through it: then a layer costs one matrix product over the clips and not two. Compiled or traced code and
    the transforms of `torch.func` do not stop to look at values: they take weights as they are, and the general way.
    """

    def __init__(self, weight: Tensor, shape: tuple[int, ...]):
        if not isinstance(weight, Tensor) or tuple(weight.shape) != shape:
            given = tuple(weight.shape) if isinstance(weight, Tensor) else f"a {type(weight).__name__}"
            raise ValueError(f"edge_weight wants shape (B, T, M), here {shape}, got {given}")
        self.weight = weight
        self.total: float | None = None
        if weight.numel() == 0 or not _has_values(weight):
            return
        with torch.no_grad():
            totals = weight.sum(dim=-1, dtype=torch.promote_types(weight.dtype, torch.float32))
            # One look at the device for all three.
            least, low, high = torch.stack([weight.min().to(totals), totals.min(), totals.max()]).tolist()
        if not (least >= 0 and math.isfinite(high)):
            raise ValueError(f"edge_weight wants finite weights of 0 or more, got {high if least >= 0 else least}")
        rounding = 32 * torch.finfo(totals.dtype).eps
        if high - low <= rounding * high and not (weight.requires_grad and torch.is_grad_enabled()):
            self.total = (low + high) / 2


def _has_values(weight: Tensor) -> bool:
    """Whether these are numbers to look at, and nothing that stands for others: traced, mapped over or dual."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    # torch has no public way to ask for the first.
    transformed = torch._C._functorch.is_functorch_wrapped_tensor(weight)
    return not transformed and torch.autograd.forward_ad.unpack_dual(weight).tangent is None


class _SageWeights(nn.Module):
    """The parameters of a SAGEConv under its keys: `lin_l` for the neighbours' mean, `lin_r` for the node."""

    def __init__(self, in_dim: int, out_dim: int):
        super().__init__()
        self.lin_l = nn.Linear(in_dim, out_dim)
        self.lin_r = nn.Linear(in_dim, out_dim, bias=False)


_LAYERS = ("conv1", "conv2")
# Where torch's and PyG's linear maps are from: not those of LoRA, which have a weight and more.
_LINEAR = (nn.Linear.__module__, "torch_geometric.nn.dense.linear")
_SAGE_KEYS = "conv1.lin_l, conv1.lin_r, conv2.lin_l and conv2.lin_r"


def _check_clips(clips: Tensor, clip_mask: Tensor | None, dim: int) -> None:
    if not isinstance(clips, Tensor):
        raise ValueError(f"clips want a tensor (B, T, {dim}), got a {type(clips).__name__}")
    if clips.dim() != 3 or clips.shape[-1] != dim:
        raise ValueError(f"clips want shape (B, T, {dim}), got {tuple(clips.shape)}")
    if clip_mask is not None and clip_mask.shape != clips.shape[:2]:
        raise ValueError(f"clip_mask wants shape {tuple(clips.shape[:2])}, got {tuple(clip_mask.shape)}")


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
