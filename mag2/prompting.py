"""Text features that learn with the model: a trainable text encoder and learned prompts (the last rows of Table 5).

Both make a sport's features anew at every call, so that gradients reach what made them, and both take the place of
`TextFeatures`: ``MLAVL(TrainableTextEncoder.for_sport("figure_skating"))``. After training, `features()` gives
ordinary `TextFeatures`, and no text tower is needed any more.
"""

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mag2.encoders import Tokenizer, load_text_tower, source_of
from mag2.plugin.origins import Origin
from mag2.texts import TextFeatures
from mag2.vocabulary import Prompts, make_prompts

SLOT = "[XXX]"
_STAND_IN = "x"


class TextTower(nn.Module):
    """The text side of a CLIP alone, run on as many tokens as the prompts have instead of all 77.

    Attention is causal and what counts is read at the end of the text, so what follows it changes nothing. The keys of
    the state_dict are OpenAI's: `TextFeatures.encode(checkpoint=)` takes the file of it.

    Shapes: embedded tokens (P, L, W), ends (P,) -> features (P, D).

    Args:
        clip: an open_clip `CLIP`, a `CustomTextCLIP` or a `TextTransformer`; its text parts are copied.

    Raises:
        ValueError: no text transformer of open_clip's own, or one that is not causal or pools elsewhere.
    """

    def __init__(self, clip: nn.Module):
        super().__init__()
        text: Any = getattr(clip, "text", clip)
        if not isinstance(getattr(text, "token_embedding", None), nn.Embedding):
            raise ValueError(f"a {type(text).__name__} has no text tower of open_clip's own; give one such as ViT-B-16")
        self.pool = getattr(text, "text_pool_type", getattr(text, "pool_type", "argmax"))
        self.eos_id: Any = getattr(text, "text_eos_id", getattr(text, "eos_id", None))
        odd = {
            "has no causal mask": text.attn_mask is None,
            "has a class token": getattr(text, "cls_emb", None) is not None,
            f"pools by {self.pool!r}": self.pool not in ("argmax", "eos"),
        }
        if any(odd.values()):
            how = " and ".join(what for what, is_so in odd.items() if is_so)
            raise ValueError(f"this text tower {how}; give a causal one that pools at the end of the text")
        self.token_embedding = copy.deepcopy(text.token_embedding)
        self.positional_embedding = copy.deepcopy(text.positional_embedding)
        self.transformer = copy.deepcopy(text.transformer)
        self.ln_final = copy.deepcopy(text.ln_final)
        self.text_projection = copy.deepcopy(text.text_projection)
        self.attn_mask: Tensor
        self.register_buffer("attn_mask", text.attn_mask.detach().clone(), persistent=False)

    @property
    def width(self) -> int:
        """D, the width of a feature row."""
        if self.text_projection is None:
            return self.positional_embedding.shape[1]
        linear = isinstance(self.text_projection, nn.Linear)
        return self.text_projection.out_features if linear else self.text_projection.shape[1]

    @property
    def digest(self) -> Tensor:
        """SHA-256 of all weights (32,), uint8."""
        digest = hashlib.sha256()
        for name, value in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy())
        return torch.tensor(list(digest.digest()), dtype=torch.uint8)

    def tokenized(
        self, prompts: Sequence[str], tokenizer: Tokenizer, shown: Sequence[str] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Token ids (P, L), no longer than the longest prompt, and where each prompt ends (P,).

        `shown` is what an error names in the place of the prompts.

        Raises:
            ValueError: a prompt is too long, or a token is none of the tower's.
        """
        most = len(self.positional_embedding)
        # One token more than there is room for: a tokenizer cuts without a word.
        tokens = tokenizer(list(prompts), context_length=most + 1)
        ends = (tokens if self.pool == "argmax" else tokens.eq(self.eos_id).int()).argmax(dim=1)
        for prompt, end in zip(shown or prompts, ends.tolist(), strict=True):
            if end >= most:
                raise ValueError(f"{prompt!r} has more than the {most} tokens that the tower reads; give a shorter one")
        if tokens.max() >= self.token_embedding.num_embeddings:
            raise ValueError(
                f"token {int(tokens.max())} is none of the tower's {self.token_embedding.num_embeddings}; "
                f"give the tokenizer that belongs to it"
            )
        return tokens[:, : int(ends.max()) + 1], ends

    def forward(self, embedded: Tensor, ends: Tensor) -> Tensor:
        """Features (P, D) of embedded tokens (P, L, W), read at their ends (P,)."""
        length, dtype = embedded.shape[1], self.transformer.get_cast_dtype()
        x = embedded.to(dtype) + self.positional_embedding[:length].to(dtype)
        x = self.ln_final(self.transformer(x, attn_mask=self.attn_mask[:length, :length]))
        x = x[torch.arange(len(x), device=x.device), ends]
        if self.text_projection is None:
            return x
        return self.text_projection(x) if isinstance(self.text_projection, nn.Linear) else x @ self.text_projection


class LiveTexts(nn.Module):
    """The text features of one sport, made anew at every call.

    Returns (2M + 3N, D): M visual and M audio action texts, 2N audio-visual grades and N grades, in the released row
    order. All prompts go through the tower as one batch.

    Attributes:
        sizes: rows of the four sets, [M, M, 2N, N]. width: D. n_grades: N.
        prompts: what is encoded. sport, source: as in `TextFeatures`.
    """

    width: int

    def __init__(self, prompts: Prompts, sport: str | None, source: str):
        super().__init__()
        self.prompts, self.sport, self.source = prompts, sport, source
        sets = (prompts.visual, prompts.audio, prompts.audio_visual_grades, prompts.grades)
        self.sizes = [len(rows) for rows in sets]
        self.n_grades = len(prompts.grades)

    @property
    def origin(self) -> Origin:
        """Where the rows come from."""
        return Origin(self.prompts.rows, self.source, self.sport)

    @torch.no_grad()
    def features(self) -> TextFeatures:
        """The features of the present weights, for a model without a tower: detached, float32, on the CPU."""
        rows = self().float().cpu()
        return TextFeatures.from_rows(rows, self.prompts, sport=self.sport, source=self.source)


class TrainableTextEncoder(LiveTexts):
    """A text tower that trains: tokens, positions, transformer, last norm and projection ("Trainable Text Encoder").

    The image tower, the temperature and all else of the CLIP stay outside, and the CLIP itself stays as it is. The
    state_dict is the whole tower: 63.4 million weights of ViT-B-16, 254 MB, and with Adam three times that.

    Args:
        clip: an open_clip model (`TextTower`).
        tokenizer: what `open_clip.get_tokenizer` gives, or a name for it.
        prompts: what to encode, `mag2.vocabulary.make_prompts`.
        sport, source: what the features say they are.

    Raises:
        ValueError: a tower of another form (`TextTower`), or a prompt that it cannot read.
    """

    # `mag2.training` trains the tower at this share of the model's rate (ours): at the whole rate of a new model a
    # pretrained one soon forgets what it knew.
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
        """The prompts of a sport before a tower by name; until it is trained it gives what `TextFeatures.encode` does.

        Args:
            sport, n_grades, visual_template, audio_template: as `make_prompts`.
            encoder: `open_clip:<model>/<weights>`, or `random:<seed>`: small, never trained, for trials.
            checkpoint: a fine-tuned CLIP or ViFi-CLIP over the weights (`mag2.encoders.load_text_encoder`).

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
    """Context that is learned in the place of [XXX], "a [XXX] video of ...", before a frozen text tower.

    "Trainable Prompt Learning" of Table 5, after CoOp (Zhou et al., IJCV 2022): the context is n_context vectors in the
    space of the token embeddings, begun from N(0, 0.02). Each of the four sets of prompts has its own: the visual and
    the audio actions, the audio-visual and the visual grades (that grades have one is ours).

    The tower is a tool and no part of the module: it has no parameters here, never trains, stays in evaluation mode
    whatever `train()` says, follows `to()`, and gradients flow through it. So the state_dict holds the context alone
    (4 x n_context x W: 33 kB for ViT-B-16) and the digest of the tower, by which the context of another is refused.

    Args:
        clip, tokenizer, sport, source: as `TrainableTextEncoder`.
        prompts: each with [XXX] in one place; `learnable_prompts` makes those of a sport.
        n_context: how many vectors stand in the place of [XXX], 4 (ours; CoOp compares 4, 8 and 16).

    Raises:
        ValueError: n_context below 1, a prompt without one [XXX] between spaces, or one too long with the context, a
            tower of another form (`TextTower`); when loading, context that was learned before another tower.
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
        # The words never change: they are looked up once, and the table, two fifths of ViT-B-16's tower, goes.
        del tower.token_embedding
        # Past nn.Module's own setattr, which would make it a part.
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
        """The learnable prompts of a sport before a tower by name.

        Args:
            sport, n_grades: as `learnable_prompts`.
            encoder, checkpoint: as `TrainableTextEncoder.for_sport`.
            n_context: as the constructor.

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

    def _apply(self, fn, recurse=True):
        # Device and dtype reach the tower too.
        self.tower._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, state_dict, prefix, *args):
        saved = state_dict.get(f"{prefix}tower_digest")
        if saved is not None and not torch.equal(saved.cpu(), self.tower_digest.cpu()):
            raise ValueError(
                f"this context was learned before another text tower than {self.source}; "
                f"build the module with the encoder and checkpoint of then"
            )
        super()._load_from_state_dict(state_dict, prefix, *args)


def learnable_prompts(sport: str, n_grades: int = 6) -> Prompts:
    """The prompts of a sport with a place for learned context.

    "a [XXX] video of a back spin", "a [XXX] music suitable for dance steps" (the supplement); "a [XXX] bad performance
    with fitting music" and "a [XXX] bad performance" (ours).

    Raises:
        ValueError: as `make_prompts`.
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
