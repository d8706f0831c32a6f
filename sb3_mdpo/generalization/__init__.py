"""How well policies do on levels that they never saw.

The public names are imported on first use (PEP 562), so that ``sb3-mdpo --help`` need not wait for torch.
"""

from typing import TYPE_CHECKING, Any

_MODULE_OF = {
    "GeneralizationEvalCallback": "sb3_mdpo.generalization.callback",
    "GeneralizationResult": "sb3_mdpo.generalization.evaluation",
    "evaluate_generalization": "sb3_mdpo.generalization.evaluation",
    "normalized_score": "sb3_mdpo.generalization.scores",
    "open_trained": "sb3_mdpo.generalization.trained",
    "paper_returns": "sb3_mdpo.generalization.scores",
}

__all__ = [
    "GeneralizationEvalCallback",
    "GeneralizationResult",
    "evaluate_generalization",
    "normalized_score",
    "open_trained",
    "paper_returns",
]

if TYPE_CHECKING:
    from sb3_mdpo.generalization.callback import GeneralizationEvalCallback
    from sb3_mdpo.generalization.evaluation import GeneralizationResult, evaluate_generalization
    from sb3_mdpo.generalization.scores import normalized_score, paper_returns
    from sb3_mdpo.generalization.trained import open_trained


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
