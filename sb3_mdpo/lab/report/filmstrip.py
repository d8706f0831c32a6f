"""Filmstrips: frames of an episode of each policy on an unseen level."""

from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecEnv

from sb3_mdpo.envs.native import UNSEEN_LEVELS
from sb3_mdpo.lab.generalization.evaluation import all_policies
from sb3_mdpo.lab.generalization.trained import TrainedModel, open_trained
from sb3_mdpo.lab.report.runs import RunFiles
from sb3_mdpo.utils.atomic import replacing

FILE = "frames.png"
N_FRAMES, MAX_STEPS = 8, 240
SIZE, BETWEEN, LINE = 112, 3, 18  # pixels
Frame = NDArray[np.uint8]


def filmstrips(run: RunFiles) -> Path:
    """Draw filmstrips of a run's policies to ``frames.png``, unless those in its folder are newer than its model."""
    if run.folder is None:
        raise ValueError(f"the folder of {run.name} is missing.")
    path = run.folder / FILE
    model = run.folder / f"{run.env_id.replace('/', '-')}.zip"
    if path.is_file() and (not model.is_file() or path.stat().st_mtime >= model.stat().st_mtime):
        return path
    if not model.is_file():
        raise ValueError(f"there is no model {model}.")
    strips = draw_filmstrips(open_trained(run.folder, device="cpu"), run.seed)
    with replacing(path) as file:
        strips.save(file, "PNG", optimize=True)
    return path


def draw_filmstrips(trained: TrainedModel, seed: int = 0) -> Image.Image:
    """A strip for each policy, one below the other, with its name; ``seed`` is that of level and sampling."""
    strips = {}
    for name, policy in all_policies(trained.model).items():
        set_random_seed(seed)
        with closing(trained.make_env(1, seed, **UNSEEN_LEVELS, render_mode="rgb_array")) as env:
            frames = _play(env, policy, trained.env_id)
        places = np.linspace(0, len(frames) - 1, min(N_FRAMES, len(frames))).round().astype(int)
        strips[name] = [frames[place] for place in places]
    picture = Image.new("RGB", (N_FRAMES * (SIZE + BETWEEN), len(strips) * (SIZE + LINE)), "white")
    draw = ImageDraw.Draw(picture)
    for row, (name, frames) in enumerate(strips.items()):
        draw.text((2, row * (SIZE + LINE) + 2), name, fill="black")
        for column, frame in enumerate(frames):
            picture.paste(Image.fromarray(frame), (column * (SIZE + BETWEEN), row * (SIZE + LINE) + LINE))
    return picture


def _play(env: VecEnv, policy: BasePolicy, env_id: str) -> list[Frame]:
    """The frames of one episode, at most ``MAX_STEPS``."""
    observations, done = env.reset(), False
    frames: list[Frame] = []
    while not done and len(frames) < MAX_STEPS:
        frame = env.render("rgb_array")
        if frame is None:
            raise ValueError(f"{env_id} renders no images.")
        frames.append(np.asarray(Image.fromarray(frame).resize((SIZE, SIZE), Image.Resampling.BILINEAR)))
        actions, _ = policy.predict(observations, deterministic=False)  # type: ignore[arg-type]
        observations, _, dones, _ = env.step(actions)
        done = bool(dones[0])
    return frames
