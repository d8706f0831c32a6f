"""Errors for NaN and infinity in a training, with the quantity, the members and the time step."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch as th
from numpy.typing import NDArray
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecNormalize

from sb3_mdpo.common.buffers import MutualRolloutBuffer
from sb3_mdpo.common.distributions import distribution_checks
from sb3_mdpo.common.mutual_policy import MutualPolicy

EnvArrays = NDArray[Any] | dict[str, NDArray[Any]]  # first axis the environments

# Metrics that can damage the weights, in the order in which they are reported: the parts of the loss (the term that
# involves the peers last), then the sum and its gradient
BLAMED = ("policy_gradient_loss", "value_loss", "entropy_loss", "distill_kl", "loss", "grad_norm")

_ENVIRONMENT = (
    "The environment returned them: check it with stable_baselines3.common.env_checker.check_env, and see the action "
    "that led there with VecCheckNan(env, raise_exception=True) directly around it. VecNormalize does not help, as its "
    "statistics are not finite either then: limit such values in a wrapper below it."
)
_NETWORK = (
    "The networks overflow, mostly because learning_rate is too large or because observations or rewards are: lower "
    "learning_rate, scale with VecNormalize, and start again or continue from an earlier model."
)
_UPDATE = (
    "Mostly learning_rate is too large, or observations or rewards are: lower learning_rate, scale with VecNormalize. "
)
_DAMAGED = "The weights are damaged: start again or continue from an earlier model."
_INTACT = "The weights are still finite."
ADVICE = {
    "observations": _ENVIRONMENT,
    "rewards": _ENVIRONMENT,
    "bootstrapped rewards": (
        "The environment's rewards were finite. Where a time limit ends an episode, the value of its last observation "
        "is added: check info['terminal_observation'] of the environment, and that rewards are below 1e38."
    ),
    "returns": "They are sums of rewards and values, which are too large: scale the rewards, e.g. with VecNormalize.",
    "statistics of VecNormalize": (
        "A value was too large for its square to be finite in float32, and everything it belongs to is normalized to 0 "
        "from now on: limit such values in a wrapper below VecNormalize, and start again."
    ),
    "weights": (
        "An earlier update or the file that they are from has damaged them: start again or continue from an earlier "
        "model, with a lower learning_rate."
    ),
    "values": _NETWORK,
    "log_probs": _NETWORK,
    "action distribution": _NETWORK,
    **dict.fromkeys(BLAMED, _UPDATE),
}


class NonFiniteError(FloatingPointError, ValueError):
    """
    NaN or infinity that a training cannot continue with. Also a ``ValueError``, as torch raises and as the zoo's
    hyperparameter search prunes.

    :param quantity: what is not finite: ``observations`` (with the key of dictionaries), ``rewards``, ``bootstrapped
        rewards``, ``values``, ``log_probs``, ``returns``, ``action distribution``, ``weights``, or one of
        :data:`BLAMED`
    :param members: indices of the affected members
    :param num_timesteps: environment steps of all policies together
    :param environments: indices of the affected environments, if known
    :param epoch: index of the epoch, for errors in an update
    :param minibatch: index of the minibatch in the epoch, for errors in an update
    :param damaged: whether weights are not finite after the update, for errors in an update
    """

    def __init__(
        self,
        quantity: str,
        members: Sequence[int],
        num_timesteps: int,
        environments: Sequence[int] = (),
        epoch: int | None = None,
        minibatch: int | None = None,
        damaged: bool = False,
    ) -> None:
        super().__init__(
            quantity, members, num_timesteps, environments, epoch, minibatch, damaged
        )  # what pickle passes
        self.quantity = quantity
        self.members = tuple(members)
        self.num_timesteps = num_timesteps
        self.environments = tuple(environments)
        self.epoch = epoch
        self.minibatch = minibatch
        self.damaged = damaged

    @property
    def member(self) -> int:
        """Index of the first of the members."""
        return self.members[0]

    def __str__(self) -> str:
        where = [f"environment {_listed(self.environments)}"] if self.environments else []
        where.append(f"member {_listed(self.members)}")
        when = f"num_timesteps={self.num_timesteps}"
        if self.epoch is not None:
            when = f"epoch {self.epoch}, minibatch {self.minibatch} of the update at {when}"
        advice = ADVICE[self.quantity.partition("[")[0]]
        if self.epoch is not None:
            advice += _DAMAGED if self.damaged else _INTACT
        return f"NaN or infinity in {self.quantity} of {', '.join(where)}; {when}. {advice}"


def _listed(indices: Sequence[int]) -> str:
    return " and ".join(map(str, indices)) if len(indices) < 3 else ", ".join(map(str, indices))


def check_environments(
    quantity: str, values: EnvArrays, n_policies: int, num_timesteps: int, original: Callable[[], EnvArrays] | None
) -> None:
    """
    Check observations or rewards that the environments returned.

    :param quantity: ``observations`` or ``rewards``
    :param values: first axis the environments; integers are not checked
    :param n_policies: number of members
    :param num_timesteps: environment steps so far
    :param original: returns the values before normalisation, whose statistics spread a NaN to all environments
    :raises NonFiniteError: if a value is not finite
    """
    for key, part in values.items() if isinstance(values, dict) else [("", values)]:
        if not _is_finite(part):
            environments = (_not_finite(original()) if original is not None else []) or _not_finite(part)
            members = _members_of(environments, len(part), n_policies)
            raise NonFiniteError(f"{quantity}[{key!r}]" if key else quantity, members, num_timesteps, environments)


def _is_finite(values: NDArray[Any]) -> bool:
    return values.dtype.kind != "f" or bool(np.isfinite(values).all())


def _not_finite(values: EnvArrays) -> list[int]:
    parts = list(values.values()) if isinstance(values, dict) else [values]
    return [idx for idx in range(len(parts[0])) if not all(_is_finite(part[idx]) for part in parts)]


def _members_of(environments: Sequence[int], n_envs: int, n_policies: int) -> list[int]:
    return sorted({idx // (n_envs // n_policies) for idx in environments})


@contextmanager
def acting(policy: MutualPolicy, observations: EnvArrays, num_timesteps: int, inputs: dict[str, Any]) -> Iterator[None]:
    """
    Context in which the members act, whose error for an invalid distribution is replaced by one that names the cause.

    :raises NonFiniteError: if weights or distributions are not finite
    """
    try:
        yield
    except ValueError as error:
        found = in_weights(policy, num_timesteps) or _in_distributions(policy, observations, num_timesteps, inputs)
        if found is not None:
            raise found from error
        raise


def in_weights(policy: MutualPolicy, num_timesteps: int) -> NonFiniteError | None:
    """The error for weights that are not finite, None if all are finite."""
    members = [
        k for k, member in enumerate(policy.members) if not all(part.isfinite().all() for part in member.parameters())
    ]
    return NonFiniteError("weights", members, num_timesteps) if members else None


def _in_distributions(
    policy: MutualPolicy, observations: EnvArrays, num_timesteps: int, inputs: dict[str, Any]
) -> NonFiniteError | None:
    with th.no_grad(), distribution_checks(False):
        distributions = policy.own_distributions(obs_as_tensor(observations, policy.device), **inputs)  # type: ignore[arg-type]
        # The mode's probability depends on all parameters of a distribution
        finite = th.cat([own.log_prob(own.mode()).isfinite() for own in distributions])
    if finite.all():
        return None
    environments = (~finite).nonzero().flatten().tolist()
    members = _members_of(environments, len(finite), policy.n_policies)
    return NonFiniteError("action distribution", members, num_timesteps, environments)


def check_statistics(normalize: VecNormalize | None, n_policies: int, num_timesteps: int) -> None:
    """
    :param normalize: environments with statistics, if any
    :param n_policies: number of members
    :param num_timesteps: environment steps so far
    :raises NonFiniteError: if a statistic is not finite, through a value that was
    """
    if normalize is None:
        return
    parts = normalize.obs_rms if normalize.norm_obs else {}
    statistics = [*(parts.values() if isinstance(parts, dict) else [parts]), normalize.ret_rms]
    if not all(np.isfinite(one.mean).all() and np.isfinite(one.var).all() for one in statistics):
        raise NonFiniteError("statistics of VecNormalize", range(n_policies), num_timesteps)


def check_collected(
    buffer: MutualRolloutBuffer, last_values: th.Tensor, policy: MutualPolicy, num_timesteps: int, n_ranks: int = 1
) -> None:
    """
    Check a complete rollout before an update. The host waits for the device once.

    :param buffer: the rollout, with returns
    :param last_values: values of the observations after the last step, one per environment
    :param policy: the members
    :param num_timesteps: environment steps at the end of the rollout
    :param n_ranks: number of processes, each with the same number of environments
    :raises NonFiniteError: if values, log probabilities, rewards or returns are not finite
    """
    # Values and rewards that are not finite make the returns not finite
    if (buffer.returns.isfinite() & buffer.log_probs.isfinite()).all():
        return
    steps = buffer.n_envs * n_ranks
    started = num_timesteps - buffer.buffer_size * steps
    if (damaged := in_weights(policy, started)) is not None:
        raise damaged
    values = th.cat([buffer.values, last_values.view(1, -1).to(buffer.device)])
    for quantity, series, first_step in (
        ("values", values, 0),
        ("log_probs", buffer.log_probs, 0),
        ("bootstrapped rewards", buffer.rewards, 1),
        ("returns", buffer.returns.flip(0), buffer.buffer_size),  # they add up from the end
    ):
        at = (~series.isfinite()).nonzero()
        if len(at):
            row = int(at[0, 0])
            environments = at[at[:, 0] == row, 1].tolist()
            members = _members_of(environments, buffer.n_envs, policy.n_policies)
            step = first_step - row if quantity == "returns" else first_step + row
            raise NonFiniteError(quantity, members, started + step * steps, environments)
