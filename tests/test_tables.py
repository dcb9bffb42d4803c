"""Every table: its rows are the paper's, their models differ as it says, and its command takes the data as they lie."""

import csv
import importlib
import json
import os
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from logo import LOGO
from rows import PAPER_TARGETS
from table1 import TABLE1, cost
from table2 import TABLE2
from table3 import TABLE3
from table4 import TABLE4
from table5 import TABLE5
from table6 import TABLE6
from tables import run as run_all
from torch import nn

from mag2.data import DATASETS, SCALES, TARGETS, DatasetSpec, register
from mag2.data.fs1000 import FS1000
from mag2.guidance import ActionGraphGuidance
from mag2.published import table
from mag2.saving.atomic_io import alone_in
from mag2.texts import CONTROLS, TextFeatures
from mag2.training import command, dataset_providers, text_cache
from mag2.training.cells import Cell, Outcome
from mag2.training.dataset_providers import EXTRACTOR_WIDTHS, FolderProvider, simulation_provider
from mag2.training.report import PROTOCOLS, table_page
from mag2.training.tables import Heading, ModelInputs, published
from mag2.training.target import Target
from mag2.vocabulary import ACTIONS
from tests.few import few_performances

TABLES = (TABLE1, TABLE2, TABLE3, TABLE4, TABLE5, TABLE6, LOGO)
TINY = {"train": 24, "test": 12, "length": (6, 10), "clips": 8}
SPORTS = {"FS1000": "figure_skating", "LOGO": "artistic_swimming"}
WIDTHS = {"visual": 24, "audio": 20, "flow": 16}


def row_of(table, key):
    return next(row for row in table.rows if row.heading.key == key)


def built(table, key, control=None, **changed):
    """The model of a row, narrow."""
    row = row_of(table, key)
    widths = {name: EXTRACTOR_WIDTHS[kind] // 8 for name, kind in row.extractors.items()} or WIDTHS
    torch.manual_seed(0)
    settings = narrow_settings(row, next(iter(table.targets)))
    sport = SPORTS[next(iter(table.targets))]
    return row.build(ModelInputs(sport, widths, True, control, settings=settings, **changed))


def narrow_settings(row, dataset="FS1000"):
    return row.recipe_for(Target(dataset, TARGETS[dataset][0])).narrowed().settings


def output_of(model, widths=WIDTHS, batch=4, clips=6):
    generator = torch.Generator().manual_seed(1)
    features = {name: torch.randn(batch, clips, width, generator=generator) for name, width in widths.items()}
    return model(features["visual"], features.get("audio"), features.get("flow"))


def backward(model, **sizes):
    if hasattr(model, "start_fusion"):
        model.start_fusion()
    model.loss(output_of(model, **sizes), torch.rand(4))["total"].backward()
    return model


def without_gradient(model) -> list[str]:
    return [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]


ALL_ROWS = [(table, row.heading.key) for table in TABLES for row in table.rows]


@pytest.mark.parametrize(("table", "key"), ALL_ROWS, ids=lambda x: getattr(x, "name", x))
def test_every_row_scores_and_trains_all_that_it_says_it_trains(table, key):
    row = row_of(table, key)
    model = built(table, key)
    widths = {name: EXTRACTOR_WIDTHS[kind] // 8 for name, kind in row.extractors.items()} or WIDTHS
    backward(model, widths=widths)
    missing = without_gradient(model)
    # PAMFN's own branch heads learned in the stage before.
    assert [name for name in missing if not name.startswith("branches.")] == []
    score = output_of(model.eval(), widths=widths)["score"]
    assert score.shape == (4,)
    assert ((score >= 0) & (score <= 1)).all()


# ---- the rows are the paper's


@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_tables_1_2_3_5_print_fs1000_and_the_average_of_rg(number):
    ours = {1: TABLE1, 2: TABLE2, 3: TABLE3, 5: TABLE5}[number]
    printed = [row for row in ours.rows if row.heading.published]
    assert [row.heading.name for row in ours.rows if row not in printed] == (
        ["Action Graph residual (ours, not the paper's)"] if number == 1 else []
    )
    assert ours.targets == PAPER_TARGETS
    for row, theirs in zip(printed, table(number), strict=True):
        assert row.heading.published == {
            Target("FS1000", "TES"): {"spearman": float(theirs["sp_TES"]), "mse": float(theirs["mse_TES"])},
            Target("FS1000", "PCS"): {"spearman": float(theirs["sp_PCS"]), "mse": float(theirs["mse_PCS"])},
            Target("RG", "average"): {"spearman": float(theirs["sp_RG_avg"]), "mse": float(theirs["mse_RG_avg"])},
        }


def test_table_6_prints_seven_targets_and_their_average():
    for row, theirs in zip(TABLE6.rows, table(6), strict=True):
        assert (row.heading.method, row.heading.variant) == (theirs["method"], theirs["features"])
        assert set(row.heading.published) == {Target("FS1000", target) for target in (*TARGETS["FS1000"], "average")}
        assert row.heading.published[Target("FS1000", "average")]["mse"] == float(theirs["mse_avg"])


def test_what_the_paper_does_not_print_is_refused():
    with pytest.raises(ValueError, match="table 1 has 0 rows"):
        published(1, method="GAT")


# ---- the models differ as the tables say


def test_table_1_differs_in_the_guides_alone():
    models = {row.heading.method: built(TABLE1, row.heading.key) for row in TABLE1.rows}
    others = {
        name: {key for key in model.state_dict() if not key.startswith(("guide_visual.", "guide_audio."))}
        for name, model in models.items()
    }
    assert len(set(map(frozenset, others.values()))) == 1
    guides = {name: type(model.guide_visual).__name__ for name, model in models.items()}
    assert guides == {
        "MLP": "MLPGuidance",
        "Shared-Transformer": "TransformerGuidance",
        "Dual-Transformer": "TransformerGuidance",
        "Action Graph": "ActionGraphGuidance",
    }
    assert models["Shared-Transformer"].guide_audio is None
    assert models["Dual-Transformer"].guide_audio is not models["Dual-Transformer"].guide_visual


def test_the_costs_of_table_1_are_counted_not_written():
    """The graph at paper size by hand: two modalities, two SAGE layers, d 256 -> 128 -> 256 with biases."""
    parameters, operations = cost("graph")
    assert parameters == 2 * (4 * 256 * 128 + 128 + 256)
    # Clips through both layers, texts through the first, one mean a layer: two operations an entry.
    by_hand = 2 * 2 * (95 * 256 * 128 * 2 + 42 * 256 * 128 * 2 + 2 * 256 * 128)
    assert operations == pytest.approx(by_hand, rel=0.05)
    shared, dual = cost("shared_transformer"), cost("dual_transformer")
    # Query and output maps at 95 clips, key and value maps at 137 nodes, two products of attention, feed-forward 3d.
    attention = 2 * 95 * 256**2 + 2 * 137 * 256**2 + 2 * 95 * 137 * 256
    assert dual[1] == 2 * 2 * (attention + 2 * 95 * 256 * 3 * 256)
    assert dual[0] == 2 * shared[0]
    assert dual[1] == shared[1], "the shared one runs twice as well"
    assert "1.20 M, 0.59 G" in TABLE1.facts()
    assert f"{dual[0] / 1e6:.2f} M" in TABLE1.facts()


@pytest.mark.parametrize("n_grades", [3, 4, 5, 6, 7, 8])
def test_table_2_differs_in_the_number_of_grades(n_grades):
    model = built(TABLE2, str(n_grades))
    output = output_of(model)
    assert output["grades_visual"].shape[1] == n_grades
    assert output["grades_audio_visual"].shape[1] == 2 * n_grades
    assert model.texts.shape[0] == 2 * 42 + 3 * n_grades


def test_table_3_differs_in_the_fusion_alone():
    models = {row.heading.key: built(TABLE3, row.heading.key) for row in TABLE3.rows}
    assert [type(models[key].fusion).__name__ for key in "abcd"] == [
        "DecoderFusion",
        "DualDecoderFusion",
        "SharedCrossAttentionFusion",
        "AudioVisualFusion",
    ]
    others = {frozenset(k for k in model.state_dict() if not k.startswith("fusion.")) for model in models.values()}
    assert len(others) == 1


def learning(model) -> dict[str, int]:
    return {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}


def graphs(model) -> list[ActionGraphGuidance]:
    return [part for part in model.modules() if isinstance(part, ActionGraphGuidance)]


@pytest.mark.parametrize(
    ("table", "keys", "given_up", "n_graphs"),
    [
        (TABLE4, ("1", "2", "3", "3b"), "prototype", 1),
        (TABLE4, ("4", "5", "6", "6b"), "query_embed", 1),
        (TABLE4, ("7", "8", "9", "9b"), None, 3),
        (LOGO, ("1", "2", "3"), "prototype", 1),
        (LOGO, ("4", "5", "6"), "prototype", 1),
        (LOGO, ("7", "8", "9"), "query_embed", 1),
    ],
)
def test_texts_take_the_place_of_queries_and_mag2_joins(table, keys, given_up, n_graphs):
    """PAMFN has no queries: its texts give a second opinion beside what it has."""
    models = [built(table, key) for key in keys]
    plain, texts, mag2 = map(learning, models[:3])
    gone = {name for name in plain if name not in texts}
    assert {name.split(".")[0] for name in gone} == ({given_up} if given_up else set())
    assert set(plain) < set(mag2), "guidance leaves what there is"
    assert any("project" in name for name in set(texts) - set(plain)), "texts come with their projection"
    assert [len(graphs(model)) for model in models[:3]] == [0, 0, n_graphs]
    if len(models) == 4:
        assert len(graphs(models[3])) == n_graphs
        both = sum(learning(models[3]).values())
        assert both == sum(texts.values()) + sum(mag2.values()) - sum(plain.values())


def test_table_4_learnable_vectors_take_the_place_of_grade_texts():
    prompted, learned = built(TABLE4, "10"), built(TABLE4, "11")
    assert prompted.grading.queries is None
    assert learned.grading.queries.requires_grad
    assert not learned.grading.use_pe
    assert built(TABLE4, "12").grading.use_pe


@pytest.mark.parametrize("key", ["1", "2", "3", "4", "5", "6"])
def test_table_5_changes_the_words_of_one_side(key):
    template = row_of(TABLE5, key).heading.method
    default, model = TextFeatures.for_sport("figure_skating"), built(TABLE5, key)
    visual, audio, grades = model.texts.split([42, 42, 18])
    assert torch.equal(grades, torch.cat([default.audio_visual_grades, default.grades]))
    same_visual, same_audio = torch.equal(visual, default.visual), torch.equal(audio, default.audio)
    assert (same_visual, same_audio) == {
        "a video of": (True, True),
        "a music suitable for": (True, True),
    }.get(template, (int(key) > 3, int(key) <= 3))
    side = 42 * (int(key) > 3)
    assert all(prompt.startswith(template) for prompt in model.provenance.prompts[side : side + 42])


def test_table_5_a_text_encoder_trains_whole():
    model = backward(built(TABLE5, "7"))
    tower = dict(model.live_texts.named_parameters())
    assert any("transformer" in name for name in tower)
    assert any("token_embedding" in name for name in tower)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in tower.values())


def test_table_5_learned_prompts_train_their_context_and_no_tower():
    model = backward(built(TABLE5, "8"))
    assert [name for name, _ in model.live_texts.named_parameters()] == ["context"]
    assert model.live_texts.context.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in model.live_texts.tower.parameters())
    before = [p.clone() for p in model.live_texts.tower.parameters()]
    torch.optim.Adam(model.parameters()).step()
    assert all(torch.equal(a, b) for a, b in zip(before, model.live_texts.tower.parameters(), strict=True))


@pytest.mark.parametrize("row", TABLE6.rows, ids=lambda row: row.heading.key)
def test_table_6_reads_every_feature_that_its_row_names(row):
    """Widths of our own, no two alike, and another of any modality changes the score."""
    kinds = {"TF+AST": ("TF", "AST"), "C3D+VGGish": ("C3D", "VGGish")}
    named = next(value for name, value in kinds.items() if row.heading.variant.startswith(name))
    assert tuple(row.extractors.values())[:2] == named
    assert set(row.needs) == set(row.extractors)
    widths = dict(zip(("visual", "audio", "flow"), (22, 18, 14), strict=True))
    torch.manual_seed(0)
    own = {name: widths[name] for name in row.extractors}
    model = row.build(ModelInputs("figure_skating", own, True, settings=narrow_settings(row))).double()
    generator = torch.Generator().manual_seed(1)

    def drawn(name):
        return torch.randn(4, 6, widths[name], generator=generator, dtype=torch.float64)

    features = {name: drawn(name) for name in row.extractors}
    model.train()(*features.values())  # statistics, so that BatchNorm is not the identity
    score = model.eval()(*features.values())["score"]
    for name in features:
        other = model(*(features | {name: 3 * drawn(name)}).values())["score"]
        assert (other - score).abs().max() > 0, f"{name} is read"


def test_table_6_bert_and_clip_are_two_text_encoders():
    bert, clip = built(TABLE6, "8"), built(TABLE6, "9")
    assert "MiniLM" in bert.provenance.source
    assert clip.provenance.source == "random:0"
    assert bert.texts.shape[1] != clip.texts.shape[1]
    assert built(TABLE6, "9", encoder="random:3").provenance.source == "random:3"


def test_logo_hears_the_63_terms_of_artistic_swimming_and_sees_video_alone():
    for key in ("3", "6", "9"):
        model = built(LOGO, key)
        guides = [part for part in model.modules() if isinstance(part, ActionGraphGuidance)]
        assert [len(guide.texts) for guide in guides] == [len(ACTIONS["artistic_swimming"])] == [63]
        assert output_of(model, widths={"visual": 24})["score"].shape == (4,)
    assert LOGO.metrics == ("spearman", "rl2")


# ---- controls


def test_every_row_with_a_graph_has_a_row_for_each_control():
    for table_ in TABLES:
        for row in table_.rows:
            graphs = [
                part for part in built(table_, row.heading.key).modules() if isinstance(part, ActionGraphGuidance)
            ]
            assert bool(graphs) == row.guided, (table_.name, row.heading.key)
            assert [r.control for r in row.controls()] == (list(CONTROLS) if graphs else [])
            assert all(not r.heading.published for r in row.controls())


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("key", ["3", "6", "9", "10"])
def test_a_control_reaches_every_graph_of_its_row(key, control):
    model = built(TABLE4, key, control=control)
    graphs = [part for part in model.modules() if isinstance(part, ActionGraphGuidance)]
    assert {guide.control for guide in graphs} == {control}


@pytest.mark.parametrize("key", ["3", "6", "9", "10"])
def test_a_weighted_row_is_its_row_with_edges_from_outside(key):
    row = row_of(TABLE4, key)
    (weighted,) = row.weighted()
    assert set(weighted.needs) == {*row.needs, "vision_language"}
    assert not weighted.heading.published
    torch.manual_seed(0)
    model = weighted.build(ModelInputs("figure_skating", WIDTHS | {"vision_language": 384}, True)).double()
    visual, audio, flow = (torch.randn(4, 6, WIDTHS[name]).double() for name in ("visual", "audio", "flow"))
    named = TextFeatures.for_sport("figure_skating").visual.double()

    def score(rows):
        # In training no score is cut to what labels can be; the same seed drops the same units.
        torch.manual_seed(0)
        return model.train()(visual, audio, flow, vision_language=rows.expand(4, 6, 384))["score"]

    assert torch.equal(score(named[:6]), score(named[:6]))
    assert (score(named[:6]) - score(named[6:12])).abs().max() > 1e-6, "what a clip resembles changes its score"
    assert not row_of(TABLE4, "1").weighted()


# ---- the command


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a table's command in this process on a tiny simulation: (exit status, stdout, stderr)."""
    few_performances(monkeypatch, **TINY)

    def call(table, *arguments):
        common = ["--epochs", "1", "--workers", "1", "--device", "cpu"]
        try:
            given = [str(a) for a in (*common, *arguments)]
            status = table(given) if callable(table) else command.main(table, given)
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return call


def results(folder) -> list[dict]:
    return list(csv.DictReader((folder / "results.csv").open()))


@pytest.fixture
def released(tmp_path, monkeypatch):
    """Folders of released files without the simulator's mark: what a user of the datasets sees."""
    few_performances(monkeypatch, **TINY)
    for name in ("FS1000", "RG", "LOGO", "Fis-V"):
        simulation_provider(name).simulation().write(tmp_path / name)
        (tmp_path / name / "SIMULATED.txt").unlink()
    return tmp_path


def test_a_table_over_two_datasets_averages_rg_over_its_apparatuses(run, tmp_path):
    status, out, _ = run(TABLE1, "--rows", "1", "--out", tmp_path)
    assert status == 0
    assert "SIMULATED data, not FS1000 and RG itself" in out
    assert "published" not in out
    rows = [row for row in results(tmp_path) if row["protocol"] == "last_epoch"]
    assert [(row["dataset"], row["target"]) for row in rows] == [
        ("FS1000", "TES"),
        ("FS1000", "PCS"),
        *(("RG", target) for target in TARGETS["RG"]),
    ]
    mean = sum(float(row["mse"]) for row in rows if row["dataset"] == "RG") / 4
    shown = next(line for line in out.splitlines() if line.startswith("| 1 | MLP") and f"{mean:.2f} |" in line)
    assert shown.endswith(f"| {mean:.2f} |")


def test_measured_stands_beside_published_for_each_dataset_that_is_there(run, released):
    both = ("--data", f"FS1000={released / 'FS1000'}", f"RG={released / 'RG'}", "--clips", "8", "--size", "small")
    status, out, _ = run(TABLE3, "--rows", "d", *both, "--out", released / "out")
    assert status == 0
    assert out.splitlines()[0] == "# Table 3: FS1000 and RG"
    assert "(0.917, " in out
    assert "(0.849, " in out
    assert "(4.47, " in out
    status, out, _ = run(TABLE3, "--rows", "d", *both[:2], *both[3:], "--out", released / "less")
    assert status == 0
    assert "RG" not in out
    some = ("--targets", "TES", "Ball", "Clubs")
    status, out, _ = run(TABLE3, "--rows", "d", *both, *some, "--out", released / "some")
    assert status == 0
    assert "0.849" not in out, "an average over two apparatuses is not the paper's"


def test_any_table_runs_on_another_dataset(run, released):
    data = ("--data", f"Fis-V={released / 'Fis-V'}", "--clips", "8", "--size", "small", "--rows", "10")
    status, out, _ = run(TABLE4, *data, "--out", released / "out")
    assert status == 0
    assert out.splitlines()[0] == "# Table 4: Fis-V"
    assert {(row["dataset"], row["target"]) for row in results(released / "out")} == {
        ("Fis-V", "TES"),
        ("Fis-V", "PCS"),
    }
    assert "(0." not in out, "nothing is published of Fis-V in that table"


@pytest.fixture
def unregistered():
    """Forget the dataset that a test registers."""
    yield
    for known in (SCALES, TARGETS, DATASETS):
        known.pop("Halfpipe", None)


def test_a_dataset_is_one_file(run, tmp_path, unregistered):
    """What the file has: its scales, its files, and how it is simulated. One call makes it known."""

    class Halfpipe(FS1000):
        name = "Halfpipe"
        scales: ClassVar = {"TES": 130.0}

    register(Halfpipe())

    simulation_provider("Halfpipe", **TINY).simulation().write(tmp_path / "data")
    given = ("--data", f"Halfpipe={tmp_path / 'data'}", "--clips", "8", "--size", "small", "--rows", "10")
    status, out, err = run(TABLE4, *given, "--out", tmp_path / "out")
    assert status == 0, err
    assert out.splitlines()[0] == "# Table 4: SIMULATED data, not Halfpipe itself"
    assert {(row["dataset"], row["target"]) for row in results(tmp_path / "out")} == {("Halfpipe", "TES")}
    status, _, _ = run(TABLE4, "--datasets", "Halfpipe", "--rows", "10", "--out", tmp_path / "memory")
    assert status == 0
    assert [r["mse"] for r in results(tmp_path / "memory")] == [r["mse"] for r in results(tmp_path / "out")]


HALFPIPE = """
import os

from mag2.data import DatasetSpec, register
from mag2.data.labels import Example, read_rows, scaled


class Halfpipe(DatasetSpec):
    name, sport = "Halfpipe", "figure_skating"
    scales = {"style": 10.0, "height": 7.0}
    clips = 8
    label_files = {"train": "train.txt", "test": "test.txt"}
    features = {"visual": "clips"}

    def read_labels(self, files, target):
        with (files["train"].parent / "reads.txt").open("a") as log:
            log.write(f"{os.getpid()} {target}\\n")
        return tuple(self.examples(files[split], target) for split in ("train", "test"))

    def examples(self, path, target):
        examples = []
        for row in read_rows(path):
            score = row.number(1 + self.targets.index(target), target)
            label = scaled(score, self.scales[target], meaning=target, where=row.where)
            examples.append(Example(row.fields[0], label, row.where))
        return examples


register(Halfpipe())
"""


@pytest.fixture
def halfpipe(tmp_path, monkeypatch, unregistered):
    """A dataset of a user's own that only says how it is read, imported, and a folder of it."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "halfpipe.py").write_text(HALFPIPE)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    monkeypatch.delitem(sys.modules, "halfpipe", raising=False)
    importlib.import_module("halfpipe")
    folder = tmp_path / "data"
    (folder / "clips").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 6)):
        rows = [f"{split}{i} {generator.uniform(0, 10):.2f} {generator.uniform(0, 7):.2f}" for i in range(count)]
        (folder / f"{split}.txt").write_text("\n".join(rows))
        for i in range(count):
            np.save(folder / "clips" / f"{split}{i}.npy", generator.standard_normal((9, 2, 24), dtype=np.float32))
    return folder


def test_a_dataset_that_is_only_read_needs_its_labels_alone(run, halfpipe, tmp_path):
    given = ("--data", f"Halfpipe={halfpipe}", "--size", "small", "--rows", "1")
    status, out, err = run(TABLE4, *given, "--out", tmp_path / "out")
    assert status == 0, err
    assert out.splitlines()[0] == "# Table 4: Halfpipe"
    assert {row["target"] for row in results(tmp_path / "out")} == {"style", "height"}
    status, _, err = run(TABLE4, "--datasets", "Halfpipe", "--rows", "1", "--out", tmp_path / "none")
    assert status == 2
    assert "Halfpipe cannot be simulated" in err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_dataset_is_read_once_a_process(run, halfpipe, tmp_path, workers):
    """Eight cells of two targets: the parent reads each target once, and so does every worker that trains on it."""
    given = ("--data", f"Halfpipe={halfpipe}", "--size", "small", "--rows", "1", "3", "--seeds", "0", "1")
    status, _, err = run(TABLE4, *given, "--workers", workers, "--out", tmp_path / "out")
    assert status == 0, err
    assert len(results(tmp_path / "out")) == 3 * 8
    reads = (halfpipe / "reads.txt").read_text().splitlines()
    assert len(reads) == len(set(reads)), "no process reads a target twice"
    assert {read for read in reads if read.startswith(f"{os.getpid()} ")} == {
        f"{os.getpid()} {target}" for target in ("style", "height")
    }
    assert len(reads) == 2 if workers == 1 else 2 < len(reads) <= 2 * 3


def test_a_second_call_in_one_process_sees_what_has_changed(run, halfpipe, tmp_path):
    given = ("--data", f"Halfpipe={halfpipe}", "--size", "small", "--rows", "1", "--targets", "style")
    assert run(TABLE4, *given, "--out", tmp_path / "out")[0] == 0
    path = halfpipe / "test.txt"
    path.write_text("\n".join(f"test{i} {i}.50 1.00" for i in range(6)))
    status, _, err = run(TABLE4, *given, "--out", tmp_path / "out")
    assert status == 2
    assert "holds results of other data, crops or texts (videos of Halfpipe/style)" in err


def test_an_encoder_is_loaded_once_and_a_changed_file_again(tmp_path, monkeypatch):
    loaded, load = [], text_cache.load_text_encoder
    monkeypatch.setattr(text_cache, "load_text_encoder", lambda name: (loaded.append(name), load(name))[1])
    first, second = (
        text_cache.load_texts("figure_skating", "random:77", visual_template=template)
        for template in ("a video of", "a photo of")
    )
    assert loaded == ["random:77"]
    assert first is text_cache.load_texts("figure_skating", "random:77", visual_template="a video of")
    expected = TextFeatures.encode("figure_skating", "random:77", visual_template="a photo of")
    assert torch.equal(second.rows, expected.rows)
    assert (second.source, second.prompts) == (expected.source, expected.prompts)
    path = tmp_path / "texts.npy"
    rows = TextFeatures.for_sport("figure_skating").rows
    for value in (rows, 2 * rows):
        torch.save(value, path)
        os.utime(path, ns=(0, int(value.sum() * 1000) % 10**6))
        assert torch.equal(text_cache.load_texts("figure_skating", str(path)).rows, value)


def test_a_target_is_written_as_folders_and_read_back():
    for target, text in ((Target("FS1000", "TES"), "FS1000/TES"), (Target("", "TES"), "TES")):
        assert str(target) == f"{target}" == text
        assert Target.parse(text) == target
    assert Cell("3b", Target("RG", "Ball"), 7).folder(Path("out")) == Path("out/cells/row-3b/RG/Ball/seed-7")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (
            type("Half", (DatasetSpec,), {"name": "Halfpipe", "read_labels": None})(),
            "Half has no sport; see DatasetSpec",
        ),
        (FS1000, "wants an instance of a subclass of DatasetSpec, got the class FS1000"),
        ("FS1000", "got a str"),
        (type("Other", (FS1000,), {})(), "there is another dataset FS1000; give this one another name"),
        (type("Bare", (FS1000,), {"name": "Halfpipe", "scales": {}})(), "Halfpipe wants scales of one target or more"),
        (type("Zero", (FS1000,), {"name": "Halfpipe", "scales": {"TES": 0.0}})(), "all above zero, got {'TES': 0.0}"),
    ],
)
def test_what_is_no_dataset_is_not_registered(wrong, sentence):
    with pytest.raises(ValueError, match=f"^[^\n]*{sentence}[^\n]*$"):
        register(wrong)
    assert DATASETS["FS1000"] == FS1000()
    assert "Halfpipe" not in DATASETS


def test_logo_reports_r_l2_of_the_files_as_of_memory(run, released):
    status, out, _ = run(LOGO, "--rows", "3", "--out", released / "memory")
    assert status == 0
    assert "R-l2" in out
    assert "## MSE" not in out
    arguments = ("--data", released / "LOGO", "--clips", "8", "--size", "small")
    status, _, _ = run(LOGO, "--rows", "3", *arguments, "--out", released / "files")
    assert status == 0
    assert [row["rl2"] for row in results(released / "files")] == [row["rl2"] for row in results(released / "memory")]


def test_real_labels_of_fisv_say_that_the_features_are_simulated(run, released):
    labels = ("--datasets", "Fis-V", "--labels", released / "Fis-V", "--targets", "PCS", "--rows", "1")
    status, out, _ = run(TABLE4, *labels, "--out", released / "out")
    assert status == 0
    assert "SIMULATED" in out.splitlines()[0]
    assert "Simulated features, under the real scores of Fis-V." in out
    assert {row["data"] for row in results(released / "out")} == {"Fis-V scores, simulated features"}


def test_controls_stand_below_their_row_and_are_never_published(run, released):
    arguments = ("--data", released / "FS1000", "--clips", "8", "--size", "small", "--targets", "TES")
    status, out, _ = run(TABLE4, "--rows", "3", "--controls", *arguments, "--out", released / "out")
    assert status == 0
    lines = [line for line in out.splitlines() if line.startswith("| 3")]
    assert len(lines) == 5 * (1 + len(CONTROLS))
    assert all(("(0." in line) == line.startswith("| 3 |") for line in lines[: 1 + len(CONTROLS)])
    status, out, _ = run(TABLE4, "--rows", "3", *arguments, "--out", released / "out")
    assert "(no edges)" in out, "the page keeps what earlier runs trained"


def test_weighted_rows_take_the_features_of_the_folder_and_those_of_memory(run, tmp_path, monkeypatch):
    few_performances(monkeypatch, **TINY)
    arguments = ("--rows", "3", "--targets", "TES", "--weighted", "60")
    status, out, _ = run(TABLE4, *arguments, "--datasets", "FS1000", "--out", tmp_path / "memory")
    assert status == 0
    assert "| 3-weighted | CoFInAl +MAG2 (weighted edges) |" in out
    simulation_provider("FS1000", top1=0.6).simulation().write(tmp_path / "data")
    data = ("--data", tmp_path / "data", "--clips", "8", "--size", "small")
    status, _, _ = run(TABLE4, *arguments, *data, "--out", tmp_path / "disk")
    assert status == 0
    assert [r["mse"] for r in results(tmp_path / "disk")] == [r["mse"] for r in results(tmp_path / "memory")]


def test_features_that_are_added_later_leave_what_is_trained_and_changed_ones_do_not(run, tmp_path, monkeypatch):
    few_performances(monkeypatch, **TINY)
    simulation_provider("FS1000", top1=0.6).simulation().write(tmp_path / "data")
    aside = (tmp_path / "data" / "vision_language").rename(tmp_path / "aside")
    given = ("--rows", "3", "--targets", "TES", "--data", tmp_path / "data", "--clips", "8", "--size", "small")
    given += ("--out", tmp_path / "out")
    assert run(TABLE4, *given)[0] == 0
    before = results(tmp_path / "out")
    aside.rename(tmp_path / "data" / "vision_language")
    status, _, err = run(TABLE4, *given, "--weighted")
    assert status == 0
    assert "1 of 2 trainings are done already" in err
    assert results(tmp_path / "out")[0] == before[0]
    file = next((tmp_path / "data" / "vision_language").iterdir())
    np.save(file, 2 * np.load(file))
    status, _, err = run(TABLE4, *given, "--weighted")
    assert status == 2
    assert "holds results of other data, crops or texts (vision_language of FS1000/TES)" in err


def test_two_tables_do_not_share_a_folder(run, tmp_path):
    """Their rows have the same numbers: those of one would stand under the names of the other."""
    given = ("--rows", "1", "--datasets", "FS1000", "--targets", "TES", "--out", tmp_path)
    assert run(TABLE1, *given)[0] == 0
    status, _, err = run(TABLE4, *given)
    assert status == 2
    assert "holds results with table table1, this run has table4; give another --out" in err


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_table_has_rows_with_weighted_edges(run, tmp_path, table):
    row = next(row for row in table.rows if row.guided)
    dataset, targets = next(iter(table.targets.items()))
    where = ("--datasets", dataset, "--targets", targets[0], "--rows", row.heading.key)
    status, out, _ = run(table, *where, "--weighted", "50", "--out", tmp_path)
    assert status == 0
    assert "(weighted edges)" in out
    assert "the simulated vision_language features name 50% of the planted actions" in out


def test_weighted_rows_want_texts_of_the_same_space(run, tmp_path):
    given = ("--rows", "3", "--targets", "TES", "--weighted", "--texts", "random:0", "--out", tmp_path / "out")
    status, _, err = run(TABLE4, "--datasets", "FS1000", *given)
    assert status == 2
    assert "vision_language features are 384 wide, the texts of random:0 64; name the encoder" in err
    assert not (tmp_path / "out").exists()


def test_each_dataset_may_have_texts_of_its_own(run, tmp_path):
    rows = {
        name: TextFeatures.for_sport(sport).rows
        for name, sport in (("a", "figure_skating"), ("b", "rhythmic_gymnastics"))
    }
    for name, value in rows.items():
        torch.save(value, tmp_path / f"{name}.npy")
    arguments = ("--rows", "d", "--targets", "TES", "Ball")
    given = (f"FS1000={tmp_path / 'a.npy'}", f"RG={tmp_path / 'b.npy'}")
    assert run(TABLE3, *arguments, "--texts", *given, "--out", tmp_path / "own")[0] == 0
    assert run(TABLE3, *arguments, "--out", tmp_path / "shipped")[0] == 0
    assert [r["mse"] for r in results(tmp_path / "own")] == [r["mse"] for r in results(tmp_path / "shipped")]
    status, _, err = run(TABLE3, *arguments, "--texts", given[0], "RG=random:0", "--out", tmp_path / "own")
    assert status == 2
    assert "holds results of other data, crops or texts (texts of RG)" in err


def test_real_and_simulated_data_do_not_stand_in_one_table(run, released):
    (released / "RG" / "SIMULATED.txt").write_text("")
    data = (
        "--data",
        f"FS1000={released / 'FS1000'}",
        f"RG={released / 'RG'}",
        "--clips",
        "8",
        "--out",
        released / "out",
    )
    status, _, err = run(TABLE3, "--rows", "d", *data)
    assert status == 2
    assert "simulated and real data do not stand in one table" in err


def test_a_mean_of_fewer_seeds_says_so(run, tmp_path):
    arguments = ("--targets", "TES", "--datasets", "FS1000", "--out", tmp_path)
    run(TABLE3, "--rows", "a", "--seeds", "0", "1", *arguments)
    status, out, _ = run(TABLE3, "--rows", "d", *arguments)
    assert status == 0
    lines = [line for line in out.splitlines() if line.startswith(("| a |", "| d |"))]
    assert all(("[n = 1]" in line) == line.startswith("| d |") for line in lines)


def test_weighted_rows_want_features_to_weigh_by(run, released):
    status, _, err = run(TABLE4, "--rows", "3", "--weighted", "--data", released / "FS1000", "--out", released / "out")
    assert status == 2
    assert "row 3-weighted (CoFInAl +MAG2 (weighted edges)) needs vision_language features" in err


def test_features_of_another_kind_lie_beside_the_released_ones(run, released, monkeypatch):
    kinds = {"visual": "C3D", "audio": "VGGish"}
    monkeypatch.setattr(dataset_providers, "NARROWER", 1)
    simulation_provider("FS1000").simulation(kinds).write(released / "other")
    data = released / "FS1000"
    (released / "other" / "video").rename(data / "video_C3D")
    (released / "other" / "audio").rename(data / "audio_VGGish")
    source = FolderProvider(DATASETS["FS1000"], data, 8)
    assert source.dataset("TES", kinds).train.widths == {"visual": 4096, "audio": 128}
    with pytest.raises(ValueError, match="are 128 wide, TF has 768: put TF features into video_TF"):
        source.dataset("TES", {"visual": "TF", "audio": "AST"})
    arguments = ("--data", data, "--clips", "8", "--size", "small", "--targets", "TES")
    status, out, _ = run(TABLE6, "--rows", "6", *arguments, "--out", released / "out")
    assert status == 0
    assert "(0.900, " in out


def test_kinds_of_features_belong_to_a_dataset(run, released):
    status, _, err = run(TABLE6, "--rows", "1", "--data", f"LOGO={released / 'LOGO'}", "--out", released / "out")
    assert status == 2
    assert "LOGO has no audio features: choose other rows" in err
    status, _, err = run(TABLE6, "--rows", "1", "--data", f"RG={released / 'RG'}", "--out", released / "out")
    assert status == 2
    assert "video_TF: put the TF features there" in err


@pytest.mark.parametrize(
    ("table", "arguments", "sentence"),
    [
        (TABLE1, ["--data", "RG=nowhere"], "there is no folder nowhere"),
        (TABLE1, ["--datasets", "Finediving"], "unknown dataset 'Finediving'; there are FS1000, "),
        (TABLE1, ["--data", "a", "FS1000=b"], "FS1000 is given twice, a and b"),
        (TABLE1, ["--data", "RG=a", "--datasets", "FS1000"], "no folder of FS1000; add FS1000=FOLDER to --data"),
        (TABLE1, ["--targets", "Rope"], "unknown target 'Rope'; there are TES, PCS, SS"),
        (TABLE1, ["--labels", "x"], "--labels are Fis-V's real scores; ask for them with --datasets Fis-V"),
        (TABLE1, ["--labels", "x", "--datasets", "Fis-V"], "x"),
        (TABLE1, ["--labels", "x", "--data", "y"], "--labels are for simulated features"),
        (TABLE1, ["--texts", "words"], "unknown text encoder 'words'"),
        (TABLE2, ["--rows", "9"], "unknown row '9'; there are 3, 4, 5, 6, 7, 8"),
        (TABLE4, ["--datasets", "LOGO", "--rows", "10"], "needs audio features, and LOGO here has visual"),
    ],
)
def test_bad_arguments_get_one_sentence_and_leave_nothing(run, tmp_path, table, arguments, sentence):
    status, stdout, err = run(table, *arguments, "--out", tmp_path / "out")
    assert status == 2
    assert sentence in err
    assert err.count("\n") == 1
    assert stdout == ""
    assert not (tmp_path / "out").exists()


def test_features_that_are_not_there_are_named(run, released):
    arguments = ("--data", released / "FS1000", "--out", released / "out")
    status, _, err = run(TABLE6, "--rows", "6", *arguments)
    assert status == 2
    assert "video_C3D: put the C3D features there, or choose other rows" in err


def test_two_runs_at_once_in_one_folder_are_refused(run, tmp_path):
    arguments = ("--rows", "1", "--targets", "TES", "--datasets", "FS1000")
    status, _, _ = run(TABLE1, *arguments, "--out", tmp_path)
    assert status == 0
    before = json.loads((tmp_path / "settings.json").read_text())
    with alone_in(tmp_path):
        status, _, err = run(TABLE1, *arguments, "--out", tmp_path)
    assert status == 2
    assert "another run is at work in" in err
    assert json.loads((tmp_path / "settings.json").read_text()) == before


def test_one_page_has_all_tables(run, tmp_path):
    status, out, _ = run(run_all, "--tables", "3", "logo", "--seeds", "1", "--out", tmp_path)
    assert status == 0
    assert f"Written: {tmp_path / 'tables.md'}" in out
    page = (tmp_path / "tables.md").read_text()
    assert [line for line in page.splitlines() if line.startswith(("# ", "## "))] == [
        "# The tables of the paper",
        "## Table 3: SIMULATED data, not FS1000 and RG itself",
        "## LOGO, visual only: SIMULATED data, not LOGO itself",
    ]
    assert len(list(csv.DictReader((tmp_path / "table3" / "results.csv").open()))) == 3 * 4 * 6


def test_a_table_that_cannot_be_run_stops_no_other(run, released):
    data = ("--data", f"FS1000={released / 'FS1000'}", f"LOGO={released / 'LOGO'}", "--clips", "8", "--size", "small")
    status, _, err = run(run_all, "--tables", "6", "logo", *data, "--out", released / "out")
    assert status == 2
    assert "Traceback" not in err
    page = (released / "out" / "tables.md").read_text()
    assert "## Table 6: not run" in page
    assert "128 wide, TF has 768: put TF features into video_TF, or choose other rows" in page
    assert "## LOGO, visual only: LOGO" in page


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--data", "/path/FS1000"], "--data wants DATASET=FOLDER"),
        (["--data", "FS100=x"], "--data wants DATASET=FOLDER"),
        (["--data", "Fis-V=x"], "none of these tables is of Fis-V; run one alone on it"),
    ],
)
def test_all_tables_refuse_in_one_sentence(run, tmp_path, arguments, sentence):
    status, stdout, err = run(run_all, *arguments, "--out", tmp_path / "out")
    assert (status, stdout) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_average_of_a_page_is_fishers():
    headings = [Heading("1", "model")]
    rhos = dict(zip(TARGETS["RG"], (0.9, 0.5, 0.1, -0.2), strict=True))
    outcomes = [
        Outcome(Cell("1", Target("RG", target), 0), {key: {"spearman": rho} for key in PROTOCOLS})
        for target, rho in rhos.items()
    ]
    page = table_page("RG", [], headings, [Target("RG", target) for target in rhos], outcomes, ("spearman",))
    assert "| 1 | model | 0.900 | 0.500 | 0.100 | -0.200 | 0.446 |" in page, "tanh of the mean atanh, not 0.325"


def test_a_text_file_of_the_authors_is_an_encoder_by_its_path(tmp_path):
    wanted = TextFeatures.for_sport("figure_skating")
    torch.save(wanted.rows, tmp_path / "FS_text_feature.npy")
    path = str(tmp_path / "FS_text_feature.npy")
    assert torch.equal(TextFeatures.load("figure_skating", path).rows, wanted.rows)
    assert TextFeatures.load("figure_skating", path, n_grades=4).n_grades == 4
    with pytest.raises(ValueError, match="has the texts of figure_skating, those of rhythmic_gymnastics are wanted"):
        TextFeatures.load("rhythmic_gymnastics", path)
    with pytest.raises(ValueError, match="has no features of 'a photo of"):
        TextFeatures.load("figure_skating", path, visual_template="a photo of")


def test_models_are_modules_of_their_own():
    """No row hands out a model that another cell has trained."""
    for table_ in TABLES:
        key = table_.rows[0].heading.key
        one, two = built(table_, key), built(table_, key)
        assert isinstance(one, nn.Module)
        shared = {p.data_ptr() for p in one.parameters()} & {p.data_ptr() for p in two.parameters()}
        assert not shared
