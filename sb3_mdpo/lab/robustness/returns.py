"""Returns of policies that see perturbed images."""

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import numpy as np
import torch as th
from numpy.typing import NDArray
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.policies import BasePolicy

from sb3_mdpo.envs.native import UNSEEN_LEVELS
from sb3_mdpo.lab.generalization.results import confidence_interval
from sb3_mdpo.lab.generalization.trained import TrainedModel
from sb3_mdpo.lab.perturbations.images import Perturbation
from sb3_mdpo.lab.perturbations.renderings import MONOCHROME_ASSETS, NO_BACKGROUND, OTHER_BACKGROUND
from sb3_mdpo.lab.state_sampling import MAX_ENVS, sample_actions, to_tensor

Returns = dict[str, float | None]
PLAYED_RENDERINGS = {NO_BACKGROUND: {"use_backgrounds": False}, MONOCHROME_ASSETS: {"use_monochrome_assets": True}}


class PerturbedPlayer:
    """
    A policy with sampled actions, as SB3's ``evaluate_policy`` takes it, that sees perturbed images: those of
    environment ``i`` in draw ``i % draws``. They are not clipped to the values that the environment can return.
    """

    def __init__(
        self, policy: BasePolicy, perturbation: Perturbation | None, frame_channels: int, generator: th.Generator
    ) -> None:
        self.policy, self.perturbation = policy, perturbation
        self.frame_channels, self.generator = frame_channels, generator

    def predict(self, observation: Any, *_: Any, **__: Any) -> tuple[NDArray[Any], None]:
        """Sampled actions."""
        images = to_tensor(self.policy, observation)
        if self.perturbation is not None:
            images = 255 * self.perturbation.in_turn(images / 255, self.frame_channels)
        return sample_actions(self.policy, images, self.generator), None


class PerturbedPlay:
    """
    Episodes under perturbations, in up to 64 environments that play the same number of them each, give or take one.

    :param trained: the model
    :param perturbations: of images; renderings are played as options of the environments
    :param frame_channels: channels of one frame
    :param episodes: for each policy and perturbation; 0 for none
    :param seed: of environments and actions
    """

    def __init__(
        self,
        trained: TrainedModel,
        perturbations: Sequence[Perturbation],
        frame_channels: int,
        episodes: int,
        seed: int,
    ) -> None:
        if episodes < 0 or episodes == 1:
            raise ValueError(f"{episodes} episode(s) give no interval: use at least 2, or 0 to play none.")
        self.trained, self.frame_channels, self.episodes, self.seed = trained, frame_channels, episodes, seed
        self.perturbations = {(each.name, each.strength): each for each in perturbations}

    def returns(self, policy: BasePolicy, name: str | None = None, strength: float | None = None) -> Returns:
        """
        ``return_mean``, ``return_low`` and ``return_high`` on unseen levels, without a perturbation or under the one of
        this name; None without episodes, and for other backgrounds, which are not an option of Procgen. The interval is
        Student's over the means of the perturbation's draws, or of environments if it has one draw.
        """
        if not self.episodes or name == OTHER_BACKGROUND:
            return dict.fromkeys(("return_mean", "return_low", "return_high"))
        perturbation = self.perturbations.get((name, strength)) if name else None
        options = PLAYED_RENDERINGS.get(name or "", {})
        draws = len(perturbation.draws) if perturbation else 1
        player = PerturbedPlayer(policy, perturbation, self.frame_channels, th.Generator().manual_seed(self.seed))
        groups: dict[int, list[float]] = {}

        def watch(locals_: dict[str, Any], _globals: dict[str, Any]) -> None:
            if locals_["done"]:
                group = locals_["i"] % draws if draws > 1 else locals_["i"]
                groups.setdefault(group, []).append(float(locals_["info"]["episode"]["r"]))

        n_envs = min(self.episodes, MAX_ENVS)
        with closing(self.trained.make_env(n_envs, self.seed, **UNSEEN_LEVELS | options)) as env:
            evaluate_policy(player, env, self.episodes, callback=watch)
        means = [float(np.mean(returns)) for returns in groups.values()]
        low, high = confidence_interval(means)
        return {"return_mean": float(np.mean(means)), "return_low": low, "return_high": high}
