"""The mixed branch of PAMFN: attention over modalities and over experts, and the stage that joins them."""

import torch
from torch import Tensor, nn

from mag2.baselines.pamfn_branch import convolution, halved

# What the released code adds to the score of a token that takes no part.
MASKED = -1e9


class MomentAttention(nn.Module):
    """Attention of one query to a few tokens of the same moment, by *negated* scores: unlike tokens weigh more.

    Shapes: queries (B, d, T), tokens (B, K, d, T), keep (B, K, T) or None -> (B, d, T).

    Args:
        dim: d. n_heads: heads, which divide d.
        dropout: on the attention weights, in training.
        released: mask tokens as the released code does, by -1e9 before the soft-max. Its gradient with respect to
            `keep` is 1e9 times as large as that of the score. By default `keep` is a factor of the exponential:
            the values are the same, the gradient is of the usual size.

    The released layer creates a LayerNorm and never uses it. It is kept so that released keys load, and frozen.
    """

    def __init__(self, dim: int, n_heads: int, dropout: float = 0.0, released: bool = False):
        super().__init__()
        if dim % n_heads:
            raise ValueError(f"{n_heads} heads cannot share a width of {dim}; give a width that they divide")
        self.n_heads, self.released = n_heads, released
        self.linear_layers = nn.ModuleList(nn.Linear(dim, dim) for _ in range(3))
        self.norm = nn.LayerNorm(dim).requires_grad_(False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, tokens: Tensor, keep: Tensor | None = None) -> Tensor:
        """Attend; tokens whose `keep` is 0 take no part."""
        to_query, to_key, to_value = self.linear_layers
        query = self._heads(to_query(queries.transpose(1, 2)))[:, None]  # (B, 1, T, h, d/h)
        moments = tokens.transpose(2, 3)  # (B, K, T, d)
        key, value = self._heads(to_key(moments)), self._heads(to_value(moments))
        scores = -(query * key).sum(dim=-1) / key.shape[-1] ** 0.5  # (B, K, T, h)
        if keep is None:
            weights = scores.softmax(dim=1)
        elif self.released:
            masked = max(MASKED, torch.finfo(scores.dtype).min / 2)  # float16 ends at -65504
            weights = (scores + masked * (1 - keep[..., None])).softmax(dim=1)
        else:
            # The maximum is taken over the *kept* scores, so that a dropped token with a high score cannot make the
            # kept exponentials underflow. The clamp acts on dropped tokens only; their factor is 0 anyway.
            best = scores.masked_fill(keep[..., None] < 0.5, -torch.inf).amax(dim=1, keepdim=True).detach()
            chosen = keep[..., None] * (scores - best).clamp(max=0).exp()
            weights = chosen / chosen.sum(dim=1, keepdim=True)
        return (self.dropout(weights)[..., None] * value).sum(dim=1).flatten(2).transpose(1, 2)

    def _heads(self, rows: Tensor) -> Tensor:
        return rows.unflatten(-1, (self.n_heads, -1))


class ModalitySpecificDecoder(nn.Module):
    """Decode what is specific to a modality: the mixed feature attends to the three modalities at the same moment."""

    def __init__(self, dim: int, n_heads: int, dropout: float, released: bool):
        super().__init__()
        self.fusion_s = MomentAttention(dim, n_heads, dropout, released)
        self.proj = nn.Sequential(nn.Conv1d(dim, dim, 1))

    def forward(self, mixed: Tensor, modalities: Tensor) -> Tensor:
        """Mixed (B, d, T) and modalities (B, 3, d, T) -> (B, d, T)."""
        return self.fusion_s(self.proj(mixed), modalities)


class CrossModalDecoder(nn.Module):
    """K experts (FusionNets) over all modalities, a policy that enables the first few, and attention to those.

    An expert mixes the modalities at every moment with soft-max shares of its own, and convolves the mixture with a
    residual. The policy reads all modalities; choosing kind i keeps experts 0..i.

    Shapes: the modalities' features before this level (B, 3, d, 2T), or (B, 3, d, any) where `last`.
    """

    def __init__(self, dim: int, n_kinds: int, n_heads: int, dropout: float, last: bool, released: bool):
        super().__init__()
        self.proj1 = nn.ModuleList(
            nn.Sequential(nn.Conv1d(dim, dim, 1), nn.BatchNorm1d(dim), nn.ReLU(), nn.Conv1d(dim, n_kinds, 1))
            for _ in range(3)
        )
        self.ffn = nn.ModuleList(two_convolutions(dim, dim) for _ in range(n_kinds))
        self.fusion_f = MomentAttention(dim, n_heads, dropout, released)
        self.proj2 = nn.Sequential(nn.Conv1d(2 * dim, dim, 1))
        self.policy = nn.Sequential(nn.Conv1d(3 * dim, n_kinds, 1))
        self.last = last

    def logits(self, modalities: Tensor) -> Tensor:
        """What the policy selects from, (B, K, T)."""
        return halved(self.policy(modalities.flatten(1, 2)), self.last)

    def experts(self, modalities: Tensor) -> Tensor:
        """The output of every expert, (B, K, d, T)."""
        shares = torch.stack([proj(modalities[:, i]) for i, proj in enumerate(self.proj1)], dim=1).softmax(dim=1)
        mixtures = torch.einsum("bmkt,bmdt->kbdt", shares, modalities)
        outputs = [halved(net(x) + x, self.last) for net, x in zip(self.ffn, mixtures, strict=True)]
        return torch.stack(outputs, dim=1)

    def forward(self, mixed: Tensor, specific: Tensor, modalities: Tensor, action: Tensor) -> Tensor:
        """Mixed and specific features (B, d, T), modalities, and the one-hot choice (B, K, T) -> (B, d, T)."""
        # Choosing kind i keeps kinds 0..i: a kind is kept where it or a later one is chosen.
        keep = action.flip(1).cumsum(1).flip(1)
        # The query is negated and so are the scores: only the bias of the query's map keeps the sign.
        query = -self.proj2(torch.cat([mixed, specific], dim=1))
        return self.fusion_f(query, self.experts(modalities), keep)


class MixedStage(nn.Module):
    """One stage of the mixed branch: convolve, then decode modality-specific and cross-modal features.

    Shapes: mixed (B, 3d, T); the three modalities' features of the level before, (B, 3, d, L), and of this level,
    (B, 3, d, T); the one-hot choice (B, K, T) -> (B, 3d, T): mixed, specific and cross-modal features side by side.
    T is L // 2, or 1 where `last`.
    """

    def __init__(
        self, dim: int, n_kinds: int, ms_heads: int, cm_heads: int, dropout: float, last: bool, released: bool
    ):
        super().__init__()
        self.conv = two_convolutions(3 * dim, dim)
        self.short_cut = nn.Sequential(nn.Conv1d(3 * dim, dim, 1), nn.BatchNorm1d(dim), nn.ReLU())
        self.s_fusion = ModalitySpecificDecoder(dim, ms_heads, dropout, released)
        self.f_fusion = CrossModalDecoder(dim, n_kinds, cm_heads, dropout, last, released)

    def forward(self, mixed: Tensor, before: Tensor, level: Tensor, action: Tensor) -> Tensor:
        """Mix."""
        mixed = self.conv(mixed) + self.short_cut(mixed)
        specific = self.s_fusion(mixed, level)
        crossed = self.f_fusion(mixed, specific, before, action)
        return torch.cat([mixed, specific, crossed], dim=1)


def two_convolutions(in_dim: int, dim: int) -> nn.Sequential:
    """Twice a convolution over three clips, its norm and a ReLU."""
    return nn.Sequential(*convolution(in_dim, dim), nn.ReLU(), *convolution(dim, dim), nn.ReLU())
