# %% [markdown]
# # Two lines on your model
#
# You have a model that scores performances. This page puts MAG² behind its encoder, trains both on real programmes, and
# takes the guide out again. Run it with `python examples/tutorials/two_lines.py`.
#
# ## A model of your own
#
# An encoder of clips, their mean, and a linear map. Training needs two methods: `forward` with the features of three
# modalities (audio and flow are None here), and `loss`.

# %%
import torch
from torch import nn


class Scorer(nn.Module):
    """Clips (B, T, 384) in, a score in [0, 1] for each performance out."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(384, 64), nn.ReLU())
        self.head = nn.Linear(64, 1)

    def forward(self, visual, audio=None, flow=None):
        return {"score": self.head(self.encoder(visual).mean(dim=1)).squeeze(1).sigmoid()}

    def loss(self, output, label):
        return {"total": nn.functional.mse_loss(output["score"], label)}


# %% [markdown]
# ## Real programmes
#
# The library ships 1,726 real performances of figure skating. A clip is an executed element, its features are those of
# its words. Ladies' short programmes are few and quick to train on.

# %%
from mag2.data import read_isu

data = read_isu("TES", discipline="ladies", segment="short")
print(data)

# %% [markdown]
# ## The two lines
#
# `attach` puts the guide into the encoder. It adds its output to the features there.

# %%
from mag2 import ActionGraphGuidance, TextFeatures, attach, attached, detach, print_trainable_parameters

texts = TextFeatures.for_sport("figure_skating")


def build(guided):
    torch.manual_seed(0)
    model = Scorer()
    if guided:
        attach(model, ActionGraphGuidance(64, texts.visual), at="encoder")
    return model


model = build(guided=True)
print_trainable_parameters(model)

# %% [markdown]
# ## Train both
#
# The optimizer is built by `fit`, after `attach`: one that is built before does not know the guide.

# %%
from mag2.training import Recipe, Run, fit

recipe, run = Recipe(lr=5e-3, batch=16), Run(epochs=20, seed=0)
for name, guided in (("plain", False), ("guided", True)):
    model = build(guided)
    history = fit(model, data, recipe, run)
    print(f"{name}: Spearman {history.last.spearman:.3f} after the last epoch")

# %% [markdown]
# One seed tells nothing about which of the two is better. [Real programmes](../programmes.md) has several seeds, the
# spread, and baselines that are simpler than both.
#
# ## What is attached, and back again

# %%
print(attached(model))
keys = [key for key in model.state_dict() if ".mag2." not in key]
detach(model)
print("the model's own keys are as before:", keys == list(model.state_dict()))
