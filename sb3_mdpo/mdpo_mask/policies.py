"""Members whose actions are masked."""

from collections.abc import Sequence
from typing import Any

import torch as th
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.distributions import Distribution

from sb3_mdpo.common.mutual_policy import MutualPolicy


class MaskableMutualPolicy(MutualPolicy):
    """:class:`~sb3_mdpo.MutualPolicy` of sb3-contrib's ``MaskableActorCriticPolicy``; the arguments are the same."""

    members: Sequence[MaskableActorCriticPolicy]  # type: ignore[assignment]
    predict = MaskableActorCriticPolicy.predict  # calls _predict(..., action_masks=...)

    def evaluate_member(self, k: int, samples: Any) -> tuple[th.Tensor, th.Tensor, th.Tensor | None]:
        return self.members[k].evaluate_actions(samples.observations, samples.actions, samples.action_masks)

    def peer_distribution(self, j: int, samples: Any) -> Distribution:
        # The learner's masks on both sides of the KL, or their supports would differ
        return self.members[j].get_distribution(samples.observations, samples.action_masks)
