"""Compare MDPO with PPO, and with two policies without the KL, at the same total number of steps.

With two policies, each one learns from half of the steps.

python examples/compare_with_ppo.py [--n-timesteps 100000]
"""

import argparse

from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_mdpo import MDPO

parser = argparse.ArgumentParser()
parser.add_argument("--n-timesteps", type=int, default=100_000, help="environment steps of each method")
args = parser.parse_args()

SETTINGS = {"n_steps": 64, "batch_size": 128, "n_epochs": 10, "gamma": 0.98, "seed": 0, "device": "cpu"}
METHODS = {
    "PPO": lambda: PPO("MlpPolicy", make_vec_env("CartPole-v1", n_envs=8, seed=0), **SETTINGS),
    "two policies, no KL": lambda: MDPO(
        "MlpPolicy", make_vec_env("CartPole-v1", n_envs=8, seed=0), distill_coef=0.0, **SETTINGS
    ),
    "MDPO": lambda: MDPO("MlpPolicy", make_vec_env("CartPole-v1", n_envs=8, seed=0), **SETTINGS),
}

for name, make in METHODS.items():
    model = make().learn(args.n_timesteps)
    members = getattr(model.policy, "members", [model.policy])
    returns = [evaluate_policy(member, make_vec_env("CartPole-v1", n_envs=8, seed=1), 16)[0] for member in members]
    print(f"{name}: {args.n_timesteps // len(members)} steps per policy, mean returns {[round(r) for r in returns]}")
