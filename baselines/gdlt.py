"""GDLT (Xu et al., "Likert Scoring with Grade Decoupling for Long-term Action Assessment", CVPR 2022)."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from mag2.baselines.transformer import GradeDecoder, grade_shares, one_per_video, released_sizes
from mag2.nn.pretrained import arguments_of
from mag2.nn.state_dicts import load_strictly, without_prefix
from mag2.nn.triplet import grade_triplet


class GDLT(GradeDecoder):
    """Score a video by the mean value of its grades, weighted by how much of each grade it shows.

    Clips are projected and encoded. N learnable prototypes are the queries of a decoder, which gives one vector g_n for
    each grade, n = 1..N. Then ``s_n = sigmoid(w_n . g_n + b_n)``, normalised to sum 1, and ``score = sum_n W_n s_n``
    with ``W_n = (n - 1) / (N - 1)``.

    Shapes:
        visual (B, T, in_dim); audio and flow are accepted, as by every model, and not used. Returns a dict:

        - score (B,): in [0, 1];
        - grades (B, N, dim): decoded grades, worst first;
        - weights (B, N): the normalised s_n.

    Args:
        in_dim: width of a clip; 1024 (VST features) in the paper.
        dim: model width d; 256, as released. Feed-forward is 3d.
        n_heads: attention heads; 1, the value of the released configuration in the golden files.
        n_encoder, n_decoder: layers; 1 and 2, as released.
        n_grades: prototypes N; 4, as released.
        dropout: in the transformer's layers; 0.3, the recipe that the MLAVL paper trains with.
        alpha, margin: weight and margin of the triplet loss; 1 and 1, as released.
        released: True computes the values W_n in float32 even in a float64 model, as the released code does. There is
            no other difference, because the released code does what its paper describes.

    Raises:
        ValueError: dim does not divide into n_heads, or there are fewer than two grades.
    """

    def __init__(
        self,
        *,
        in_dim: int = 1024,
        dim: int = 256,
        n_heads: int = 1,
        n_encoder: int = 1,
        n_decoder: int = 2,
        n_grades: int = 4,
        dropout: float = 0.3,
        alpha: float = 1.0,
        margin: float = 1.0,
        released: bool = False,
    ):
        arguments = arguments_of(locals())
        if n_grades < 2:
            raise ValueError(f"n_grades is {n_grades}; a scale has at least two grades")
        super().__init__(
            in_dim=in_dim,
            dim=dim,
            n_heads=n_heads,
            n_encoder=n_encoder,
            n_decoder=n_decoder,
            n_grades=n_grades,
            dropout=dropout,
        )
        self.arguments = arguments
        self.alpha = alpha
        self.margin = margin
        self.released = released

    def forward(self, visual: Tensor, audio: Tensor | None = None, flow: Tensor | None = None) -> dict[str, Tensor]:
        """Score a batch of videos (B, T, in_dim); see the class for the returned dict.

        Raises:
            ValueError: visual is not (B, T, in_dim), or has no clip, or in training one clip in all.
        """
        grades = self.decode(visual)
        weights = grade_shares(grades, self.regressor)
        # The released values are made in float32: 1 / 3 is 1e-8 away from that of float64.
        made_in = torch.float32 if self.released else weights.dtype
        values = torch.linspace(0, 1, weights.shape[1], dtype=made_in, device=weights.device).to(weights.dtype)
        # A convex combination of numbers in [0, 1] leaves it only by rounding.
        score = (weights * values).sum(dim=1).clamp(max=1)
        return {"score": score, "grades": grades, "weights": weights}

    def loss(self, output: Mapping[str, Tensor], label: Tensor) -> dict[str, Tensor]:
        """Compute the training loss: a dict of ``mse``, ``triplet`` (times alpha) and their sum ``total``.

        Shapes:
            output as forward returned it, label (B,) in [0, 1]; every term is a scalar.

        Raises:
            ValueError: label is not (B,).
        """
        score = output["score"]
        mse = F.mse_loss(score, one_per_video(label, score))
        triplet = self.alpha * grade_triplet(output["grades"], self.margin)
        return {"total": mse + triplet, "mse": mse, "triplet": triplet}

    @classmethod
    def from_released(
        cls,
        state_dict: Mapping[str, Tensor],
        *,
        n_head: int = 1,
        dropout: float = 0.3,
        alpha: float = 1.0,
        margin: float = 1.0,
        in_dim: int | None = None,
        hidden_dim: int | None = None,
        n_encoder: int | None = None,
        n_decoder: int | None = None,
        n_query: int | None = None,
    ) -> "GDLT":
        """Load a checkpoint of the authors, with ``released=True`` and in evaluation mode.

        Args:
            state_dict: the authors' weights, with or without the prefix ``module.``.
            n_head: must be given where it is not 1, because the weights do not show it.
            dropout, alpha, margin: used in further training alone.
            in_dim, hidden_dim, n_encoder, n_decoder, n_query: accepted, because released configurations have them, and
                ignored: the shapes of the weights give them.

        Raises:
            ValueError: a key is missing, unexpected or of another shape.
        """
        weights = without_prefix(state_dict)
        model = cls(
            **released_sizes(weights),
            n_heads=n_head,
            dropout=dropout,
            alpha=alpha,
            margin=margin,
            released=True,
        )
        load_strictly(model, weights)
        return model.eval()
