"""Encoders: by name or as a function, each with the preprocessing that its library publishes."""

import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("av")
pytest.importorskip("transformers")
pytest.importorskip("torchvision")

from mag2 import TextFeatures
from mag2.encoders import load_text_encoder
from mag2.extraction import ImageTower, SpectrogramTransformer, TimeSformer, VideoNetwork, extract, load_encoder
from mag2.extraction.encoder import as_encoder
from mag2.extraction.timing import Timing
from mag2.extraction.weights import digest
from tests.videos import flat, tone, write_video

CPU = torch.device("cpu")


def pictures(frames, height=40, width=60):
    """Frames (F, H, W, 3) of noise."""
    return torch.randint(0, 256, (frames, height, width, 3), dtype=torch.uint8)


def tiny_swin():
    """A Video Swin of the same class as `swin3d_b`, narrow and shallow."""
    from torchvision.models import video as models

    torch.manual_seed(0)
    network = models.SwinTransformer3d(
        patch_size=[2, 4, 4], embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=[4, 7, 7]
    )
    network.head = nn.Identity()
    preset = models.Swin3D_B_Weights.DEFAULT.transforms(crop_size=(32, 32), resize_size=(36,))
    return VideoNetwork(network, preset, name="tiny swin", source="a seed", random=True)


def tiny_timesformer():
    from transformers import TimesformerConfig, TimesformerModel, TimesformerVideoProcessor

    torch.manual_seed(0)
    size = {"image_size": 32, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = TimesformerConfig(**size, intermediate_size=16, num_frames=4)
    processor = TimesformerVideoProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return TimeSformer(TimesformerModel(config), processor, source="a seed", random=True)


def tiny_ast():
    import warnings

    from transformers import ASTConfig, ASTFeatureExtractor, ASTModel

    torch.manual_seed(0)
    config = ASTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, max_length=256)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "At least one mel filter has all zero values")
        extractor = ASTFeatureExtractor(max_length=256)
    return SpectrogramTransformer(ASTModel(config), extractor, source="a seed", random=True)


# Preprocessing


def test_a_picture_at_a_time_is_prepared_as_torchvision_prepares_the_whole_clip():
    clip, encoder = pictures(6, 90, 150), tiny_swin()
    seen = {}
    encoder.network.register_forward_pre_hook(lambda _, inputs: seen.update(clip=inputs[0]))
    encoder(torch.stack([encoder.prepare(picture) for picture in clip])[None])
    torch.testing.assert_close(seen["clip"][0], encoder.preset(clip.permute(0, 3, 1, 2)))


def test_a_picture_at_a_time_is_prepared_as_transformers_prepares_the_whole_clip():
    clip, encoder = pictures(4, 90, 150), tiny_timesformer()
    whole = encoder.processor(clip.permute(0, 3, 1, 2), return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(torch.stack([encoder.prepare(picture) for picture in clip]), whole)


@pytest.mark.parametrize("shape", [(90, 150), (150, 90), (32, 32), (20, 24)])
def test_pictures_of_any_shape_become_the_size_of_the_encoder(shape):
    picture = pictures(1, *shape)[0]
    assert tiny_swin().prepare(picture).shape == (3, 32, 32)
    assert tiny_timesformer().prepare(picture).shape == (3, 32, 32)
    assert load_encoder("vision_language", "random:0").prepare(picture).shape == (3, 32, 32)


def test_the_spectrogram_tells_a_tone_from_silence_and_is_padded_as_the_library_pads():
    encoder = tiny_ast()
    silence, sound = (encoder.prepare(torch.from_numpy(tone(1.28, 0, end))) for end in (0, 2))
    assert silence.shape == sound.shape == (256, 128)
    padding = (0 - encoder.extractor.mean) / (2 * encoder.extractor.std)
    assert torch.allclose(sound[126:], torch.tensor(padding, dtype=torch.float32))
    assert sound[:126].max() > padding > silence[:126].max()


# Features


def test_an_image_tower_is_averaged_over_the_frames_of_a_clip_in_the_space_of_its_text_encoder():
    tower = load_encoder("vision_language", "random:3")
    clip = torch.stack([tower.prepare(picture) for picture in pictures(5)])
    with torch.no_grad():
        each = torch.cat([tower.model.encode_image(frame[None]) for frame in clip])
        torch.testing.assert_close(tower(clip[None])[0], each.mean(dim=0))
    text = load_text_encoder("random:3")
    assert torch.equal(text.model.token_embedding.weight, tower.model.token_embedding.weight)
    assert tower(clip[None]).shape[1] == TextFeatures.encode("figure_skating", "random:3").visual.shape[1]


def test_frames_of_an_image_tower_can_be_fewer(tmp_path):
    video = write_video(tmp_path / "video.mkv", map(flat, range(32)))
    options = {"visual": None, "audio": None, "vision_language": "random:0", "report": lambda _: None}
    (few,) = extract(video, tmp_path / "few", image_frames=2, **options)
    tower = load_encoder("vision_language", "random:0", image_frames=2)
    shown = [tower.prepare(torch.from_numpy(flat(level))) for level in (8, 24)]
    with torch.no_grad():
        expected = tower(torch.stack(shown)[None])
    np.testing.assert_allclose(np.load(few.made["vision_language"]), expected, atol=1e-5)


@pytest.fixture(scope="module")
def company(tmp_path_factory):
    """How three videos are extracted, the videos, and their features, extracted in one call."""
    folder, rng = tmp_path_factory.mktemp("company"), np.random.default_rng(0)
    videos = []
    for number in range(3):
        shown = [rng.integers(0, 256, (32, 48, 3), dtype=np.uint8) for _ in range(16 * (number + 2))]
        sound = rng.uniform(-0.5, 0.5, size=640 * len(shown)).astype(np.float32)
        videos.append(write_video(folder / f"{number}.mkv", shown, sound=sound))
    options = {"visual": tiny_swin(), "audio": tiny_ast(), "vision_language": "random:0", "frames": 16}
    options["report"] = lambda _: None
    return options, videos, extract(videos, folder / "together", **options)


def test_features_are_equal_whatever_the_company(tmp_path, company):
    options, videos, together = company
    for video, one in zip(videos, together, strict=True):
        (alone,) = extract(video, tmp_path / "alone", **options)
        assert {key: path.read_bytes() for key, path in one.made.items()} == {
            key: path.read_bytes() for key, path in alone.made.items()
        }


@pytest.mark.parametrize("given", [1, 2, 3, 7])
def test_features_are_equal_whatever_the_batch(tmp_path, company, given):
    options, videos, together = company
    for one, other in zip(together, extract(videos, tmp_path / "other", batch=given, **options), strict=True):
        for key, path in one.made.items():
            np.testing.assert_allclose(np.load(path), np.load(other.made[key]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_near_and_files_have_the_type_that_was_asked_for(tmp_path, precision):
    video = write_video(tmp_path / "video.mkv", map(flat, range(64)), sound=tone(2.56, 1, 2))
    options = {"visual": tiny_swin(), "audio": tiny_ast(), "report": lambda _: None}
    (whole,) = extract(video, tmp_path / "whole", **options)
    (half,) = extract(video, tmp_path / "half", precision=precision, dtype="float16", **options)
    for key in options.keys() - {"report"}:
        exact, rounded = np.load(whole.made[key]), np.load(half.made[key])
        assert (exact.dtype, rounded.dtype) == (np.float32, np.float16)
        np.testing.assert_allclose(rounded, exact, atol=0.05 * np.abs(exact).max())
        assert not np.array_equal(rounded, exact.astype(np.float16))


def test_a_module_of_the_user_runs_in_evaluation_mode(tmp_path):
    class Mine(nn.Module):
        name = "mine"

        def __init__(self):
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, clips):
            return self.drop(clips.float().mean((2, 3, 4)))

    video = write_video(tmp_path / "video.mkv", map(flat, range(32)))
    (made,) = extract(video, tmp_path / "out", visual=Mine(), audio=None)
    np.testing.assert_allclose(np.load(made.made["visual"])[0], np.arange(32))


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (lambda clips: clips.float(), r"gave features of shape \(1, 32, 32, 48, 3\) for 1 clips; \(1, D\) is expected"),
        (lambda clips: torch.zeros(3, 4), r"gave features of shape \(3, 4\) for 1 clips"),
        (lambda clips: torch.full((1, 4), float("nan")), "gave features that are not finite"),
        (lambda clips: torch.full((1, 4), 1e5), "reach 1e.05, too large for float16"),
        (7, "the visual encoder is a int; give a name or a function"),
    ],
)
def test_what_is_no_feature_row_is_refused(tmp_path, run, said):
    video = write_video(tmp_path / "video.mkv", map(flat, range(32)))
    with pytest.raises(ValueError, match=said):
        extract(video, tmp_path / "out", visual=run, audio=None, dtype="float16")
    assert not list(tmp_path.rglob("*.npy"))


# Names and weights


@pytest.fixture
def offline(monkeypatch):
    def refused(*_, **__):
        raise AssertionError("the network was asked")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)


def test_random_weights_come_from_the_seed_alone_and_without_a_network(offline):
    state = torch.random.get_rng_state()
    first, same, other = (load_encoder("visual", f"s3d:random:{seed}") for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert digest(first) == digest(same) != digest(other)
    assert first.random


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_weights_of_a_file_are_those_that_were_saved(tmp_path, ending):
    from safetensors.torch import save_file
    from torchvision.models import get_model

    torch.manual_seed(5)
    whole = get_model("s3d", weights=None)  # with its head, as published
    path = tmp_path / f"weights.{ending}"
    if ending == "pth":
        torch.save({"state_dict": {f"module.{key}": value for key, value in whole.state_dict().items()}}, path)
    else:
        save_file(whole.state_dict(), path)
    loaded = load_encoder("visual", f"s3d:{path}")
    assert torch.equal(loaded.network.features[0][0][0].weight, whole.features[0][0][0].weight)
    assert not loaded.random
    with pytest.raises(ValueError, match="does not fit SwinTransformer3d"):
        load_encoder("visual", f"swin3d_t:{path}")


def test_a_local_folder_of_transformers_brings_its_own_preprocessing(tmp_path, offline):
    tiny = tiny_timesformer()
    tiny.model.save_pretrained(tmp_path / "model")
    tiny.processor.image_mean = [0.45, 0.45, 0.45]
    tiny.processor.save_pretrained(tmp_path / "model")
    loaded = load_encoder("visual", f"timesformer:{tmp_path / 'model'}")
    assert digest(loaded) == digest(tiny)
    assert loaded.about["mean"] == [0.45, 0.45, 0.45]
    assert loaded.frames == 4
    sound = tiny_ast()
    sound.model.save_pretrained(tmp_path / "ast")
    sound.extractor.save_pretrained(tmp_path / "ast")
    assert load_encoder("audio", f"ast:{tmp_path / 'ast'}").about == sound.about


@pytest.mark.parametrize(
    ("modality", "name", "said"),
    [
        ("visual", "vgg", "there is no visual encoder 'vgg'; give swin3d_t"),
        ("audio", "swin3d_b", "there is no audio encoder 'swin3d_b'; give ast"),
        ("vision_language", "ast", "there is no vision_language encoder 'ast'; give open_clip"),
        ("visual", "swin3d_b:V9", "'V9' is neither a file nor weights of swin3d_b; its weights are KINETICS400_V1"),
        ("visual", "s3d:/no/weights.pth", "there is no weight file /no/weights.pth"),
        ("audio", "ast:./weights.bin", "there is no weight file weights.bin"),
        ("visual", "s3d:random:x", "random weights are random:SEED"),
        ("visual", "s3d:random:-1", "random weights are random:SEED"),
        ("vision_language", "open_clip:ViT-B-16", "unknown image tower 'open_clip:ViT-B-16'"),
        ("vision_language", "open_clip:ViT-X/openai", "open_clip has no model 'ViT-X'"),
    ],
)
def test_a_name_that_is_none_says_which_there_are(modality, name, said):
    with pytest.raises(ValueError, match=said) as fault:
        load_encoder(modality, name)
    assert "\n" not in str(fault.value)


def test_a_file_without_weights_is_refused(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_text("no weights")
    with pytest.raises(ValueError, match="holds no weights that can be read safely"):
        load_encoder("visual", f"s3d:{path}")
    torch.save([torch.zeros(3)], path)
    with pytest.raises(ValueError, match="holds no state dict"):
        load_encoder("visual", f"s3d:{path}")


def test_a_clip_that_an_encoder_cannot_read_is_refused_before_any_video_is():
    few = Timing(frames=4)
    with pytest.raises(ValueError, match="s3d reads 14 frames or more, and a clip has 4"):
        as_encoder("visual", load_encoder("visual", "s3d:random:0"), CPU, few)
    with pytest.raises(ValueError, match="reads 4 frames of a clip, and a clip has 2"):
        as_encoder("visual", tiny_timesformer(), CPU, Timing(frames=2))
    with pytest.raises(ValueError, match=r"AST reads 0\.025 to 2\.575 seconds of sound, and a clip lasts 4\.000"):
        as_encoder("audio", tiny_ast(), CPU, Timing(frames=100))
    with pytest.raises(ValueError, match=r"and a clip lasts 0\.020"):
        as_encoder("audio", tiny_ast(), CPU, Timing(frames=1, fps=50))


@pytest.mark.parametrize(("package", "argument"), [("av", {}), ("torchvision", {}), ("transformers", {"visual": None})])
def test_a_missing_package_says_how_to_install_it(tmp_path, monkeypatch, package, argument):
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=rf"needs the package {package}; install it with: pip install 'mag2\[video\]'"):
        extract(tmp_path / "video.mp4", tmp_path / "out", **argument)


def test_importing_the_package_imports_none_of_its_extra():
    code = "import mag2.extraction, mag2.extraction.command, sys; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"av", "transformers", "torchvision", "open_clip", "PIL"}


# At their real sizes

REAL = [
    ("visual", "swin3d_b", 1024),
    ("visual", "swin3d_t", 768),
    ("visual", "s3d", 1024),
    ("visual", "timesformer", 768),
    ("audio", "ast", 768),
    ("vision_language", "open_clip:ViT-B-32/", 512),
]


@pytest.mark.slow
@pytest.mark.parametrize(("modality", "name", "width"), REAL, ids=[name for _, name, _ in REAL])
def test_the_real_architecture_makes_features_of_its_width(tmp_path, offline, modality, name, width):
    name = f"{name}random:0" if name.endswith("/") else f"{name}:random:0"
    shown = [np.roll(flat(number, (320, 240)), number, axis=1) for number in range(32)]
    video = write_video(tmp_path / "video.mkv", shown, sound=tone(1.28, 0.3, 0.9))
    chosen = {"visual": None, "audio": None, "vision_language": None, modality: name}
    said = []
    (result,) = extract(video, tmp_path / "out", **chosen, report=said.append)
    features = np.load(result.made[modality])
    assert features.shape == (1, width)
    assert features.std() > 0
    assert any("its features mean nothing" in sentence for sentence in said)


def test_a_tower_given_by_the_user_needs_encode_image_alone(tmp_path):
    class Tower(nn.Module):
        def encode_image(self, images):
            return images.mean((2, 3))

    tower = ImageTower(
        Tower(), lambda image: torch.tensor(np.asarray(image) / 255.0).permute(2, 0, 1), name="t", source=""
    )
    video = write_video(tmp_path / "video.mkv", map(flat, range(32)))
    (made,) = extract(video, tmp_path / "out", visual=None, audio=None, vision_language=tower)
    np.testing.assert_allclose(np.load(made.made["vision_language"]), np.full((1, 3), 15.5 / 255), rtol=1e-5)
