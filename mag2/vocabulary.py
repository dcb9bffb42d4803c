"""The words of the paper: action terms per sport (Table 7), grade words, and the prompts made of them."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mag2.saving.sentences import shortened, unknown_name
from mag2.skating_elements import SKATING_ELEMENTS

# Table 7 of the supplement, in its order: a released text file has its rows in the same order.
ACTIONS: dict[str, tuple[str, ...]] = {
    "rhythmic_gymnastics": (
        "walking",
        "running",
        "leaping",
        "jumping",
        "skipping",
        "ballet feet",
        "ballet hand",
        "dance steps",
        "bending",
        "360° turn",
        "split",
        "one leg stand",
        "30 sec. without stopping",
        "spirals",
        "release",
        "circles",
        "mills",
        "throw and catch",
        "bouncing 3 times",
        "roll and recover 3 feet",
        "roll and spin",
        "pass through",
        "swinging",
        "figure 8",
        "jump through",
        "hopping",
        "sliding",
        "swaying",
        "turning",
        "stretching",
        "twisting",
        "balance",
    ),
    "figure_skating": (
        "alternating backward crossovers",
        "alternating forward crossovers",
        "back spin",
        "bunny hop",
        "change of edge",
        "slide chasse",
        "cross stroke",
        "dance mode",
        "drop Mohawk",
        "drop three",
        "Dutch Waltz",
        "entry",
        "extended facing hold",
        "dance steps",
        "free sides",
        "freestyle mode",
        "gliding",
        "half-flip",
        "half-Lutz",
        "hockey stop",
        "pumping",
        "moving",
        "one-foot snowplow",
        "one-foot spin",
        "pivoting",
        "power forward crossovers",
        "power skating",
        "rolling",
        "scratch spin",
        "slaloming",
        "snowplow stop",
        "spiral",
        "straight line holds",
        "straight line spirals",
        "stroking",
        "swing",
        "swing roll",
        "toe-loop jumping",
        "two-foot spin",
        "Waltz jump",
        "Waltz hold",
        "Waltz three",
    ),
    "artistic_swimming": (
        "ballet leg single",
        "ballet leg alternate",
        "ballet leg double",
        "twist",
        "spinning",
        "twirling",
        "twist spin",
        "spin up",
        "combined spin",
        "continuous spinning",
        "boost action",
        "cadence action",
        "crane action",
        "ibis action",
        "Eiffel Tower action",
        "Catalina action",
        "Catalac action",
        "helicopter action",
        "flamingo action",
        "flamingo bent knee",
        "stingray action",
        "Rio straight leg",
        "manta ray action",
        "knight action",
        "London action",
        "swan action",
        "swanita action",
        "albatross action",
        "goeland action",
        "barracuda action",
        "blossom action",
        "somersault back pike",
        "barracuda bent knee",
        "flying fish action",
        "barracuda airborne split action",
        "somersault back tuck",
        "kip action",
        "seagull action",
        "Kip bent knee",
        "kip-swirl action",
        "somersault front pike",
        "elevator action",
        "somersub action",
        "aurora action",
        "subalina action",
        "subilarc action",
        "ballerina action",
        "lagoon action",
        "Gaviata action",
        "heron action",
        "butterfly action",
        "Neptunus action",
        "Catalina reverse",
        "side fishtail split",
        "Minerva action",
        "porpoise action",
        "front Ariana",
        "walkover front",
        "prawn action",
        "water drop action",
        "cyclone action",
        "Ipanema action",
        "Saturn action",
    ),
}

# Vocabularies that are not the paper's. They are used as sports are.
OTHER_ACTIONS: dict[str, tuple[str, ...]] = {"figure_skating_elements": SKATING_ELEMENTS}

# The paper names the six words; the words for 3, 4, 5, 7 and 8 grades (Table 2) are our choice. Those for fewer
# than six are drawn from the six, so that features of six grades serve a model of fewer.
GRADE_WORDS: dict[int, tuple[str, ...]] = {
    3: ("bad", "good", "perfect"),
    4: ("bad", "fair", "good", "perfect"),
    5: ("bad", "poor", "fair", "good", "perfect"),
    6: ("bad", "poor", "fair", "good", "excellent", "perfect"),
    7: ("terrible", "bad", "poor", "fair", "good", "excellent", "perfect"),
    8: ("terrible", "bad", "poor", "fair", "good", "great", "excellent", "perfect"),
}

# CLIP's text towers read 77 tokens, prompt and all, and cut what is longer.
MOST_WORDS, MOST_ACTIONS = 40, 2000

# Table 5 compares these; the paper's choice is the third for video and the last for music.
VISUAL_TEMPLATES = ("a photo of", "human action of", "a video of")
AUDIO_TEMPLATES = ("a music of", "a musical rhythm of", "a music suitable for")

__all__ = [
    "ACTIONS",
    "AUDIO_TEMPLATES",
    "GRADE_WORDS",
    "OTHER_ACTIONS",
    "VISUAL_TEMPLATES",
    "Prompts",
    "actions_of",
    "checked_terms",
    "grade_words",
    "make_prompts",
    "with_article",
]


@dataclass(frozen=True, repr=False)
class Prompts:
    """The prompts of one sport, in the row order of the authors' text files.

    M visual and M audio action prompts, 2N audio-visual and N visual grade prompts, each from worst to best.
    """

    visual: tuple[str, ...]
    audio: tuple[str, ...]
    audio_visual_grades: tuple[str, ...]
    grades: tuple[str, ...]

    def __repr__(self) -> str:
        """The number of prompts and the first of each set."""
        sets = (self.visual, self.audio, self.audio_visual_grades, self.grades)
        return f"Prompts({len(self.rows)}: {', '.join(f'{rows[0]!r}, ...' for rows in sets if rows)})"

    @property
    def rows(self) -> tuple[str, ...]:
        """All 2M + 3N prompts in row order."""
        return self.visual + self.audio + self.audio_visual_grades + self.grades


def make_prompts(
    actions: str | Sequence[str],
    grades: int | Sequence[str] = 6,
    visual_template: str = "a video of",
    audio_template: str = "a music suitable for",
) -> Prompts:
    """Make the prompts of a sport: "a video of a back spin", "a music suitable for dance steps" and so on.

    Args:
        actions: a sport, a key of `ACTIONS` or `OTHER_ACTIONS`; or a list of action terms of your own sport.
        grades: N, 3 to 8, 6 in the paper (Table 2); or the grade words, from worst to best.
        visual_template, audio_template: the words before the action; the paper's choice (Table 5).

    Raises:
        ValueError: an unknown sport or number of grades; terms or words that are no list of different texts of a few
            words; or a template that is empty, too long or has a place for the action ("a video of {}").
    """
    visual_template = _checked_template("visual_template", visual_template)
    audio_template = _checked_template("audio_template", audio_template)
    words = grade_words(grades) if isinstance(grades, int) else checked_terms(grades, "grade word", 64)
    terms = actions_of(actions) if isinstance(actions, str) else checked_terms(actions, "action term", MOST_ACTIONS)
    actions = [with_article(term) for term in terms]
    return Prompts(
        visual=tuple(f"{visual_template} {action}" for action in actions),
        audio=tuple(f"{audio_template} {action}" for action in actions),
        audio_visual_grades=tuple(
            f"{with_article(f'{word} performance')} {music}"
            for word in words
            for music in ("without fitting music", "with fitting music")
        ),
        grades=tuple(with_article(f"{word} performance") for word in words),
    )


def actions_of(sport: str) -> tuple[str, ...]:
    """Return the action terms of a sport; ValueError for an unknown sport."""
    known = ACTIONS | OTHER_ACTIONS
    if sport not in known:
        raise ValueError(
            f"{unknown_name('sport', sport, known)}. For another one give its action terms, a list of texts, to "
            f"TextFeatures.encode"
        )
    return known[sport]


def checked_terms(terms: Sequence[str], what: str, most: int) -> tuple[str, ...]:
    """Check a list of action terms or grade words, and return it as a tuple.

    Args:
        terms: the list.
        what: name of its entries in errors.
        most: largest number of entries.

    Raises:
        ValueError: no list of texts, fewer than two, more than `most`, one that is empty, too long or there twice.
    """
    if isinstance(terms, str) or not all(isinstance(term, str) for term in terms):
        odd = next((term for term in terms if not isinstance(term, str)), terms)
        raise ValueError(f"{what}s are a list of texts, got {odd!r}")
    cleaned = tuple(" ".join(term.split()) for term in terms)
    if not 2 <= len(cleaned) <= most:
        raise ValueError(f"{len(cleaned)} {what}s were given; give 2 to {most:,}")
    for number, term in enumerate(cleaned, 1):
        if not term:
            raise ValueError(f"{what} {number} is empty; give a few words")
        if len(term.split()) > MOST_WORDS or len(term) > 40 * MOST_WORDS:
            raise ValueError(
                f"{what} {number} has {len(term.split())} words, {term[:40]!r}...; an encoder reads some {MOST_WORDS}"
            )
    counts = Counter(term.casefold() for term in cleaned)
    twice = next((term for term in cleaned if counts[term.casefold()] > 1), None)
    if twice is not None:
        raise ValueError(f"the {what} {twice!r} is there twice; keep one of them")
    return cleaned


# What stands for the action in the templates of other libraries: {}, {action}, %s, <action>, [CLASS].
_PLACE = re.compile(r"[{}]|%\w|%\(|<\w*>|\[(class|action|)\]|\$\w", re.IGNORECASE)


def _checked_template(name: str, template: str) -> str:
    """The words of a template with one blank between them; ValueError where it is not words before an action."""
    advice = "give the words before the action, 'a video of' for example"
    if not isinstance(template, str):
        raise ValueError(f"{name} is a {type(template).__name__}, {shortened(template)}: {advice}")
    words = template.split()
    if not words:
        raise ValueError(f"{name} is empty, {template!r}: {advice}")
    if _PLACE.search(template):
        raise ValueError(f"{name} is {shortened(template)}, with a place for the action, which comes last: {advice}")
    if len(words) > MOST_WORDS or len(template) > 40 * MOST_WORDS:
        raise ValueError(f"{name} has {len(words)} words, {template[:40]!r}...; an encoder reads some {MOST_WORDS}")
    return " ".join(words)


def grade_words(n_grades: int) -> tuple[str, ...]:
    """Return the N grade words from worst to best; ValueError for another number than 3 to 8."""
    if n_grades not in GRADE_WORDS:
        raise ValueError(f"no words for {n_grades} grades; there are words for {_listed(GRADE_WORDS)}")
    return GRADE_WORDS[n_grades]


def with_article(term: str) -> str:
    """Return the term with "a" or "an" if it needs an article: not before a gerund or a plural."""
    last = term.split()[-1]
    gerund = last.endswith("ing") and not last.endswith(("swing", "spring", "string", "sling"))
    plural = last.endswith("s") or last == "feet"
    if gerund or plural:
        return term
    sounds_like_vowel = term[0].lower() in "aeiou" and not term.startswith("one")
    return f"{'an' if sounds_like_vowel else 'a'} {term}"


def _listed(names: Sequence | dict) -> str:
    return ", ".join(str(name) for name in names)
