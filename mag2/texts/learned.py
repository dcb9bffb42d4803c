"""Text features that train with the model: a trainable text encoder and learned prompts (the last rows of Table 5).

Both compute the features of a sport at every call, so that gradients reach the encoder or the prompts. Both are given
instead of `TextFeatures`: ``MLAVL(TrainableTextEncoder.for_sport("figure_skating"))``. After training, `features()`
returns ordinary `TextFeatures`, and the text tower is no longer needed.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mag2.encoders import TextTower, Tokenizer, load_text_tower, source_of
from mag2.texts.features import TextFeatures
from mag2.texts.provenance import Provenance
from mag2.vocabulary import Prompts, make_prompts

__all__ = ["LearnedPrompts", "LiveTexts", "TrainableTextEncoder", "learnable_prompts"]

SLOT = "[XXX]"
_STAND_IN = "x"


class LiveTexts(nn.Module):
    """Base class of modules that compute the text features of one sport at every call.

    A call without arguments returns (2M + 3N, D): M visual and M audio action texts, 2N audio-visual grades and N
    grades, in the released row order. All prompts are encoded as one batch.

    Attributes:
        sizes: numbers of rows of the four sets, [M, M, 2N, N].
        width: D.
        n_grades: N.
        prompts: the prompts that are encoded.
        sport, source: as in `TextFeatures`.
    """

    width: int

    def __init__(self, prompts: Prompts, sport: str | None, source: str):
        super().__init__()
        self.prompts, self.sport, self.source = prompts, sport, source
        sets = (prompts.visual, prompts.audio, prompts.audio_visual_grades, prompts.grades)
        self.sizes = [len(rows) for rows in sets]
        self.n_grades = len(prompts.grades)

    @property
    def provenance(self) -> Provenance:
        """Origin of the rows."""
        return Provenance(self.prompts.rows, self.source, self.sport)

    @torch.no_grad()
    def features(self) -> TextFeatures:
        """Return the features that the present weights give, as `TextFeatures`: detached, float32, on the CPU."""
        rows = self().float().cpu()
        return TextFeatures.from_rows(rows, self.prompts, sport=self.sport, source=self.source)


class TrainableTextEncoder(LiveTexts):
    """Text features from a text tower that trains with the model ("Trainable Text Encoder" of Table 5).

    All of the tower trains: token and position embeddings, transformer, last norm and projection. The module has a copy
    of the text tower alone, without image tower and temperature; the given CLIP does not change. The state_dict is the
    whole tower: 63.4 million weights for ViT-B-16, 254 MB. Adam keeps two more numbers for each weight.

    `mag2.training` trains the tower at 0.01 of the model's learning rate (`lr_scale`, our choice).

    Args:
        clip: an open_clip model, as in `mag2.encoders.text_tower.TextTower`.
        tokenizer: the result of `open_clip.get_tokenizer`, or the name to call it with.
        prompts: the prompts to encode (`mag2.vocabulary.make_prompts`).
        sport, source: sport and origin that are recorded with the features.

    Raises:
        ValueError: a tower of another form (`TextTower`), a prompt that is too long for it, or a token that it does not
            have.
    """

    # `mag2.training` trains the tower at this share of the model's rate (our choice): at the rate of a new model, a
    # pretrained tower soon loses what it learned.
    lr_scale = 0.01

    def __init__(
        self,
        clip: nn.Module,
        tokenizer: Tokenizer | str,
        prompts: Prompts,
        *,
        sport: str | None = None,
        source: str = "given",
    ):
        super().__init__(prompts, sport, f"{source}, trainable")
        self.tower = TextTower(clip).requires_grad_(True)
        self.width = self.tower.width
        tokens, ends = self.tower.tokenized(prompts.rows, _tokenizer(tokenizer))
        self.tokens: Tensor
        self.ends: Tensor
        device = self.tower.positional_embedding.device
        self.register_buffer("tokens", tokens.to(device), persistent=False)
        self.register_buffer("ends", ends.to(device), persistent=False)

    @classmethod
    def for_sport(
        cls,
        sport: str,
        encoder: str = "open_clip:ViT-B-16/openai",
        *,
        checkpoint: str | Path | None = None,
        n_grades: int = 6,
        visual_template: str = "a video of",
        audio_template: str = "a music suitable for",
    ) -> "TrainableTextEncoder":
        """Build it from the prompts of a sport and the name of an encoder.

        Before training the features equal those of `TextFeatures.encode`.

        Args:
            sport: a key of `mag2.vocabulary.ACTIONS` or `OTHER_ACTIONS`.
            encoder: `open_clip:<model>/<weights>`, or `random:<seed>`, a small untrained tower for trials.
            checkpoint: a file of a fine-tuned CLIP or ViFi-CLIP, whose weights replace those of the name
                (`mag2.encoders.load_text_encoder`).
            n_grades, visual_template, audio_template: as in `TextFeatures.encode`.

        Raises:
            ValueError: as `make_prompts`, `load_text_tower` and the constructor.
        """
        prompts = make_prompts(sport, n_grades, visual_template, audio_template)
        clip, tokenizer = load_text_tower(encoder, checkpoint=checkpoint)
        return cls(clip, tokenizer, prompts, sport=sport, source=source_of(encoder, checkpoint))

    def forward(self) -> Tensor:
        """The rows (2M + 3N, D)."""
        return self.tower(self.tower.token_embedding(self.tokens), self.ends)


class LearnedPrompts(LiveTexts):
    """Text features from prompts with learned context, "a [XXX] video of ...", and a frozen text tower.

    This is "Trainable Prompt Learning" of Table 5, after CoOp (Zhou et al., IJCV 2022). The context is n_context
    vectors in the space of the token embeddings, in the place of [XXX]. They are initialised from a normal distribution
    of mean 0 and standard deviation 0.02. Each of the four sets of prompts has its own context: visual actions, audio
    actions, audio-visual grades and visual grades. (Context for the grades is our choice.)

    The tower is not a submodule. It never trains and is always in evaluation mode; gradients pass through it, and
    `to()` moves it. The state_dict therefore holds the context (4 x n_context x W numbers, 33 kB for ViT-B-16) and the
    digest of the tower alone.

    Args:
        clip, tokenizer, sport, source: as in `TrainableTextEncoder`.
        prompts: each with [XXX] once; `learnable_prompts` makes those of a sport.
        n_context: number of vectors in the place of [XXX]; 4 is our choice, CoOp compares 4, 8 and 16.

    Raises:
        ValueError: n_context below 1; a prompt that has not exactly one [XXX] between spaces, or that is too long with
            the context; a tower of another form (`TextTower`); when loading, context that was learned with another
            tower.
    """

    tower: TextTower

    def __init__(
        self,
        clip: nn.Module,
        tokenizer: Tokenizer | str,
        prompts: Prompts,
        *,
        n_context: int = 4,
        sport: str | None = None,
        source: str = "given",
    ):
        if n_context < 1:
            raise ValueError(f"n_context={n_context} leaves nothing to learn; give 1 or more")
        super().__init__(prompts, sport, f"{source}, {n_context} learned context tokens")
        tower = TextTower(clip).requires_grad_(False).eval()
        tokenizer = _tokenizer(tokenizer)
        filled = [prompt.replace(SLOT, " ".join([_STAND_IN] * n_context)) for prompt in prompts.rows]
        shown = [f"{prompt} with {n_context} vectors for {SLOT}" for prompt in prompts.rows]
        tokens, ends = tower.tokenized(filled, tokenizer, shown)
        slots = _slots(prompts.rows, tokens, tower, tokenizer, n_context)
        words = tower.token_embedding(tokens.to(tower.positional_embedding.device))
        self.words: Tensor
        self.ends: Tensor
        self.slots: Tensor
        self.tower_digest: Tensor
        self.register_buffer("words", words, persistent=False)
        self.register_buffer("ends", ends.to(words.device), persistent=False)
        self.register_buffer("slots", slots.to(words.device), persistent=False)
        self.register_buffer("tower_digest", tower.digest.to(words.device))
        self.context = nn.Parameter(words.new_empty(len(self.sizes), n_context, words.shape[2]).normal_(std=0.02))
        self.width = tower.width
        # The words never change: they are looked up once. The table, two fifths of ViT-B-16's tower, is deleted.
        del tower.token_embedding
        # Not by nn.Module's setattr, which would make it a submodule.
        self.__dict__["tower"] = tower

    @classmethod
    def for_sport(
        cls,
        sport: str,
        encoder: str = "open_clip:ViT-B-16/openai",
        *,
        checkpoint: str | Path | None = None,
        n_grades: int = 6,
        n_context: int = 4,
    ) -> "LearnedPrompts":
        """Build it from the learnable prompts of a sport and the name of an encoder.

        Args:
            sport, n_grades: as in `learnable_prompts`.
            encoder, checkpoint: as in `TrainableTextEncoder.for_sport`.
            n_context: as in the constructor.

        Raises:
            ValueError: as `learnable_prompts`, `load_text_tower` and the constructor.
        """
        prompts = learnable_prompts(sport, n_grades)
        clip, tokenizer = load_text_tower(encoder, checkpoint=checkpoint)
        return cls(clip, tokenizer, prompts, n_context=n_context, sport=sport, source=source_of(encoder, checkpoint))

    def forward(self) -> Tensor:
        """The rows (2M + 3N, D)."""
        n_context, width = self.context.shape[1:]
        sets = zip(self.context, self.sizes, strict=True)
        context = torch.cat([vectors.expand(size, n_context, width) for vectors, size in sets])
        rows = torch.arange(len(context), device=context.device)
        return self.tower(self.words.index_put((rows[:, None], self.slots), context), self.ends)

    def _apply(self, fn: Callable, recurse: bool = True) -> "LearnedPrompts":
        # Device and dtype reach the tower too.
        self.tower._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        saved = state_dict.get(f"{prefix}tower_digest")
        if saved is not None and not torch.equal(saved.cpu(), self.tower_digest.cpu()):
            raise ValueError(
                f"this context was learned before another text tower than {self.source}; "
                f"build the module with the encoder and checkpoint of then"
            )
        super()._load_from_state_dict(state_dict, prefix, *args)


def learnable_prompts(sport: str, n_grades: int = 6) -> Prompts:
    """Return the prompts of a sport with [XXX] where `LearnedPrompts` puts its context.

    Examples: "a [XXX] video of a back spin", "a [XXX] music suitable for dance steps" (supplement); "a [XXX] bad
    performance with fitting music", "a [XXX] bad performance" (our choice).

    Args:
        sport: a key of `mag2.vocabulary.ACTIONS` or `OTHER_ACTIONS`.
        n_grades: N, 3 to 8; 6 in the paper (Table 2).

    Raises:
        ValueError: an unknown sport or number of grades.
    """
    prompts = make_prompts(sport, n_grades, f"a {SLOT} video of", f"a {SLOT} music suitable for")
    return replace(
        prompts,
        audio_visual_grades=tuple(_with_slot(prompt) for prompt in prompts.audio_visual_grades),
        grades=tuple(_with_slot(prompt) for prompt in prompts.grades),
    )


def _with_slot(prompt: str) -> str:
    article, _, rest = prompt.partition(" ")
    assert article in ("a", "an"), prompt
    return f"a {SLOT} {rest}"


def _slots(prompts: Sequence[str], tokens: Tensor, tower: TextTower, tokenizer: Tokenizer, n_context: int) -> Tensor:
    """Where the context stands in each prompt: positions (P, n_context)."""
    _, starts = tower.tokenized([prompt.partition(SLOT)[0] for prompt in prompts], tokenizer)
    slots = starts[:, None] + torch.arange(n_context)
    (stand_in,), _ = tower.tokenized([_STAND_IN], tokenizer)
    found = tokens.gather(1, slots.clamp(max=tokens.shape[1] - 1)) == stand_in[-2]
    for prompt, fits in zip(prompts, found.all(dim=1).tolist(), strict=True):
        if prompt.count(SLOT) != 1 or not fits:
            raise ValueError(f"{prompt!r} wants {SLOT} once, between spaces, where the learned context goes")
    return slots


def _tokenizer(given: Tokenizer | str) -> Tokenizer:
    if not isinstance(given, str):
        return given
    import open_clip

    return open_clip.get_tokenizer(given)
