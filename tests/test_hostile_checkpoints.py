"""A checkpoint that is damaged, foreign or forged: one sentence that says which file and what to do."""

import os
import pickle

import pytest
import torch

from mag2 import MLAVL, TextFeatures
from mag2.data import simulate
from mag2.training import Recipe, Run, fit

RECIPE = Recipe(lr=1e-3, batch=8)


@pytest.fixture(scope="module")
def dataset():
    texts = TextFeatures.for_sport("figure_skating")
    data = simulate(texts, train=10, test=4, length=(4, 6), widths={"visual": 8, "audio": 8})
    return data.dataset("TES", clips=4)


def model(dim=8):
    torch.manual_seed(0)
    return MLAVL(TextFeatures.for_sport("figure_skating"), visual_dim=8, audio_dim=8, dim=dim, n_heads=2)


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    fit(model(), dataset, RECIPE, Run(epochs=2, folder=folder))
    return (folder / "checkpoint.pt").read_bytes()


def changed(**parts):
    def change(path):
        content = torch.load(path, weights_only=True)
        for name, value in parts.items():
            content[name] = value(content[name]) if callable(value) else value
        torch.save(content, path)

    return change


def without(name):
    def change(path):
        content = torch.load(path, weights_only=True)
        del content[name]
        torch.save(content, path)

    return change


def cut(share):
    return lambda path: path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def flip(share):
    def change(path):
        raw = bytearray(path.read_bytes())
        raw[int(share * len(raw))] ^= 255
        path.write_bytes(raw)

    return change


def first_state(change):
    return lambda optimizer: {
        **optimizer,
        "state": {key: change(dict(state)) if key == 0 else state for key, state in optimizer["state"].items()},
    }


DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "cut in the middle": cut(0.5),
    "cut at its end": cut(0.999),
    "another byte among the numbers": flip(0.7),
    "another byte at its begin": flip(0.0),
    "a text": lambda path: path.write_text("epoch 1\n"),
    "a pickle that runs": lambda path: path.write_bytes(pickle.dumps(os.system)),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "a link to nothing": lambda path: (path.unlink(), path.symlink_to("nowhere")),
    "a tensor": lambda path: torch.save(torch.zeros(3), path),
    "a state_dict": lambda path: torch.save(model().state_dict(), path),
    "the form before torch 1.6": lambda path: torch.save(
        torch.load(path, weights_only=True), path, _use_new_zipfile_serialization=False
    ),
    "no history": without("history"),
    "no optimizer": without("optimizer"),
    "a history of texts": changed(history=["one", "two"]),
    "a history of other epochs": changed(history=lambda epochs: [{**each, "epoch": 7} for each in epochs]),
    "a history of nested values": changed(history=lambda epochs: [{**each, "loss": [1]} for each in epochs]),
    "an identity that is a text": changed(identity="mine"),
    "weights of another model": changed(model=lambda _: model(16).state_dict()),
    "weights that are missing": changed(model=lambda weights: dict(list(weights.items())[1:])),
    "weights that are texts": changed(model=lambda weights: dict.fromkeys(weights, "one")),
    "a rate that is a text": changed(schedule=lambda state: {**state, "base_lrs": ["fast"]}),
    "a method in the schedule": changed(schedule=lambda state: {**state, "last_epoch": "now"}),
    "an optimizer without groups": changed(optimizer={"state": {}}),
    "another number of groups": changed(optimizer=lambda state: {**state, "param_groups": []}),
    "betas that are texts": changed(
        optimizer=lambda state: {**state, "param_groups": [{**g, "lr": "fast"} for g in state["param_groups"]]}
    ),
    "a state that is missing": changed(optimizer=first_state(lambda state: {})),
    "a state of another shape": changed(optimizer=first_state(lambda state: {key: torch.zeros(3, 7) for key in state})),
    "states that are no dicts": changed(optimizer=first_state(lambda state: [1])),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_checkpoint_is_one_sentence_with_what_to_do(dataset, trained, tmp_path, name):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(trained)
    DAMAGE[name](path)
    with pytest.raises(ValueError, match=r"^[ -~]+$") as caught:
        fit(model(), dataset, RECIPE, Run(epochs=2, folder=tmp_path))
    sentence = str(caught.value)
    assert sentence.startswith(str(path))
    assert "delete it to train from the start, or give another folder" in sentence
    assert "weights_only" not in sentence
    assert len(sentence) < 400


def test_the_undamaged_one_goes_on(dataset, trained, tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(trained)
    assert len(fit(model(), dataset, RECIPE, Run(epochs=2, folder=tmp_path)).epochs) == 2


def test_a_checkpoint_of_other_settings_says_so_and_not_that_it_is_damaged(dataset, trained, tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(trained)
    with pytest.raises(ValueError, match="of another training"):
        fit(model(), dataset, Recipe(lr=1e-4, batch=8), Run(epochs=2, folder=tmp_path))
