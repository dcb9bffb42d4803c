"""CoFInAl (Zhou et al., "Enhancing Action Quality Assessment with Coarse-to-Fine Instruction Alignment", 2024)."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mag2.baselines.transformer import GradeDecoder, grade_shares, one_per_video, released_sizes
from mag2.nn.pretrained import arguments_of
from mag2.nn.state_dicts import load_strictly, without_prefix
from mag2.nn.triplet import batch_hard_triplet

FINE_CLASSES = 100
"""Fine classes inside one coarse step, and coarse steps inside the scale: scores come in 1 / 100**2."""

FINE_HEADS = 4
"""Heads of the attention over grades: what reproduces the released numbers, with `n_head` 1 elsewhere."""

N_GRADES = 4

COARSE_WEIGHTS: dict[int, Sequence[Sequence[float]]] = {
    2: ((0.1, 0.2, 0.8, 1.0), (1.0, 1.0, -1.0, -1.0)),
    3: ((-1.0, -0.8, 0.8, 1.0), (1.0, 0.8, -0.8, -1.0)),
}
"""What each grade is worth, worst grade first: for the coarse score, and for the reversed one."""

CoarseWeights = int | Sequence[Sequence[float]]


class CoFInAl(GradeDecoder):
    """Score in two steps: a coarse score from the decoded grades, refined by one of 100 fine classes.

    Projection, encoder and decoder are GDLT's. One regressor gives shares s_n of the four grades, and the coarse score
    ``sum_n W_n s_n``; a second one, with other W_n, gives the reversed coarse score, whose target is 1 minus that of
    the first. In the fine head the grades attend to each other and are mapped to a unit vector; its class is the
    nearest of the 100 vectors of a fixed equiangular tight frame. Then
    ``score = (coarse + 1 - coarse_reversed) / 2 + fine_class / 10000``, or ``coarse + fine_class / 10000``
    without the reversed branch.

    Shapes:
        visual (B, T, in_dim); audio and flow are accepted, as by every model, and not used. Returns a dict:

        - score (B,): in evaluation clamped to [0, 1], except with `released`;
        - grades (B, 4, dim): decoded grades, worst first;
        - coarse (B,): its target is the label in steps of 1/100; it can leave [0, 1], because some W_n are negative;
        - coarse_reversed (B,): its target is 1 minus that of coarse; only with the reversed branch;
        - fine (B, 100): unit vector, to be compared with the columns of ``etf_vec1``;
        - fine_class (B,): integer, the column that is nearest to it.

    Args:
        in_dim: width of a clip; 1024, as released.
        dim: model width d; 256, as released. Feed-forward is 3d.
        n_heads: heads of the transformer; 1, the value of the released configuration in the golden files.
            The attention over grades always has 4. Released for Fis-V: 7, at dim 448.
        n_encoder, n_decoder: layers; 1 and 2, as released.
        dropout: in the transformer's layers; 0.3, the recipe that the MLAVL paper trains with.
        fine_dropout: on the weights of the attention over grades; 0.3 (released, fixed there).
        coarse_weights: which released set of W_n, 3 or 2 (``activate_regular_restrictions``), or two lists of four
            numbers, W_n and the reversed W_n. Released: 2 for Ball and Hoop, 3 for the others. The released code has
            settings 0 and 1 too; no script uses them and their numbers are in no source at hand: give them as lists.
        reversed_branch: False gives the released variant called ``cofinal_2``.
        loss_align: how the triplet loss names its classes, as released: 0 and 1 by grade (the same loss), 2
            gives every decoded grade of every video a class of its own.
        alpha, margin: weight and margin of the triplet loss; 1 and 1, as released.
        etf_seed: seed of the equiangular frame, which is a buffer and saved with the weights.
        released: True gives the behaviour of the released code, which differs from the above in four places.
            Its attention over grades runs across the videos of the batch; with one video, as the authors test, it has
            one weight, which is 1. One arg-max is taken over batch x classes, and its index, up to 100 B - 1, is
            ``fine_class`` of every video. Scores are not clamped to [0, 1] in evaluation. Rounding in float32 puts
            some labels into the fine class below theirs: 0.0007 is class 6.

    Raises:
        ValueError: dim is no multiple of n_heads or of 4, `loss_align` is not 0, 1 or 2, or `coarse_weights` is neither
            3, 2 nor two lists of four numbers.
    """

    etf_vec1: Tensor
    coarse_values: Tensor
    reversed_values: Tensor

    def __init__(
        self,
        *,
        in_dim: int = 1024,
        dim: int = 256,
        n_heads: int = 1,
        n_encoder: int = 1,
        n_decoder: int = 2,
        dropout: float = 0.3,
        fine_dropout: float = 0.3,
        coarse_weights: CoarseWeights = 3,
        reversed_branch: bool = True,
        loss_align: int = 1,
        alpha: float = 1.0,
        margin: float = 1.0,
        etf_seed: int = 0,
        released: bool = False,
    ):
        arguments = arguments_of(locals())
        if not isinstance(coarse_weights, int):  # lists, as the configuration is saved in JSON
            coarse_weights = arguments["coarse_weights"] = [[float(w) for w in side] for side in coarse_weights]
        if loss_align not in (0, 1, 2):
            raise ValueError(f"loss_align is {loss_align}; give 0, 1 or 2")
        if dim % FINE_HEADS:
            raise ValueError(f"dim is {dim}; give a multiple of {FINE_HEADS}, the heads of the fine attention")
        values, reversed_values = _coarse_values(coarse_weights)
        super().__init__(
            in_dim=in_dim,
            dim=dim,
            n_heads=n_heads,
            n_encoder=n_encoder,
            n_decoder=n_decoder,
            n_grades=N_GRADES,
            dropout=dropout,
        )
        self.arguments = arguments
        if reversed_branch:
            self.regressor_revert = nn.Linear(dim, N_GRADES)
        # Grades are (B, 4, d): without batch_first the attention runs along B. That is the released leak.
        fine = nn.MultiheadAttention(dim, FINE_HEADS, fine_dropout, batch_first=not released)
        self.regi = nn.ModuleList([fine])
        # The released head has no non-linearity between its two layers.
        head = nn.Sequential(nn.Flatten(), nn.Linear(N_GRADES * dim, dim), nn.Linear(dim, FINE_CLASSES))
        self.regressori = nn.ModuleList([head])
        self.register_buffer("etf_vec1", equiangular_frame(FINE_CLASSES, etf_seed))
        self.register_buffer("coarse_values", torch.tensor(values), persistent=False)
        self.register_buffer("reversed_values", torch.tensor(reversed_values), persistent=False)
        self.reversed_branch = reversed_branch
        self.loss_align = loss_align
        self.alpha = alpha
        self.margin = margin
        self.released = released

    def forward(self, visual: Tensor, audio: Tensor | None = None, flow: Tensor | None = None) -> dict[str, Tensor]:
        """Score a batch of videos (B, T, in_dim); see the class for the returned dict.

        Raises:
            ValueError: visual is not (B, T, in_dim), or has no clip, or in training one clip in all.
        """
        grades = self.decode(visual)
        output = {"grades": grades, "coarse": _read(grades, self.regressor, self.coarse_values)}
        if self.reversed_branch:
            output["coarse_reversed"] = _read(grades, self.regressor_revert, self.reversed_values)
        output["fine"] = self._fine(grades)
        output["fine_class"] = self._fine_class(output["fine"])
        output["score"] = self._score(output)
        return output

    def loss(self, output: Mapping[str, Tensor], label: Tensor) -> dict[str, Tensor]:
        """Compute the training loss, as released.

        It returns a dict: ``coarse`` and ``coarse_reversed`` (squared error), ``fine`` (mean absolute distance to the
        vector of the fine class), ``triplet`` (times alpha), and their sum ``total``.

        Shapes:
            output as forward returned it, label (B,) in [0, 1]; every term is a scalar.

        Raises:
            ValueError: label is not (B,).
        """
        one_per_video(label, output["score"])
        coarse, fine_class = self.targets(label)
        kind = output["coarse"].dtype
        terms = {"coarse": F.mse_loss(output["coarse"], coarse.to(kind))}
        if self.reversed_branch:
            # 1 - coarse is taken in float32, as released, and widened afterwards.
            terms["coarse_reversed"] = F.mse_loss(output["coarse_reversed"], (1 - coarse).to(kind))
        fine = output["fine"]
        terms["fine"] = F.l1_loss(fine, self.etf_vec1.T[fine_class].to(fine.dtype))
        terms["triplet"] = self.alpha * self._triplet(output["grades"])
        return {"total": torch.stack(list(terms.values())).sum(), **terms}

    def targets(self, label: Tensor) -> tuple[Tensor, Tensor]:
        """Split labels (B,) in [0, 1] into coarse scores (B,) in steps of 1/100 and fine classes (B,), 0..99.

        0.1234 becomes 0.12 and class 34; 1 becomes 1 and class 0.
        """
        steps = label.float() * FINE_CLASSES**2
        # In float32 0.0007 * 10000 is a hair below 7. No product up to 10000 errs by more than 0.001, so
        # 0.005 lifts each over its integer; the smallest step of real labels, 1/130, is larger.
        steps = steps.trunc() if self.released else (steps + 0.005).floor()
        coarse = steps.div(FINE_CLASSES, rounding_mode="floor") / FINE_CLASSES
        return coarse, steps.remainder(FINE_CLASSES).long()

    def _fine(self, grades: Tensor) -> Tensor:
        mixed, _ = self.regi[0](grades, grades, grades, need_weights=False)
        return F.normalize(self.regressori[0](mixed), dim=1)

    def _fine_class(self, fine: Tensor) -> Tensor:
        nearness = fine @ self.etf_vec1  # (B, 100)
        # One index for the whole batch, 0..100B-1, and every video gets it.
        return nearness.argmax().expand(len(fine)) if self.released else nearness.argmax(dim=1)

    def _score(self, output: Mapping[str, Tensor]) -> Tensor:
        coarse = output["coarse"]
        if self.reversed_branch:
            coarse = (coarse + 1 - output["coarse_reversed"]) / 2
        score = coarse + output["fine_class"].to(coarse.dtype) / FINE_CLASSES**2
        return score if self.training or self.released else score.clamp(0, 1)

    def _triplet(self, grades: Tensor) -> Tensor:
        batch, n_grades, _ = grades.shape
        classes = torch.arange(batch * n_grades, device=grades.device)
        if self.loss_align < 2:
            classes = classes % n_grades
        return batch_hard_triplet(grades.flatten(0, 1), classes, self.margin)

    @classmethod
    def from_released(
        cls,
        state_dict: Mapping[str, Tensor],
        *,
        n_head: int = 1,
        dropout: float = 0.3,
        activate_regular_restrictions: CoarseWeights = 3,
        alpha: float = 1.0,
        margin: float = 1.0,
        loss_align: int = 1,
        etf_head: bool = True,
        in_dim: int | None = None,
        hidden_dim: int | None = None,
        n_encoder: int | None = None,
        n_decoder: int | None = None,
        n_query: int | None = None,
    ) -> "CoFInAl":
        """Load a checkpoint of the authors, with ``released=True`` and in evaluation mode.

        Checkpoints of both released classes are accepted: without a ``regressor_revert`` it is ``cofinal_2``.

        Args:
            state_dict: the authors' weights, with or without the prefix ``module.``.
            n_head, activate_regular_restrictions: must be given where they are not 1 and 3, because the weights do not
                show them; the second is `coarse_weights`.
            dropout, alpha, margin, loss_align: used in further training alone.
            etf_head: must be True; the fine head without a frame is not implemented.
            in_dim, hidden_dim, n_encoder, n_decoder, n_query: accepted, because released configurations have them, and
                ignored: the shapes of the weights give them.

        Raises:
            ValueError: a key is missing, unexpected or of another shape, `etf_head` is False, or another setting is
                refused by the constructor.
        """
        if not etf_head:
            raise ValueError("etf_head is False; only the fine head with an equiangular frame is built")
        weights = without_prefix(state_dict)
        read = released_sizes(weights)
        del read["n_grades"]  # the four coarse weights fix it, and strict loading holds the prototypes to it
        model = cls(
            **read,
            n_heads=n_head,
            dropout=dropout,
            coarse_weights=activate_regular_restrictions,
            reversed_branch=any(key.startswith("regressor_revert.") for key in weights),
            loss_align=loss_align,
            alpha=alpha,
            margin=margin,
            released=True,
        )
        load_strictly(model, weights)
        return model.eval()


def _coarse_values(chosen: CoarseWeights) -> Sequence[Sequence[float]]:
    """W_n and the reversed W_n of a released setting, or as they are given."""
    if not isinstance(chosen, int):
        if [len(side) for side in chosen] != [N_GRADES, N_GRADES]:
            raise ValueError(f"coarse_weights is {chosen}; give 2, 3, or two lists of {N_GRADES} numbers")
        return chosen
    if chosen in COARSE_WEIGHTS:
        return COARSE_WEIGHTS[chosen]
    unknown = "its numbers are in no source at hand" if chosen in (0, 1) else "there is no such setting"
    raise ValueError(
        f"coarse_weights is {chosen} and {unknown}: the known released settings are 2 and 3; others are given as two "
        f"lists of {N_GRADES} numbers, the weights and the reversed ones"
    )


def _read(grades: Tensor, regressor: nn.Module, values: Tensor) -> Tensor:
    # A sum of products, not a matrix product, which autocast would round to half precision.
    return (grade_shares(grades, regressor) * values).sum(dim=1)


def equiangular_frame(n: int, seed: int) -> Tensor:
    """A simplex equiangular tight frame: (n, n), whose columns are n unit vectors with cosines -1 / (n - 1).

    ``sqrt(n / (n - 1)) U (I - 11'/n)`` for a random orthogonal U, drawn from `seed` alone: torch's global
    generator is neither read nor moved.
    """
    generator = torch.Generator().manual_seed(seed)
    gauss = torch.randn(n, n, generator=generator, dtype=torch.float64, device="cpu")
    basis, upper = torch.linalg.qr(gauss)
    basis = basis * upper.diagonal().sign()  # else the signs would be the linear algebra library's choice
    frame = math.sqrt(n / (n - 1)) * (basis - basis.mean(dim=1, keepdim=True))
    return torch.empty(n, n).copy_(frame)
