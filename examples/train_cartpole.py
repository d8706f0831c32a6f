"""Train two policies on CartPole, save and load them, and evaluate them and their ensemble.

python examples/train_cartpole.py [--n-timesteps 100000]
"""

import argparse

from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_mdpo import MDPO

parser = argparse.ArgumentParser()
parser.add_argument("--n-timesteps", type=int, default=100_000, help="environment steps of both policies together")
args = parser.parse_args()

# Policy 0 has the first eight environments, policy 1 the others
env = make_vec_env("CartPole-v1", n_envs=16, seed=0)
model = MDPO(
    "MlpPolicy", env, n_steps=32, batch_size=256, n_epochs=20, gamma=0.98, gae_lambda=0.8, seed=0, device="cpu"
)
model.learn(args.n_timesteps)
model.save("mdpo_cartpole")

model = MDPO.load("mdpo_cartpole")
eval_env = make_vec_env("CartPole-v1", n_envs=8, seed=1)
for who in (0, 1, "ensemble"):
    model.predict_with = who
    mean, std = evaluate_policy(model, eval_env, n_eval_episodes=16)
    print(f"{who}: mean return {mean:.0f} +/- {std:.0f}")
