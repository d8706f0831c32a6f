"""How the cost of an update grows with the number of members, for all peers and for one random peer.

python benchmarks/members.py

Every policy has the same number of samples whatever their number, so that without distillation the
time would grow linearly. All variants are measured in turn, several times over.
"""

import statistics

from report import argument_parser, table, write
from timing import seconds_of

from sb3_mdpo import MDPO
from sb3_mdpo.envs import ProcgenVecEnv

MODES = ("all", "random")


def rollout(n_policies: int, samples: int) -> MDPO:
    """A model with a full rollout buffer of ``samples`` per policy, after a first update."""
    envs_per_policy = 4
    env = ProcgenVecEnv(n_policies * envs_per_policy, "starpilot", distribution_mode="easy", seed=0)
    model = MDPO(
        "ImpalaCnnPolicy",
        env,
        n_policies=n_policies,
        n_steps=samples // envs_per_policy,
        batch_size=256,
        n_epochs=1,
        policy_kwargs={"features_extractor_kwargs": {"channels": (8, 16, 16)}},
        seed=0,
    )
    model.learn(samples * n_policies, log_interval=None)
    env.close()
    return model


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--n-policies", type=int, nargs="+", default=[2, 3, 4, 6])
    parser.add_argument("--samples", type=int, default=1024, help="samples per policy and update")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()

    models = {n_policies: rollout(n_policies, args.samples) for n_policies in args.n_policies}
    seconds: dict[tuple[int, str], list[float]] = {(n, mode): [] for n in models for mode in MODES}
    for _ in range(args.repeats):
        for (n_policies, mode), times in seconds.items():
            models[n_policies].distill_mode = mode
            times.append(seconds_of(models[n_policies].train))

    medians = {variant: statistics.median(times) for variant, times in seconds.items()}
    first = args.n_policies[0]
    rows = []
    for n in args.n_policies:
        cells = [f"{medians[n, mode]:.2f} ({medians[n, mode] / medians[first, mode]:.2f})" for mode in MODES]
        rows.append([str(n), *cells, f"{medians[n, 'all'] / medians[n, 'random']:.2f}"])
    header = ["policies", "`all`: s (ratio)", "`random`: s (ratio)", "`all` / `random`"]
    title = (
        f"Seconds per update of {args.samples} samples per policy, median of {args.repeats}; in brackets the ratio to "
        f"{first} policies"
    )
    measured = [{"n_policies": n, "distill_mode": mode, "seconds": times} for (n, mode), times in seconds.items()]
    write("members", f"{title}:\n\n{table(header, rows)}", measured, args.folder)


if __name__ == "__main__":
    main()
