"""The budget that a training has used: samples, passes through the networks, time."""

import time
from dataclasses import dataclass
from typing import Any

from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from sb3_mdpo.common.on_policy_algorithm import MutualOnPolicyAlgorithm


@dataclass(frozen=True)
class Budget:
    """
    :param timesteps: environment steps of all policies together
    :param timesteps_per_policy: environment steps of each policy
    :param trained_images: samples that went forward and backward through a policy: a member's own samples, and those of
        peers for which it gets gradients
    :param seconds: wall time since ``learn()`` was called, including evaluations and, if known, the resumed training
    """

    timesteps: int
    timesteps_per_policy: int
    trained_images: int
    seconds: float


class BudgetMeter:
    """
    Reads the budget of a training, for callbacks.

    MDPO counts its samples itself. For other on-policy algorithms the steps of the optimizer are counted: with SB3's
    PPO one per minibatch, without the minibatch that reaches ``target_kl``, with A2C one per rollout.
    """

    def __init__(self) -> None:
        self._model: OnPolicyAlgorithm | None = None
        self._hook: Any = None
        self._samples = 0
        self._seconds = 0.0
        self._epoch, self._minibatch = -1, 0

    def start(self, model: OnPolicyAlgorithm, before: Budget | None = None) -> None:
        """
        :param model: MDPO or another on-policy algorithm
        :param before: the budget of the interrupted training that is resumed, if known
        :raises TypeError: if the model is of another kind
        """
        if not isinstance(model, OnPolicyAlgorithm):
            raise TypeError(f"The budget of {type(model).__name__} is not known: use an on-policy algorithm like MDPO.")
        if before is not None:
            self._samples, self._seconds = before.trained_images, before.seconds
        elif model.num_timesteps == 0:
            self._samples, self._seconds = 0, 0.0
        self._model = model
        if not isinstance(model, MutualOnPolicyAlgorithm):
            self._hook = model.policy.optimizer.register_step_post_hook(self._count)

    def stop(self) -> None:
        """Detach from the model; the counts are kept, in case its training continues."""
        if self._hook is not None:
            self._hook.remove()
        self._model = self._hook = None

    def get_state(self) -> tuple[float, ...]:
        """The counts, to continue from in another process."""
        return self._samples, self._seconds, self._epoch, self._minibatch

    def set_state(self, state: tuple[Any, ...]) -> None:
        """Continue from the counts of :meth:`get_state`."""
        self._samples, self._seconds, self._epoch, self._minibatch = state

    @property
    def running(self) -> bool:
        """Whether it was started and not stopped since."""
        return self._model is not None

    def read(self) -> Budget:
        """The budget used so far."""
        model = self._model
        assert model is not None, "start() comes before read()"
        members, samples = 1, self._samples
        if isinstance(model, MutualOnPolicyAlgorithm):
            members, samples = model.n_policies, model.trained_samples
        seconds = self._seconds + (time.time_ns() - model.start_time) / 1e9
        return Budget(model.num_timesteps, model.num_timesteps // members, samples, seconds)

    def _count(self, *_: Any) -> None:
        model = self._model
        assert model is not None
        if model._n_updates != self._epoch:  # PPO counts epochs there, unfinished ones too
            self._epoch, self._minibatch = model._n_updates, 0
        samples = model.n_steps * model.n_envs
        size = min(getattr(model, "batch_size", samples), samples)  # A2C has none
        # TRPO counts updates, which can have several epochs
        self._samples += min(size, samples - self._minibatch % -(-samples // size) * size)
        self._minibatch += 1
