"""The folder of features: what the loaders read, how a call goes on, what is not mixed, and the command."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av")

from mag2.data import read_fs1000
from mag2.extraction import extract
from mag2.extraction.command import main
from mag2.extraction.manifest import MANIFEST
from tests.videos import flat, tone, write_video


def levels(clips):
    """(B, F, H, W, C) -> (B, F)."""
    return clips[:, :, 3, 3, 0].float()


def loudness(windows):
    """(B, S) -> (B, 8)."""
    return windows.unflatten(1, (8, -1)).abs().mean(2)


def extracted(videos, folder, **options):
    given = {"visual": levels, "audio": loudness, "report": lambda _: None, **options}
    return extract(videos, folder, **given)


@pytest.fixture
def videos(tmp_path):
    """Three videos of 2, 3 and 4 clips."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for number in range(3):
        clips = number + 2
        shown = [flat((7 * frame + number) % 256) for frame in range(32 * clips)]
        write_video(folder / f"v{number}.mkv", shown, sound=tone(1.28 * clips, number, number + 0.5))
    return sorted(folder.iterdir())


def contents(folder):
    """Every file but the manifest, which names versions and times nothing."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.npy"))}


# What the loaders read


def test_the_loader_of_fs1000_reads_what_extract_wrote(tmp_path, videos):
    out = tmp_path / "out"
    results = extracted(videos, out, vision_language="random:0")
    assert [(result.name, result.clips) for result in results] == [("v0", 2), ("v1", 3), ("v2", 4)]
    row = "70.00 40.00 8.0 8.0 8.0 8.0 8.0 1.0\n"
    (out / "train_fs1000_new.txt").write_text(f"v0 {row}v2 {row}")
    (out / "val_fs1000_new.txt").write_text(f"v1 {row}")
    dataset = read_fs1000(out, "TES", clips=4)
    batch = dataset.train.batch([0, 1])
    assert dataset.train.widths == {"visual": 32, "audio": 8, "vision_language": 64}
    np.testing.assert_array_equal(batch.visual[1], np.load(out / "video" / "v2.npy"))
    np.testing.assert_array_equal(batch.audio[1], np.load(out / "audio" / "v2.npy"))
    assert not dataset.simulated


def test_the_manifest_says_how_features_were_made(tmp_path, videos):
    extracted(videos[0], tmp_path / "out", vision_language="random:0", fps=12.5, frames=16)
    made = json.loads((tmp_path / "out" / MANIFEST).read_text())
    assert made["clips"] == {"frames": 16, "fps": "25/2", "last": "drop", "dtype": "float32"}
    assert made["features"]["video"]["encoder"] == "levels"
    assert made["features"]["vision_language"]["source"] == "random:0"
    assert len(made["features"]["vision_language"]["weights"]) == 32
    assert made["videos"]["v0"]["clips"] == 2
    assert {"torch", "av", "numpy"} <= made["versions"].keys()
    assert str(tmp_path) not in json.dumps(made)


# Going on


def test_a_finished_video_is_not_made_again(tmp_path, videos):
    calls = []

    def counted(clips):
        calls.append(len(clips))
        return levels(clips)

    extracted(videos[:2], tmp_path / "out", visual=counted)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.npy")}
    assert sum(calls) == 5
    results = extracted(videos, tmp_path / "out", visual=counted)
    assert sum(calls) == 9
    assert [(result.clips, len(result.made)) for result in results] == [(2, 0), (3, 0), (4, 2)]
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())


def test_a_file_that_was_lost_or_spoilt_is_made_again(tmp_path, videos):
    extracted(videos, tmp_path / "out")
    whole = contents(tmp_path / "out")
    (tmp_path / "out" / "audio" / "v1.npy").unlink()
    (tmp_path / "out" / "video" / "v2.npy").write_bytes(b"spoilt")
    results = extracted(videos, tmp_path / "out")
    assert [list(result.made) for result in results] == [[], ["audio"], ["visual"]]
    assert contents(tmp_path / "out") == whole


def test_a_modality_can_be_added_later(tmp_path, videos):
    extracted(videos, tmp_path / "together")
    extracted(videos, tmp_path / "out", audio=None)
    results = extracted(videos, tmp_path / "out")
    assert all(list(result.made) == ["audio"] for result in results)
    assert contents(tmp_path / "out") == contents(tmp_path / "together")


def test_a_video_that_changed_is_made_again_with_all_its_features_or_not_at_all(tmp_path, videos):
    extracted(videos, tmp_path / "out")
    before = contents(tmp_path / "out")
    write_video(videos[1], [flat(11)] * 64, sound=tone(2.56, 0, 1))
    with pytest.raises(ValueError, match=r"is another file than audio/v1\.npy was made of"):
        extracted(videos, tmp_path / "out", audio=None)
    assert contents(tmp_path / "out") == before
    results = extracted(videos, tmp_path / "out")
    assert [len(result.made) for result in results] == [0, 2, 0]
    assert np.load(tmp_path / "out" / "video" / "v1.npy").tolist() == [[11] * 32] * 2


def test_features_of_an_earlier_file_do_not_outlive_a_broken_one(tmp_path, videos):
    extracted(videos, tmp_path / "out")
    videos[1].write_bytes(videos[1].read_bytes()[:4000])
    _, broken, _ = extracted(videos, tmp_path / "out", stop_at_fault=False)
    assert broken.fault is not None
    assert not (tmp_path / "out" / "video" / "v1.npy").exists()


def test_a_video_that_moved_is_the_same_video(tmp_path, videos):
    extracted(videos[0], tmp_path / "out")
    moved = videos[0].rename(tmp_path / "v0.mkv")
    (result,) = extracted(moved, tmp_path / "out")
    assert not result.made


KILLED = """
import os, sys
from pathlib import Path
from mag2.extraction import extract
from tests.test_extraction_folder import levels as shown, loudness

left = int(sys.argv[3])

def levels(clips):
    global left
    left -= 1
    if left < 0:
        os._exit(9)
    return shown(clips)

videos = sorted(Path(sys.argv[1]).iterdir())
extract(videos, sys.argv[2], visual=levels, audio=loudness, batch=1)
"""


@pytest.mark.parametrize("after", [3, *(pytest.param(each, marks=pytest.mark.slow) for each in (0, 6))])
def test_a_call_that_was_killed_goes_on_to_the_same_bytes(tmp_path, videos, after):
    extracted(videos, tmp_path / "whole")
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    command = [sys.executable, script, videos[0].parent, tmp_path / "out", str(after)]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], env={"PYTHONPATH": "."}, capture_output=True)
    assert done.returncode == 9, done.stderr.decode()
    partial = contents(tmp_path / "out")
    assert len(partial) == {0: 0, 3: 2, 6: 4}[after]
    results = extracted(videos, tmp_path / "out")
    assert sum(len(result.made) for result in results) == 6 - len(partial)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_what_a_kill_left_between_a_file_and_its_manifest_is_made_again(tmp_path, videos):
    extracted(videos, tmp_path / "out")
    whole = contents(tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())
    manifest["videos"]["v2"] |= {"made": {"video": True}, "clips": 4}
    (tmp_path / "out" / MANIFEST).write_text(json.dumps(manifest))
    (tmp_path / "out" / "audio" / "v2.npy").write_bytes(b"")
    (tmp_path / "out" / "audio" / "v2.npy.0123456789abcdef.partial").write_bytes(b"half")
    extracted(videos, tmp_path / "out")
    assert contents(tmp_path / "out") == whole
    assert not list(tmp_path.rglob("*.partial"))


# What is not mixed


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"fps": 30}, r"holds features of fps 25, this call has fps 30; give another folder"),
        ({"frames": 16}, r"frames 32, this call has frames 16"),
        ({"last": "pad"}, r"last drop, this call has last pad"),
        ({"dtype": "float16"}, r"dtype float32, this call has dtype float16"),
        ({"precision": "bfloat16"}, r"video holds features of precision float32, this call has precision bfloat16"),
        ({"no_sound": "silence"}, r"audio holds features of no_sound skip, this call has no_sound silence"),
        ({"visual": loudness}, r"encoder levels, this call has encoder loudness"),
        ({"vision_language": "random:1"}, r"vision_language holds features of weights \w+, this call has weights \w+"),
        ({"image_frames": 2}, r"vision_language holds features of frames 32, this call has frames 2"),
    ],
)
def test_features_made_in_another_way_are_not_put_into_the_folder(tmp_path, videos, options, said):
    base = {"vision_language": "random:0"}
    extracted(videos[0], tmp_path / "out", **base)
    before = contents(tmp_path / "out")
    with pytest.raises(ValueError, match=said) as fault:
        extracted(videos[1], tmp_path / "out", **(base | options))
    assert "\n" not in str(fault.value)
    assert contents(tmp_path / "out") == before


def test_settings_bind_nothing_before_there_are_features(tmp_path, videos):
    short = write_video(tmp_path / "short.mkv", [flat(1)] * 20)
    with pytest.raises(ValueError, match="less than one clip"):
        extracted(short, tmp_path / "out", audio=None)
    (result,) = extracted(short, tmp_path / "out", audio=None, frames=10)
    assert result.clips == 2


def test_features_of_others_are_neither_overwritten_nor_joined(tmp_path, videos):
    theirs = tmp_path / "out" / "video" / "v0.npy"
    theirs.parent.mkdir(parents=True)
    np.save(theirs, np.zeros((2, 768), np.float32))
    for video in videos[:2]:
        with pytest.raises(ValueError, match=r"extract did not make .*v0\.npy; move it away, or give another folder"):
            extracted(video, tmp_path / "out")
    assert np.load(theirs).shape == (2, 768)


def test_an_encoder_whose_width_changes_is_refused(tmp_path, videos):
    def levels(clips):  # of the same name
        return clips[:, :5, 3, 3, 0].float()

    levels.name = "levels"
    extracted(videos[0], tmp_path / "out")
    with pytest.raises(ValueError, match=r"the features of v1 are 5 wide where .*video has 32"):
        extracted(videos[1], tmp_path / "out", visual=levels)


def test_a_damaged_or_later_manifest_is_refused(tmp_path, videos):
    extracted(videos[0], tmp_path / "out")
    manifest = tmp_path / "out" / MANIFEST
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(ValueError, match="a later version of mag2 wrote"):
        extracted(videos[0], tmp_path / "out")
    manifest.write_text("{")
    with pytest.raises(ValueError, match=r"extraction\.json is damaged"):
        extracted(videos[0], tmp_path / "out")


# Names and arguments


@pytest.mark.parametrize(
    "name", ["../up", "a/b", "/root", "..", ".", "", "a\\b", "c:d", "a\nb", ".hidden", "x" * 300, "é" * 101, "\udcff"]
)
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path, videos, name):
    with pytest.raises(ValueError, match="is no name for the features of a video"):
        extracted({name: videos[0]}, tmp_path / "out" / "deep")
    assert not list(tmp_path.rglob("*.npy"))


def test_videos_come_as_a_path_a_list_a_folder_or_by_name(tmp_path, videos):
    folder = videos[0].parent
    (folder / "notes.txt").write_text("no video")
    ways = {"path": str(videos[0]), "list": videos, "folder": folder, "names": {"one": videos[0], "zwei": videos[1]}}
    names = {way: [result.name for result in extracted(given, tmp_path / way)] for way, given in ways.items()}
    assert names == {"path": ["v0"], "list": ["v0", "v1", "v2"], "folder": ["v0", "v1", "v2"], "names": ["one", "zwei"]}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"frames": 0}, "frames is the number of frames of a clip, 1 to 10000, got 0"),
        ({"frames": 3.5}, "frames is the number of frames of a clip"),
        ({"fps": 0}, "fps is the number of frames a second"),
        ({"fps": float("nan")}, "fps is the number of frames a second"),
        ({"last": "keep"}, "last is 'drop' or 'pad', got 'keep'"),
        ({"dtype": "int8"}, "dtype is 'float32' or 'float16', got 'int8'"),
        ({"precision": "half"}, "precision is 'float32' or 'bfloat16' or 'float16', got 'half'"),
        ({"no_sound": "raise"}, "no_sound is 'skip' or 'silence'"),
        ({"batch": 0}, "batch is the number of clips"),
        ({"device": "tpu9"}, "device 'tpu9' cannot be used here"),
        ({"image_frames": 0, "vision_language": "random:0"}, "reads 0 frames of a clip"),
        ({"visual": None, "audio": None}, "there is no encoder"),
    ],
)
def test_arguments_out_of_range_are_refused_before_anything_is_written(tmp_path, videos, options, said):
    with pytest.raises(ValueError, match=said):
        extracted(videos[0], tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_two_videos_of_one_name_no_video_and_a_file_as_a_folder_are_refused(tmp_path, videos):
    other = tmp_path / "v0.mp4"
    with pytest.raises(ValueError, match="would both be called 'v0'"):
        extracted([videos[0], other], tmp_path / "out")
    for nothing in ([], {}):
        with pytest.raises(ValueError, match="there are no videos"):
            extracted(nothing, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="there is no video in"):
        extracted(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(ValueError, match="is a file; give a folder"):
        extracted(videos[0], videos[1])


def test_a_broken_video_stops_the_call_or_is_left_out(tmp_path, videos):
    videos[1].write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"v1\.mkv cannot be read"):
        extracted(videos, tmp_path / "stops")
    assert len(contents(tmp_path / "stops")) == 2
    said = []
    results = extracted(videos, tmp_path / "out", stop_at_fault=False, report=said.append)
    assert [result.fault is None for result in results] == [True, False, True]
    assert said == [results[1].fault]
    assert len(contents(tmp_path / "out")) == 4


def test_sentences_become_warnings_where_nobody_takes_them(tmp_path, videos):
    mute = write_video(tmp_path / "mute.mkv", [flat(1)] * 32)
    with pytest.warns(UserWarning, match="it has no sound"):
        extract(mute, tmp_path / "out", visual=levels, audio=loudness)


def test_progress_counts_clips_to_what_is_expected(tmp_path, videos):
    told = []
    extracted(videos, tmp_path / "out", batch=1, progress=lambda *counts: told.append(counts))
    assert told[-1] == (9, 9)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert {expected for _, expected in told} == {9}


def test_two_calls_do_not_work_in_one_folder(tmp_path, videos):
    def calls(clips):
        with pytest.raises(ValueError, match="another run is at work"):
            extracted(videos[1], tmp_path / "out")
        return levels(clips)

    extracted(videos[0], tmp_path / "out", visual=calls)


# The command


def tiny(folder):
    """The arguments of a quick extraction."""
    return ["--out", str(folder), "--visual", "random:0", "--audio", "none", "--image-frames", "2"]


def test_the_command_makes_features_and_goes_on(tmp_path, videos, capsys):
    assert main([*map(str, videos), *tiny(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"Made: features of 3 videos, 9 clips, in {tmp_path / 'out'}\n"
    assert printed.err == "the visual encoder has random weights (random:0): its features mean nothing\n"
    assert np.load(tmp_path / "out" / "video" / "v2.npy").shape == (4, 64)
    assert main([str(videos[0].parent), *tiny(tmp_path / "out")]) == 0
    assert "features of 0 videos, 0 clips" in (printed := capsys.readouterr().out)
    assert "3 were done already" in printed


def test_the_command_reports_a_broken_video_and_makes_the_others(tmp_path, videos, capsys):
    videos[1].write_bytes(b"broken")
    assert main([*map(str, videos), *tiny(tmp_path / "out")]) == 1
    printed = capsys.readouterr()
    assert "features of 2 videos, 6 clips" in printed.out
    assert printed.err.count("\n") == 3
    assert f"{videos[1]} cannot be read" in printed.err
    assert "1 of 3 videos could not be read" in printed.err


@pytest.mark.parametrize("kind", ["no folder", "no video", "an empty folder", "a folder without a video", "out a file"])
def test_the_command_refuses_a_wrong_path_before_it_loads_weights(tmp_path, videos, capsys, monkeypatch, kind):
    def load(*given, **options):
        raise AssertionError("weights were loaded")

    monkeypatch.setattr("mag2.extraction.extracting.load_encoder", load)
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").touch()
    given, out, said = {
        "no folder": ([tmp_path / "none"], "out", f"there is no video or folder {tmp_path / 'none'}; give the path of"),
        "no video": ([videos[0], tmp_path / "v9.mkv"], "out", f"there is no video or folder {tmp_path / 'v9.mkv'}"),
        "an empty folder": ([tmp_path / "empty"], "out", f"there is no video in {tmp_path / 'empty'}"),
        "a folder without a video": ([tmp_path / "other"], "out", f"there is no video in {tmp_path / 'other'}"),
        "out a file": (videos, "other/notes.txt", "notes.txt is a file; give a folder for the features"),
    }[kind]
    with pytest.raises(SystemExit) as stopped:
        main([*map(str, given), "--out", str(tmp_path / out)])
    assert stopped.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith("mag2 extract: error: ")
    assert said in printed
    assert printed.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--visual", "vgg"], "there is no visual encoder 'vgg'"),
        (["--fps", "0"], "argument --fps: '0' is no number from 0.1 to 1000"),
        (["--fps", "nan"], "'nan' is no number from 0.1 to 1000"),
        (["--fps", "2_5"], "'2_5' is no number from 0.1 to 1000"),
        (["--frames", "0"], "argument --frames: '0' is no whole number from 1 to 10000"),
        (["--frames", "1_6"], "'1_6' is no whole number from 1 to 10000"),
        (["--image-frames", "-1"], "'-1' is no whole number from 1 to 10000"),
        (["--device", "tpu9"], "device 'tpu9' cannot be used here"),
        (["--last", "keep"], "invalid choice: 'keep'"),
        (["--visual", "none"], "there is no encoder"),
        (["--batch", "x"], "argument --batch: 'x' is no whole number of at least 1, and below 2^31"),
        (["--batch", "9" * 5000], "is no whole number of at least 1, and below 2^31"),
    ],
)
def test_the_command_says_in_one_line_what_is_wrong(tmp_path, videos, capsys, change, said):
    with pytest.raises(SystemExit) as stopped:
        main([str(videos[0]), *tiny(tmp_path / "out"), *change])
    assert stopped.value.code == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert printed.startswith("mag2 extract: error: ")
    assert printed.count("\n") == 1


def test_the_example_is_the_command(tmp_path, videos, capsys, monkeypatch):
    script = Path(__file__).parents[1] / "examples" / "extract.py"
    monkeypatch.setattr(sys, "argv", [str(script), str(videos[0]), *tiny(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert not ended.value.code
    assert "features of 1 videos, 2 clips" in capsys.readouterr().out


# Memory

MEASURED = """
import re, sys, torch
from pathlib import Path
from mag2.extraction import extract

torch.set_num_threads(1)

def levels(clips):
    return clips.float().mean((2, 3, 4))

levels.prepare = lambda picture: picture[::8, ::8].clone()
encoders = {"visual": levels, "audio": lambda sound: sound[:, :8], "vision_language": "random:0"}
(result,) = extract(sys.argv[1], sys.argv[2], **encoders)
# Of this process alone: what getrusage says may be its parent's.
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
print(result.clips, int(peak[1]) // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
def test_memory_does_not_grow_with_the_length_of_the_video(tmp_path):
    peaks = {}
    for minutes in (1, 10):
        shown = (flat(number % 256, (320, 180)) for number in range(1500 * minutes))
        sound = {"sound": tone(60 * minutes, 0, 30, rate=44_100), "rate": 44_100, "sound_codec": "aac"}
        options = {"codec": "libx264", "pix_fmt": "yuv420p", "options": {"preset": "ultrafast"}}
        video = write_video(tmp_path / f"{minutes}.mp4", shown, **sound, **options)
        command = [sys.executable, "-c", MEASURED, video, tmp_path / "out"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
        assert done.returncode == 0, done.stderr
        clips, peak = map(int, done.stdout.split())
        assert clips == int(60 * minutes / 1.28)
        peaks[minutes] = peak
    print(f"peak memory in MiB by minutes: {peaks}")
    assert peaks[10] < 1000
    assert peaks[10] - peaks[1] < 60


# The page


def test_the_example_of_the_page_runs(tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parents[1] / "docs" / "from-video.md").read_text(encoding="utf-8")
    code = page.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    write_video(
        Path("performance.mp4"),
        map(flat, range(100)),
        codec="libx264",
        pix_fmt="yuv420p",
        sound=tone(4, 1, 2),
        sound_codec="aac",
    )
    with pytest.warns(UserWarning, match="its features mean nothing"):
        exec(compile(code, "from-video.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "untrained" in printed
    assert 0 <= float(printed.split()[-1]) <= 1


def test_what_was_extracted_is_a_dataset_as_the_page_says(tmp_path, monkeypatch, videos):
    page = (Path(__file__).parents[1] / "docs" / "from-video.md").read_text(encoding="utf-8")
    code = page.split("```python\n")[2].split("```")[0]
    monkeypatch.chdir(tmp_path)
    extracted({f"v{number}": videos[number % 3] for number in range(8)}, "data/mine")
    names = {"scores": range(60, 68)}
    exec(compile(code, "from-video.md", "exec"), names)
    dataset = names["dataset"]
    assert dataset.train.widths == {"visual": 32, "audio": 8}
    assert sorted(dataset.train.names + dataset.test.names) == [f"v{number}" for number in range(8)]
    number = dataset.test.names[0]
    np.testing.assert_array_equal(
        dataset.test.batch([0], clips=2).visual[0], np.load(f"data/mine/video/{number}.npy")[_middle(number)]
    )


def _middle(name):
    begin = int(name[1:]) % 3 // 2  # of 2, 3 or 4 clips
    return slice(begin, begin + 2)
