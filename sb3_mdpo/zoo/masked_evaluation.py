"""Action masks in the zoo's evaluations, which do not know them. Apart, because the zoo's callbacks import Optuna."""

from typing import Any

from rl_zoo3.callbacks import TrialEvalCallback
from sb3_contrib.common.maskable.callbacks import MaskableEvalCallback


class MaskableTrialEvalCallback(TrialEvalCallback, MaskableEvalCallback):  # type: ignore[misc]
    """The zoo's evaluation of a trial of ``-optimize``, with masks."""


#: Names in ``rl_zoo3.exp_manager`` and what replaces them for this algorithm
CALLBACKS: dict[str, Any] = {"EvalCallback": MaskableEvalCallback, "TrialEvalCallback": MaskableTrialEvalCallback}
