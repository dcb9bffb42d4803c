# %% [markdown]
# # Two lines on your model
#
# You have a model that scores performances. This tutorial attaches MAG² as a *guide* to its encoder, trains the model
# without and with the guide on real programmes, and removes the guide. Run it with
# `python examples/tutorials/two_lines.py`.
#
# ## A model of your own
#
# The model is an encoder of clips, the mean over the clips, and a linear map. Training needs two methods: `forward`,
# which takes the features of three modalities (audio and flow are None here), and `loss`.

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
# The library ships 1,726 real performances of figure skating. A clip is an executed element; its feature is a text
# encoder's embedding of the element's description. This tutorial uses the short programmes of the ladies, which are
# few, so that the training is quick.

# %%
from mag2.data import read_isu

data = read_isu("TES", discipline="ladies", segment="short")
print(data)

# %% [markdown]
# ## The two lines
#
# `attach` attaches the guide to the encoder. The output of the guide is added to the output of the encoder.

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
# ## Train without and with the guide
#
# `fit` builds the optimizer, after `attach`. An optimizer that is built before `attach` does not update the guide.

# %%
from mag2.training import Recipe, Run, fit

recipe, run = Recipe(lr=5e-3, batch=16), Run(epochs=20, seed=0)
for name, guided in (("plain", False), ("guided", True)):
    model = build(guided)
    history = fit(model, data, recipe, run)
    print(f"{name}: Spearman {history.last.spearman:.3f} after the last epoch")

# %% [markdown]
# One seed does not show which of the two is better. [Real programmes](../programmes.md) has several seeds, the spread,
# and simpler baselines.
#
# ## List and remove the guide

# %%
print(attached(model))
keys = [key for key in model.state_dict() if ".mag2." not in key]
detach(model)
print("the model's own keys are as before:", keys == list(model.state_dict()))
