"""PAMFN (Zeng & Zheng, "Multimodal Action Quality Assessment", TIP 2024): three modalities, fused progressively.

Three branches (`ModalityBranch`) are trained first. Then a mixed branch of three stages fuses their features. Every
stage decodes features that are specific to a modality, and features of experts over all three modalities; a policy
selects for each moment how many experts are used.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mag2.baselines.pamfn_branch import ModalityBranch, halved
from mag2.baselines.pamfn_mixed import MixedStage
from mag2.baselines.transformer import one_per_video
from mag2.nn.pretrained import Pretrained, arguments_of
from mag2.nn.state_dicts import check_names, load_strictly, need, without_prefix

# What does not learn in the fusion stage: two branches, and the head of the third, whose own score is not used.
FROZEN_IN_FUSION = ("model_r.", "model_f.", "model_a.fc.")
MODES = ("eval", "train")
# The arguments of the authors' class.
_RELEASED = (
    *("ms_heads", "cm_heads", "feat_drop", "fc_drop", "model_dim", "fc_r", "K", "dataset_name"),
    *("rgb_ckpt_name", "flow_ckpt_name", "audio_ckpt_name"),
)


class PAMFN(Pretrained):
    """Score performances by progressive adaptive multimodal fusion of video, optical flow and audio.

    Train the `branches` first, each as a model of its own; then call `start_fusion()` and train the whole model
    (`mag2.training.train` does both). In the fusion stage the visual and flow branches are frozen; of the audio branch
    all stages train, but not its head (released code).

    With `released` it equals the released code number for number: every intermediate tensor, the score, and training
    step by step.

    Shapes:
        visual (B, T, visual_dim), flow (B, T, flow_dim), audio (B, T, audio_dim), or (B, T, K, dim) with K crops;
        T at least 4. Returns a dict:

        - score (B,): in [0, 1];
        - tokens (B, T // 2, 3d): the fused tokens of stage 1, which are the transposed output of `stage1`;
        - logits_i, actions_i (B, K, T_i) for the stages i = 0, 1, 2, with T_i = T // 2, T // 4, 1 and K experts: the
          logits of the policy, and its one-hot choice.

    Args:
        visual_dim, flow_dim, audio_dim: widths of the features; 1024, 1024 and 768 (released configurations).
        dim: d, 256 (released).
        n_kinds: number K of experts in each stage; 6 (paper; 10 in the released configuration of RG).
        ms_heads, cm_heads: heads of the modality-specific and the cross-modal attention; 1 and 1 (released).
        fc_reduction: the layer before the score has width d / fc_reduction; 2 (released).
        embedding_dropout, branch_dropout: at the end of each branch's embedding and before its own score; 0.3 and 0.5
            (released).
        feature_dropout: on the branches' features, once for each level; 0.5 (released rate; its place is our choice,
            because it is 0 in every file that we could compare with).
        attention_dropout: on the weights of both attentions; 0.1 (released).
        fc_dropout, head_dropout: of the mixed head, before its first layer and before its last; 0 and 0.5 (released).
        frozen_branches: the mode of the visual and flow branches in the fusion stage, while the model trains. "train"
            (released): their dropout is on and the statistics of their BatchNorm change, though their weights do not.
            "eval": nothing of them changes. None, the default, means "train" with `released`, else "eval" (our choice).
        released: True draws the policy's Gumbel noise in evaluation too, where the default takes the arg-max; does not
            keep its temperature at 0.1 or more; and masks disabled experts by -1e9 (see `MomentAttention`).

    Raises:
        ValueError: in the constructor: an unknown `frozen_branches`. In `forward`: a modality is missing or has another
            shape, the modalities differ in length, or fewer than 4 clips.
    """

    def __init__(
        self,
        *,
        visual_dim: int = 1024,
        flow_dim: int = 1024,
        audio_dim: int = 768,
        dim: int = 256,
        n_kinds: int = 6,
        ms_heads: int = 1,
        cm_heads: int = 1,
        fc_reduction: int = 2,
        embedding_dropout: float = 0.3,
        branch_dropout: float = 0.5,
        feature_dropout: float = 0.5,
        attention_dropout: float = 0.1,
        fc_dropout: float = 0.0,
        head_dropout: float = 0.5,
        frozen_branches: str | None = None,
        released: bool = False,
    ):
        arguments = arguments_of(locals())
        super().__init__()
        self.arguments = arguments
        mode = frozen_branches or ("train" if released else "eval")
        if mode not in MODES:
            raise ValueError(f"frozen_branches is {frozen_branches!r}; give one of {', '.join(MODES)}")

        def branch(in_dim: int, modality: str) -> ModalityBranch:
            rates = {"embedding_dropout": embedding_dropout, "dropout": branch_dropout}
            return ModalityBranch(in_dim=in_dim, dim=dim, modality=modality, released=released, **rates)

        def stage(last: bool = False) -> MixedStage:
            return MixedStage(dim, n_kinds, ms_heads, cm_heads, attention_dropout, last, released)

        self.model_r = branch(visual_dim, "visual")
        self.model_f = branch(flow_dim, "flow")
        self.model_a = branch(audio_dim, "audio")
        self.stage1, self.stage2, self.stage3 = stage(), stage(), stage(last=True)
        self.fc = nn.Sequential(
            nn.Dropout(fc_dropout),
            nn.Conv1d(3 * dim, dim // fc_reduction, 1),
            nn.BatchNorm1d(dim // fc_reduction),
            nn.ReLU(),
            nn.Dropout(head_dropout),
            nn.Conv1d(dim // fc_reduction, 1, 1),
        )
        # The released start of the mixed branch is a vector that is never trained. The policy's temperature is.
        self.c = nn.Parameter(torch.zeros(3 * dim), requires_grad=False)
        self.tau = nn.Parameter(torch.tensor(10.0))
        self.feature_dropout = nn.Dropout(feature_dropout)
        self.released, self.frozen_branches = released, mode
        self.fusing = False
        self._thawed: dict[str, bool] = {}

    @property
    def branches(self) -> dict[str, ModalityBranch]:
        """The branches by modality, to be trained first; each is called as the model is."""
        return {"visual": self.model_r, "flow": self.model_f, "audio": self.model_a}

    def forward(
        self, visual: Tensor | None = None, audio: Tensor | None = None, flow: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Score a batch of videos from all three modalities; see the class for shapes and the returned dict."""
        levels = self._levels({"visual": visual, "audio": audio, "flow": flow})
        moments = levels[1].shape[-1]
        mixed = self.c[None, :, None].expand(levels[0].shape[0], -1, moments)
        output: dict[str, Tensor] = {}
        for i, stage in enumerate((self.stage1, self.stage2, self.stage3)):
            logits = stage.f_fusion.logits(levels[i])
            action = self.choose(logits)
            mixed = stage(mixed, levels[i], levels[i + 1], action)
            output |= {f"logits_{i}": logits, f"actions_{i}": action}
            if i == 0:
                output["tokens"] = mixed.transpose(1, 2)
            # Half the time after stage 1, the mean over all time after stage 2, as the branches do one stage later.
            if i < 2:
                mixed = halved(mixed, last=i == 1)
        return {"score": torch.sigmoid(self.fc(mixed)).flatten(), **output}

    def _levels(self, given: Mapping[str, Tensor | None]) -> list[Tensor]:
        """The four levels of the branches, each (B, 3, d, time left): visual, flow, audio."""
        missing = [name for name, clips in given.items() if clips is None]
        if missing:
            raise ValueError(f"PAMFN wants visual, audio and flow features; {' and '.join(missing)} not given")
        features = {name: branch.features(given[name]) for name, branch in self.branches.items()}
        lengths = {name: maps[0].shape[-1] for name, maps in features.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"PAMFN wants as many clips of each modality, got {lengths}")
        for name in ("visual", "flow"):
            features[name] = [feature.detach() for feature in features[name]]
        return [self.feature_dropout(torch.stack(level, dim=1)) for level in zip(*features.values(), strict=True)]

    def choose(self, logits: Tensor) -> Tensor:
        """Return the one-hot choice (B, K, T) for logits (B, K, T) of the policy.

        In training it is drawn with Gumbel noise, with a straight-through gradient and a temperature of 0.1 or more. In
        evaluation it is the arg-max. With `released` it is drawn in both, at the learned temperature. Override this
        method to fix the draw.
        """
        if self.released:
            return F.gumbel_softmax(logits, tau=self.tau, hard=True, dim=1)  # type: ignore[arg-type]
        if self.training:
            return F.gumbel_softmax(logits, tau=self.tau.clamp(min=0.1), hard=True, dim=1)  # type: ignore[arg-type]
        return F.one_hot(logits.argmax(dim=1), logits.shape[1]).transpose(1, 2).to(logits.dtype)

    def loss(self, output: Mapping[str, Tensor], label: Tensor) -> dict[str, Tensor]:
        """Compute the squared error of the score (released code): ``mse``, equal to ``total``.

        `output` is what `forward` returned, `label` (B,) in [0, 1].

        Raises:
            ValueError: label is not (B,).
        """
        mse = F.mse_loss(output["score"], one_per_video(label, output["score"]))
        return {"mse": mse, "total": mse}

    def start_fusion(self) -> None:
        """Freeze the visual and flow branches, and the head of the audio branch; see `frozen_branches`."""
        if not self.fusing:
            self.fusing = True
            for name, parameter in self.named_parameters():
                if name.startswith(FROZEN_IN_FUSION):
                    self._thawed[name] = parameter.requires_grad
                    parameter.requires_grad_(False)
        self.train(self.training)

    def stop_fusion(self) -> None:
        """Make the branches trainable as they were before `start_fusion`."""
        # A plug-in that was attached to a branch meanwhile and detached again has no parameter here any more.
        parameters = dict(self.named_parameters())
        for name in self._thawed.keys() & parameters.keys():
            parameters[name].requires_grad_(self._thawed[name])
        self._thawed, self.fusing = {}, False
        self.train(self.training)

    def train(self, mode: bool = True) -> "PAMFN":
        """Set training or evaluation mode; in the fusion stage frozen branches get the mode of `frozen_branches`."""
        super().train(mode)
        if self.fusing and self.frozen_branches == "eval":
            for part in (self.model_r, self.model_f):
                part.eval()
        return self

    @classmethod
    def from_released(cls, state_dict: Mapping[str, Tensor], **args: Any) -> "PAMFN":
        """Load the `PAMFN` of the authors, with ``released=True`` and in evaluation mode.

        Further training equals the authors', with or without `start_fusion()`: parameters that get no gradient in their
        script get none here.

        Args:
            state_dict: the authors' weights, with or without the prefix ``module.``; their shapes give the sizes.
            args: `ms_heads`, `cm_heads`, `feat_drop` and `fc_drop`, by the authors' names; the other
                arguments of their class are ignored.

        Raises:
            ValueError: a key is missing, unexpected or of another shape. TypeError: an argument of another name.
        """
        check_names(args, _RELEASED, "PAMFN.from_released")
        weights = without_prefix(state_dict)
        dim = need(weights, "model_r.embedding.3.weight").shape[0]
        model = cls(
            visual_dim=need(weights, "model_r.embedding.0.weight").shape[1],
            flow_dim=need(weights, "model_f.embedding.0.weight").shape[1],
            audio_dim=need(weights, "model_a.embedding.0.weight").shape[1],
            dim=dim,
            n_kinds=need(weights, "stage1.f_fusion.policy.0.weight").shape[0],
            ms_heads=args.get("ms_heads", 1),
            cm_heads=args.get("cm_heads", 1),
            fc_reduction=dim // need(weights, "fc.1.weight").shape[0],
            feature_dropout=args.get("feat_drop", 0.5),
            fc_dropout=args.get("fc_drop", 0.0),
            released=True,
        )
        load_strictly(model, weights)
        return model.eval()
