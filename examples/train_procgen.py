"""Train on 200 Procgen levels, and evaluate on these and on unseen levels.

python examples/train_procgen.py [--env-name starpilot] [--n-timesteps 300000]
"""

import argparse

from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

from sb3_mdpo import MDPO
from sb3_mdpo.envs import ProcgenVecEnv

parser = argparse.ArgumentParser()
parser.add_argument("--env-name", default="starpilot")
parser.add_argument("--n-timesteps", type=int, default=300_000, help="environment steps of both policies together")
parser.add_argument("--n-envs", type=int, default=64, help="environments of both policies together")
parser.add_argument("--episodes", type=int, default=100)
args = parser.parse_args()

TRAIN_LEVELS = {"num_levels": 200, "start_level": 0}
env = VecMonitor(ProcgenVecEnv(args.n_envs, args.env_name, distribution_mode="easy", **TRAIN_LEVELS))
env = VecNormalize(env, norm_obs=False, gamma=0.999)  # rewards only, as in the paper
model = MDPO(
    "ImpalaCnnPolicy",
    env,
    learning_rate=5e-4,
    n_steps=64,
    batch_size=256,
    n_epochs=3,
    gamma=0.999,
    ent_coef=0.01,
    clip_range_vf=0.2,
    vf_coef=0.25,
    policy_kwargs={"features_extractor_kwargs": {"channels": (8, 16, 16)}},  # half the paper's width
    seed=0,
    verbose=1,
)
model.learn(args.n_timesteps)

for name, levels in (("training", TRAIN_LEVELS), ("unseen", {})):
    eval_env = VecMonitor(ProcgenVecEnv(16, args.env_name, distribution_mode="easy", seed=1, **levels))
    for k, policy in enumerate(model.policy.members):
        mean, std = evaluate_policy(policy, eval_env, n_eval_episodes=args.episodes, deterministic=False)
        print(f"policy {k} on {name} levels: mean return {mean:.2f} (standard deviation {std:.2f})")
    eval_env.close()
