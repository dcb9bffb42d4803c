"""One modality of PAMFN (Zeng & Zheng, "Multimodal Action Quality Assessment", TIP 2024): a branch with a score."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mag2.baselines.transformer import one_per_video
from mag2.nn.feature_rows import check_tensors
from mag2.nn.pretrained import Pretrained, arguments_of
from mag2.nn.state_dicts import check_names, load_strictly, need, without_prefix

# Letters of the modalities in released arguments.
MODALITIES = {"V": "visual", "F": "flow", "A": "audio"}
EMBEDDING = 512  # width between the two maps of the embedding, fixed in the released code
FEWEST = 4


class Stage(nn.Module):
    """Two convolutions over time with a residual, ``x + gelu(BN(conv(gelu(BN(conv(x))))))``, then half the length.

    Shapes: (B, d, T) -> (B, d, T // 2), or (B, d, 1) where `last`: the mean over the remaining time.
    """

    def __init__(self, dim: int, last: bool = False):
        super().__init__()
        self.conv1 = convolution(dim, dim)
        self.conv2 = convolution(dim, dim)
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        """Convolve and pool."""
        return halved(x + F.gelu(self.conv2(F.gelu(self.conv1(x)))), self.last)


class ModalityBranch(Pretrained):
    """Score performances from one modality: embedding, three stages and a head. PAMFN trains it before the fusion.

    Shapes:
        the features of its modality, (B, T, in_dim), or (B, T, K, in_dim) with K crops, which are averaged; T at least
        4. Returns a dict of score (B,) in [0, 1] and features_0 (B, d, T), features_1 (B, d, T // 2),
        features_2 (B, d, T // 4), features_3 (B, d, 1).

    Args:
        in_dim: width of the features; 1024 (visual, flow) and 768 (audio) in the released configurations.
        dim: d, 256 (released).
        modality: which of the three inputs it uses: "visual", "flow" or "audio".
        embedding_dropout, dropout: at the end of the embedding and before the score; 0.3 and 0.5 (released).
        released: no effect, because the released branch does what its paper describes; accepted as by all baselines.

    Raises:
        ValueError: in the constructor: an unknown modality. In `forward`: no features of its modality, features of
            another shape, or fewer than 4 clips.
    """

    min_clips = FEWEST  # that its three stages can halve

    def __init__(
        self,
        *,
        in_dim: int = 1024,
        dim: int = 256,
        modality: str = "visual",
        embedding_dropout: float = 0.3,
        dropout: float = 0.5,
        released: bool = False,
    ):
        arguments = arguments_of(locals())
        super().__init__()
        self.arguments = arguments
        if modality not in MODALITIES.values():
            raise ValueError(f"unknown modality {modality!r}; there are {', '.join(MODALITIES.values())}")
        self.in_dim, self.modality, self.released = in_dim, modality, released
        self.embedding = nn.Sequential(
            nn.Conv1d(in_dim, EMBEDDING, 1),
            nn.BatchNorm1d(EMBEDDING),
            nn.ReLU(),
            nn.Conv1d(EMBEDDING, dim, 1),
            nn.BatchNorm1d(dim),
            nn.ReLU(),
            nn.Dropout(embedding_dropout),
        )
        self.stage1, self.stage2, self.stage3 = Stage(dim), Stage(dim), Stage(dim, last=True)
        self.fc = nn.Sequential(nn.Dropout(dropout), nn.Conv1d(dim, 1, 1))

    def forward(
        self, visual: Tensor | None = None, audio: Tensor | None = None, flow: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Score a batch of videos from this modality alone; see the class for shapes and the returned dict."""
        features = self.features({"visual": visual, "audio": audio, "flow": flow}[self.modality])
        score = torch.sigmoid(self.fc(features[-1])).flatten()
        return {"score": score, **{f"features_{i}": feature for i, feature in enumerate(features)}}

    def features(self, clips: Tensor | None) -> list[Tensor]:
        """Return the four levels: the embedding (B, d, T) and the outputs of the three stages, each (B, d, length)."""
        if clips is None:
            raise ValueError(f"this branch of PAMFN wants {self.modality} features")
        check_tensors(**{self.modality: clips})
        if clips.dim() == 4:
            clips = clips.mean(dim=2)
        if clips.dim() != 3 or clips.shape[2] != self.in_dim or clips.shape[1] < FEWEST:
            raise ValueError(
                f"the {self.modality} branch wants features (B, T, {self.in_dim}) of at least {FEWEST} clips, "
                f"got {tuple(clips.shape)}"
            )
        outputs = [self.embedding(clips.transpose(1, 2))]
        for stage in (self.stage1, self.stage2, self.stage3):
            outputs.append(stage(outputs[-1]))
        return outputs

    def loss(self, output: Mapping[str, Tensor], label: Tensor) -> dict[str, Tensor]:
        """Compute the squared error of the score (released code): ``mse``, equal to ``total``.

        `output` is what `forward` returned, `label` (B,) in [0, 1].

        Raises:
            ValueError: label is not (B,).
        """
        mse = F.mse_loss(output["score"], one_per_video(label, output["score"]))
        return {"mse": mse, "total": mse}

    @classmethod
    def from_released(cls, state_dict: Mapping[str, Tensor], **args: Any) -> "ModalityBranch":
        """Load the `BaseModel` of the authors, with ``released=True`` and in evaluation mode.

        Args:
            state_dict: the authors' weights, with or without the prefix ``module.``; their shapes give the sizes.
            args: `modality` ("V", "F" or "A") and `drop_rate`, by the authors' names.

        Raises:
            ValueError: a key is missing, unexpected or of another shape. TypeError: an argument of another name.
        """
        check_names(args, ("modality", "drop_rate", "in_dim", "model_dim"), "ModalityBranch.from_released")
        weights = without_prefix(state_dict)
        letter = args.get("modality", "V")
        model = cls(
            in_dim=need(weights, "embedding.0.weight").shape[1],
            dim=need(weights, "embedding.3.weight").shape[0],
            modality=MODALITIES.get(letter, letter),
            dropout=args.get("drop_rate", 0.5),
            released=True,
        )
        load_strictly(model, weights)
        return model.eval()


def convolution(in_dim: int, dim: int) -> nn.Sequential:
    """A convolution over three clips and its norm."""
    return nn.Sequential(nn.Conv1d(in_dim, dim, 3, padding=1), nn.BatchNorm1d(dim))


def halved(x: Tensor, last: bool = False) -> Tensor:
    """(B, d, T) -> (B, d, T // 2), or the mean over all time."""
    return x.mean(dim=-1, keepdim=True) if last else F.avg_pool1d(x, 2)
