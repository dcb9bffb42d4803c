"""The models of the field, as their papers describe them; with `released=True` they behave as their released code."""

from mag2.baselines.cofinal import CoFInAl
from mag2.baselines.gdlt import GDLT
from mag2.baselines.mbert import MBertLate
from mag2.baselines.mixer import SkatingMixer
from mag2.baselines.pamfn import PAMFN
from mag2.baselines.pamfn_branch import ModalityBranch
from mag2.baselines.qtd import QTD
from mag2.baselines.sgn import SGN

__all__ = ["GDLT", "PAMFN", "QTD", "SGN", "CoFInAl", "MBertLate", "ModalityBranch", "SkatingMixer"]
