"""A model of your own, guided in two lines: trained for three steps, saved, loaded into another one, and detached.

python examples/quickstart.py
"""

import tempfile

import torch
from torch import nn
from torch.nn import functional as F

from mag2 import ActionGraphGuidance, TextFeatures, attach, attached, detach, load_plugin, save_plugin


class Scorer(nn.Module):
    """Your model: clips (B, T, 64) in, scores (B,) out."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 32), nn.ReLU())
        self.head = nn.Linear(32, 1)

    def forward(self, clips):
        """Score."""
        return self.head(self.encoder(clips).mean(dim=1)).squeeze(1)


torch.manual_seed(0)
clips, labels = torch.randn(16, 20, 64), torch.rand(16)
model = Scorer()
own = {key: value.clone() for key, value in model.state_dict().items()}

# The two lines. `freeze` leaves your weights as they are; without it, all of the model learns.
guide = ActionGraphGuidance(32, TextFeatures.for_sport("figure_skating").visual)
attach(model, guide, at="encoder", freeze=True)
print("attached:", attached(model))

optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
for step in range(3):
    loss = F.mse_loss(model(clips), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(f"step {step}: loss {loss.item():.4f}")

model.eval()
with tempfile.TemporaryDirectory() as folder, torch.no_grad():
    save_plugin(model, folder)  # the guide alone: plugin.safetensors and plugin.json
    fresh = Scorer().eval()
    fresh.load_state_dict(own)  # your checkpoint
    load_plugin(fresh, folder)
    print("loaded into a fresh model, outputs equal:", torch.equal(fresh(clips), model(clips)))

detach(model)
back = model.state_dict()
print("detached, weights as before:", all(torch.equal(back[key], own[key]) for key in back), list(back) == list(own))
