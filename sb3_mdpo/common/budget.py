"""What a training has cost so far: samples, passes through the networks, time."""

import time
from dataclasses import dataclass
from typing import Any

from stable_baselines3 import PPO
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from sb3_mdpo.common.on_policy_algorithm import MutualOnPolicyAlgorithm


@dataclass(frozen=True)
class Budget:
    """
    :param timesteps: environment steps of all policies together
    :param timesteps_per_policy: environment steps that each policy has made
    :param trained_images: samples that went forward and backward through a policy: in every epoch a member's own
        ones, and those that it answers for a peer with gradients. What it answers as a constant is not counted
    :param seconds: wall time since ``learn()`` was called, evaluations included, and of the training that it
        continues where that is known
    """

    timesteps: int
    timesteps_per_policy: int
    trained_images: int
    seconds: float


class BudgetMeter:
    """
    Reads the budget of a training, for callbacks.

    MDPO counts its samples itself. SB3's PPO does not: the steps of its optimizer are counted, each of which is a
    minibatch, and there is none for the minibatch that reaches ``target_kl``.
    """

    def __init__(self) -> None:
        self._model: OnPolicyAlgorithm | None = None
        self._hook: Any = None
        self._samples = 0
        self._seconds = 0.0
        self._epoch, self._minibatch = -1, 0

    def start(self, model: OnPolicyAlgorithm, before: Budget | None = None) -> None:
        """
        :param model: MDPO or PPO that is going to learn, or to continue
        :param before: what its training had cost when it was interrupted, where that is known; time goes on from
            there, and so do the images of PPO, which does not count them itself
        :raises TypeError: if it is neither
        """
        if not isinstance(model, (MutualOnPolicyAlgorithm, PPO)):
            raise TypeError(f"The budget of {type(model).__name__} is not known: use MDPO or PPO.")
        if before is not None:
            self._samples, self._seconds = before.trained_images, before.seconds
        elif model.num_timesteps == 0:
            self._samples, self._seconds = 0, 0.0
        self._model = model
        if isinstance(model, PPO):
            self._hook = model.policy.optimizer.register_step_post_hook(self._count)

    def stop(self) -> None:
        """Leave the model alone; the counts are kept, in case its training goes on."""
        if self._hook is not None:
            self._hook.remove()
        self._model = self._hook = None

    def get_state(self) -> tuple[float, ...]:
        """
        :return: the counts, to go on from in another process
        """
        return self._samples, self._seconds, self._epoch, self._minibatch

    def set_state(self, state: tuple[Any, ...]) -> None:
        """
        :param state: from :meth:`get_state`
        """
        self._samples, self._seconds, self._epoch, self._minibatch = state

    @property
    def running(self) -> bool:
        """Whether it was started and not stopped since."""
        return self._model is not None

    def read(self) -> Budget:
        """
        :return: the budget up to now
        """
        model = self._model
        assert model is not None, "start() comes before read()"
        members, samples = 1, self._samples
        if isinstance(model, MutualOnPolicyAlgorithm):
            members, samples = model.n_policies, model.trained_samples
        seconds = self._seconds + (time.time_ns() - model.start_time) / 1e9
        return Budget(model.num_timesteps, model.num_timesteps // members, samples, seconds)

    def _count(self, *_: Any) -> None:
        model = self._model
        assert isinstance(model, PPO)
        if model._n_updates != self._epoch:  # PPO counts epochs there, unfinished ones too
            self._epoch, self._minibatch = model._n_updates, 0
        rest = model.n_steps * model.n_envs - self._minibatch * model.batch_size
        self._samples += min(model.batch_size, rest)
        self._minibatch += 1
