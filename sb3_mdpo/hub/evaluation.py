"""Returns of a run's policies, and a video of the one that acts."""

import os
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecVideoRecorder

from sb3_mdpo.envs.native import UNSEEN_LEVELS, has_levels
from sb3_mdpo.lab.generalization.evaluation import all_policies, check_episodes, evaluate_generalization
from sb3_mdpo.lab.generalization.results import LevelsResult
from sb3_mdpo.mdpo import MDPO
from sb3_mdpo.utils.random_state import undisturbed
from sb3_mdpo.zoo.run import Run


def training_levels(run: Run) -> int:
    """Number of training levels of a run, 0 if its environment has no levels or all of them were trained on."""
    return int(run.env_kwargs.get("num_levels", 0)) if has_levels(run.env_id) else 0


def evaluate_run(
    run: Run, model: MDPO, episodes: int = 128, n_envs: int = 16, deterministic: bool = False, seed: int = 0
) -> list[tuple[str, str, LevelsResult]]:
    """
    Evaluate every member, and the ensemble if there are several. Runs on a set of levels are evaluated as by
    :func:`~sb3_mdpo.lab.generalization.evaluation.evaluate_generalization`, all others in the training environment.
    Returns the set of levels (empty in the training environment), the policy and the result.
    """
    n_envs = check_episodes(episodes, min(n_envs, episodes), seed)
    if levels := training_levels(run):
        policies = evaluate_generalization(
            model,
            run.env_id,
            levels,
            episodes,
            seed,
            deterministic,
            start_level=run.env_kwargs.get("start_level", 0),
            n_envs=n_envs,
            env_kwargs=run.env_kwargs,
            make_env=lambda n_envs, seed, **env_kwargs: run.make_env(env_kwargs, n_envs, seed),
        ).policies
        unseen = [("unseen levels", one.policy, one.unseen) for one in policies]
        return unseen + [(f"{levels} training levels", one.policy, one.training) for one in policies]
    results = []
    for k, (name, policy) in enumerate(all_policies(model).items()):
        with undisturbed(model.policy, seed + k), closing(run.make_env(run.env_kwargs, n_envs, seed)) as env:
            returns, _ = evaluate_policy(
                policy, env, episodes, deterministic=deterministic, return_episode_rewards=True
            )
        result = LevelsResult(tuple(np.asarray(returns, dtype=float).tolist()), success_rate=None, normalized=None)
        results.append(("", name, result))
    return results


def record_video(run: Run, model: MDPO, target: Path, steps: int, deterministic: bool = False, seed: int = 0) -> None:
    """Film the policy that acts in the model's ``predict()``, on unseen levels if there are any."""
    set_random_seed(seed)
    env_kwargs = run.env_kwargs | (UNSEEN_LEVELS if training_levels(run) else {})
    env = run.make_env(env_kwargs | {"render_mode": "rgb_array"}, 1, seed)
    if env.render_mode != "rgb_array":
        env.close()
        raise ValueError(f"{run.env_id} does not render images (render_mode {env.render_mode}): leave out --video.")
    with TemporaryDirectory(dir=target.parent) as folder:
        recorder = VecVideoRecorder(env, folder, lambda step: step == 0, steps)
        observations = recorder.reset()
        for _ in range(steps):
            actions, _ = model.predict(observations, deterministic=deterministic)  # type: ignore[arg-type]
            observations, _, _, _ = recorder.step(actions)
        recorder.close()
        os.replace(recorder.video_path, target)
