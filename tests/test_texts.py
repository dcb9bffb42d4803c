"""Words and text features: the paper's vocabulary, prompts that read as English, and every source of features."""

import json

import pytest
import torch

from mag2 import TextFeatures
from mag2.encoders import load_text_encoder
from mag2.published import table
from mag2.texts.features import SHIPPED
from mag2.vocabulary import (
    ACTIONS,
    AUDIO_TEMPLATES,
    GRADE_WORDS,
    VISUAL_TEMPLATES,
    make_prompts,
    with_article,
)
from tests.golden import SHARED

RELEASED = SHARED.parent / "released"
SPORTS = {"rhythmic_gymnastics": 32, "figure_skating": 42, "artistic_swimming": 63}


def test_the_vocabulary_is_table_7():
    published = [(row["sport"], row["action"]) for row in table(7)]
    assert [(sport, action) for sport, actions in ACTIONS.items() for action in actions] == published
    assert {sport: len(actions) for sport, actions in ACTIONS.items()} == SPORTS


@pytest.mark.parametrize(
    ("term", "english"),
    [
        ("back spin", "a back spin"),
        ("dance steps", "dance steps"),
        ("entry", "an entry"),
        ("one-foot spin", "a one-foot spin"),
        ("Eiffel Tower action", "an Eiffel Tower action"),
        ("swing", "a swing"),
        ("gliding", "gliding"),
        ("360° turn", "a 360° turn"),
        ("ballet feet", "ballet feet"),
        ("excellent", "an excellent"),
    ],
)
def test_articles_are_english(term, english):
    assert with_article(term) == english


def test_prompts_of_the_specification():
    prompts = make_prompts("figure_skating")
    assert "a video of a back spin" in prompts.visual
    assert "a video of dance steps" in prompts.visual
    assert "a music suitable for a back spin" in prompts.audio
    assert prompts.audio_visual_grades[:2] == (
        "a bad performance without fitting music",
        "a bad performance with fitting music",
    )
    assert prompts.grades[-1] == "a perfect performance"
    assert len(prompts.rows) == 102


def test_fewer_grades_are_among_the_six():
    assert all(set(GRADE_WORDS[n]) <= set(GRADE_WORDS[6]) for n in (3, 4, 5))
    assert all(len(words) == n for n, words in GRADE_WORDS.items())


@pytest.mark.parametrize("sport", SPORTS)
@pytest.mark.parametrize("n_grades", GRADE_WORDS)
def test_shipped_features_have_every_prompt(sport, n_grades):
    for visual, audio in zip(VISUAL_TEMPLATES, AUDIO_TEMPLATES, strict=True):
        texts = TextFeatures.for_sport(sport, n_grades=n_grades, visual_template=visual, audio_template=audio)
        assert texts.visual.shape == texts.audio.shape == (SPORTS[sport], 384)
        assert texts.grades.shape == (n_grades, 384)
        assert texts.audio_visual_grades.shape == (2 * n_grades, 384)
        assert texts.prompts == make_prompts(sport, n_grades, visual, audio)


def test_shipped_features_are_small_half_precision_and_tell_one_prompt_from_another():
    from safetensors import safe_open

    with safe_open(str(SHIPPED), "pt") as file:
        features, about = file.get_tensor("features"), file.metadata()
    assert SHIPPED.stat().st_size < 1_000_000
    assert features.dtype == torch.float16
    assert about["licence"] == "Apache-2.0"
    prompts = json.loads(about["prompts"])
    unit = torch.nn.functional.normalize(features.float(), dim=1)
    close = (unit @ unit.T - torch.eye(len(unit))).amax()
    assert len(set(prompts)) == len(prompts) == len(features)
    assert close < 0.999, "two prompts share a feature"


def test_a_spin_is_nearer_a_spin_than_a_stop():
    """They come from a real encoder: likeness of meaning is likeness of features."""
    texts = TextFeatures.for_sport("figure_skating")
    row = {action: texts.visual[i] for i, action in enumerate(ACTIONS["figure_skating"])}
    likeness = torch.nn.functional.cosine_similarity
    alike = likeness(row["scratch spin"], row["back spin"], dim=0)
    assert alike > likeness(row["scratch spin"], row["hockey stop"], dim=0)


def test_fewer_grades_pick_the_rows_of_their_words():
    six, four = TextFeatures.for_sport("figure_skating"), TextFeatures.for_sport("figure_skating", n_grades=4)
    picked = six.with_grades(4)
    assert torch.equal(picked.grades, four.grades)
    assert torch.equal(picked.audio_visual_grades, four.audio_visual_grades)
    assert picked.prompts == four.prompts
    with pytest.raises(ValueError, match="no 'terrible'; make them with n_grades=8"):
        six.with_grades(8)


@pytest.mark.parametrize(
    ("name", "sport"),
    [("FS", "figure_skating"), ("RG", "rhythmic_gymnastics"), ("LOGO", "artistic_swimming")],
)
def test_released_files_are_read_in_their_order(name, sport):
    path = RELEASED / f"{name}_text_feature.npy"
    if not path.is_file():
        pytest.skip(f"the authors' {path.name} is not in ../shared/released")
    texts = TextFeatures.from_released(path)
    rows = torch.load(path, map_location="cpu", weights_only=True)
    n_actions = SPORTS[sport]
    assert texts.sport == sport
    assert torch.equal(texts.rows, rows)
    assert torch.equal(texts.audio, rows[n_actions : 2 * n_actions])
    assert torch.equal(texts.audio_visual_grades, rows[2 * n_actions : 2 * n_actions + 12])
    assert torch.equal(texts.grades, rows[-6:])


def test_a_file_in_the_released_layout_round_trips(tmp_path):
    rows = torch.randn(82, 512)
    torch.save(rows, tmp_path / "RG_text_feature.npy")
    texts = TextFeatures.from_released(tmp_path / "RG_text_feature.npy")
    assert texts.sport == "rhythmic_gymnastics"
    assert torch.equal(texts.rows, rows)


@pytest.fixture(scope="module")
def tower(tmp_path_factory):
    """A small CLIP of random weights, saved to disk: none can be downloaded where tests run."""
    import open_clip

    folder = tmp_path_factory.mktemp("tower")
    config = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    }
    (folder / "tiny-clip.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / "tiny-clip.json")
    torch.manual_seed(0)
    model = open_clip.create_model("tiny-clip")
    torch.save(model.state_dict(), folder / "weights.pt")
    return model.eval(), folder


def test_any_open_clip_tower_from_a_local_checkpoint(tower):
    import open_clip

    model, folder = tower
    texts = TextFeatures.encode("figure_skating", encoder=f"open_clip:tiny-clip/{folder / 'weights.pt'}")
    tokens = open_clip.get_tokenizer("tiny-clip")(list(texts.prompts.visual[:5]))
    with torch.no_grad():
        torch.testing.assert_close(texts.visual[:5], model.encode_text(tokens))
    assert texts.source.startswith("open_clip:tiny-clip/")


def test_a_vifi_clip_checkpoint_is_laid_over_the_text_side(tower, tmp_path):
    """ViFi-CLIP keeps its text encoder under `module.text_encoder.` and no token table."""
    model, folder = tower
    torch.manual_seed(1)
    tuned = {}
    for key, value in model.state_dict().items():
        if key.startswith(("transformer.", "ln_final.", "positional_embedding", "text_projection")):
            tuned[f"module.text_encoder.{key}"] = value + 0.1 * torch.randn_like(value)
    torch.save({"model": tuned}, tmp_path / "vifi.pth")
    encoder = f"open_clip:tiny-clip/{folder / 'weights.pt'}"
    plain = TextFeatures.encode("figure_skating", encoder)
    over = TextFeatures.encode("figure_skating", encoder, checkpoint=tmp_path / "vifi.pth")
    assert not torch.allclose(plain.visual, over.visual)
    torch.save({"model": {k.replace("text_encoder.", ""): v for k, v in tuned.items()}}, tmp_path / "clip.pth")
    again = TextFeatures.encode("figure_skating", encoder, checkpoint=tmp_path / "clip.pth")
    assert torch.equal(over.visual, again.visual)
    tuned.pop("module.text_encoder.ln_final.weight")
    torch.save(tuned, tmp_path / "lacking.pth")
    with pytest.raises(ValueError, match=r"lacks 1 weights of the text tower \(first: ln_final.weight\)"):
        TextFeatures.encode("figure_skating", encoder, checkpoint=tmp_path / "lacking.pth")


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda p: TextFeatures.for_sport("judo"), "unknown sport 'judo'; there are rhythmic_gymnastics"),
        (lambda p: TextFeatures.for_sport("figure_skating", n_grades=2), "no words for 2 grades"),
        (
            lambda p: TextFeatures.for_sport("figure_skating", visual_template="a film of"),
            "no shipped feature",
        ),
        (lambda p: TextFeatures.from_released(p / "no.npy"), "no text file"),
        (lambda p: TextFeatures.from_released(written(p, b"no zip")), "no file that torch.save wrote"),
        (lambda p: TextFeatures.from_released(saved(p, {"a": 1})), "holds a dict"),
        (
            lambda p: TextFeatures.from_released(saved(p, torch.zeros(80, 512))),
            "80 rows; with 6 grades there can be",
        ),
        (lambda p: TextFeatures(*four(visual=torch.zeros(3, 5))), "one width"),
        (
            lambda p: TextFeatures(*four(grades=torch.zeros(4, 4))),
            "4 grades want 8 audio-visual grades, got 12",
        ),
        (lambda p: TextFeatures(*four(visual=torch.zeros(3))), "tensor"),
        (lambda p: load_text_encoder("bert"), "unknown text encoder 'bert'"),
        (lambda p: load_text_encoder("open_clip:ViT-B-99/openai"), "no model 'ViT-B-99'; close names: ViT-B"),
        (lambda p: load_text_encoder("open_clip:ViT-B-16/nobody"), "neither a file nor weights of ViT-B-16"),
    ],
)
def test_bad_input_gets_one_sentence(tmp_path, call, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        call(tmp_path)
    assert "\n" not in str(caught.value)


def four(**replaced):
    parts = {
        "visual": torch.zeros(3, 4),
        "audio": torch.zeros(3, 4),
        "grades": torch.zeros(6, 4),
        "audio_visual_grades": torch.zeros(12, 4),
    }
    return (parts | replaced).values()


def saved(folder, value):
    torch.save(value, folder / "given.npy")
    return folder / "given.npy"


def written(folder, content: bytes):
    (folder / "given.npy").write_bytes(content)
    return folder / "given.npy"
