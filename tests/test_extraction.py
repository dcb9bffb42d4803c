"""Decoding: what a clip contains is what the video has at that time, however the video is stored."""

from fractions import Fraction
from itertools import count, takewhile

import numpy as np
import pytest
import torch

pytest.importorskip("av")

from mag2.extraction import VideoError, extract
from tests.videos import flat, tone, write_sound, write_video

CLIP = 1.28  # seconds of 32 frames at 25 a second


def levels(clips):
    """The grey level of every frame: (B, F, H, W, C) -> (B, F)."""
    return clips[:, :, 3, 3, 0].float()


def samples(windows):
    """The sound itself: (B, S)."""
    return windows


def extracted(video, folder, **options):
    """The features of one video by modality, and what was said."""
    said = []
    given = {"visual": levels, "audio": samples, "report": said.append, **options}
    (result,) = extract(video, folder, **given)
    return {key: np.load(path) for key, path in result.made.items()}, said


# Clips and times


def test_a_flash_and_a_tone_in_a_clip_change_the_features_of_this_clip_alone(tmp_path):
    plain = write_video(tmp_path / "plain.mkv", [flat(50)] * 160, sound=tone(6.4, 0, 0))
    flash = [flat(220) if 70 <= number < 90 else flat(50) for number in range(160)]
    both = write_video(tmp_path / "both.mkv", flash, sound=tone(6.4, 2 * CLIP + 0.1, 3 * CLIP - 0.1))
    before, _ = extracted(plain, tmp_path / "out", vision_language="random:0")
    after, _ = extracted(both, tmp_path / "out", vision_language="random:0")
    for key in ("visual", "audio", "vision_language"):
        changed = (before[key] != after[key]).any(axis=1)
        assert changed.tolist() == [False, False, True, False, False], key


@pytest.mark.parametrize("fps", [25, 30, 60, Fraction(30000, 1001), 24, 15, 50, 29])
def test_each_frame_of_a_clip_shows_what_a_player_shows_at_its_time(tmp_path, fps):
    length = min(round(5 * fps), 255)
    video = write_video(tmp_path / "video.mkv", map(flat, range(length)), fps=fps)
    made, _ = extracted(video, tmp_path / "out", audio=None)
    shown = made["visual"].reshape(-1)
    # Matroska rounds times to milliseconds, so that one millisecond late is on time.
    times = [round(1000 * number / fps) for number in range(length)]
    expected = [np.searchsorted(times, 40 * number + 1, side="right") - 1 for number in range(len(shown))]
    assert shown.tolist() == expected
    assert len(shown) == 32 * int(length / fps / CLIP)


def test_times_of_a_variable_frame_rate_are_kept_and_said_to_vary(tmp_path):
    rng = np.random.default_rng(0)
    times = [0, *np.cumsum(rng.choice([17, 33, 50, 120], size=120)).tolist()]
    video = write_video(tmp_path / "video.mkv", map(flat, range(121)), times=times)
    made, said = extracted(video, tmp_path / "out", audio=None)
    expected = [np.searchsorted(times, 40 * number + 1, side="right") - 1 for number in range(made["visual"].size)]
    assert made["visual"].reshape(-1).tolist() == expected
    assert any("frame rate varies (17 to 120 ms between frames)" in sentence for sentence in said)


@pytest.mark.parametrize("fps", [30, 25, 60, None])
def test_a_flash_at_a_time_is_found_in_the_clip_that_covers_it(tmp_path, fps):
    rng = np.random.default_rng(1)
    for number, at in enumerate(rng.uniform(0, 4 * CLIP - 0.1, size=6)):
        if fps is None:
            times = [0, *np.cumsum(rng.choice([20, 33, 41], size=200)).tolist()]
        else:
            times = [round(1000 * frame / fps) for frame in range(round(5.4 * fps))]
        flash = [at * 1000 <= time < at * 1000 + 90 for time in times]
        video = write_video(tmp_path / f"{number}.mkv", (flat(200 if lit else 9) for lit in flash), times=times)
        made, _ = extracted(video, tmp_path / "out", audio=None)
        lit = np.argwhere(made["visual"] == 200)
        first, last = (times[int(np.flatnonzero(flash)[place])] / 1000 for place in (0, -1))
        seen = [clip * CLIP + frame / 25 for clip, frame in lit]
        assert seen, "the flash is lost"
        assert all(first - 0.0011 <= time < last + 0.05 for time in seen)


def test_other_clips_and_rates_are_taken_as_asked(tmp_path):
    video = write_video(tmp_path / "video.mkv", map(flat, range(100)), fps=50, sound=tone(2, 0, 2))
    made, _ = extracted(video, tmp_path / "out", frames=10, fps=12.5)
    assert made["visual"].tolist() == [[4 * number for number in range(10)], [4 * number for number in range(10, 20)]]
    assert made["audio"].shape == (2, 12_800)


def test_frames_are_spread_over_a_clip_where_an_encoder_reads_fewer(tmp_path):
    def few(clips):
        return levels(clips)

    few.frames = 4
    video = write_video(tmp_path / "video.mkv", map(flat, range(64)))
    made, _ = extracted(video, tmp_path / "out", visual=few, audio=None)
    assert made["visual"].tolist() == [[4, 12, 20, 28], [36, 44, 52, 60]]


# The last clip


def test_a_last_clip_that_is_not_filled_is_dropped_or_padded(tmp_path):
    video = write_video(tmp_path / "video.mkv", map(flat, range(40)), sound=tone(1.6, 0, 2))
    dropped, _ = extracted(video, tmp_path / "dropped")
    padded, _ = extracted(video, tmp_path / "padded", last="pad")
    assert dropped["visual"].shape == (1, 32)
    np.testing.assert_array_equal(padded["visual"][0], dropped["visual"][0])
    assert padded["visual"][1].tolist() == [*range(32, 40), *[39] * 24]
    assert padded["audio"][1][: 8 * 640].any()
    assert not padded["audio"][1][8 * 640 :].any()


def test_a_video_shorter_than_a_clip_is_refused_or_padded(tmp_path):
    video = write_video(tmp_path / "video.mkv", map(flat, range(10)))
    with pytest.raises(VideoError, match=r"lasts 0\.40 seconds, less than one clip of 1\.28: .* last='pad'"):
        extracted(video, tmp_path / "out", audio=None)
    made, _ = extracted(video, tmp_path / "out", audio=None, last="pad")
    assert made["visual"].tolist() == [[*range(10), *[9] * 22]]


# How the pictures lie


def drawn(clips):
    """The first picture of every clip."""
    return clips[:, 0, :, :, 0].flatten(1).float()


PICTURE = np.repeat(np.arange(32 * 48, dtype=np.uint8).reshape(32, 48)[..., None], 3, axis=2)


@pytest.mark.parametrize(
    ("rotation", "upright"),
    [
        ((90,), np.rot90(PICTURE, 1)),  # counterclockwise, as FFmpeg counts
        ((-90,), np.rot90(PICTURE, -1)),
        ((180,), np.rot90(PICTURE, 2)),
        ((0, True), PICTURE[:, ::-1]),
        ((0, False, True), PICTURE[::-1]),
        ((90, True), np.rot90(PICTURE, 1)[:, ::-1]),
    ],
)
def test_pictures_that_are_stored_turned_or_mirrored_are_set_upright(tmp_path, rotation, upright):
    video = write_video(tmp_path / "video.mov", [PICTURE] * 32, codec="qtrle", pix_fmt="rgb24", rotation=rotation)
    made, said = extracted(video, tmp_path / "out", visual=drawn, audio=None)
    np.testing.assert_array_equal(made["visual"][0], upright[..., 0].reshape(-1))
    assert any("display matrix was applied" in sentence for sentence in said)


def test_pixels_that_are_not_square_are_made_square(tmp_path):
    def shape(clips):
        return torch.tensor([list(clips.shape[2:4])] * len(clips)).float()

    options = {"codec": "libx264", "pix_fmt": "yuv420p", "aspect": Fraction(4, 3)}
    video = write_video(tmp_path / "video.mp4", [PICTURE] * 32, **options)
    made, _ = extracted(video, tmp_path / "out", visual=shape, audio=None)
    assert made["visual"].tolist() == [[32, 64]]


def test_interlaced_fields_are_merged(tmp_path):
    def combed(clips):  # how much neighbouring lines differ
        return (clips[:, 5:27, 1:].float() - clips[:, 5:27, :-1].float()).abs().mean((2, 3, 4))

    pictures = []
    for number in range(36):
        picture = flat(40)
        picture[::2, number : number + 6] = 240  # the first field, and the second a fiftieth of a second later
        picture[1::2, number + 3 : number + 9] = 240
        pictures.append(picture)
    options = {"codec": "mpeg2video", "pix_fmt": "yuv420p", "options": {"qmin": "1", "qmax": "1"}}
    plain = write_video(tmp_path / "plain.mkv", pictures, **options)
    options["options"] |= {"flags": "+ildct+ilme", "field_order": "tt"}
    interlaced = write_video(tmp_path / "interlaced.mkv", pictures, **options)
    before, silent = extracted(plain, tmp_path / "out", visual=combed, audio=None)
    after, said = extracted(interlaced, tmp_path / "out", visual=combed, audio=None)
    assert after["visual"].mean() < 0.6 * before["visual"].mean()
    assert after["visual"].shape == before["visual"].shape
    assert any("it is interlaced" in sentence for sentence in said)
    assert not silent


def test_an_edit_list_is_applied_to_pictures_and_sound(tmp_path):
    av = pytest.importorskip("av")
    options = {"codec": "libx264", "pix_fmt": "yuv444p", "options": {"qp": "0"}, "gop": 25, "rate": 48_000}
    sound = tone(4, 2.0, 2.2, rate=48_000)
    whole = write_video(tmp_path / "whole.mp4", map(flat, range(100)), sound=sound, sound_codec="aac", **options)
    cut = tmp_path / "cut.mp4"
    with av.open(str(whole)) as source, av.open(str(cut), "w", options={"avoid_negative_ts": "disabled"}) as target:
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                earlier = int(Fraction(6, 5) / packet.time_base)  # 1.2 seconds, between two key frames
                packet.pts, packet.dts = packet.pts - earlier, packet.dts - earlier
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    assert b"elst" in cut.read_bytes()
    made, _ = extracted(cut, tmp_path / "out")
    np.testing.assert_allclose(made["visual"].reshape(-1), np.arange(30, 94), atol=1)
    loud = np.flatnonzero(np.abs(made["audio"].reshape(-1)) > 0.2)
    assert loud[0] / 16_000 == pytest.approx(0.8, abs=0.03)


def test_frames_without_times_follow_each_other_at_the_rate_of_the_file(tmp_path):
    options = {"codec": "libx264", "pix_fmt": "yuv444p", "options": {"qp": "0"}}
    video = write_video(tmp_path / "video.h264", map(flat, range(40)), **options)
    made, said = extracted(video, tmp_path / "out", audio=None)
    np.testing.assert_allclose(made["visual"].reshape(-1), np.arange(32), atol=1)
    assert any("25 frames a second were assumed" in sentence for sentence in said)


# Sound


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 44_100, 48_000])
def test_sound_keeps_its_time_at_any_rate(tmp_path, rate):
    sound = np.zeros((2, 3 * rate), np.float32)
    sound[:, rate + rate // 2] = 1
    video = write_video(tmp_path / "video.mkv", [flat(9)] * 75, sound=sound, rate=rate)
    made, _ = extracted(video, tmp_path / "out", visual=None, frames=25)
    mixed = np.abs(made["audio"].reshape(-1))
    assert made["audio"].shape == (3, 16_000)
    assert abs(int(mixed.argmax()) - 24_000) <= 1


def test_two_channels_are_averaged(tmp_path):
    sound = tone(1.28, 0, 2)
    both = write_video(tmp_path / "both.mkv", [flat(9)] * 32, sound=np.stack([sound, sound]))
    one = write_video(tmp_path / "one.mkv", [flat(9)] * 32, sound=np.stack([sound, 0 * sound]))
    mono = write_video(tmp_path / "mono.mkv", [flat(9)] * 32, sound=sound)
    mixed = {video.stem: extracted(video, tmp_path / "out")[0]["audio"][0] for video in (both, one, mono)}
    np.testing.assert_allclose(mixed["mono"], sound, atol=1e-4)
    np.testing.assert_allclose(mixed["both"], sound, atol=1e-4)
    np.testing.assert_allclose(mixed["one"], sound / 2, atol=1e-4)


@pytest.mark.parametrize("at", [1.5, -0.5])
def test_sound_that_begins_with_another_time_than_the_pictures_is_placed_by_it(tmp_path, at):
    sound = tone(1, 0.6, 0.7)
    options = {"file_options": {"avoid_negative_ts": "disabled"}}
    pictures = [flat(9)] * 100
    if at < 0:  # the pictures begin later: Matroska stores no time before zero
        video = write_video(
            tmp_path / "video.mkv", pictures, times=[500 + 40 * n for n in range(100)], sound=sound, **options
        )
    else:
        video = write_video(tmp_path / "video.mkv", pictures, sound=sound, sound_at=at, **options)
    made, said = extracted(video, tmp_path / "out")
    loud = np.flatnonzero(np.abs(made["audio"].reshape(-1)) > 0.2) / 16_000
    assert loud[0] == pytest.approx(at + 0.6, abs=0.002)
    assert loud[-1] == pytest.approx(at + 0.7, abs=0.002)
    assert any("the rest was taken as silence" in sentence for sentence in said)


def test_a_gap_in_the_sound_is_silence_and_what_follows_keeps_its_time(tmp_path):
    import av

    path = tmp_path / "video.mkv"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "bgr0"
        sound = file.add_stream("pcm_f32le", rate=48_000, layout="mono")
        for number in range(128):
            frame = av.VideoFrame.from_ndarray(flat(9), format="rgb24")
            frame.pts = number
            file.mux(stream.encode(frame))
        for at in (0, 2.5):
            write_sound(file, sound, tone(1, 0.5, 0.6, rate=48_000), 48_000, at, flush=False)
        file.mux(stream.encode())
    made, _ = extracted(path, tmp_path / "out")
    loud = np.flatnonzero(np.abs(made["audio"].reshape(-1)) > 0.2) / 16_000
    first, second = loud[loud < 2], loud[loud > 2]
    assert first[0] == pytest.approx(0.5, abs=0.002)
    assert first[-1] == pytest.approx(0.6, abs=0.002)
    assert second[0] == pytest.approx(3.0, abs=0.002)
    assert second[-1] == pytest.approx(3.1, abs=0.002)


def test_a_video_without_sound_says_so_and_gets_no_audio_or_silence(tmp_path):
    video = write_video(tmp_path / "video.mkv", map(flat, range(64)))
    skipped, said = extracted(video, tmp_path / "skipped")
    assert set(skipped) == {"visual"}
    assert not (tmp_path / "skipped" / "audio" / "video.npy").exists()
    assert said == [f"{video}: it has no sound; no audio features were written"]
    silence, said = extracted(video, tmp_path / "silence", no_sound="silence")
    assert silence["audio"].shape == (2, 20_480)
    assert not silence["audio"].any()
    assert said == [f"{video}: it has no sound; its audio features are those of silence"]
    with pytest.raises(VideoError, match="has no sound: choose no_sound='silence'"):
        extracted(video, tmp_path / "sound", visual=None)


# Broken files


def h264(path, length=200, **options):
    """Eight seconds as they are usually stored."""
    sound = {"sound": tone(length / 25, 0, 9, rate=44_100), "rate": 44_100, "sound_codec": "aac"}
    pictures = {"codec": "libx264", "pix_fmt": "yuv420p", "gop": 10}
    return write_video(path, map(flat, range(length)), **sound, **pictures, **options)


def faulty(path, kind):
    """A file with a fault, and what is said of it."""
    if kind == "missing":
        return path, "there is no video"
    if kind == "folder":
        path.mkdir()
        return path, "there is no video in"
    if kind == "empty":
        path.write_bytes(b"")
        return path, "is empty: copy or download it again"
    if kind == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(20_000))
        return path, "cannot be read"
    if kind == "text":
        path = path.with_suffix(".txt")
        path.write_text("no video\n" * 5000)
        return path, "is a text or a still picture: give a video"
    if kind == "picture":
        from PIL import Image

        Image.fromarray(flat(3)).save(path := path.with_suffix(".png"))
        return path, "is a text or a still picture: give a video"
    if kind == "without index":
        h264(path)
        path.write_bytes(path.read_bytes()[:-3000])
        return path, "cannot be read"
    if kind == "cut off":
        h264(path, file_options={"movflags": "faststart"})
        data = path.read_bytes()
        path.write_bytes(data[: len(data) * 2 // 3])
        return path, "is cut off, "
    if kind == "cut off mkv":
        path = h264(path.with_suffix(".mkv"))
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        return path, "is cut off, "
    if kind == "damaged":
        h264(path, file_options={"movflags": "faststart"})
        data = bytearray(path.read_bytes())
        begin = data.find(b"mdat") + 100
        for place in range(begin, len(data) - 100, 150):
            data[place : place + 60] = bytes(60)
        path.write_bytes(data)
        return path, "is damaged, "
    raise AssertionError(kind)


@pytest.mark.parametrize(
    "kind",
    ["missing", "folder", "empty", "noise", "text", "picture", "without index", "cut off", "cut off mkv", "damaged"],
)
def test_a_file_that_cannot_be_read_gets_one_sentence_and_no_features(tmp_path, kind):
    path, expected = faulty(tmp_path / "video.mp4", kind)
    with pytest.raises(ValueError, match=expected) as fault:
        extracted(path, tmp_path / "out")
    assert str(path) in str(fault.value)
    assert "\n" not in str(fault.value)
    assert not list(tmp_path.rglob("*.npy"))


def test_sound_alone_is_no_video(tmp_path):
    import av

    path = tmp_path / "sound.mka"
    with av.open(str(path), "w") as file:
        write_sound(file, file.add_stream("pcm_f32le", rate=16_000, layout="mono"), tone(2, 0, 1), 16_000, 0)
    with pytest.raises(VideoError, match="has no pictures: give a video"):
        extracted(path, tmp_path / "out")


def test_a_video_whose_sound_goes_on_after_its_pictures_is_not_cut_off(tmp_path):
    video = write_video(tmp_path / "video.mkv", map(flat, range(40)), sound=tone(6, 0, 6))
    made, said = extracted(video, tmp_path / "out")
    assert made["audio"].shape == (1, 20_480)
    assert not said


def test_a_little_damage_is_said_and_borne(tmp_path):
    path = h264(tmp_path / "video.mp4", file_options={"movflags": "faststart"})
    data = bytearray(path.read_bytes())
    begin = data.find(b"mdat") + len(data) // 4
    data[begin : begin + 40] = bytes(40)
    path.write_bytes(data)
    made, said = extracted(path, tmp_path / "out")
    assert made["visual"].shape == (6, 32)
    assert len(said) == 1
    assert "cannot be decoded and" in said[0]


def test_times_that_jump_are_refused(tmp_path):
    times = [*range(0, 2000, 40), *range(500_000, 502_000, 40)]
    video = write_video(tmp_path / "video.mkv", (flat(9) for _ in times), times=times)
    with pytest.raises(VideoError, match=r"times that jump from 1\.96 to 500\.00 seconds: join or convert it again"):
        extracted(video, tmp_path / "out", audio=None)


def test_a_colon_in_a_name_is_no_protocol(tmp_path):
    video = write_video(tmp_path / "video.mkv", map(flat, range(32)))
    odd = video.rename(tmp_path / "12:30 concat:final.mkv")
    made, _ = extracted({"final": odd}, tmp_path / "out", audio=None)
    assert made["visual"].shape == (1, 32)


def test_a_playlist_opens_no_other_address(tmp_path):
    path = tmp_path / "list.m3u8"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(VideoError, match=r"cannot be read|no pictures"):
        extracted(path, tmp_path / "out")


def test_exact_times_do_not_drift():
    from mag2.extraction.timing import Timing

    timing = Timing(32, 29.97)
    assert timing.fps == Fraction(30000, 1001)
    ends = list(takewhile(lambda clip: timing.begin(clip, 16_000) < 16_000 * 3600, count()))
    assert timing.begin(ends[-1], 16_000) == round(ends[-1] * 32 * Fraction(1001, 30000) * 16_000)
