"""QTD, "Interpretable Long-term Action Quality Assessment" (Dong et al., BMVC 2024): queries decode a video.

Released as two modules, the query-transformer decoder (``TQN``) and the weighted evaluator
(``Evaluator_weighted``). Here they are one model: the decoder's names stay at the top level, the evaluator
is under ``evaluator``.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mag2.nn.feature_rows import check_tensors
from mag2.nn.pretrained import Pretrained, arguments_of
from mag2.nn.state_dicts import count_layers, load_strictly, need, without_prefix

# Which tokens get a sinusoidal code, by the released name of the choice.
RELEASED_POSITIONAL = {
    "query_memory_pe": "query_memory",
    "query_pe": "query",
    "memory_pe": "memory",
    "no": "none",
}


class PositionalCode(nn.Module):
    """The sinusoidal code: sin and cos in alternate columns, wavelengths from 2 pi to 10000 * 2 pi.

    ``forward(length)`` returns the code of the first `length` places, (length, 1, d), ready to be added to
    sequence-first tokens.

    Raises:
        ValueError: an odd width; more places than `max_len`.
    """

    pe: Tensor  # (1, max_len, d): a buffer that the released state_dict holds too

    def __init__(self, dim: int, max_len: int):
        super().__init__()
        if dim % 2:
            raise ValueError(f"the sinusoidal code fills pairs of columns: the width is {dim}, give an even one")
        place = torch.arange(max_len)[:, None]
        frequency = torch.exp(torch.arange(0, dim, 2) * (-math.log(10000.0) / dim))
        code = torch.stack([(place * frequency).sin(), (place * frequency).cos()], dim=-1)
        self.register_buffer("pe", code.reshape(1, max_len, dim))

    def forward(self, length: int) -> Tensor:
        """The code of places 0..length-1, (length, 1, d)."""
        if length > self.pe.shape[1]:
            raise ValueError(f"{length} tokens are to get a positional code of {self.pe.shape[1]}: raise max_len")
        return self.pe[:, :length].transpose(0, 1)


class DecoderLayer(nn.Module):
    """One pre-norm decoder layer, which also returns the outputs of its two attentions.

    torch's own layer has these weights under these names. But it takes no codes that are added to queries and
    keys alone, and it does not return the outputs of its attentions, which the consistency loss compares.

    Shapes (sequence first, as torch's decoder and the released one):
        tgt (Q, B, d), memory (T, B, d), pos (T, 1, d) and query_pos (Q, 1, d) or None;
        returns the decoded queries, the self-attention's output and the cross-attention's, each (Q, B, d).

    Args:
        released: leave out the residual around self-attention as the released layer does, which adds the
            attention's output to a dropped-out copy of itself.
    """

    def __init__(self, dim: int, n_heads: int, feed_forward: int, dropout: float, released: bool):
        super().__init__()
        self.self_attn = nn.MultiheadAttention(dim, n_heads, dropout)
        self.multihead_attn = nn.MultiheadAttention(dim, n_heads, dropout)
        self.linear1 = nn.Linear(dim, feed_forward)
        self.linear2 = nn.Linear(feed_forward, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.released = released

    def forward(
        self, tgt: Tensor, memory: Tensor, pos: Tensor | None = None, query_pos: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Self-attention, cross-attention, feed-forward, each after its own layer norm."""
        tokens = self.norm1(tgt)
        placed = _coded(tokens, query_pos)
        self_map = self.self_attn(placed, placed, tokens, need_weights=False)[0]
        tgt = (self_map if self.released else tgt) + self.dropout(self_map)

        placed = _coded(self.norm2(tgt), query_pos)
        cross_map = self.multihead_attn(placed, _coded(memory, pos), memory, need_weights=False)[0]
        tgt = tgt + self.dropout(cross_map)

        hidden = self.dropout(self.linear1(self.norm3(tgt)).relu())
        return tgt + self.dropout(self.linear2(hidden)), self_map, cross_map


class Decoder(nn.Module):
    """The stack of decoder layers and the layer norm that a pre-norm stack ends with.

    ``forward(tgt, memory, pos=None, query_pos=None)`` takes and returns sequence-first tensors as
    `DecoderLayer` does; the maps come as lists, one entry per layer.

    Args:
        released: as in `DecoderLayer`, and add the memory's code to the memory once more after every layer,
            so that layer i's keys hold it i + 1 times and its values i times, as the released decoder does.
    """

    def __init__(self, *, dim: int, n_layers: int, n_heads: int, feed_forward: int, dropout: float, released: bool):
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderLayer(dim, n_heads, feed_forward, dropout, released) for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.released = released

    def forward(
        self, tgt: Tensor, memory: Tensor, pos: Tensor | None = None, query_pos: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Decode `tgt` from `memory`; without `released` every layer reads the same memory."""
        self_maps, cross_maps = [], []
        for layer in self.layers:
            tgt, self_map, cross_map = layer(tgt, memory, pos=pos, query_pos=query_pos)
            self_maps.append(self_map)
            cross_maps.append(cross_map)
            if self.released:
                memory = _coded(memory, pos)
        return self.norm(tgt), self_maps, cross_maps


class Evaluator(nn.Module):
    """The weighted evaluator: every query gives a score and a weight, the weights soft-max over the queries.

    Two networks of three linear layers, d -> 512 -> 256 -> 1 with ReLU between (released sizes).

    Shapes:
        features (B, Q, d); returns the score (B,), unbounded, the queries' scores (B, Q) and their
        weights (B, Q), which sum to 1.

    Args:
        dim: width of the features (default 1024, as released).
    """

    def __init__(self, dim: int = 1024):
        super().__init__()
        self.layer1_mean = nn.Linear(dim, 512)
        self.layer2_mean = nn.Linear(512, 256)
        self.layer3_mean = nn.Linear(256, 1)
        self.layer1_weight = nn.Linear(dim, 512)
        self.layer2_weight = nn.Linear(512, 256)
        self.layer3_weight = nn.Linear(256, 1)

    @classmethod
    def from_released(cls, state_dict: Mapping[str, Tensor]) -> "Evaluator":
        """The released ``Evaluator_weighted`` of this state_dict, in evaluation mode.

        Keys may start with ``module.`` and with ``evaluator.``; the width is read off the weights.

        Raises:
            ValueError: keys are missing or unexpected.
        """
        weights = {key.removeprefix("evaluator."): w for key, w in without_prefix(state_dict).items()}
        model = cls(need(weights, "layer1_mean.weight").shape[1])
        load_strictly(model, weights)
        return model.eval()

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The weighted score, the queries' scores, the queries' weights."""
        hidden = self.layer2_mean(self.layer1_mean(features).relu()).relu()
        scores = self.layer3_mean(hidden).squeeze(-1)
        hidden = self.layer2_weight(self.layer1_weight(features).relu()).relu()
        weights = self.layer3_weight(hidden).squeeze(-1).softmax(dim=1)
        return (weights * scores).sum(dim=1), scores, weights


class QTD(Pretrained):
    """Score a video by learned queries that a decoder decodes from its clips (Dong et al., BMVC 2024).

    A pre-norm decoder decodes Q queries from the clips. An evaluator gives every decoded query a score and a weight;
    the score of the video is their weighted sum. The training loss is the squared error plus a divergence between the
    similarities of the queries after self-attention and after cross-attention (`attention_consistency`).

    Shapes:
        visual (B, T, in_dim); audio and flow are accepted and not used. Returns a dict of

        - score (B,): in evaluation clamped to [0, 1], except with `released`; in training not, because a clamped score
          has no gradient;
        - features (B, Q, d): decoded queries;
        - query_scores (B, Q), query_weights (B, Q): the score is the sum of their products;
        - self_map_{i}, cross_map_{i} (B, Q, d), i = 0..n_layers-1: outputs of layer i's two attentions.
          The similarities between queries are computed from them in `loss`.

    Args:
        in_dim: width of the clip features (1024, as released). Where it is not `dim`, a linear layer ``in_proj`` maps
            the features to width `dim` (our choice: the released model accepts features of its own width alone, and
            FS1000's have 768).
        dim: width of the model (1024, as released).
        n_queries: 68, as released for RG (48 for LOGO, 136 for Fis-V).
        n_layers: 2, as released.
        n_heads: heads of both attentions (4, the value of the released configuration in the golden files).
        feed_forward: hidden width of the decoder's feed-forward part (1024, as released).
        query_var: standard deviation (despite the released name) of the normal distribution that initialises the
            queries; 1, as ``nn.Embedding`` has (released: 2 for RG, 0.5 for LOGO, 5 for Fis-V).
        positional: which tokens get the sinusoidal code: "query" (default), "query_memory", "memory" or "none". The
            code is added to queries and keys of the attention, never to values.
        max_len: number of positions of the code; 512 (our choice), more than the clips of any dataset here.
        dropout: of the decoder layers and of the weights of both attentions; 0.7 (released).
        noise: standard deviation of normal noise on the predicted scores in the training loss; 0. The released
            configurations have 0.05 for RG and Fis-V and 0 for LOGO.
        attention_weight: weight of the consistency term in the loss (1, as released).
        released: True gives the behaviour of the released code. If `query_var` is not 1, the queries are drawn anew at
            every forward, in evaluation too. The queries of video 0 are added to the code of the queries, and the
            features of video 0 to the code of the memory, which is added to the memory again after every layer.
            Self-attention has no residual. The consistency term is summed over layers, batch and queries, not averaged.
            Noise is in the evaluation loss too. The score is never clamped.

    Attributes:
        max_clips: the largest number of clips: `max_len` where clips get a positional code, else None.
        query_positions: False leaves out the positional code of the queries, whatever `positional` is; for queries that
            are texts, which have no order in time.

    Raises:
        ValueError: in the constructor: a size below 1, an odd dim or one that n_heads does not divide, an unknown
            `positional`, or a negative query_var or noise. In `forward`: features that are not (B, T, in_dim), or more
            tokens than the positional code has.
    """

    def __init__(
        self,
        *,
        in_dim: int = 1024,
        dim: int = 1024,
        n_queries: int = 68,
        n_layers: int = 2,
        n_heads: int = 4,
        feed_forward: int = 1024,
        query_var: float = 1.0,
        positional: str = "query",
        max_len: int = 512,
        dropout: float = 0.7,
        noise: float = 0.0,
        attention_weight: float = 1.0,
        released: bool = False,
    ):
        arguments = arguments_of(locals())
        super().__init__()
        self.arguments = arguments
        _check_sizes(
            in_dim=in_dim,
            dim=dim,
            n_queries=n_queries,
            n_layers=n_layers,
            n_heads=n_heads,
            feed_forward=feed_forward,
            max_len=max_len,
        )
        if dim % n_heads:
            raise ValueError(f"{n_heads} heads cannot share a width of {dim}: give a dim that n_heads divides")
        if positional not in RELEASED_POSITIONAL.values():
            choices = ", ".join(RELEASED_POSITIONAL.values())
            raise ValueError(f"positional is {positional!r}: give one of {choices}")
        if query_var < 0 or noise < 0:
            raise ValueError(f"query_var is {query_var} and noise {noise}: give standard deviations, 0 or more")

        self.in_proj = nn.Linear(in_dim, dim) if in_dim != dim else None
        self.query_embed = nn.Embedding(n_queries, dim)
        nn.init.normal_(self.query_embed.weight, std=query_var)
        self.pos_encoder = PositionalCode(dim, max_len)
        self.decoder = Decoder(
            dim=dim,
            n_layers=n_layers,
            n_heads=n_heads,
            feed_forward=feed_forward,
            dropout=dropout,
            released=released,
        )
        self.evaluator = Evaluator(dim)

        self.in_dim = in_dim
        self.query_var = query_var
        self.positional = positional
        self.noise = noise
        self.attention_weight = attention_weight
        self.released = released
        self.query_positions: bool = True

    @classmethod
    def from_released(
        cls,
        state_dict: Mapping[str, Tensor],
        *,
        H: int,
        pe: str,
        query_var: float,
        dropout: float = 0.7,
        noise: float = 0.0,
        d_model: int | None = None,
        N: int | None = None,
        num_queries: int | None = None,
        max_len: int | None = None,
    ) -> "QTD":
        """Load a checkpoint of the authors, with ``released=True`` and in evaluation mode.

        Args:
            state_dict: the weights of the authors' ``TQN``, with or without the prefix ``module.``. It may have those
                of their ``Evaluator_weighted``, with or without the prefix ``evaluator.``; otherwise the evaluator is
                newly initialised.
            H: number of heads, which the weights do not show.
            pe: "query_memory_pe", "query_pe", "memory_pe" or "no".
            query_var: as the model was built with; if it is not 1, the queries are drawn anew at every forward.
            dropout, noise: used in further training; noise also in the loss in evaluation mode. The released
                configurations have dropout 0.7, and noise 0.05 (RG, Fis-V) or 0 (LOGO).
            d_model, N, num_queries, max_len: width, layers, queries, positions of the code; accepted and ignored: the
                shapes of the weights give them.

        Raises:
            ValueError: keys are missing, unexpected or of the wrong shape; an unknown `pe`.
        """
        del d_model, N, num_queries, max_len
        if pe not in RELEASED_POSITIONAL:
            raise ValueError(f"pe is {pe!r}: give one of {', '.join(RELEASED_POSITIONAL)}")
        weights = {_our_key(key): weight for key, weight in without_prefix(state_dict).items()}
        n_queries, dim = need(weights, "query_embed.weight").shape
        model = cls(
            in_dim=dim,
            dim=dim,
            n_queries=n_queries,
            n_layers=count_layers(weights, "decoder"),
            n_heads=H,
            feed_forward=need(weights, "decoder.layers.0.linear1.weight").shape[0],
            query_var=query_var,
            dropout=dropout,
            noise=noise,
            positional=RELEASED_POSITIONAL[pe],
            max_len=need(weights, "pos_encoder.pe").shape[1],
            released=True,
        )
        if not any(key.startswith("evaluator.") for key in weights):
            weights |= model.evaluator.state_dict(prefix="evaluator.")
        load_strictly(model, weights)
        return model.eval()

    def forward(self, visual: Tensor, audio: Tensor | None = None, flow: Tensor | None = None) -> dict[str, Tensor]:
        """Score a batch of videos (B, T, in_dim); see the class for the returned dict."""
        check_tensors(visual=visual)
        if visual.dim() != 3 or visual.shape[2] != self.in_dim or visual.numel() == 0:
            raise ValueError(f"QTD wants features (B, T, {self.in_dim}), got {tuple(visual.shape)}")
        clips = visual if self.in_proj is None else self.in_proj(visual)
        memory = clips.transpose(0, 1)  # (T, B, d)
        queries = self.query_embed.weight[:, None].expand(-1, visual.shape[0], -1)  # (Q, B, d)
        if self.released and self.query_var != 1:
            # The released draw overwrites them without autograd's knowledge, so query_embed keeps its gradient.
            queries = self.draw_queries(queries.detach()) + (queries - queries.detach())

        codes_queries = self.query_positions and "query" in self.positional
        codes_memory = "memory" in self.positional
        decoded, self_maps, cross_maps = self.decoder(
            queries,
            memory,
            pos=self._positions(memory) if codes_memory else None,
            query_pos=self._positions(queries) if codes_queries else None,
        )
        features = decoded.transpose(0, 1)  # (B, Q, d)
        score, query_scores, query_weights = self.evaluator(features)
        if not (self.training or self.released):
            score = score.clamp(0, 1)
        output = {
            "score": score,
            "features": features,
            "query_scores": query_scores,
            "query_weights": query_weights,
        }
        for i, (self_map, cross_map) in enumerate(zip(self_maps, cross_maps, strict=True)):
            output[f"self_map_{i}"] = self_map.transpose(0, 1)
            output[f"cross_map_{i}"] = cross_map.transpose(0, 1)
        return output

    def loss(self, output: dict[str, Tensor], label: Tensor) -> dict[str, Tensor]:
        """Compute the training loss: a dict of "mse" (of the score), "consistency" (of the attentions) and "total".

        The consistency term is `attention_consistency` averaged over layers, batch and queries;
        ``released`` sums it over all three.

        Shapes: label (B,) in [0, 1]; `output` as `forward` returned it; each term a scalar.

        Raises:
            ValueError: label is not (B,).
        """
        score = output["score"]
        if label.shape != score.shape:
            raise ValueError(f"QTD's loss wants labels {tuple(score.shape)}, got {tuple(label.shape)}")
        if self.noise and (self.training or self.released):
            score = score + self.draw_noise(score)
        mse = (score - label).square().mean()  # in the wider of the two dtypes

        divergence = torch.stack(
            [
                attention_consistency(output[f"self_map_{i}"], output[f"cross_map_{i}"])
                for i in range(len(self.decoder.layers))
            ]
        )  # (layers, B, Q)
        consistency = self.attention_weight * (divergence.sum() if self.released else divergence.mean())
        return {"mse": mse, "consistency": consistency, "total": mse + consistency}

    @property
    def max_clips(self) -> int | None:
        """The largest number of clips; None for no limit."""
        return self.pos_encoder.pe.shape[1] if "memory" in self.positional else None

    def draw_queries(self, queries: Tensor) -> Tensor:
        """Draw queries (Q, B, d) of standard deviation `query_var`, for `released`; override it to fix them."""
        return torch.randn_like(queries) * self.query_var

    def draw_noise(self, score: Tensor) -> Tensor:
        """Draw the noise (B,), of standard deviation `noise`, that the loss adds to the scores; override to fix it."""
        return torch.randn_like(score) * self.noise

    def _positions(self, tokens: Tensor) -> Tensor:
        """The code (S, 1, d) of tokens (S, B, d); ``released`` adds sample 0's tokens themselves."""
        code = self.pos_encoder(tokens.shape[0])
        return code + tokens[:, :1] if self.released else code


def query_relations(attended: Tensor) -> Tensor:
    """The similarity of each two queries as log-probabilities: log soft-max of their dot products over d.

    The products are divided by the width d, not by its square root, as released.

    Shapes: attended (B, Q, d), an attention's output; returns (B, Q, Q), the exponentials of a row sum to 1.
    Half precision becomes float32: the divergence is a small difference of these numbers.
    """
    likeness = attended @ attended.transpose(1, 2) / attended.shape[-1]
    return likeness.log_softmax(dim=-1, dtype=torch.promote_types(likeness.dtype, torch.float32))


def attention_consistency(self_map: Tensor, cross_map: Tensor) -> Tensor:
    """The divergence KL(cross || self) of the query relations after the two attentions of one layer.

    Queries that attend to similar clips should be similar to self-attention too. The gradient reaches both
    sides, as released.

    Shapes: self_map, cross_map (B, Q, d); returns one divergence per query, (B, Q).
    """
    relations, target = query_relations(self_map), query_relations(cross_map)
    return F.kl_div(relations, target, log_target=True, reduction="none").sum(dim=-1)


def _coded(tokens: Tensor, code: Tensor | None) -> Tensor:
    return tokens if code is None else tokens + code


def _our_key(key: str) -> str:
    """Our name of a released key: those of the bare evaluator are put below ``evaluator.``."""
    return f"evaluator.{key}" if key.startswith(("layer1_", "layer2_", "layer3_")) else key


def _check_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} is {size}: give 1 or more")
