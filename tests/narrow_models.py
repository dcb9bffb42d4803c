"""The models of the field, as narrow as they can be, each with the inputs of a call."""

import torch

from mag2 import TextFeatures
from mag2.baselines import GDLT, PAMFN, QTD, SGN, CoFInAl, MBertLate, ModalityBranch, SkatingMixer

TEXTS = TextFeatures.for_sport("figure_skating")
VISUAL, AUDIO, FLOW = (torch.randn(3, 8, width, generator=torch.Generator().manual_seed(width)) for width in (6, 5, 4))
MODELS = {
    "GDLT": (lambda: GDLT(in_dim=6, dim=8, n_grades=5), (VISUAL,)),
    "CoFInAl": (lambda: CoFInAl(in_dim=6, dim=8, reversed_branch=False), (VISUAL,)),
    "QTD": (lambda: QTD(in_dim=6, dim=8, n_queries=4, feed_forward=8, max_len=16, query_var=2.0), (VISUAL,)),
    "PAMFN": (lambda: PAMFN(visual_dim=6, audio_dim=5, flow_dim=4, dim=8, n_kinds=3), (VISUAL, AUDIO, FLOW)),
    "ModalityBranch": (lambda: ModalityBranch(in_dim=6, dim=8), (VISUAL,)),
    "SkatingMixer": (lambda: SkatingMixer(visual_dim=6, audio_dim=5, dim=8), (VISUAL, AUDIO)),
    "MBertLate": (lambda: MBertLate(visual_dim=6, audio_dim=5, dim=8, n_heads=2, n_layers=2), (VISUAL, AUDIO)),
    "SGN": (lambda: SGN(TEXTS.visual, visual_dim=6, audio_dim=5, dim=8, n_heads=2), (VISUAL, AUDIO)),
}
