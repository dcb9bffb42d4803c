"""Real models with random weights are guided at their places, trained, saved, loaded and given back."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from mag2 import attach, attached, detach, load_plugin, save_plugin
from tests.test_plugin import guide, is_plugs

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("error:.*ActionGraphGuidance:UserWarning")]
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
WAVES = {
    **{"conv_dim": (16, 16), "conv_stride": (5, 2), "conv_kernel": (10, 3), "num_feat_extract_layers": 2},
    **{"num_conv_pos_embedding_groups": 2, "num_conv_pos_embeddings": 4, "vocab_size": 20, "layerdrop": 0.0},
}
DECODER = {"decoder_hidden_size": 16, "decoder_num_attention_heads": 2, "decoder_intermediate_size": 16}
TOKENS = torch.arange(14).view(2, 7)
PICTURES, CLIP = torch.linspace(-1, 1, 6144).view(2, 3, 32, 32), torch.linspace(-1, 1, 24576).view(2, 4, 3, 32, 32)


def hugging_face(name, cls=None, **config):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    return getattr(transformers, cls or f"{name}Model")(getattr(transformers, f"{name}Config")(**config))


def timm(name, **options):
    return pytest.importorskip("timm", reason="timm is not installed").create_model(name, pretrained=False, **options)


def torchvision(name, *sizes, **options):
    models = pytest.importorskip("torchvision", reason="torchvision is not installed").models
    return getattr(models.video if hasattr(models.video, name) else models, name)(*sizes, **options)


def open_clip():
    module = pytest.importorskip("open_clip", reason="open_clip is not installed")
    seen = module.model.CLIPVisionCfg(layers=2, width=64, patch_size=8, image_size=32)
    read = module.model.CLIPTextCfg(context_length=8, vocab_size=50, width=64, heads=1, layers=1)
    return module.model.CLIP(16, seen, read)


class Pooled(nn.Module):
    """A network for video, its maps pooled over space and flattened to (B, C, T), as one would guide it."""

    def __init__(self, network):
        super().__init__()
        self.stem = nn.Sequential(network.stem, network.layer1, network.layer2, network.layer3, network.layer4)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool3d((None, 1, 1)), nn.Flatten(2))
        self.head = nn.Linear(512, 2)

    def forward(self, x):
        return self.head(self.pool(self.stem(x)).mean(dim=2))


STATES = {"item": "last_hidden_state"}
bert = partial(hugging_face, "Bert", vocab_size=50, **SMALL)
vit = partial(hugging_face, "ViT", image_size=32, patch_size=8, **SMALL)
mae = partial(hugging_face, "ViTMAE", image_size=32, patch_size=8, decoder_num_hidden_layers=1, **DECODER, **SMALL)
ast = partial(
    hugging_face, "AST", patch_size=8, frequency_stride=8, time_stride=8, max_length=32, num_mel_bins=16, **SMALL
)
timesformer = partial(hugging_face, "Timesformer", image_size=32, patch_size=16, num_frames=4, **SMALL)
videomae = partial(hugging_face, "VideoMAE", image_size=32, patch_size=16, num_frames=4, **DECODER, **SMALL)
clip_vision = partial(hugging_face, "CLIPVision", image_size=32, patch_size=8, **SMALL)
t5 = partial(
    hugging_face, "T5", "T5EncoderModel", vocab_size=50, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2
)
SIZES = {"img_size": 32, "embed_dim": 16, "num_heads": 2, "num_classes": 1}
CASES = [
    (bert, {"input_ids": TOKENS}, "encoder", STATES, 16),
    (bert, {"input_ids": TOKENS}, "encoder.layer.0", {}, 16),
    (vit, {"pixel_values": PICTURES}, "", STATES, 16),
    (vit, {"pixel_values": PICTURES}, "layernorm", {}, 16),
    (mae, {"pixel_values": PICTURES}, "", STATES, 16),
    (partial(hugging_face, "Wav2Vec2", **WAVES, **SMALL), {"input_values": torch.sin(torch.arange(800.0).view(2, 400))},
     "encoder", STATES, 16),
    (ast, {"input_values": torch.linspace(-1, 1, 1024).view(2, 32, 16)}, "", {"item": 0}, 16),
    (timesformer, {"pixel_values": CLIP}, "encoder", {"item": 0}, 16),
    (videomae, {"pixel_values": CLIP}, "encoder", STATES, 16),
    (clip_vision, {"pixel_values": PICTURES}, "", STATES, 16),
    (t5, {"input_ids": TOKENS}, "encoder.block.0", {"item": 0}, 16),
    (partial(timm, "vit_tiny_patch16_224", depth=2, **SIZES), (PICTURES,), "blocks", {}, 16),
    (partial(timm, "vit_tiny_patch16_224", depth=2, **SIZES), (PICTURES,), "norm", {}, 16),
    (partial(torchvision, "VisionTransformer", 32, 8, 2, 2, 16, 32), (PICTURES,), "encoder.layers", {}, 16),
    (lambda: Pooled(torchvision("r3d_18")), (torch.linspace(-1, 1, 49152).view(2, 3, 8, 32, 32),), "pool",
     {"layout": "bdt"}, 512),
    (open_clip, (PICTURES, TOKENS[:, :8].repeat(1, 2)[:, :8]), "visual.transformer", {}, 64),
    (partial(nn.Transformer, 16, 2, 1, 1, 32, batch_first=True), (torch.ones(2, 5, 16), torch.ones(2, 4, 16)),
     "encoder", {}, 16),
]  # fmt: skip


def named(case):
    make, _, at, _, _ = case
    inner = getattr(make, "func", make)
    return (
        f"{getattr(inner, '__name__', '')}-{getattr(make, 'args', ('',))[0] if getattr(make, 'args', ()) else ''}-{at}"
    )


def call(model, inputs):
    torch.manual_seed(1)  # ViTMAE draws its mask
    output = model(**inputs) if isinstance(inputs, dict) else model(*inputs)
    if isinstance(output, torch.Tensor):
        return output
    return next(value for value in (output.values() if isinstance(output, dict) else output) if torch.is_tensor(value))


@pytest.mark.parametrize("case", CASES, ids=map(named, CASES))
def test_a_real_model_is_guided_trained_saved_loaded_and_given_back(case, tmp_path):
    make, inputs, at, options, width = case
    model = make().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)  # some heads start at zero
    plain, keys = call(model, inputs), list(model.state_dict())
    original = copy.deepcopy(model.state_dict())
    attach(model, guide(width, dropout=0.0), at=at, **options)
    assert [key for key in model.state_dict() if not is_plugs(key)] == keys
    optimizer = torch.optim.SGD(attached(model)[0].module.parameters(), lr=1e-3)
    call(model.train(), inputs).square().mean().backward()
    assert attached(model)[0].module.conv1.lin_l.weight.grad.any()
    optimizer.step()
    model.eval().load_state_dict(original, strict=False)
    guided = call(model, inputs)
    assert not torch.allclose(guided, plain)
    save_plugin(model, tmp_path)
    detach(model)
    assert list(model.state_dict()) == keys
    torch.testing.assert_close(call(model, inputs), plain)
    torch.testing.assert_close(call(load_plugin(model, tmp_path).eval(), inputs), guided)
