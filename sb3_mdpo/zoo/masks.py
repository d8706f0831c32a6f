"""Action masks in ``enjoy`` and ``record_video``, which call ``predict()`` without masks."""

from typing import Any

from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3.common.vec_env import VecEnv

from sb3_mdpo.mdpo_mask import MaskableMDPO

_played: list[VecEnv] = []  # the environments that enjoy or record_video made last


class PlayedMaskableMDPO(MaskableMDPO):
    """:class:`~sb3_mdpo.MaskableMDPO` that takes masks from the environments it plays in, if none are passed."""

    def predict(  # type: ignore[override]
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
        action_masks: Any = None,
    ) -> Any:
        if action_masks is None and _played:
            action_masks = get_action_masks(_played[-1])
        return super().predict(observation, state, episode_start, deterministic, action_masks)


def play_in(env: VecEnv) -> VecEnv:
    """Remember environments that ``enjoy`` or ``record_video`` made, if they have masks."""
    _played[:] = [env] if is_masking_supported(env) else []
    return env
