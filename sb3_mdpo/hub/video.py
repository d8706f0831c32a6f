"""The replay that the Hub shows beside a model card."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecVideoRecorder

from sb3_mdpo.hub.evaluation import levels_of
from sb3_mdpo.mdpo import MDPO
from sb3_mdpo.zoo.run import Run


def record_video(run: Run, model: MDPO, target: Path, steps: int, deterministic: bool = False, seed: int = 0) -> None:
    """
    Film who acts in the model's ``predict()``; on Procgen on unseen levels.

    :param run: run that the model is of
    :param model: the model
    :param target: the file to write
    :param steps: number of steps
    :param deterministic: whether to take the most probable actions
    :param seed: seed of the environment and of the sampling
    :raises ValueError: where the environment draws no pictures
    """
    set_random_seed(seed)
    env_kwargs = next(iter(levels_of(run.env_id, run.env_kwargs).values()))
    env = run.make_env(env_kwargs | {"render_mode": "rgb_array"}, 1, seed)
    if env.render_mode != "rgb_array":
        env.close()
        raise ValueError(f"{run.env_id} draws no pictures (its render_mode is {env.render_mode}): leave out --video.")
    with TemporaryDirectory(dir=target.parent) as folder:
        recorder = VecVideoRecorder(env, folder, lambda step: step == 0, steps)
        observations = recorder.reset()
        for _ in range(steps):
            actions, _ = model.predict(observations, deterministic=deterministic)  # type: ignore[arg-type]
            observations, _, _, _ = recorder.step(actions)
        recorder.close()
        os.replace(recorder.video_path, target)
