"""ISU: the words of real programmes with their real scores."""

import pytest
import torch

from mag2.data import DATASETS, DataError, read_isu
from mag2.programmes import (
    SCALES,
    TARGETS,
    ElementTexts,
    execution_of,
    music_fit,
    read_earlier_code,
    read_performances,
    train_and_test,
)
from mag2.texts import TextFeatures
from mag2.vocabulary import actions_of

ALL = read_performances()
TRAIN, TEST = train_and_test(ALL)


@pytest.mark.parametrize("target", TARGETS)
def test_labels_are_the_scores_of_the_protocols_and_the_split_is_by_competition(target):
    dataset = read_isu(target)
    assert (dataset.name, dataset.simulated, dataset.train.scale) == ("ISU", False, SCALES[target])
    for side, performances in ((dataset.train, TRAIN), (dataset.test, TEST)):
        assert list(side.names) == [each.id for each in performances]
        expected = torch.tensor([each.score(target) / SCALES[target] for each in performances])
        assert torch.allclose(side.label, expected.float(), atol=1e-6)


def test_a_clip_is_an_executed_element_in_words():
    words, dataset = ElementTexts.load(), read_isu("TES")
    batch = dataset.test.batch(torch.arange(len(TEST)))
    assert batch.visual.shape == (335, 14, 384)
    assert torch.equal(batch.visual, batch.vision_language)
    for i, performance in enumerate(TEST):
        rows = words.clips(performance)
        there = batch.visual[i][batch.visual[i].abs().sum(-1) > 0]
        assert torch.equal(there, rows)


def test_one_discipline_or_segment_alone():
    dataset = read_isu("PCS", discipline="ladies", segment="free")
    chosen = [each for each in TEST if (each.discipline, each.segment) == ("ladies", "free")]
    assert list(dataset.test.names) == [each.id for each in chosen]
    assert dataset.fingerprint != read_isu("PCS").fingerprint


def test_any_encoder_makes_the_features():
    dataset = read_isu("TES", discipline="pairs", segment="short", encoder="random:0")
    assert dataset.train.widths["visual"] == ElementTexts.load("random:0").width


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: read_isu("GOE"), "ISU has no target 'GOE': choose one of TES, PCS, SS, TR, PE, CO, IN"),
        (lambda: read_isu("TES", discipline="women"), "ISU has no discipline 'women': choose one of men, ladies"),
        (lambda: read_isu("TES", segment="long"), "ISU has no segment 'long': choose one of short, free"),
    ],
)
def test_what_is_not_there_is_one_sentence(call, sentence):
    with pytest.raises(DataError, match=sentence):
        call()


def test_the_dataset_is_known_by_its_name():
    spec = DATASETS["ISU"]
    assert spec.read_shipped("TES", clips=9).fingerprint == read_isu("TES", clips=9).fingerprint
    with pytest.raises(DataError, match="no features of FS1000 ship with the library"):
        DATASETS["FS1000"].read_shipped("TES")


def test_the_actions_are_those_of_the_programmes_and_have_shipped_texts():
    done = {action for each in ALL for element in each.elements for action in element.notation.actions}
    assert done <= set(actions_of("figure_skating_elements"))
    texts = TextFeatures.for_sport("figure_skating_elements")
    assert texts.visual.shape == texts.audio.shape == (len(actions_of("figure_skating_elements")), 384)
    assert torch.linalg.matrix_rank(texts.visual) > 90, "texts differ from each other"


def test_execution_is_the_grade_over_its_range():
    executions = [
        (element.goe, execution_of(element.notation, element.goe)) for each in ALL for element in each.elements
    ]
    assert all(0 <= execution <= 1 for _, execution in executions)
    assert {execution for goe, execution in executions if goe == 0} == {0.5}
    assert all((execution - 0.5) * goe >= 0 for goe, execution in executions)
    assert max(execution for _, execution in executions) == 1.0
    assert min(execution for _, execution in executions) == 0.0


def test_music_fit_is_the_interpretation_mark_beside_the_others():
    fits = music_fit(ALL)
    assert fits.min() > 0
    assert fits.max() < 1
    ahead = [each.IN - (each.SS + each.TR + each.PE + each.CO) / 4 for each in ALL]
    order = sorted(range(len(ALL)), key=ahead.__getitem__)
    assert fits[order[0]] < fits[order[len(ALL) // 2]] < fits[order[-1]]


@pytest.mark.parametrize(
    ("code", "english"),
    [
        ("CCoSp3p4", "change-foot combination spin, level 4"),
        ("FCoSp2p3*", "flying combination spin, level 3, invalid"),
        ("SlSt3", "straight-line step sequence, level 3"),
        ("FCSp4V1", "flying camel spin, level 4, reduced value"),
        ("3Lz+3T", "triple Lutz, triple toe loop combination"),
    ],
)
def test_codes_of_earlier_seasons_read_as_english(code, english):
    assert read_earlier_code(code).description == english
