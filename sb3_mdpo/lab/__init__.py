"""Experiments on generalization: evaluation on unseen levels, robustness, representations, studies and reports."""

from typing import TYPE_CHECKING

from sb3_mdpo.utils.lazy import lazy_attributes

if TYPE_CHECKING:
    from sb3_mdpo.lab.distillation import distill_ensemble as distill_ensemble
    from sb3_mdpo.lab.generalization.evaluation import evaluate_generalization as evaluate_generalization
    from sb3_mdpo.lab.generalization.published import reference_curves as reference_curves
    from sb3_mdpo.lab.generalization.results import GeneralizationResult as GeneralizationResult
    from sb3_mdpo.lab.generalization.scores import normalized_score as normalized_score
    from sb3_mdpo.lab.generalization.trained import TrainedModel as TrainedModel
    from sb3_mdpo.lab.generalization.trained import open_trained as open_trained
    from sb3_mdpo.lab.perturbations.images import image_perturbations as image_perturbations
    from sb3_mdpo.lab.representation.analysis import analyse_features as analyse_features
    from sb3_mdpo.lab.robustness.measure import measure_robustness as measure_robustness
    from sb3_mdpo.lab.statistics.differences import method_differences as method_differences
    from sb3_mdpo.lab.statistics.results import read_results as read_results
    from sb3_mdpo.lab.statistics.scores import final_scores as final_scores
    from sb3_mdpo.lab.statistics.scores import task_table as task_table
    from sb3_mdpo.lab.study.config import read_study as read_study
    from sb3_mdpo.lab.study.study import run_study as run_study
    from sb3_mdpo.lab.study.study import study_status as study_status

_MODULES = {
    "GeneralizationResult": "sb3_mdpo.lab.generalization.results",
    "TrainedModel": "sb3_mdpo.lab.generalization.trained",
    "analyse_features": "sb3_mdpo.lab.representation.analysis",
    "distill_ensemble": "sb3_mdpo.lab.distillation",
    "evaluate_generalization": "sb3_mdpo.lab.generalization.evaluation",
    "final_scores": "sb3_mdpo.lab.statistics.scores",
    "image_perturbations": "sb3_mdpo.lab.perturbations.images",
    "measure_robustness": "sb3_mdpo.lab.robustness.measure",
    "method_differences": "sb3_mdpo.lab.statistics.differences",
    "normalized_score": "sb3_mdpo.lab.generalization.scores",
    "open_trained": "sb3_mdpo.lab.generalization.trained",
    "read_results": "sb3_mdpo.lab.statistics.results",
    "read_study": "sb3_mdpo.lab.study.config",
    "reference_curves": "sb3_mdpo.lab.generalization.published",
    "run_study": "sb3_mdpo.lab.study.study",
    "study_status": "sb3_mdpo.lab.study.study",
    "task_table": "sb3_mdpo.lab.statistics.scores",
}
__all__ = list(_MODULES)
__getattr__, __dir__ = lazy_attributes(__name__, _MODULES)
