"""PAMFN (Zeng & Zheng, "Multimodal Action Quality Assessment", TIP 2024): three modalities, fused progressively.

Three branches (`ModalityBranch`) are trained first. Then a mixed branch of three stages reads their features. Every
stage decodes what is specific to a modality, and what its FusionNets make of all three, where a PolicyNet decides for
each moment how many of the FusionNets take part.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mag2.baselines.pamfn_branch import ModalityBranch, convolution, halved
from mag2.baselines.transformer import one_per_video
from mag2.nn.state_dicts import load_strictly, need, without_prefix

# What does not learn in the fusion stage: two branches, and of the third what only its own score needs.
FROZEN_IN_FUSION = ("model_r.", "model_f.", "model_a.stage3.", "model_a.fc.")


class MomentAttention(nn.Module):
    """Attention of one query to a few tokens of the same moment, by *negated* scores: what differs most is heard.

    Shapes: queries (B, d, T), tokens (B, K, d, T), keep (B, K, T) or None -> (B, d, T).

    The released layer makes a LayerNorm that it never uses; it is here for its checkpoint, and frozen.
    """

    def __init__(self, dim: int, n_heads: int):
        super().__init__()
        if dim % n_heads:
            raise ValueError(f"{n_heads} heads cannot share a width of {dim}; give a width that they divide")
        self.n_heads = n_heads
        self.linear_layers = nn.ModuleList(nn.Linear(dim, dim) for _ in range(3))
        self.norm = nn.LayerNorm(dim).requires_grad_(False)

    def forward(self, queries: Tensor, tokens: Tensor, keep: Tensor | None = None) -> Tensor:
        """Attend; tokens whose `keep` is 0 take no part."""
        to_query, to_key, to_value = self.linear_layers
        query = self._heads(to_query(queries.transpose(1, 2)))[:, None]  # (B, 1, T, h, d/h)
        moments = tokens.transpose(2, 3)  # (B, K, T, d)
        key, value = self._heads(to_key(moments)), self._heads(to_value(moments))
        scores = -(query * key).sum(dim=-1) / key.shape[-1] ** 0.5  # (B, K, T, h)
        if keep is None:
            weights = scores.softmax(dim=1)
        else:
            # A mask of -1e9, as released, has the same values and a gradient of 1e9 into the policy.
            # Measured from the best *kept* score: a dropped token, however high, must not make the kept ones underflow.
            # The ceiling touches dropped tokens only, which count 0 whatever it is.
            best = scores.masked_fill(keep[..., None] < 0.5, -torch.inf).amax(dim=1, keepdim=True).detach()
            chosen = keep[..., None] * (scores - best).clamp(max=0).exp()
            weights = chosen / chosen.sum(dim=1, keepdim=True)
        return (weights[..., None] * value).sum(dim=1).flatten(2).transpose(1, 2)

    def _heads(self, rows: Tensor) -> Tensor:
        return rows.unflatten(-1, (self.n_heads, -1))


class ModalitySpecificDecoder(nn.Module):
    """What the mixed branch lacks of each modality: attention of the mixed features to the three of the moment."""

    def __init__(self, dim: int, n_heads: int):
        super().__init__()
        self.fusion_s = MomentAttention(dim, n_heads)
        self.proj = nn.Sequential(nn.Conv1d(dim, dim, 1))

    def forward(self, mixed: Tensor, modalities: Tensor) -> Tensor:
        """Mixed (B, d, T) and modalities (B, 3, d, T) -> (B, d, T)."""
        return self.proj(self.fusion_s(mixed, modalities))


class CrossModalDecoder(nn.Module):
    """K FusionNets, a PolicyNet that enables the first few of them, and attention to those that are enabled.

    A FusionNet weighs the modalities at every moment, by soft-max over them, and convolves their sum. The PolicyNet
    reads all modalities; choosing kind i keeps FusionNets 0..i.
    """

    def __init__(self, dim: int, n_kinds: int, n_heads: int):
        super().__init__()
        self.proj1 = nn.ModuleList(
            nn.Sequential(nn.Conv1d(dim, dim, 1), nn.BatchNorm1d(dim), nn.GELU(), nn.Conv1d(dim, n_kinds, 1))
            for _ in range(3)
        )
        self.ffn = nn.ModuleList(
            nn.Sequential(*convolution(dim, dim), nn.GELU(), *convolution(dim, dim)) for _ in range(n_kinds)
        )
        self.fusion_f = MomentAttention(dim, n_heads)
        self.proj2 = nn.Sequential(nn.Conv1d(2 * dim, dim, 1))
        self.policy = nn.Sequential(nn.Conv1d(3 * dim, n_kinds, 1))

    def fused(self, modalities: Tensor) -> Tensor:
        """What each FusionNet makes of the modalities (B, 3, d, T): (B, K, d, T)."""
        shares = torch.stack([proj(modalities[:, i]) for i, proj in enumerate(self.proj1)], dim=1).softmax(dim=1)
        mixtures = torch.einsum("bmkt,bmdt->kbdt", shares, modalities)
        return torch.stack([net(mixture) for net, mixture in zip(self.ffn, mixtures, strict=True)], dim=1)

    def forward(self, mixed: Tensor, modalities: Tensor, action: Tensor) -> Tensor:
        """Mixed (B, d, T), modalities (B, 3, d, T) and the one-hot policy (B, K, T) -> (B, d, T)."""
        # Kind i keeps kinds 0..i: a kind is kept where it or a later one was chosen.
        keep = action.flip(1).cumsum(1).flip(1)
        # The query is negated and so are the scores: but for the bias, like attends to like.
        heard = self.fusion_f(-mixed, self.fused(modalities), keep)
        return self.proj2(torch.cat([mixed, heard], dim=1))


class MixedStage(nn.Module):
    """One stage of the mixed branch: convolve, halve the time, decode modality-specific and cross-modal features.

    Shapes: mixed (B, 3d, T) and the three modalities' features (B, d, T) -> (B, 3d, T // 2): mixed, specific and
    cross-modal features side by side.
    """

    def __init__(self, dim: int, n_kinds: int, ms_heads: int, cm_heads: int, last: bool = False):
        super().__init__()
        self.conv = nn.Sequential(*convolution(3 * dim, dim), nn.GELU(), *convolution(dim, dim))
        self.short_cut = nn.Sequential(nn.Conv1d(3 * dim, dim, 1), nn.BatchNorm1d(dim))
        self.s_fusion = ModalitySpecificDecoder(dim, ms_heads)
        self.f_fusion = CrossModalDecoder(dim, n_kinds, cm_heads)
        self.last = last

    def logits(self, features: list[Tensor]) -> Tensor:
        """What the policy selects from, (B, K, T // 2)."""
        return halved(self.f_fusion.policy(torch.cat(features, dim=1)), self.last)

    def forward(self, mixed: Tensor, features: list[Tensor], action: Tensor) -> Tensor:
        """Mix."""
        mixed = halved(F.gelu(self.conv(mixed)) + self.short_cut(mixed), self.last)
        modalities = torch.stack([halved(feature, self.last) for feature in features], dim=1)
        specific = self.s_fusion(mixed, modalities)
        crossed = self.f_fusion(mixed, modalities, action)
        return torch.cat([mixed, specific, crossed], dim=1)


class PAMFN(nn.Module):
    """Progressive adaptive multimodal fusion of video, optical flow and audio.

    Train `branches` first, each like a model; then call `start_fusion()` and train the whole: the visual and flow
    branches are then frozen and stay in evaluation mode, the audio branch goes on learning (released code).

    Equal to the released code number for number: the branches, the policy's logits and choices, every key and size.
    Not equal: the score of the fused model. How the mixed branch joins its parts is our reading of the paper, because
    the released numbers did not tell it; so a released checkpoint loads, and its fused score is not the authors'.

    Shapes:
        visual (B, T, visual_dim), flow (B, T, flow_dim), audio (B, T, audio_dim), or (B, T, K, dim) with K crops;
        T at least 4. Returns a dict of score (B,) in [0, 1]; tokens (B, T // 2, 3d), the fused tokens of stage 1;
        logits_i and actions_i (B, K, T_i), i = 0, 1, 2: what the policy of a stage selected from, and its choice.
        The output of `stage1`, (B, 3d, T // 2), is the tokens before they are turned: hook it to read or replace them.

    Args:
        visual_dim, flow_dim, audio_dim: widths of the features; 1024, 1024 and 768 (released configurations).
        dim: d, 256 (released). n_kinds: FusionNets a stage, 6 (paper, K).
        ms_heads, cm_heads: heads of the modality-specific and the cross-modal attention; 4, our choice.
        fc_reduction: how much narrower the layer before the score is; 2 (fixed by the released size).
        branch_dropout, feature_dropout, fc_dropout: in the branches' heads (0.5, released), on the branches' features
            and in the mixed head (0 and 0.5; our choice).
        released: draw the policy's Gumbel noise in evaluation too. By default evaluation takes the arg-max.

    Raises:
        ValueError: a modality is missing or has another shape.
    """

    def __init__(
        self,
        *,
        visual_dim: int = 1024,
        flow_dim: int = 1024,
        audio_dim: int = 768,
        dim: int = 256,
        n_kinds: int = 6,
        ms_heads: int = 4,
        cm_heads: int = 4,
        fc_reduction: int = 2,
        branch_dropout: float = 0.5,
        feature_dropout: float = 0.0,
        fc_dropout: float = 0.5,
        released: bool = False,
    ):
        super().__init__()

        def branch(in_dim: int, modality: str) -> ModalityBranch:
            return ModalityBranch(in_dim=in_dim, dim=dim, modality=modality, dropout=branch_dropout, released=released)

        self.model_r = branch(visual_dim, "visual")
        self.model_f = branch(flow_dim, "flow")
        self.model_a = branch(audio_dim, "audio")
        self.stage1 = MixedStage(dim, n_kinds, ms_heads, cm_heads)
        self.stage2 = MixedStage(dim, n_kinds, ms_heads, cm_heads)
        self.stage3 = MixedStage(dim, n_kinds, ms_heads, cm_heads, last=True)
        self.fc = nn.Sequential(
            nn.Dropout(fc_dropout),
            nn.Conv1d(3 * dim, dim // fc_reduction, 1),
            nn.BatchNorm1d(dim // fc_reduction),
            nn.GELU(),
            nn.Dropout(fc_dropout),
            nn.Conv1d(dim // fc_reduction, 1, 1),
        )
        # The released start of the mixed branch is a vector that is never trained; the temperature is.
        # It starts at 10: the golden files hold 10.0 and 10.125, initial values with a little noise on them.
        self.c = nn.Parameter(torch.zeros(3 * dim), requires_grad=False)
        self.tau = nn.Parameter(torch.tensor(10.0))
        self.feature_dropout = nn.Dropout(feature_dropout)
        self.released = released
        self.fusing = False
        self._thawed: dict[str, bool] = {}

    @property
    def branches(self) -> dict[str, ModalityBranch]:
        """The modality branches, to be trained first, each called like a model."""
        return {"visual": self.model_r, "flow": self.model_f, "audio": self.model_a}

    def forward(
        self, visual: Tensor | None = None, audio: Tensor | None = None, flow: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Score by all three modalities."""
        given = {"visual": visual, "audio": audio, "flow": flow}
        missing = [name for name, clips in given.items() if clips is None]
        if missing:
            raise ValueError(f"PAMFN wants visual, audio and flow features; {' and '.join(missing)} not given")
        # (three modalities) x (embedding, stage 1, stage 2); the branches' last stage is only for their own score.
        features = {name: branch.features(given[name], stages=2) for name, branch in self.branches.items()}
        lengths = {name: maps[0].shape[-1] for name, maps in features.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"PAMFN wants as many clips of each modality, got {lengths}")
        for name in ("visual", "flow"):
            features[name] = [feature.detach() for feature in features[name]]

        output: dict[str, Tensor] = {}
        embedded = features["visual"][0]
        mixed = self.c[None, :, None].expand(embedded.shape[0], -1, embedded.shape[-1])
        for i, stage in enumerate((self.stage1, self.stage2, self.stage3)):
            level = [self.feature_dropout(maps[i]) for maps in features.values()]
            logits = stage.logits(level)
            action = self.choose(logits)
            mixed = stage(mixed, level, action)
            output |= {f"logits_{i}": logits, f"actions_{i}": action}
            if i == 0:
                output["tokens"] = mixed.transpose(1, 2)
        return {"score": torch.sigmoid(self.fc(mixed)).flatten(), **output}

    def choose(self, logits: Tensor) -> Tensor:
        """One-hot choice among the kinds (B, K, T): drawn, straight-through, in training; the arg-max in evaluation."""
        if self.training or self.released:
            return F.gumbel_softmax(logits, tau=self.tau.clamp(min=0.1), hard=True, dim=1)  # type: ignore[arg-type]
        return F.one_hot(logits.argmax(dim=1), logits.shape[1]).transpose(1, 2).to(logits.dtype)

    def loss(self, output: Mapping[str, Tensor], label: Tensor) -> dict[str, Tensor]:
        """The squared error of the score (released code).

        Raises:
            ValueError: label is not (B,).
        """
        mse = F.mse_loss(output["score"], one_per_video(label, output["score"]))
        return {"mse": mse, "total": mse}

    def start_fusion(self) -> None:
        """Freeze the visual and flow branches, and of the audio branch what only its own score needs."""
        if not self.fusing:
            self.fusing = True
            for name, parameter in self.named_parameters():
                if name.startswith(FROZEN_IN_FUSION):
                    self._thawed[name] = parameter.requires_grad
                    parameter.requires_grad_(False)
        self.train(self.training)

    def stop_fusion(self) -> None:
        """Make the branches trainable as they were before `start_fusion`."""
        # What was plugged into a branch meanwhile and taken out again is not there any more.
        parameters = dict(self.named_parameters())
        for name in self._thawed.keys() & parameters.keys():
            parameters[name].requires_grad_(self._thawed[name])
        self._thawed, self.fusing = {}, False
        self.train(self.training)

    def train(self, mode: bool = True) -> "PAMFN":
        """Training mode, in which frozen branches stay in evaluation mode: their statistics are learned already."""
        super().train(mode)
        if self.fusing:
            for part in (self.model_r, self.model_f):
                part.eval()
        return self

    @classmethod
    def from_released(cls, state_dict: Mapping[str, Tensor], **args: Any) -> "PAMFN":
        """The released `PAMFN`: `ms_heads`, `cm_heads`, `feat_drop`, `fc_drop` by their names, sizes off the weights.

        Raises:
            ValueError: a key is missing, unexpected or of another shape.
        """
        weights = without_prefix(state_dict)
        dim = need(weights, "model_r.embedding.3.weight").shape[0]
        model = cls(
            visual_dim=need(weights, "model_r.embedding.0.weight").shape[1],
            flow_dim=need(weights, "model_f.embedding.0.weight").shape[1],
            audio_dim=need(weights, "model_a.embedding.0.weight").shape[1],
            dim=dim,
            n_kinds=need(weights, "stage1.f_fusion.policy.0.weight").shape[0],
            ms_heads=args.get("ms_heads", 4),
            cm_heads=args.get("cm_heads", 4),
            fc_reduction=dim // need(weights, "fc.1.weight").shape[0],
            feature_dropout=args.get("feat_drop", 0.0),
            fc_dropout=args.get("fc_drop", 0.5),
            released=True,
        )
        load_strictly(model, weights)
        return model.eval()
