"""Live texts: begun as the frozen features, learning what should learn; a trained one leaves its tower behind."""

import copy
import json
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mag2 import TextFeatures
from mag2.encoders import TextTower, load_text_encoder, load_text_tower
from mag2.texts import LearnedPrompts, LiveTexts, TrainableTextEncoder, learnable_prompts
from mag2.vocabulary import Prompts, make_prompts

open_clip = pytest.importorskip("open_clip")

SPORT = "rhythmic_gymnastics"
VISION = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
FEW = Prompts(
    visual=("a [XXX] video of a back spin", "a [XXX] video of gliding"),
    audio=("a [XXX] music suitable for a back spin", "a [XXX] music suitable for gliding"),
    audio_visual_grades=tuple(f"a [XXX] {word} performance" for word in ("dull", "fair", "good", "splendid")),
    grades=("a [XXX] bad performance", "a [XXX] perfect performance"),
)


def small_clip(kind=None, **text) -> nn.Module:
    torch.manual_seed(0)
    return (kind or open_clip.CLIP)(24, VISION, {**TEXT, **text}).eval()


@pytest.fixture(scope="module")
def clip() -> nn.Module:
    return small_clip()


@pytest.fixture(scope="module")
def tokenizer():
    return open_clip.get_tokenizer("ViT-B-16")


def with_words(words: str) -> Prompts:
    sets = (FEW.visual, FEW.audio, FEW.audio_visual_grades, FEW.grades)
    return Prompts(*(tuple(" ".join(p.replace("[XXX]", words).split()) for p in rows) for rows in sets))


def both(clip, tokenizer) -> list[LiveTexts]:
    return [TrainableTextEncoder(clip, tokenizer, with_words("")), LearnedPrompts(clip, tokenizer, FEW)]


def steps(module: LiveTexts, n: int = 3, head: nn.Module | None = None) -> list[float]:
    """Adam on a small head that tells the rows apart; the losses."""
    head = head or nn.Linear(module.width, sum(module.sizes))
    optimizer = torch.optim.Adam([*module.parameters(), *head.parameters()], lr=1e-2)
    losses = []
    for _ in range(n):
        rows = module()
        loss = F.cross_entropy(head(rows), torch.arange(len(rows)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def copied(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_an_untrained_encoder_gives_the_frozen_features():
    live = TrainableTextEncoder.for_sport(SPORT, "random:3", n_grades=4)
    frozen = TextFeatures.encode(SPORT, "random:3", n_grades=4)
    torch.testing.assert_close(live(), frozen.rows)
    assert live.prompts == frozen.prompts
    assert live.sizes == [32, 32, 8, 4]
    assert (live.width, live.n_grades) == (frozen.width, frozen.n_grades) == (64, 4)
    assert live.provenance.prompts == frozen.provenance.prompts
    assert (live.provenance.sport, live.provenance.source) == (SPORT, "random:3, trainable")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("CLIP", {}),
        ("CustomTextCLIP", {}),
        ("CustomTextCLIP", {"pool_type": "eos", "eos_id": 49407}),
        ("CustomTextCLIP", {"proj_bias": True}),
        ("CustomTextCLIP", {"proj_type": "none"}),
        ("CustomTextCLIP", {"qk_norm": True}),
    ],
)
def test_trimmed_equals_full_length(tokenizer, kind, text):
    """The tower's own 77 tokens, in value and in every gradient."""
    clip = small_clip(getattr(open_clip, kind), **text).double()
    live = TrainableTextEncoder(clip, tokenizer, with_words(""))
    assert live.tokens.shape[1] < 15
    slow = clip.encode_text(tokenizer(list(live.prompts.rows)))
    fast = live()
    assert live.width == slow.shape[1]
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-12)
    weight = torch.randn_like(slow)
    (slow * weight).sum().backward()
    (fast * weight).sum().backward()
    theirs = dict(getattr(clip, "text", clip).named_parameters())
    for name, ours in live.tower.named_parameters():
        torch.testing.assert_close(ours.grad, theirs[name].grad, rtol=1e-8, atol=1e-12, msg=name)


@pytest.mark.parametrize("words", ["graceful", "very slow musical"])
def test_context_that_is_real_words_reads_as_the_sentence(clip, tokenizer, words):
    ids = tokenizer([words])[0, 1 : 1 + len(words.split())]
    live = LearnedPrompts(clip, tokenizer, FEW, n_context=len(ids))
    with torch.no_grad():
        live.context.copy_(clip.token_embedding(ids).expand_as(live.context))
        sentences = list(with_words(words).rows)
        torch.testing.assert_close(live(), clip.encode_text(tokenizer(sentences)))


def test_each_set_of_prompts_has_its_own_context(clip, tokenizer):
    live = LearnedPrompts(clip, tokenizer, FEW, n_context=2)
    for number in range(4):
        before = live().split(live.sizes)
        with torch.no_grad():
            live.context[number] += 1
        after = live().split(live.sizes)
        assert [bool((a != b).all(1).any()) for a, b in zip(after, before, strict=True)] == [
            other == number for other in range(4)
        ]


def test_context_begins_as_in_coop(clip, tokenizer):
    context = LearnedPrompts(clip, tokenizer, FEW, n_context=20).context
    assert context.shape == (4, 20, 32)
    assert abs(context.mean().item()) < 0.002
    assert abs(context.std().item() - 0.02) < 0.002


def test_learnable_prompts_keep_the_words_of_the_paper():
    prompts, plain = learnable_prompts("figure_skating"), make_prompts("figure_skating")
    assert "a [XXX] video of a back spin" in prompts.visual
    assert "a [XXX] music suitable for dance steps" in prompts.audio
    assert prompts.grades[4:] == ("a [XXX] excellent performance", "a [XXX] perfect performance")
    assert prompts.audio_visual_grades[1] == "a [XXX] bad performance with fitting music"
    without = [row.replace("[XXX] ", "") for row in prompts.visual + prompts.audio]
    assert without == [f"a {row.removeprefix('a ')}" for row in plain.visual + plain.audio]


def test_gradients_reach_the_whole_text_tower_and_nothing_else(clip, tokenizer):
    live = TrainableTextEncoder(clip, tokenizer, with_words(""))
    block = ["attn.in_proj_weight", "attn.in_proj_bias", "attn.out_proj.weight", "attn.out_proj.bias"]
    block += [f"{norm}.{part}" for norm in ("ln_1", "ln_2") for part in ("weight", "bias")]
    block += [f"mlp.{layer}.{part}" for layer in ("c_fc", "c_proj") for part in ("weight", "bias")]
    wanted = {"token_embedding.weight", "positional_embedding", "ln_final.weight", "ln_final.bias", "text_projection"}
    wanted |= {f"transformer.resblocks.{layer}.{name}" for layer in range(2) for name in block}
    assert {name for name, _ in live.named_parameters()} == {f"tower.{name}" for name in wanted}
    assert live.state_dict().keys() == {f"tower.{name}" for name in wanted}
    live().square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in live.parameters())
    assert all(p.grad is None for p in clip.parameters())
    used = live.tower.token_embedding.weight.grad.any(dim=1).nonzero()[:, 0]
    assert set(used.tolist()) == set(live.tokens[live.tokens > 0].tolist())


def test_gradients_reach_the_context_and_nothing_else(clip, tokenizer):
    live = LearnedPrompts(clip, tokenizer, FEW)
    assert [name for name, _ in live.named_parameters()] == ["context"]
    live().square().sum().backward()
    assert live.context.grad.any(dim=2).all(), "a vector without gradient"
    assert all(p.grad is None and not p.requires_grad for p in live.tower.parameters())
    assert all(p.grad is None for p in clip.parameters())
    assert not live.words.requires_grad


def test_steps_change_what_trains_and_nothing_else(clip, tokenizer):
    of_clip = copied(clip)
    encoder, prompts = both(clip, tokenizer)
    of_encoder, of_tower = copied(encoder), copied(prompts.tower)
    words, context = prompts.words.clone(), prompts.context.detach().clone()
    steps(encoder)
    steps(prompts)
    assert all((value != of_encoder[name]).any() for name, value in encoder.state_dict().items())
    assert (prompts.context != context).any(dim=2).all()
    assert torch.equal(prompts.words, words)
    assert all(torch.equal(value, of_tower[name]) for name, value in prompts.tower.state_dict().items())
    assert all(torch.equal(value, of_clip[name]) for name, value in clip.state_dict().items())


@pytest.mark.parametrize("which", [0, 1], ids=["encoder", "prompts"])
def test_a_head_fed_by_live_texts_trains_better_with_them(clip, tokenizer, which):
    """The head alone, on the frozen rows, learns less in as many steps."""
    live = both(clip, tokenizer)[which]
    head = nn.Linear(live.width, sum(live.sizes))
    frozen, rows = copy.deepcopy(head), live.features().rows
    optimizer = torch.optim.Adam(frozen.parameters(), lr=1e-2)
    for _ in range(12):
        loss = F.cross_entropy(frozen(rows), torch.arange(len(rows)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    losses = steps(live, 12, head)
    assert losses[-1] < 0.9 * losses[0]
    assert losses[-1] < loss.item()


def test_a_frozen_tower_stays_frozen(clip, tokenizer):
    live = LearnedPrompts(clip, tokenizer, FEW)
    model = nn.ModuleDict({"texts": live})
    model.train().requires_grad_(True)
    assert live.training
    assert not any(module.training for module in live.tower.modules())
    assert not any(p.requires_grad for p in live.tower.parameters())
    training = live()
    torch.testing.assert_close(model.eval()["texts"](), training)
    with torch.no_grad():
        torch.testing.assert_close(live(), training)


def test_features_need_no_tower(clip, tokenizer):
    for live in both(clip, tokenizer):
        steps(live)
        texts = live.features()
        assert isinstance(texts, TextFeatures)
        assert not texts.rows.requires_grad
        torch.testing.assert_close(texts.rows, live().detach())
        assert [len(texts.visual), len(texts.audio), len(texts.audio_visual_grades), len(texts.grades)] == live.sizes
        assert texts.provenance == live.provenance
        kept = texts.rows.clone()
        steps(live)
        assert torch.equal(texts.rows, kept)


def test_load_equals_save(clip, tokenizer, tmp_path):
    for number, live in enumerate(both(clip, tokenizer)):
        steps(live)
        torch.save(live.state_dict(), tmp_path / f"{number}.pt")
        fresh = both(clip, tokenizer)[number]
        assert not torch.allclose(fresh(), live())
        fresh.load_state_dict(torch.load(tmp_path / f"{number}.pt", weights_only=True))
        assert torch.equal(fresh(), live())


def test_learned_prompts_save_what_they_learned_and_not_the_tower(clip, tokenizer):
    live = LearnedPrompts(clip, tokenizer, FEW)
    state = nn.ModuleDict({"texts": live}).state_dict()
    assert {name: value.numel() for name, value in state.items()} == {
        "texts.context": 4 * 4 * 32,
        "texts.tower_digest": 32,
    }


def test_context_fits_another_sport_but_no_other_tower(clip, tokenizer):
    live = LearnedPrompts(clip, tokenizer, FEW)
    other = LearnedPrompts(clip, tokenizer, learnable_prompts(SPORT))
    other.load_state_dict(live.state_dict())
    assert torch.equal(other.context, live.context)
    tuned = copy.deepcopy(clip)
    with torch.no_grad():
        tuned.positional_embedding[0, 0] += 1e-3
    model = nn.ModuleDict({"texts": LearnedPrompts(tuned, tokenizer, FEW)})
    kept = model["texts"].context.detach().clone()
    with pytest.raises(ValueError, match="learned before another text tower than given"):
        model.load_state_dict({f"texts.{name}": value for name, value in live.state_dict().items()})
    assert torch.equal(model["texts"].context, kept)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["copy", "pickle"])
def test_a_copy_is_equal_and_its_own(clip, tokenizer, duplicate):
    for live in both(clip, tokenizer):
        twin = duplicate(live)
        before = live().detach()
        assert torch.equal(twin(), before)
        steps(twin)
        assert not torch.allclose(twin(), before)
        assert torch.equal(live(), before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_dtype_follows_the_parameters(clip, tokenizer, dtype):
    for live in both(clip, tokenizer):
        full = live().detach()
        nn.ModuleDict({"texts": live}).to(dtype)
        assert {p.dtype for p in [*live.parameters(), *live.tower.parameters()]} == {dtype}
        rows = live()
        assert rows.dtype == dtype
        torch.testing.assert_close(rows.float(), full, rtol=0.1, atol=0.1)
        assert live.features().rows.dtype == torch.float32


def test_device_follows_the_parameters(clip, tokenizer):
    for live in both(clip, tokenizer):
        nn.ModuleDict({"texts": live}).to("meta")
        rows = live()
        assert rows.device.type == "meta"
        assert rows.shape == (sum(live.sizes), live.width)


def test_autocast_trains(clip, tokenizer):
    for live in both(clip, tokenizer):
        full = live().detach()
        with torch.autocast("cpu", torch.bfloat16):
            rows = live()
        torch.testing.assert_close(rows.float(), full, rtol=0.1, atol=0.1)
        rows.float().square().sum().backward()
        assert all(p.grad.any() and p.grad.dtype == torch.float32 for p in live.parameters())


@pytest.fixture
def saved_clip(tmp_path):
    (tmp_path / "small-live.json").write_text(json.dumps({"embed_dim": 24, "vision_cfg": VISION, "text_cfg": TEXT}))
    open_clip.add_model_config(tmp_path / "small-live.json")
    clip = small_clip()
    torch.save(clip.state_dict(), tmp_path / "clip.pt")
    return f"open_clip:small-live/{tmp_path / 'clip.pt'}"


def test_a_trained_tower_is_a_checkpoint_for_encode(saved_clip, tmp_path):
    live = TrainableTextEncoder.for_sport(SPORT, saved_clip)
    steps(live)
    torch.save(live.tower.state_dict(), tmp_path / "trained.pt")
    texts = TextFeatures.encode(SPORT, saved_clip, checkpoint=tmp_path / "trained.pt")
    torch.testing.assert_close(texts.rows, live().detach())


def test_a_vifi_clip_checkpoint_lies_over_the_tower(saved_clip, tmp_path):
    """For both modules, under its own names; the source says so."""
    tuned = {}
    for key, value in small_clip().state_dict().items():
        if key.startswith(("transformer.", "ln_final.", "positional_embedding", "text_projection")):
            tuned[f"module.text_encoder.{key}"] = value + 0.1 * torch.randn_like(value)
    torch.save({"model": tuned}, tmp_path / "vifi.pth")
    live = TrainableTextEncoder.for_sport(SPORT, saved_clip, checkpoint=tmp_path / "vifi.pth")
    frozen = TextFeatures.encode(SPORT, saved_clip, checkpoint=tmp_path / "vifi.pth")
    torch.testing.assert_close(live(), frozen.rows)
    assert live.source == f"{frozen.source}, trainable"
    prompts = LearnedPrompts.for_sport(SPORT, saved_clip, checkpoint=tmp_path / "vifi.pth", n_context=2)
    over = dict(prompts.tower.named_parameters())["ln_final.weight"]
    assert torch.equal(over, tuned["module.text_encoder.ln_final.weight"])
    assert prompts.source.endswith("clip.pt + vifi.pth, 2 learned context tokens")


def test_a_checkpoint_reaches_the_text_tower_of_a_custom_clip(tmp_path):
    config = {"embed_dim": 24, "vision_cfg": VISION, "text_cfg": TEXT, "custom_text": True}
    (tmp_path / "small-custom.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "small-custom.json")
    clip = small_clip(open_clip.CustomTextCLIP)
    torch.save(clip.state_dict(), tmp_path / "clip.pt")
    tuned = {key: value + 0.1 * torch.randn_like(value) for key, value in clip.text.state_dict().items()}
    torch.save(tuned, tmp_path / "tuned.pt")
    model, _ = load_text_tower(f"open_clip:small-custom/{tmp_path / 'clip.pt'}", checkpoint=tmp_path / "tuned.pt")
    assert all(torch.equal(value, tuned[name]) for name, value in TextTower(model).state_dict().items())


def test_random_towers_come_from_their_seed_alone():
    drawn = torch.random.get_rng_state()
    one, again, other = (load_text_tower(name)[0].positional_embedding for name in ("random:1", "random:1", "random:2"))
    assert torch.equal(one, again)
    assert not torch.allclose(one, other)
    assert torch.equal(torch.random.get_rng_state(), drawn)


@pytest.mark.parametrize(("tag", "quick"), [("openai", True), ("laion2b_s34b_b88k", False)])
def test_weights_run_with_the_activation_they_were_trained_with(monkeypatch, tag, quick):
    asked = {}

    def create_model(name, pretrained, **options):
        asked.update(options, name=name, pretrained=pretrained)
        return small_clip()

    monkeypatch.setattr(open_clip, "create_model", create_model)
    load_text_encoder(f"open_clip:ViT-B-16/{tag}")
    assert asked == {"name": "ViT-B-16", "pretrained": tag, "force_quick_gelu": quick}


def one(prompt: str) -> Prompts:
    return Prompts((prompt,), FEW.audio, FEW.audio_visual_grades, FEW.grades)


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda c, t: LearnedPrompts(c, t, FEW, n_context=0), "n_context=0 leaves nothing to learn; give 1 or more"),
        (
            lambda c, t: LearnedPrompts(c, t, FEW, n_context=71),
            r"'a \[XXX\] video of a back spin with 71 vectors for \[XXX\]' has more than the 77 tokens",
        ),
        (lambda c, t: TrainableTextEncoder(c, t, one("spin " * 76)), "'spin spin .* has more than the 77 tokens"),
        (lambda c, t: LearnedPrompts(c, t, one("a video of a spin")), r"'a video of a spin' wants \[XXX\] once"),
        (lambda c, t: LearnedPrompts(c, t, one("[XXX] or [XXX]")), r"wants \[XXX\] once, between spaces"),
        (lambda c, t: LearnedPrompts(c, t, one("a[XXX] video")), r"'a\[XXX\] video' wants \[XXX\] once, between"),
        (lambda c, t: LearnedPrompts(c, t, one("a [XXX]video")), r"'a \[XXX\]video' wants \[XXX\] once, between"),
        (lambda c, t: TrainableTextEncoder(nn.Linear(2, 2), t, FEW), "a Linear has no text tower of open_clip's own"),
        (
            lambda c, t: TrainableTextEncoder(small_clip(vocab_size=9), t, FEW),
            "token 49407 is none of the tower's 9; give the tokenizer that belongs to it",
        ),
        (
            lambda c, t: LearnedPrompts(small_clip(open_clip.CustomTextCLIP, embed_cls=True), t, FEW),
            "this text tower has a class token; give a causal one",
        ),
        (
            lambda c, t: LearnedPrompts(
                small_clip(open_clip.CustomTextCLIP, no_causal_mask=True, pool_type="last"), t, FEW
            ),
            "this text tower has no causal mask and pools by 'last'; give a causal one",
        ),
        (
            lambda c, t: LearnedPrompts.for_sport(SPORT, "bert"),
            "'bert'; a name looks like open_clip:<model>/<weights> or",
        ),
        (lambda c, t: LearnedPrompts.for_sport(SPORT, "random:x"), "unknown text encoder 'random:x'"),
        (
            lambda c, t: TrainableTextEncoder.for_sport(SPORT, "sentence-transformers:all-MiniLM-L6-v2"),
            "a name looks like open_clip:<model>/<weights> or random:<seed>",
        ),
        (
            lambda c, t: TrainableTextEncoder.for_sport(SPORT, "random:0", checkpoint="clip.pt"),
            "the weights of 'random:0' are random",
        ),
        (lambda c, t: TrainableTextEncoder.for_sport("judo", "random:0"), "unknown sport 'judo'"),
    ],
)
def test_bad_input_gets_one_sentence(clip, tokenizer, build, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        build(clip, tokenizer)
    assert "\n" not in str(caught.value)


def test_the_longest_prompt_that_fits_is_read_whole(clip, tokenizer):
    """77 tokens with the start and the end of the text are no error, and what a 78th would be is."""
    live = LearnedPrompts(clip, tokenizer, FEW, n_context=68)
    assert live.words.shape[1] == int(live.ends.max()) + 1 == 77
    with pytest.raises(ValueError, match="more than the 77 tokens"):
        LearnedPrompts(clip, tokenizer, FEW, n_context=69)
