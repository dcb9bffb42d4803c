"""The text side of a CLIP alone, for training it or for gradients through it."""

import copy
import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mag2.encoders.clip import Tokenizer

__all__ = ["TextTower"]


class TextTower(nn.Module):
    """The text tower of a CLIP, without its image tower, for training or for gradients through it.

    It runs on as many tokens as the longest prompt has, not on all 77. Attention is causal and the feature is taken at
    the end of the text, so that tokens after it change nothing. The keys of the state_dict are OpenAI's:
    `TextFeatures.encode(checkpoint=)` accepts a file of it.

    Shapes: embedded tokens (P, L, W), ends (P,) -> features (P, D).

    Args:
        clip: an open_clip `CLIP`, a `CustomTextCLIP` or a `TextTransformer`; its text parts are copied.

    Raises:
        ValueError: no text transformer of open_clip, or one that is not causal or does not pool at the end of the text.
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
        """Turn P prompts into tokens.

        Args:
            prompts: the prompts.
            tokenizer: the tokenizer of the tower.
            shown: names of the prompts in errors; the prompts themselves by default.

        Returns:
            Token ids (P, L), with L the length of the longest prompt, and the position of the end of each prompt (P,).

        Raises:
            ValueError: a prompt is too long, or the tower does not have one of the tokens.
        """
        most = len(self.positional_embedding)
        # One token more than the tower reads: a tokenizer cuts longer prompts silently.
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
        """Return features (P, D) of embedded tokens (P, L, W), taken at the ends (P,) of the prompts."""
        length, dtype = embedded.shape[1], self.transformer.get_cast_dtype()
        x = embedded.to(dtype) + self.positional_embedding[:length].to(dtype)
        x = self.ln_final(self.transformer(x, attn_mask=self.attn_mask[:length, :length]))
        x = x[torch.arange(len(x), device=x.device), ends]
        if self.text_projection is None:
            return x
        return self.text_projection(x) if isinstance(self.text_projection, nn.Linear) else x @ self.text_projection
