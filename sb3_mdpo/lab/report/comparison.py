"""The comparison of methods that the page and the figures show."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sb3_mdpo.lab.generalization.results import ENSEMBLE
from sb3_mdpo.lab.statistics.aggregates import (
    THRESHOLDS,
    aggregate_scores,
    performance_profiles,
    point_aggregates,
    probability_of_improvement,
    sample_efficiency,
)
from sb3_mdpo.lab.statistics.scores import (
    MEMBERS,
    ScoreMatrices,
    common_seeds,
    final_scores,
    score_column,
    score_matrices,
)


@dataclass(frozen=True)
class Comparison:
    """All that is None cannot be computed; ``note`` says why."""

    label: str = "score"  #: or ``"normalised score"`` or ``"return"``
    note: str | None = None
    aggregates: pd.DataFrame | None = None  #: of the members, with ``low`` and ``high`` if there are intervals
    ensembles: pd.DataFrame | None = None  #: of the ensembles
    improvement: pd.DataFrame | None = None  #: probabilities that the first method is better than each of the others
    profiles: pd.DataFrame | None = None
    efficiency: pd.DataFrame | None = None  #: interquartile mean during training


def compare(results: pd.DataFrame, reps: int, seed: int = 0, reference: str = "mdpo") -> Comparison:
    """
    Compare the members, ``reference`` with each other method; without intervals if there are too few seeds or the
    methods have different ones, and with nothing but a note if scores cannot be compared.
    """
    scores = final_scores(results)
    members, ensembles = (scores[scores["policies"] == policies] for policies in (MEMBERS, ENSEMBLE))
    try:
        column = score_column(members)
    except ValueError as error:
        return Comparison(note=str(error))
    label = "normalised score" if column.endswith("normalized") else "return"
    try:
        matrices = score_matrices(members, column)
        aggregates = _with_intervals(matrices, reps, seed)
    except ValueError as error:
        common = common_seeds(members)
        points = None if common.empty else _meaningful(point_aggregates(score_matrices(common, column)), label)
        return Comparison(label, str(error), points)
    of_ensembles = None
    if not ensembles.empty:
        of_ensembles = _meaningful(_with_intervals(score_matrices(ensembles, column), reps, seed), label)
    first = reference if reference in matrices.scores else next(iter(matrices.scores))
    several = len(matrices.scores) > 1
    return Comparison(
        label=label,
        note=None if "low" in aggregates else f"{len(matrices.seeds)} seeds are too few.",
        aggregates=_meaningful(aggregates, label),
        ensembles=of_ensembles,
        improvement=probability_of_improvement(matrices, first) if several else None,
        profiles=performance_profiles(matrices, _thresholds(matrices), reps, seed),
        efficiency=sample_efficiency(results, column, reps, seed),
    )


def _with_intervals(matrices: ScoreMatrices, reps: int, seed: int) -> pd.DataFrame:
    """Without ``low`` and ``high`` if there are too few seeds for intervals."""
    return aggregate_scores(matrices, reps, seed).dropna(axis="columns", how="all")


def _meaningful(aggregates: pd.DataFrame, label: str) -> pd.DataFrame:
    """The optimality gap, the distance to a score of 1, has no meaning for returns."""
    return aggregates if label != "return" else aggregates[aggregates["metric"] != "optimality gap"]


def _thresholds(matrices: ScoreMatrices) -> NDArray[np.float64]:
    values = np.stack(list(matrices.scores.values()))
    in_unit = values.min() >= 0 and values.max() <= 1
    low, high = (0.0, 1.0) if in_unit else (float(values.min()), float(values.max()))
    return np.linspace(low, high, len(THRESHOLDS))
