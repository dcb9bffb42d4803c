"""Table 5: wordings of the prompts, and prompts or a text encoder that are trained with the model.

    python examples/table5.py                                       # simulated data
    python examples/table5.py --data FS1000=/path/FS1000 RG=/path/RG  # released files: measured and published results

Rows 1 to 3 change the wording of the visual prompts, rows 4 to 6 that of the audio prompts; the other prompts keep the
paper's wording. Rows 7 and 8 train a text encoder or prompts with the model. With --data the text encoder is OpenAI's
ViT-B-16 of open_clip, which is downloaded once, or the one of --texts. On simulated data it is a small one with random
weights.
"""

import sys

import interrupts
from rows import PAPER_TARGETS, build_learning_mlavl, build_worded_mlavl, mlavl_row

from mag2.texts import LearnedPrompts, TrainableTextEncoder
from mag2.training.command import main
from mag2.training.tables import Heading, Row, Table, published
from mag2.vocabulary import AUDIO_TEMPLATES, VISUAL_TEMPLATES


def worded(number: int, side: str, template: str) -> Row:
    """A row with other words before the actions, in the visual or the audio prompts."""
    heading = Heading(str(number), template, "", published(5, setting=template))
    return mlavl_row(heading, build_worded_mlavl, **{f"{side}_template": template})


def learning(number: int, setting: str, live: type) -> Row:
    """A row whose texts learn."""
    return mlavl_row(Heading(str(number), setting, "", published(5, setting=setting)), build_learning_mlavl, live=live)


TABLE5 = Table(
    name="table5",
    title="Table 5",
    targets=PAPER_TARGETS,
    rows=(
        *(worded(number, "visual", template) for number, template in enumerate(VISUAL_TEMPLATES, 1)),
        *(worded(number, "audio", template) for number, template in enumerate(AUDIO_TEMPLATES, 4)),
        learning(7, "Trainable Text Encoder", TrainableTextEncoder),
        learning(8, "Trainable Prompt Learning", LearnedPrompts),
    ),
    facts=lambda: (
        "Rows 7 and 8 of narrow models (`--size small`, simulated data) learn with a small text tower whose weights "
        "are random, unless `--texts` names another; at the papers' sizes the tower is ViT-B-16 of OpenAI."
    ),
)

if __name__ == "__main__":
    sys.exit(interrupts.run(main, TABLE5))
