# %% [markdown]
# # A real programme's score explained
#
# A model is trained on real programmes and real scores. It then scores a test performance: the score, an interval, and
# the contribution of each element. Run it with `python examples/tutorials/programme_explained.py`.
#
# ## Train, and keep the model
#
# A clip is an executed element. Its feature is a text encoder's embedding of the element's description, made from the
# code on the score sheet of the ISU. No video is used, so the features contain *which* elements were skated and not
# *how well*. The target is TES, the technical element score.

# %%
import torch

from mag2 import load_trained
from mag2.baselines import GDLT
from mag2.data import read_isu
from mag2.training import Recipe, Run, fit

data = read_isu("TES")
torch.manual_seed(0)
model = GDLT(in_dim=384, dim=64, n_heads=4)
run = Run(epochs=8, seed=0, folder="runs/programmes")
history = fit(model, data, Recipe(lr=1e-3, batch=32), run, keep_model=True)
print(f"Spearman over all disciplines after the last epoch: {history.last.spearman:.3f}")

# %% [markdown]
# ## Score a performance
#
# `load_trained` loads the model with its scale and its test set. The example is the first free skating of the ladies in
# the test set:

# %%
from mag2.programmes import read_performances, train_and_test

trained = load_trained("runs/programmes")
_, test = train_and_test(read_performances())
performance = next(each for each in test if each.discipline == "ladies" and each.segment == "free")
place = data.test.names.index(performance.id)
scores = trained.score(data.test.subset([place]), explain=["occlusion"])
scored = scores[performance.id]
print(f"predicted {scored.score:.1f}, from {scored.low:.1f} to {scored.high:.1f} ({scores.interval})")
print(f"the judges gave {performance.score('TES'):.1f}")

# %% [markdown]
# On average, the 90 % interval does not contain the true score of one performance in ten.
#
# ## What each element adds
#
# Occlusion replaces one clip by the mean of the others. The contribution is the score minus the score after the
# replacement. It describes the *model*, not the reasons of the judges.

# %%
from mag2.programmes import read_code

added = scored.contributions["occlusion"]
for element, points in sorted(zip(performance.elements, added, strict=False), key=lambda pair: -float(pair[1])):
    print(f"{float(points):+6.2f}  {element.code:12s} {read_code(element.code).description}")
