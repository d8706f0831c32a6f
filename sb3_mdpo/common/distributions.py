"""What SB3's action distributions lack: actions that do not start at 0, a KL that stays finite, mixtures."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from sb3_contrib.common.maskable.distributions import (
    MaskableCategoricalDistribution,
    MaskableMultiCategoricalDistribution,
)
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    Distribution,
    MultiCategoricalDistribution,
)
from torch.nn import functional as F


class OffsetCategoricalDistribution(CategoricalDistribution):
    """
    Categorical distribution over ``start``, ..., ``start + action_dim - 1``.

    :param action_dim: number of actions
    :param start: the smallest action
    """

    def __init__(self, action_dim: int, start: int) -> None:
        super().__init__(action_dim)
        self.start = start

    def log_prob(self, actions: th.Tensor) -> th.Tensor:
        return super().log_prob(actions - self.start)

    def sample(self) -> th.Tensor:
        return super().sample() + self.start

    def mode(self) -> th.Tensor:
        return super().mode() + self.start


class OffsetMultiCategoricalDistribution(MultiCategoricalDistribution):
    """
    Independent categorical distributions, each with its own smallest action.

    :param action_dims: number of actions of each dimension
    :param start: the smallest action of each dimension
    """

    def __init__(self, action_dims: list[int], start: list[int]) -> None:
        super().__init__(action_dims)
        self.start = th.tensor(start)

    def _start_on(self, device: th.device) -> th.Tensor:
        self.start = self.start.to(device)  # copied once
        return self.start

    def log_prob(self, actions: th.Tensor) -> th.Tensor:
        return super().log_prob(actions - self._start_on(actions.device))

    def sample(self) -> th.Tensor:
        actions = super().sample()
        return actions + self._start_on(actions.device)

    def mode(self) -> th.Tensor:
        actions = super().mode()
        return actions + self._start_on(actions.device)


def starts_at_zero(space: spaces.Space[Any]) -> bool:
    """Whether the actions of a discrete space start at 0, as SB3 assumes. True for other spaces."""
    return not isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)) or not np.any(space.start)


def check_actions(space: spaces.Space[Any]) -> None:
    """A ``ValueError`` if the largest action of a discrete space is beyond its data type, or beyond int64."""
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        n = space.n if isinstance(space, spaces.Discrete) else space.nvec
        starts, counts = (np.ravel(values).tolist() for values in (space.start, n))  # Python's integers
        last = max(start + count - 1 for start, count in zip(starts, counts, strict=True))
        most = min(np.iinfo(dtype).max for dtype in (space.dtype, np.int64))
        if last > most:
            raise ValueError(
                f"Actions of the space {space} go up to {last}, but its data type {space.dtype} only to {most}: use a "
                "smaller start or, up to 2**63 - 1, dtype=np.int64."
            )


def with_start(distribution: Distribution, action_space: spaces.Space[Any]) -> Distribution:
    """
    SB3's policies ignore the ``start`` of discrete action spaces.

    :param distribution: a member's action distribution
    :param action_space: the action space
    :return: the distribution to use instead; the same one if actions start at 0
    """
    if starts_at_zero(action_space):
        return distribution
    if isinstance(action_space, spaces.Discrete):
        return OffsetCategoricalDistribution(int(action_space.n), int(action_space.start))
    assert isinstance(action_space, spaces.MultiDiscrete)
    return OffsetMultiCategoricalDistribution(action_space.nvec.tolist(), action_space.start.tolist())


CATEGORICAL = (
    *(CategoricalDistribution, MultiCategoricalDistribution),
    *(MaskableCategoricalDistribution, MaskableMultiCategoricalDistribution),
)


def dimensions(distribution: Distribution) -> list[Any]:
    """The distributions of PyTorch in one of SB3 or sb3-contrib: one for each discrete dimension, or one in all."""
    if isinstance(distribution, MaskableMultiCategoricalDistribution):
        return list(distribution.distributions)
    inner: Any = distribution.distribution
    return list(inner) if isinstance(inner, list) else [inner]


def is_valid(distributions: Sequence[Distribution]) -> bool:
    """Whether all can be sampled: no parameter is NaN. The host waits for the device once."""
    parameters: list[th.Tensor] = []
    for distribution in distributions:
        for part in dimensions(distribution):
            parameters += [part.loc, part.scale] if isinstance(part, th.distributions.Normal) else [part.logits]
    flat = [parameter.flatten() for parameter in parameters]
    return not bool((flat[0] if len(flat) == 1 else th.cat(flat)).isnan().any())


def kl_divergence(p: Distribution, q: Distribution) -> th.Tensor:
    """
    ``KL(p || q)``, exact over the whole action distribution and summed over independent action dimensions.

    Discrete distributions are compared by their logits. torch compares probabilities and returns infinity if one of
    them rounds to 0 or 1 in float32: from a gap of about 104 between two logits on, in a Bernoulli distribution of 17.

    :param p: distribution, batch size ``B``
    :param q: distribution of the same kind and batch size
    :return: shape ``(B,)``
    """
    mine, its = dimensions(p), dimensions(q)
    if isinstance(p, CATEGORICAL):
        kls = [_categorical_kl(*pair) for pair in zip(mine, its, strict=True)]
        return kls[0] if len(kls) == 1 else th.stack(kls, dim=1).sum(dim=1)
    if isinstance(p, BernoulliDistribution):
        return _bernoulli_kl(mine[0].logits, its[0].logits).sum(dim=1)
    return th.distributions.kl_divergence(mine[0], its[0]).sum(dim=1)


def _categorical_kl(p: th.distributions.Categorical, q: th.distributions.Categorical) -> th.Tensor:
    return (p.probs * (p.logits - q.logits)).sum(dim=-1)


def _bernoulli_kl(p_logits: th.Tensor, q_logits: th.Tensor) -> th.Tensor:
    # log(p / q) and log((1 - p) / (1 - q)) without the probabilities; 1 - sigmoid(x) loses the digits of sigmoid(-x)
    success = th.sigmoid(p_logits) * (F.softplus(-q_logits) - F.softplus(-p_logits))
    failure = th.sigmoid(-p_logits) * (F.softplus(q_logits) - F.softplus(p_logits))
    return success + failure


def mixture_sample(distributions: Sequence[Distribution]) -> th.Tensor:
    """
    Sample from the average of distributions: one of them is drawn per observation, then an action from it.

    :param distributions: same kind, batch size ``B`` each
    :return: actions, shape ``(B, ...)``
    """
    actions = th.stack([distribution.sample() for distribution in distributions])
    batch = th.arange(actions.shape[1], device=actions.device)
    return actions[th.randint(len(distributions), batch.shape, device=actions.device), batch]


def mixture_mode(distributions: Sequence[Distribution]) -> th.Tensor:
    """
    The most probable action under the averaged probabilities, per dimension; for Gaussians, whose
    average need not have one mode, the mean of the members' modes.

    :param distributions: same kind, batch size ``B`` each
    :return: actions, shape ``(B, ...)``
    """
    first: Any = copy(distributions[0])
    parts = [dimensions(distribution) for distribution in distributions]
    if isinstance(first, CATEGORICAL):
        groups = zip(*parts, strict=True)
        return first.proba_distribution(th.cat([_mean_probs(group).log() for group in groups], dim=1)).mode()  # type: ignore[no-any-return]
    if isinstance(first, BernoulliDistribution):
        return first.proba_distribution(_mean_probs([part for (part,) in parts]).logit()).mode()  # type: ignore[no-any-return]
    return th.stack([distribution.mode() for distribution in distributions]).mean(0)


def _mean_probs(distributions: Sequence[th.distributions.Distribution]) -> th.Tensor:
    return th.stack([distribution.probs for distribution in distributions]).mean(0)  # type: ignore[attr-defined]


@contextmanager
def distribution_checks(on: bool) -> Iterator[None]:
    """Switch the argument checks of torch's distributions on or off; they make the host wait for the device."""
    before = th.distributions.Distribution._validate_args
    th.distributions.Distribution.set_default_validate_args(on)
    try:
        yield
    finally:
        th.distributions.Distribution.set_default_validate_args(before)
