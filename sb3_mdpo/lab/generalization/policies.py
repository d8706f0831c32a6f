"""The policies of a trained model."""

import copy
from typing import Final

from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy

from sb3_mdpo.mdpo import MDPO

ENSEMBLE: Final = "ensemble"


def members_of(model: OnPolicyAlgorithm) -> dict[str, BasePolicy]:
    """:return: the policies of MDPO or another actor-critic algorithm by name: ``policy 0`` and so on"""
    if not isinstance(model, MDPO):
        return {"policy 0": model.policy}
    return {f"policy {k}": member for k, member in enumerate(model.policy.members)}


def all_policies(model: OnPolicyAlgorithm) -> dict[str, BasePolicy]:
    """:return: the members by name, and if there are several the average of their distributions as ``ensemble``"""
    members = members_of(model)
    if not isinstance(model, MDPO) or len(members) == 1:
        return members
    ensemble = copy.copy(model.policy)  # with the same networks
    ensemble.predict_with = ENSEMBLE
    return members | {ENSEMBLE: ensemble}


def acting_policy(model: MDPO) -> str:
    """:return: name of the policy that ``predict()`` uses"""
    return ENSEMBLE if model.predict_with == ENSEMBLE else f"policy {model.predict_with}"
