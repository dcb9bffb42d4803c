"""Contributions and intervals against what is true: planted executions, and real programmes that were held out."""

import numpy as np
import pytest
import torch
from torch import nn

from mag2 import MLAVL, TextFeatures, load_trained
from mag2.baselines import GDLT
from mag2.data import simulate
from mag2.data.drawing import draw_world, text_directions
from mag2.data.features import ClipFeatures
from mag2.data.labels import Example
from mag2.data.performances import assemble
from mag2.programmes import SCALES, TEST_COMPETITIONS, ElementTexts, read_performances, train_and_test
from mag2.scoring.conformal import half_width
from mag2.training import Recipe, Run, fit


class ClipByClip(nn.Module):
    """Judges each clip alone and gives the mean: what a clip contributes to its score is no matter of opinion."""

    def __init__(self):
        super().__init__()
        self.judge = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, visual, audio, flow):
        real = visual.abs().sum(dim=-1) > 0
        return {"score": ((self.judge(visual)[..., 0] * real).sum(dim=1) / real.sum(dim=1)).sigmoid()}

    def loss(self, output, label):
        return {"total": ((output["score"] - label) ** 2).mean()}


TEXTS = TextFeatures.for_sport("figure_skating")
SIZE = {"dim": 64, "n_heads": 4, "dropout": 0.1}
# A model, its recipe and epochs, and how many of 200 planted clips occlusion has to find.
MODELS = {
    "clip by clip": (ClipByClip, Recipe(lr=2e-3, batch=32), 30, 160),
    "MLAVL": (lambda: MLAVL(TEXTS, visual_dim=64, audio_dim=64, **SIZE), Recipe(lr=1e-3, batch=16), 9, 140),
    "GDLT": (lambda: GDLT(in_dim=64, **SIZE), Recipe(lr=1e-3, batch=16), 14, 130),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_occlusion_finds_the_clip_whose_execution_was_planted_bad(tmp_path, name):
    """One clip of a test video gets the worst execution there is; nothing else about the video changes.

    PCS is the target, because the simulator makes it of the executions alone; TES weighs them by base values, and a
    transition, which has no value, lowers it more than a difficult element that is done badly.
    """
    widths, seed = {"visual": 64, "audio": 64}, 0
    made = simulate(TEXTS, train=2400, test=200, length=(14, 20), widths=widths, seed=seed)
    directions = (text_directions(TEXTS.visual, "visual"), text_directions(TEXTS.audio, "audio"))
    world = draw_world(*directions, widths, False, np.random.default_rng(seed))
    execution = world.content["visual"][1]
    build, recipe, epochs, enough = MODELS[name]
    torch.manual_seed(0)
    fit(build(), made.dataset("PCS", clips=20), recipe, Run(epochs=epochs, folder=tmp_path), keep_model=True)
    trained = load_trained(tmp_path, build=build)
    draws, found = np.random.default_rng(1), {"occlusion": 0, "gradient times input": 0}
    for video in range(2400, 2600):
        action, q = made.action[video], made.q[video]
        clip = int(draws.choice(np.flatnonzero(action >= 0)))
        features = {key: part.video(video).clone() for key, part in made.features.items()}
        features["visual"][clip] -= torch.from_numpy(q[clip] * execution[action[clip]]).float()
        score = trained.score(features, explain=list(found))[0]
        for method, values in score.contributions.items():
            found[method] += int(np.argsort(values).tolist().index(clip) < 3)
    print(name, {method: f"{count / 200:.1%}" for method, count in found.items()})
    assert found["occlusion"] >= enough


@pytest.fixture(scope="module")
def programmes():
    """Real programmes and real TES; a clip is an executed element, its feature the words of it."""
    words, (train, test) = ElementTexts.load(), train_and_test(read_performances())
    features = ClipFeatures.stack([words.clips(each).numpy() for each in (*train, *test)])
    examples = [[Example(each.id, each.label("TES"), each.id) for each in split] for split in (train, test)]
    dataset = assemble(
        "ISU",
        "TES",
        scale=SCALES["TES"],
        clips=14,
        train=examples[0],
        test=examples[1],
        features={"visual": features},
    )
    return dataset, [each.competition for each in test]


def test_intervals_of_real_programmes_hold_what_they_claim(programmes, tmp_path):
    dataset, competitions = programmes
    torch.manual_seed(0)
    model = GDLT(in_dim=384, dim=32, n_heads=2)
    fit(model, dataset, Recipe(lr=1e-3, batch=16), Run(epochs=3, folder=tmp_path), keep_model=True)
    trained = load_trained(tmp_path)
    for level in (0.8, 0.9):
        interval = trained.score(dataset.test, explain=(), level=level).interval
        print(interval)
        assert interval.videos == 335
        assert interval.coverage == pytest.approx(level, abs=0.03)
    # Harder, and printed alone: calibrated on the two earlier of the test competitions, measured on the two later.
    own, later = trained.own_predictions, np.isin(competitions, TEST_COMPETITIONS[2:])
    for level in (0.8, 0.9):
        covered = own.residuals[later] <= half_width(own.residuals[~later], level)
        print(f"{level:.0%} of {(~later).sum()} videos of earlier competitions: {covered.mean():.1%} of {later.sum()}")
