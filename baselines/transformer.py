"""The layers that GDLT and CoFInAl share: from clips to one decoded vector for each grade."""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from mag2.nn.feature_rows import check_tensors
from mag2.nn.pretrained import Pretrained
from mag2.nn.state_dicts import count_layers, need


class Transformer(nn.Module):
    """One encoder over the clips, and one decoder of a query per grade.

    Both are torch's own: post-norm layers, feed-forward 3d, a final LayerNorm.

    Shapes:
        clips (B, T, d), queries (B, N, d); returns the decoded queries (B, N, d).
    """

    def __init__(self, *, dim: int, n_heads: int, n_encoder: int, n_decoder: int, dropout: float):
        super().__init__()
        if dim % n_heads:
            raise ValueError(f"dim {dim} does not divide into {n_heads} heads; give n_heads that divides dim")
        encoder = nn.TransformerEncoderLayer(dim, n_heads, 3 * dim, dropout, batch_first=True)
        decoder = nn.TransformerDecoderLayer(dim, n_heads, 3 * dim, dropout, batch_first=True)
        # Nested tensors serve padded batches only, and torch warns about them when n_heads is odd.
        self.encoder = nn.TransformerEncoder(encoder, n_encoder, nn.LayerNorm(dim), enable_nested_tensor=False)
        self.decoder = nn.TransformerDecoder(decoder, n_decoder, nn.LayerNorm(dim))

    def forward(self, clips: Tensor, queries: Tensor) -> Tensor:
        """Decode the queries from the encoded clips."""
        return self.decoder(queries, self.encoder(clips))


class GradeDecoder(Pretrained):
    """Projection, transformer, learnable grade prototypes and their regressor: what GDLT and CoFInAl share.

    The attribute names are the released state_dict keys. Defaults are not set here: each model has its own.
    """

    def __init__(
        self,
        *,
        in_dim: int,
        dim: int,
        n_heads: int,
        n_encoder: int,
        n_decoder: int,
        n_grades: int,
        dropout: float,
    ):
        super().__init__()
        self.in_dim = in_dim
        self.in_proj = nn.Sequential(
            nn.Conv1d(in_dim, in_dim // 2, kernel_size=1),
            nn.BatchNorm1d(in_dim // 2),
            nn.ReLU(),
            nn.Conv1d(in_dim // 2, dim, kernel_size=1),
            nn.BatchNorm1d(dim),
        )
        self.transformer = Transformer(
            dim=dim, n_heads=n_heads, n_encoder=n_encoder, n_decoder=n_decoder, dropout=dropout
        )
        self.prototype = nn.Embedding(n_grades, dim)
        self.regressor = nn.Linear(dim, n_grades)

    def decode(self, visual: Tensor) -> Tensor:
        """Clips (B, T, in_dim) to decoded grades (B, N, d), worst grade first.

        Raises:
            ValueError: visual is not (B, T, in_dim), has no clip, or one in all in training.
        """
        check_tensors(visual=visual)
        if visual.dim() != 3 or visual.shape[2] != self.in_dim or visual.shape[1] == 0:
            raise ValueError(
                f"visual is {tuple(visual.shape)}; give (videos, clips, {self.in_dim}) with at least one clip"
            )
        if self.training and visual.shape[0] * visual.shape[1] == 1:
            raise ValueError("BatchNorm cannot train on one row: give two or more clips, or call .eval() to score")
        clips = self.in_proj(visual.transpose(1, 2)).transpose(1, 2)  # (B, T, d)
        queries = self.prototype.weight.expand(len(visual), -1, -1)  # (B, N, d)
        return self.transformer(clips, queries)


def grade_shares(grades: Tensor, regressor: nn.Module) -> Tensor:
    """How much of each grade a video shows: grades (B, N, d) to shares (B, N) that sum to 1.

    Grade n is read by row n of the regressor alone: ``s_n = sigmoid(w_n . g_n + b_n)``, divided by the sum of
    all s. The whole regressor is called and its diagonal kept, so that a hook on it works; for a handful of
    grades the other rows cost nothing that could be measured.

    Raises:
        ValueError: the regressor has not one row per grade.
    """
    raw = regressor(grades)  # (B, N, N)
    if raw.shape[-1] != raw.shape[-2]:
        raise ValueError(f"{raw.shape[-2]} grades meet a regressor for {raw.shape[-1]}; give one row per grade")
    # sigmoid(z) / sum sigmoid(z), without the 0 / 0 that very negative z would end in.
    return F.logsigmoid(raw.diagonal(dim1=-2, dim2=-1)).softmax(dim=-1)


def one_per_video(label: Tensor, score: Tensor) -> Tensor:
    """The labels in the dtype of the scores, with their shape checked: both are (B,).

    Raises:
        ValueError: label is not (B,); (B, 1) would otherwise broadcast to (B, B) unseen.
    """
    if label.shape != score.shape:
        raise ValueError(f"label is {tuple(label.shape)}; give one number per video, {tuple(score.shape)}")
    return label.to(score.dtype)


def released_sizes(weights: Mapping[str, Tensor]) -> dict[str, int]:
    """The sizes that can be read off released weights, by our names.

    Raises:
        ValueError: a weight that shows a size is missing.
    """
    return {
        "in_dim": need(weights, "in_proj.0.weight").shape[1],
        "dim": need(weights, "in_proj.3.weight").shape[0],
        "n_encoder": count_layers(weights, "transformer.encoder"),
        "n_decoder": count_layers(weights, "transformer.decoder"),
        "n_grades": need(weights, "prototype.weight").shape[0],
    }
