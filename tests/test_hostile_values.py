"""Wrong values are said and never taken silently: texts, devices, paths, settings, too little data; Ctrl-C."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mag2 import (
    MLAVL,
    ActionGraphGuidance,
    AudioVisualFusion,
    PromptGuidedGrading,
    SimilarityWeighted,
    TextFeatures,
)
from mag2.alignment import clip_text_similarity
from mag2.baselines import SGN
from mag2.command import main as command
from mag2.data import simulate
from mag2.extraction import extract
from mag2.extraction.command import main as extract_command
from mag2.nn.devices import checked_device
from mag2.texts.projected import ProjectedTexts
from mag2.training import Recipe, Run, fit
from mag2.training.command import main
from tests.models import ONE_OF_EACH, WIDTHS

EXAMPLES = Path(__file__).parents[1] / "examples"
TEXTS = TextFeatures.for_sport("figure_skating")
ROWS = TEXTS.visual[:4].detach().clone().as_subclass(torch.Tensor)

WRONG = {
    "NaN": ROWS * float("nan"),
    "one NaN": ROWS.index_fill(0, torch.tensor([2]), float("nan")),
    "infinity": ROWS / 0,
    "truth values": ROWS > 0,
    "complex numbers": ROWS + 0j,
    "no width": ROWS[:, :0],
    "no rows": ROWS[:0],
    "one axis": ROWS[0],
    "three axes": ROWS[None],
    "an array": ROWS.numpy(),
    "a list": ROWS.tolist(),
    "None": None,
}
TAKERS = {
    "TextFeatures": lambda rows: TextFeatures(rows, TEXTS.audio, TEXTS.grades, TEXTS.audio_visual_grades),
    "ProjectedTexts": lambda rows: ProjectedTexts(rows, 8),
    "SGN": lambda rows: SGN(rows, visual_dim=4, audio_dim=4, dim=8, n_heads=2),
    "SimilarityWeighted": lambda rows: SimilarityWeighted(nn.Linear(2, 2), rows),
    "ActionGraphGuidance": lambda rows: ActionGraphGuidance(8, rows),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("taker", TAKERS)
def test_texts_that_are_no_finite_numbers_are_refused(taker, wrong):
    if (taker, wrong) == ("ActionGraphGuidance", "None"):
        ActionGraphGuidance(8)  # texts are then given with each call
        return
    with pytest.raises(ValueError, match=r"^[ -~]*wants?[ -~]+$"):
        TAKERS[taker](WRONG[wrong])


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_texts_of_every_precision_are_taken(kind):
    TAKERS["ProjectedTexts"](ROWS.to(kind))


FORWARD = {name: (make, inputs) for name, (make, inputs) in ONE_OF_EACH.items()} | {
    "MLAVL": (lambda: MLAVL(TEXTS, visual_dim=6, audio_dim=6, dim=8, n_heads=2), (torch.zeros(2, 3, 6),) * 2),
    "AudioVisualFusion": (lambda: AudioVisualFusion(6, n_heads=2), (torch.zeros(2, 3, 6),) * 2),
    "PromptGuidedGrading": (
        lambda: PromptGuidedGrading(6, n_heads=2, queries="learnable"),
        (torch.zeros(2, 3, 6),) * 2,
    ),
    "ActionGraphGuidance": (lambda: ActionGraphGuidance(6, ROWS), (torch.zeros(2, 3, 6),)),
    "clip_text_similarity": (lambda: clip_text_similarity, (torch.zeros(2, 3, 384), ROWS)),
}


@pytest.mark.parametrize("name", FORWARD)
def test_arrays_and_lists_where_tensors_are_expected_are_refused(name):
    make, inputs = FORWARD[name]
    for change in (lambda clips: clips.numpy(), lambda clips: clips.tolist(), lambda _: "clips"):
        with pytest.raises(ValueError, match=r"^[^\n]*tensor[^\n]*$"):
            make()(*map(change, inputs))


@pytest.mark.parametrize("name", FORWARD)
def test_features_one_wider_than_built_say_the_width_that_was_expected(name):
    make, inputs = FORWARD[name]
    wider = [torch.zeros(*clips.shape[:-1], clips.shape[-1] + 1) for clips in inputs]
    if name in ("clip_text_similarity", "AudioVisualFusion"):
        wider[1] = inputs[1]
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        make()(*wider)
    width = inputs[0].shape[-1]
    assert f"{width}" in str(caught.value)
    assert f"{width + 1}" in str(caught.value)


def dataset(videos, clips, visual=6, audio=5, flow=4):
    widths = {"visual": visual, "audio": audio, "flow": flow}
    return simulate(TEXTS, train=videos, test=2, length=(clips, clips + 1), widths=widths).dataset("TES", clips=clips)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_training_on_one_video_of_one_clip_is_our_sentence_or_works(name):
    try:
        fit(ONE_OF_EACH[name][0](), dataset(1, 1, **WIDTHS), Recipe(batch=4), Run(epochs=1))
    except ValueError as error:
        assert "Expected more than 1 value" not in str(error)  # noqa: PT017 - some models train on it
        assert "\n" not in str(error)  # noqa: PT017


class OwnNorm(nn.Module):
    """A model of the user's own, whose BatchNorm is torch's."""

    def __init__(self):
        super().__init__()
        self.norm, self.head = nn.BatchNorm1d(6), nn.Linear(6, 1)

    def forward(self, visual, audio, flow):
        return {"score": self.head(self.norm(visual.mean(1))).sigmoid()[:, 0]}

    def loss(self, output, label):
        return {"total": (output["score"] - label).square().mean()}


def test_what_batch_norm_says_of_a_model_of_ones_own_is_said_in_our_words():
    with pytest.raises(
        ValueError, match=r"^BatchNorm cannot train on one row, and a batch has 1 video of 3 clips: give"
    ):
        fit(OwnNorm(), dataset(1, 3), Recipe(batch=4), Run(epochs=1))


def test_training_on_one_text_is_our_sentence():
    with pytest.raises(ValueError, match="BatchNorm cannot train on one row: give two or more"):
        ActionGraphGuidance(8, ROWS[:1]).train()(torch.zeros(1, 3, 8))


def test_training_on_wider_features_says_what_was_expected():
    model = MLAVL(TEXTS, visual_dim=6, audio_dim=5, dim=8, n_heads=2)
    with pytest.raises(ValueError, match=r"visual is \(4, 2, 7\).*features 6 wide.*visual_dim=7"):
        fit(model, dataset(4, 2, 7), Recipe(batch=4), Run(epochs=1))


DEVICES = {
    "meta": "computes no numbers",
    "cuda:99": "cannot be used here",
    "rubbish": "there is no such; give cpu",
    "": "there is no such",
    "cpu:x": "there is no such",
    "x" * 10_000: "there is no such",
    "vulkan": "cannot be used here",
}


@pytest.mark.parametrize("device", DEVICES)
def test_a_device_that_computes_nothing_here_is_one_short_sentence(device, tmp_path):
    sentence = DEVICES[device]
    for use in (
        lambda: checked_device(device),
        lambda: fit(OwnNorm(), dataset(4, 2), Recipe(batch=4), Run(epochs=1, device=device)),
        lambda: extract(tmp_path / "a.mp4", tmp_path / "out", visual="s3d:random:0", audio=None, device=device),
        lambda: TextFeatures.encode("figure_skating", "random:0", device=device),
    ):
        with pytest.raises(ValueError, match=sentence) as caught:
            use()
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 250


def test_cuda_without_a_gpu_is_one_sentence():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(ValueError, match=r"^device 'cuda' cannot be used here: [^\n]+$"):
        fit(OwnNorm(), dataset(4, 2), Recipe(batch=4), Run(epochs=1, device="cuda"))


def test_the_folder_of_a_run_may_be_a_text(tmp_path):
    fit(OwnNorm(), dataset(4, 2), Recipe(batch=4), Run(epochs=1, folder=str(tmp_path / "run")))
    assert (tmp_path / "run" / "checkpoint.pt").is_file()


@pytest.mark.parametrize("wrong", [{"epochs": "3"}, {"epochs": 2.5}, {"epochs": True}, {"epochs": 0}, {"seed": "x"}])
def test_settings_of_a_run_that_are_no_whole_numbers_are_refused(wrong):
    with pytest.raises(ValueError, match=r"whole number|at least one epoch"):
        Run(**{"epochs": 1, **wrong})


def status(run, *arguments):
    try:
        return run(*arguments)
    except SystemExit as stop:
        return stop.code


CALLS = [
    ["--out", ""],
    ["--out", " "],
    ["--data", ""],
    ["--data", "FS1000="],
    ["--data", " "],
    ["--labels", ""],
    ["--texts", "RG=shipped"],
    ["--texts", "shipped", "LOGO=random:0"],
    ["--device", "meta"],
    ["--device", "rubbish"],
    ["--rows", "\x1b[2Jrow"],
    ["--datasets", "\x1b[2Jset"],
    ["--epochs", "\u0665"],
    ["--seeds", "1_0"],
    ["--\x1b[2J"],
]


@pytest.mark.parametrize("given", CALLS, ids=repr)
def test_a_wrong_argument_of_a_table_is_one_printable_line(given, capsys, monkeypatch, tmp_path):
    from table4 import TABLE4

    monkeypatch.chdir(tmp_path)
    assert status(main, TABLE4, [*given, "--seeds", "0"] if "--seeds" not in given else given) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert "\x1b" not in printed.err
    assert "usage:" not in printed.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "given", [["a.mp4", "--out", ""], ["", "--out", "x"], ["a\x1b[2J.mp4", "--out", "x"]], ids=repr
)
def test_a_wrong_argument_of_extract_is_one_printable_line(given, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert status(extract_command, [*given, "--visual", "s3d:random:0", "--audio", "none"]) in (1, 2)
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "given", [["score", "", "x"], ["report", ""], ["\x1b[2J"], ["texts", "x", "--out", ""]], ids=repr
)
def test_a_wrong_argument_of_the_command_is_one_printable_line(given, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert status(command, given) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "\x1b" not in printed


def test_tables_say_of_every_table_why_it_is_left_out(capsys, tmp_path, monkeypatch):
    import tables

    monkeypatch.setattr(tables, "main", lambda table, arguments: _pretend(table, arguments))
    data = ["--data", f"LOGO={tmp_path}", "--texts", "LOGO=shipped", "RG=shipped", "--out", str(tmp_path / "out")]
    assert tables.run(data) == 0
    page = (tmp_path / "out" / "tables.md").read_text()
    for number in range(1, 7):
        assert f"Table {number}: not run" in page
    assert page.count("and --data has LOGO") == 6
    assert "LOGO" in capsys.readouterr().err


def test_a_missing_folder_of_one_table_is_no_fault_of_the_others(capsys, tmp_path, monkeypatch):
    import tables

    monkeypatch.setattr(tables, "main", lambda table, arguments: _pretend(table, arguments, lacking="table6"))
    data = ["--data", f"FS1000={tmp_path}", "--out", str(tmp_path / "out")]
    assert tables.run([*data, "--tables", "4", "6"]) == 0
    assert "there is no folder" in (tmp_path / "out" / "tables.md").read_text()
    assert tables.run([*data, "--tables", "6"]) == 2
    capsys.readouterr()


def _pretend(table, arguments, lacking=None):
    """The command of a table that trains nothing."""
    assert "RG=shipped" not in arguments or "RG" in table.targets
    if table.name == lacking:
        print(f"{table.name}.py: error: there is no folder video_C3D: put the C3D features there", file=sys.stderr)
        raise SystemExit(2)
    out = Path(arguments[arguments.index("--out") + 1])
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{table.name}.md").write_text(f"# {table.title}\n")
    return 0


def interrupted(arguments, after):
    """Status and errors of a process that gets Ctrl-C so many seconds after it began."""
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=EXAMPLES)
    time.sleep(after)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    return process.returncode, err


@pytest.mark.parametrize("after", [0.7, 1.5])
@pytest.mark.parametrize(
    "program",
    [["table4.py"], ["-m", "mag2", "train"]],
    ids=lambda words: words[-1],
)
def test_an_interrupt_while_torch_is_imported_ends_without_a_traceback(program, after, tmp_path):
    """Of commands that go on for long: one that is ending by itself dies of the signal, as any program."""
    run = ["--workers", "1", "--out", str(tmp_path / "out")]
    status, err = interrupted([sys.executable, *program, *run], after)
    assert "Traceback" not in err
    assert status in (0, 1, 2, 130)  # others where it was done before
    if status == 130:
        assert "stopped" in err


def test_importing_the_library_leaves_the_handlers_of_a_program_alone():
    code = "import signal, mag2; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert shown.stdout.strip() == "True"


def test_read_arrays_are_not_mistaken_for_tensors():
    with pytest.raises(ValueError, match=r"torch\.from_numpy"):
        clip_text_similarity(np.zeros((1, 2, 384), np.float32), ROWS)
