"""Confidence intervals of a mean."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


def confidence_interval(returns: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """
    Student's t interval of the mean.

    :param returns: independent returns, at least two
    :param confidence: confidence level
    :return: its ends
    :raises ValueError: if there are fewer than two returns
    """
    if len(returns) < 2:
        raise ValueError(f"{len(returns)} episode(s) give no interval: evaluate at least 2.")
    half = stats.t.ppf((1 + confidence) / 2, len(returns) - 1) * stats.sem(returns)
    return float(np.mean(returns) - half), float(np.mean(returns) + half)
