"""Action masks, and policies with a memory.

python examples/masks_and_memory.py [--n-timesteps 20000]
"""

import argparse

from rl_zoo3 import import_envs  # noqa: F401  registers CartPoleNoVel-v1
from sb3_contrib.common.envs import InvalidActionEnvDiscrete
from sb3_contrib.common.maskable.evaluation import evaluate_policy as evaluate_with_masks
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from sb3_mdpo import MaskableMDPO, RecurrentMDPO


def identity() -> Monitor:
    """The right one of 20 actions is the observation; half of the others are not allowed. The best return is 100."""
    return Monitor(InvalidActionEnvDiscrete(dim=20, n_invalid_actions=10))


parser = argparse.ArgumentParser()
parser.add_argument("--n-timesteps", type=int, default=20_000)
args = parser.parse_args()

masked = MaskableMDPO("MlpPolicy", make_vec_env(identity, n_envs=4), n_steps=64, gamma=0.4, seed=0)
masked.learn(args.n_timesteps)
mean, std = evaluate_with_masks(masked, make_vec_env(identity), n_eval_episodes=5)
print(f"with masks: mean return {mean:.1f} +/- {std:.1f}")

# The positions of CartPole without its velocities: a policy without memory does not get more than about 50
settings = {"net_arch": {"vf": [64], "pi": []}, "lstm_hidden_size": 64, "ortho_init": False}
env = make_vec_env("CartPoleNoVel-v1", n_envs=8, seed=0)
recurrent = RecurrentMDPO(
    "MlpLstmPolicy", env, learning_rate=7e-4, max_grad_norm=1.0, gae_lambda=0.98, policy_kwargs=settings, seed=0
)
recurrent.learn(args.n_timesteps)
for k, member in enumerate(recurrent.policy.members):
    mean, std = evaluate_policy(member, env, n_eval_episodes=10)
    print(f"with memory, policy {k}: mean return {mean:.1f} +/- {std:.1f}")
