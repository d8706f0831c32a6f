"""Experiments on generalization: evaluation on unseen levels, robustness, representations, studies and reports."""

from typing import TYPE_CHECKING

from sb3_mdpo.utils.lazy import lazy_attributes

if TYPE_CHECKING:
    from sb3_mdpo.lab.generalization.evaluation import evaluate_generalization
    from sb3_mdpo.lab.generalization.results import GeneralizationResult
    from sb3_mdpo.lab.generalization.scores import normalized_score, paper_returns
    from sb3_mdpo.lab.generalization.trained import TrainedModel, open_trained
    from sb3_mdpo.lab.perturbations.images import image_perturbations
    from sb3_mdpo.lab.representation.analysis import analyse_features
    from sb3_mdpo.lab.robustness.measure import measure_robustness
    from sb3_mdpo.lab.statistics.results import read_results
    from sb3_mdpo.lab.study.config import read_study
    from sb3_mdpo.lab.study.study import run_study, study_status

__all__ = [
    "GeneralizationResult",
    "TrainedModel",
    "analyse_features",
    "evaluate_generalization",
    "image_perturbations",
    "measure_robustness",
    "normalized_score",
    "open_trained",
    "paper_returns",
    "read_results",
    "read_study",
    "run_study",
    "study_status",
]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "GeneralizationResult": "sb3_mdpo.lab.generalization.results",
        "TrainedModel": "sb3_mdpo.lab.generalization.trained",
        "analyse_features": "sb3_mdpo.lab.representation.analysis",
        "evaluate_generalization": "sb3_mdpo.lab.generalization.evaluation",
        "image_perturbations": "sb3_mdpo.lab.perturbations.images",
        "measure_robustness": "sb3_mdpo.lab.robustness.measure",
        "normalized_score": "sb3_mdpo.lab.generalization.scores",
        "open_trained": "sb3_mdpo.lab.generalization.trained",
        "paper_returns": "sb3_mdpo.lab.generalization.scores",
        "read_results": "sb3_mdpo.lab.statistics.results",
        "read_study": "sb3_mdpo.lab.study.config",
        "run_study": "sb3_mdpo.lab.study.study",
        "study_status": "sb3_mdpo.lab.study.study",
    },
)
