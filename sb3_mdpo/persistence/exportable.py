"""Models as plain data, and members as models of PPO."""

from collections.abc import Mapping
from io import BufferedIOBase
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv

from sb3_mdpo.common.on_policy_algorithm import MutualOnPolicyAlgorithm
from sb3_mdpo.persistence.ppo_conversion import member_to_ppo, ppo_to_member

SelfExportable = TypeVar("SelfExportable", bound="ExportableAlgorithm")


class ExportableAlgorithm(MutualOnPolicyAlgorithm):
    """Models that are written without code, and whose members are exchanged with PPO models."""

    ppo_class: ClassVar[type[OnPolicyAlgorithm]] = PPO  #: what trains one of the members alone

    def to_ppo(self, member: int = 0) -> Any:
        """
        A member as a plain PPO model of SB3 that saves, loads, predicts and learns by itself; of
        :class:`~sb3_mdpo.MaskableMDPO` and :class:`~sb3_mdpo.RecurrentMDPO` as sb3-contrib's ``MaskablePPO`` and
        ``RecurrentPPO``.

        It has a copy of the member's weights and the settings that PPO shares with MDPO. Its optimizer starts anew,
        because the moments here belong to a mean over members. Give it an environment with ``set_env()``, with as many
        environments as the member had.

        :param member: the member's index
        :return: the PPO model
        :raises ValueError: if there is no such member, or the action space does not start at 0
        """
        return member_to_ppo(self, member, self.ppo_class)

    def load_ppo(self, member: int, ppo: OnPolicyAlgorithm | str | Path | BufferedIOBase) -> None:
        """
        Give a member the weights of a PPO model; the optimizer forgets the member's moments.

        :param member: the member's index
        :param ppo: model, or the path or file of a saved one
        :raises ValueError: if there is no such member, or the PPO model has other spaces or another network
        """
        ppo_to_member(self, member, ppo, self.ppo_class)

    def export(self, path: str | Path, include_optimizer: bool = False) -> None:
        """
        Write the model as plain data that :meth:`from_export` reads without executing code, unlike files of
        :meth:`save`. An existing export is replaced once the new one is complete.

        :param path: folder to write: ``config.json`` and ``model.safetensors``
        :param include_optimizer: whether to write the optimizer's state as well, three times the size with Adam, to
            continue training as if it had not been interrupted
        :raises ValueError: if a setting is code or an unknown object, or the path holds something other than an export
        """
        from sb3_mdpo.persistence.export.write import write_export

        write_export(self, path, include_optimizer)

    @classmethod
    def from_export(
        cls: type[SelfExportable],
        path: str | Path,
        env: GymEnv | None = None,
        device: th.device | str = "auto",
        custom_objects: Mapping[str, type] | None = None,
        **kwargs: Any,
    ) -> SelfExportable:
        """
        Rebuild a model from an export. Nothing in it is imported, evaluated or unpickled.

        :param path: folder that :meth:`export` wrote
        :param env: environment to continue training with, None to predict only
        :param device: device on which the code should run
        :param custom_objects: custom classes that the export may use, by their dotted name in it
        :param kwargs: settings to change
        :return: the model
        :raises ValueError: if the export is invalid, or the spaces of ``env`` are not the model's
        :raises TypeError: if ``kwargs`` has a name that is not a setting, or a setting that the weights depend on
        """
        from sb3_mdpo.persistence.export.read import load_export

        return load_export(cls, path, env, device, custom_objects, kwargs)
