"""Skating-Mixer (Xia et al., "Skating-Mixer: Long-Term Sport Audio-Visual Modeling with MLPs", AAAI 2023)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mag2.baselines.inputs import at_least_one
from mag2.baselines.transformer import one_per_video
from mag2.nn.feature_rows import check_tensors
from mag2.nn.pretrained import Pretrained, arguments_of
from mag2.nn.state_dicts import load_strictly, need, without_prefix

STEP_TOKENS = 3  # beside the K video tokens of a clip: its audio token, the memory and the summary


class Residual(nn.Module):
    """``x + fn(norm(x))``, with an MLP of hidden width 4x (GELU between) along the tokens or along the channels.

    Shapes: (B, n, d) -> the same.

    Args:
        dim: d. tokens: n, for an MLP along the tokens; None for one along the channels.
        dropout: after both layers of the MLP.
    """

    def __init__(self, dim: int, tokens: int | None, dropout: float):
        super().__init__()
        width = dim if tokens is None else tokens
        self.fn = nn.Sequential(
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(4 * width, width),
            nn.Dropout(dropout),
        )
        self.norm = nn.LayerNorm(dim)
        self.along_tokens = tokens is not None

    def forward(self, x: Tensor) -> Tensor:
        """Mix."""
        # The released layers along the tokens are convolutions of kernel 1, which are slow on a CPU.
        return x + (self.fn(self.norm(x).mT).mT if self.along_tokens else self.fn(self.norm(x)))


class MixerBlock(nn.Sequential):
    """Mix along the tokens, then along the channels (MLP-Mixer).

    Shapes: (B, n, d) -> the same, or (B, 2, d) with `ends`: the first and the last token alone, which is all that the
    model reads of its last block.
    """

    def __init__(self, n_tokens: int, dim: int, dropout: float):
        super().__init__(Residual(dim, n_tokens, dropout), Residual(dim, None, dropout))

    def forward(self, x: Tensor, ends: bool = False) -> Tensor:
        """Mix; the MLP along the channels maps every token by itself, so unread tokens need not be mapped."""
        x = self[0](x)
        return self[1](x[:, [0, -1]] if ends else x)


class Head(nn.Module):
    """One linear map to the score, under its released name."""

    def __init__(self, dim: int):
        super().__init__()
        self.linear = nn.Linear(dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, d) -> (B, 1)."""
        return self.linear(x)


class SkatingMixer(Pretrained):
    """Score a performance by MLPs that mix video, audio and a memory token, clip by clip in both directions.

    A clip is one audio token and K video tokens, audio first, mapped to width d by one shared linear layer. A step of
    the forward pass mixes [memory, the clip's 1 + K tokens, summary] by `depth` blocks, each an MLP along the tokens
    and an MLP along the channels. The memory token is an input of the next clip; the summary token, after one more
    linear layer, is the output of the clip. The backward pass runs over the reversed performance with the same weights
    and the order [summary, tokens, memory]. A video's vector is the mean of its outputs of both passes; the score is
    one linear map of it.

    By default this model differs from the released code in four places:

    - A clip is real where both modalities are: both are cut to the shorter one before they are reversed. The released
      code reverses each modality by itself, so that it mixes clips of different times where lengths differ.
    - The backward outputs of a video are those of its real clips. The released code takes the *last* steps of the
      backward pass, as many as the video has clips: for a video that is shorter than the longest of its batch these
      are steps over padding, and its score depends on the other videos.
    - Labels are expected in [0, 1], as everywhere in this library, and the score is clamped to [0, 1] in evaluation.
      In training it is not, because a clamped score has no gradient. The released code has raw scores and labels.
    - Where `audio_dim` is not `visual_dim`, audio has a linear layer of its own, ``linear_audio``. The released
      layer is shared, so it needs modalities of the same width.

    Where all videos and both modalities have the same length and width, released weights give the released scores,
    except for the clamp. The dropout of the released code is 0. Its LayerNorm ``layer_norm`` is never used; it is
    frozen here.

    Shapes:
        visual (B, T, K, visual_dim), or (B, T, visual_dim) where K is 1; audio (B, T, audio_dim), any T from 1. flow
        is accepted and not used. Shorter videos are padded at their end, with any values, and one of these is given:
        lengths (B,), the number of real clips; lengths (B, 2), that of visual and that of audio clips; or clip_mask
        (B, T), True where a clip is real. With lengths (B, 2) the tensors may differ in T. Returns a dict:

        - score (B,): in evaluation in [0, 1]; raw with `released`;
        - features (B, d): the vector that the score is a linear map of.

    Args:
        visual_dim, audio_dim: widths of a token; 768 and 768, TimeSformer and AST features (released).
        video_tokens: K; 1 by default, because the loaders of this library average the views of a clip; 15 in the
            released configuration.
        dim: model width d; 512 (released).
        depth: blocks of a step; 2 (released).
        dropout: after each layer of the MLPs; 0 (released).
        released: True gives the behaviour of the released code in these four places.

    Raises:
        ValueError: in the constructor: a size below 1, or `released` with modalities of different width. In `forward`:
            no audio; clips of another shape; both lengths and clip_mask; lengths or a mask of another shape or type;
            lengths outside 1..T; a padded clip before a real one.
    """

    def __init__(
        self,
        *,
        visual_dim: int = 768,
        audio_dim: int = 768,
        video_tokens: int = 1,
        dim: int = 512,
        depth: int = 2,
        dropout: float = 0.0,
        released: bool = False,
    ):
        arguments = arguments_of(locals())
        super().__init__()
        self.arguments = arguments
        at_least_one(visual_dim=visual_dim, audio_dim=audio_dim, video_tokens=video_tokens, dim=dim, depth=depth)
        if released and visual_dim != audio_dim:
            raise ValueError(
                f"visual_dim is {visual_dim} and audio_dim {audio_dim}; released=True has one linear layer for both, "
                "give the same width"
            )
        self.visual_dim, self.audio_dim = visual_dim, audio_dim
        self.video_tokens, self.released = video_tokens, released
        # The released keys. How the two tokens start is ours.
        self.hidden_state = nn.Parameter(torch.randn(1, dim))  # the memory before the first clip
        self.cls_token = nn.Parameter(torch.randn(1, dim))  # the summary before each clip
        self.linear1 = nn.Linear(visual_dim, dim)
        self.linear_audio = nn.Linear(audio_dim, dim) if audio_dim != visual_dim else None
        self.linear_forward = nn.Sequential(
            *(MixerBlock(video_tokens + STEP_TOKENS, dim, dropout) for _ in range(depth))
        )
        self.layer_norm = nn.LayerNorm(dim).requires_grad_(False)
        self.hidden_linear = nn.Linear(dim, dim)
        self.output = Head(dim)

    def forward(
        self,
        visual: Tensor,
        audio: Tensor | None = None,
        flow: Tensor | None = None,
        *,
        lengths: Tensor | None = None,
        clip_mask: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Score a batch of videos; see the class for shapes and the returned dict."""
        visual, audio = self._checked(visual, audio)
        each = _lengths(visual, audio, lengths, clip_mask)  # (B, 2)
        if lengths is not None or clip_mask is not None:
            # The released code pads as far as the longest video, and its score depends on that.
            longest = int(each.max())
            visual, audio = _padded(visual, longest), _padded(audio, longest)
        n_clips = visual.shape[1]
        shorter = each.min(dim=1).values  # (B,)
        if not self.released:
            each = shorter[:, None].expand(-1, 2)
        place = torch.arange(n_clips, device=visual.device)
        real = place < each[..., None]  # (B, 2, T)
        visual = visual.masked_fill(~real[:, 0, :, None, None], 0)
        audio = audio.masked_fill(~real[:, 1, :, None], 0)
        backwards = torch.where(real, each[..., None] - 1 - place, place)  # the padding stays where it is
        tokens = self._tokens(visual, audio, backwards)

        summaries = self._passes(tokens)  # (2, B, T, d)
        # Which steps of the two passes count.
        forward = place < shorter[:, None]
        backward = place >= n_clips - shorter[:, None] if self.released else forward
        weights = torch.stack([forward, backward]).to(summaries.dtype)[..., None]
        # The mean comes before the linear layer here and after it in the released code: they commute.
        mean = (summaries * weights).sum(dim=(0, 2)) / (2 * shorter[:, None])
        features = self.hidden_linear(mean)
        score = self.output(features).flatten()
        if not (self.training or self.released):
            score = score.clamp(0, 1)
        return {"score": score, "features": features}

    def loss(self, output: Mapping[str, Tensor], label: Tensor) -> dict[str, Tensor]:
        """Compute the squared error of the score (released code): ``mse``, equal to ``total``.

        `output` is what `forward` returned, `label` (B,) in [0, 1].

        Raises:
            ValueError: label is not (B,).
        """
        mse = F.mse_loss(output["score"], one_per_video(label, output["score"]))
        return {"total": mse, "mse": mse}

    def _checked(self, visual: Tensor, audio: Tensor | None) -> tuple[Tensor, Tensor]:
        """Visual (B, T, K, D) and audio (B, T, D)."""
        if audio is None:
            raise ValueError("SkatingMixer wants visual and audio features; audio is not given")
        check_tensors(visual=visual, audio=audio)
        if visual.dim() == 3:
            visual = visual[:, :, None]
        if visual.dim() != 4 or visual.shape[3] != self.visual_dim or visual.shape[1] == 0:
            raise ValueError(
                f"visual is {tuple(visual.shape)}; give SkatingMixer (videos, clips, video tokens, {self.visual_dim}) "
                "with at least one clip"
            )
        if visual.shape[2] != self.video_tokens:
            raise ValueError(
                f"visual has {visual.shape[2]} tokens a clip and this SkatingMixer mixes {self.video_tokens}; build it "
                f"with video_tokens={visual.shape[2]}, or give it the mean over them"
            )
        if audio.dim() != 3 or audio.shape[2] != self.audio_dim or audio.shape[1] == 0:
            raise ValueError(
                f"audio is {tuple(audio.shape)}; give SkatingMixer (videos, clips, {self.audio_dim}) with at least one "
                "clip"
            )
        if len(visual) != len(audio):
            raise ValueError(
                f"SkatingMixer wants as many videos of each modality, got visual {tuple(visual.shape)} and audio "
                f"{tuple(audio.shape)}"
            )
        return visual, audio

    def _tokens(self, visual: Tensor, audio: Tensor, backwards: Tensor) -> Tensor:
        """The clips' tokens of the forward and of the backward pass, (T, 2B, 1 + K, d), audio first."""
        linear_audio = self.linear1 if self.linear_audio is None else self.linear_audio
        video, sound = self.linear1(visual), linear_audio(audio)[:, :, None]
        row = torch.arange(len(visual), device=visual.device)[:, None]
        reversed_video, reversed_sound = video[row, backwards[:, 0]], sound[row, backwards[:, 1]]
        both = torch.cat([torch.cat([sound, reversed_sound]), torch.cat([video, reversed_video])], dim=2)
        return both.transpose(0, 1)

    def _passes(self, tokens: Tensor) -> Tensor:
        """Run both passes as one batch: tokens (T, 2B, 1 + K, d) -> the summaries of every step, (2, B, T, d)."""
        batch = tokens.shape[1] // 2
        memory, summary = self.hidden_state.expand(batch, -1), self.cls_token.expand(batch, -1)
        summaries = []
        # Forward: memory first, summary last. Backward: the other way round.
        first, last = torch.cat([memory, summary]), torch.cat([summary, memory])
        for clip in tokens:
            x = torch.cat([first[:, None], clip, last[:, None]], dim=1)
            for number, block in enumerate(self.linear_forward, 1):
                x = block(x, ends=number == len(self.linear_forward))
            summaries.append(torch.stack([x[:batch, 1], x[batch:, 0]]))
            first, last = torch.cat([x[:batch, 0], summary]), torch.cat([summary, x[batch:, 1]])
        return torch.stack(summaries, dim=2)

    @classmethod
    def from_released(cls, state_dict: Mapping[str, Tensor]) -> "SkatingMixer":
        """Load the `scoring_head` of the authors, with ``released=True`` and in evaluation mode.

        `state_dict` has their weights, with or without the prefix ``module.``; their shapes give the sizes.

        Raises:
            ValueError: a key is missing, unexpected or of another shape.
        """
        # Convolutions of kernel 1 are linear layers here.
        weights = {
            key: weight.squeeze(2) if weight.dim() == 3 else weight
            for key, weight in without_prefix(state_dict).items()
        }
        dim, width = need(weights, "linear1.weight").shape
        blocks = {key.split(".")[1] for key in weights if key.startswith("linear_forward.")}
        model = cls(
            visual_dim=width,
            audio_dim=width,
            video_tokens=need(weights, "linear_forward.0.0.fn.3.weight").shape[0] - STEP_TOKENS,
            dim=dim,
            depth=len(blocks),
            released=True,
        )
        load_strictly(model, weights)
        return model.eval()


def _padded(clips: Tensor, n_clips: int) -> Tensor:
    """Cut or padded with zeros to that many clips."""
    padding = clips.new_zeros(len(clips), max(n_clips - clips.shape[1], 0), *clips.shape[2:])
    return torch.cat([clips[:, :n_clips], padding], dim=1)


def _lengths(visual: Tensor, audio: Tensor, lengths: Tensor | None, clip_mask: Tensor | None) -> Tensor:
    """How many clips of each video are real, (B, 2): visual and audio.

    Raises:
        ValueError: both are given, or none where modalities differ; a shape or number that does not fit; a padded clip
            before a real one.
    """
    batch, given = len(visual), (visual.shape[1], audio.shape[1])
    if lengths is not None and clip_mask is not None:
        raise ValueError("SkatingMixer got lengths and clip_mask; give one of them")
    if lengths is None and given[0] != given[1]:
        raise ValueError(
            f"SkatingMixer wants as many clips of each modality, got visual {tuple(visual.shape)} and audio "
            f"{tuple(audio.shape)}; give lengths, ({batch}, 2), of visual and of audio clips"
        )
    if clip_mask is not None:
        if clip_mask.shape != visual.shape[:2] or clip_mask.dtype != torch.bool:
            raise ValueError(
                f"clip_mask is {clip_mask.dtype} {tuple(clip_mask.shape)}; give True or False for each clip, "
                f"{tuple(visual.shape[:2])}"
            )
        if (clip_mask[:, 1:] & ~clip_mask[:, :-1]).any():
            raise ValueError("clip_mask has a padded clip before a real one; pad videos at their end")
        lengths = clip_mask.sum(dim=1)
    if lengths is None:
        return torch.full((batch, 2), given[0], device=visual.device)
    lengths = torch.as_tensor(lengths, device=visual.device)
    if lengths.shape not in ((batch,), (batch, 2)) or lengths.is_floating_point():
        raise ValueError(
            f"lengths are {lengths.dtype} {tuple(lengths.shape)}; give a number of clips for each video, ({batch},), "
            f"or one of visual and one of audio clips, ({batch}, 2)"
        )
    lengths = lengths.reshape(batch, -1).expand(-1, 2)
    for modality, each, most in zip(("visual", "audio"), lengths.unbind(dim=1), given, strict=True):
        if each.min() < 1 or each.max() > most:
            raise ValueError(
                f"{modality} lengths go from {each.min()} to {each.max()}; a video has 1 to {most} real clips here"
            )
    return lengths
