"""Three members of a custom policy class, and a schedule of ``distill_coef``.

python examples/custom_policy.py [--n-timesteps 60000]
"""

import argparse

import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from sb3_mdpo import MDPO


class Fourier(BaseFeaturesExtractor):
    """Random Fourier features of a vector, fixed during training."""

    def __init__(self, observation_space, features_dim: int = 64):
        super().__init__(observation_space, features_dim)
        self.projection = nn.Linear(observation_space.shape[0], features_dim).requires_grad_(False)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return th.cos(self.projection(observations))


class FourierPolicy(ActorCriticPolicy):
    """Any subclass of ActorCriticPolicy can be used."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs, features_extractor_class=Fourier, net_arch=[32], activation_fn=nn.ReLU)


def warm_up(progress_remaining: float) -> float:
    """From 0 at the start to the paper's 1 at half of training, then constant."""
    return min(1.0, 2 * (1 - progress_remaining))


parser = argparse.ArgumentParser()
parser.add_argument("--n-timesteps", type=int, default=60_000)
args = parser.parse_args()

env = make_vec_env("Acrobot-v1", n_envs=12, seed=0)
model = MDPO(FourierPolicy, env, n_policies=3, distill_coef=warm_up, n_steps=64, batch_size=64, seed=0, verbose=1)
model.learn(args.n_timesteps)
