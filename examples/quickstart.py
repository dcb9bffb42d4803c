"""A model of your own, guided in two lines: trained, saved, loaded into another one, and detached.

python examples/quickstart.py

Prints each step. Where matplotlib is installed it also draws the loss and the scores with and without the guide into
runs/quickstart.png (`--figure`). The clips are random numbers: it shows the calls, and
measures nothing.
"""

import argparse
import sys
import tempfile
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--steps", type=int, default=3, help="number of training steps (3)")
FIGURE = Path("runs/quickstart.png")
parser.add_argument("--figure", type=Path, default=FIGURE, metavar="FILE", help=f"file of the figure ({FIGURE})")
options = parser.parse_args()
if options.steps < 1:
    parser.exit(2, f"{parser.prog}: error: --steps is {options.steps}; give 1 or more\n")

# After the options: --help need not wait for torch.
import torch  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from mag2 import (  # noqa: E402
    ActionGraphGuidance,
    TextFeatures,
    attach,
    attached,
    detach,
    disabled,
    load_plugin,
    save_plugin,
)


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

optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2, foreach=False)
losses = []
for step in range(options.steps):
    loss = F.mse_loss(model(clips), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
    print(f"step {step}: loss {losses[-1]:.4f}")

model.eval()
with tempfile.TemporaryDirectory() as folder, torch.no_grad():
    save_plugin(model, folder)  # the guide alone: plugin.safetensors and plugin.json
    fresh = Scorer().eval()
    fresh.load_state_dict(own)  # your checkpoint
    load_plugin(fresh, folder)
    print("loaded into a fresh model, outputs equal:", torch.equal(fresh(clips), model(clips)))
    guided = model(clips)
    with disabled(model):
        plain = model(clips)

detach(model)
back = model.state_dict()
print("detached, weights as before:", all(torch.equal(back[key], own[key]) for key in back), list(back) == list(own))


def draw(file: Path) -> None:
    """The loss of each step, and each performance's score without and with the guide beside its label."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    left.plot(range(len(losses)), losses, marker="o")
    left.set(xlabel="step", ylabel="loss", title="Training the guide alone")
    right.scatter(labels, plain, label="your model")
    right.scatter(labels, guided, label="guided")
    right.set(xlabel="label (random)", ylabel="score", title="Simulated clips")
    right.legend()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)


try:
    draw(options.figure)
    print("drawn:", options.figure)
except ImportError:
    print("no figure: pip install matplotlib to draw one")
except OSError as error:
    sys.exit(f"quickstart.py: error: {options.figure} cannot be written ({error.strerror}); give another --figure")
