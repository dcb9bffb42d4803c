"""The models of the field, as their papers describe them; `released=True` for what their released code does."""

from mag2.baselines.cofinal import CoFInAl
from mag2.baselines.gdlt import GDLT
from mag2.baselines.pamfn import PAMFN
from mag2.baselines.pamfn_branch import ModalityBranch
from mag2.baselines.qtd import QTD

__all__ = ["GDLT", "PAMFN", "QTD", "CoFInAl", "ModalityBranch"]
