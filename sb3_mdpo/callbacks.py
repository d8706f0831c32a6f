"""All callbacks of this package under one import path, for programs and for ``callback:`` in the zoo's files."""

from typing import TYPE_CHECKING

from sb3_mdpo.utils.lazy import lazy_attributes

if TYPE_CHECKING:
    from sb3_mdpo.common.callbacks import BudgetCallback, HParamCallback
    from sb3_mdpo.lab.generalization.callback import GeneralizationEvalCallback
    from sb3_mdpo.persistence.checkpoints.callback import ResumableCheckpointCallback

__all__ = ["BudgetCallback", "GeneralizationEvalCallback", "HParamCallback", "ResumableCheckpointCallback"]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "BudgetCallback": "sb3_mdpo.common.callbacks",
        "GeneralizationEvalCallback": "sb3_mdpo.lab.generalization.callback",
        "HParamCallback": "sb3_mdpo.common.callbacks",
        "ResumableCheckpointCallback": "sb3_mdpo.persistence.checkpoints.callback",
    },
)
