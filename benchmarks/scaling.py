"""How the cost of an iteration grows with each setting, all others as in the first line of the table.

python benchmarks/scaling.py

One iteration is a rollout and an update of one epoch, on Procgen with the IMPALA encoder. All settings are
measured in turn, several times over.
"""

import statistics

import torch as th
from report import argument_parser, table, write
from stable_baselines3.common.vec_env import VecMonitor
from timing import iteration_seconds

from sb3_mdpo import MDPO
from sb3_mdpo.common.precision import CPU_CHUNK, resolve_precision
from sb3_mdpo.envs import ProcgenVecEnv

CHUNK = CPU_CHUNK if not th.cuda.is_available() else 256
THREADS = th.get_num_threads()
BASE = {"envs": 16, "n_steps": 64, "batch_size": 256, "n_policies": 2, "chunk_size": CHUNK, "threads": THREADS}
VALUES = {
    "envs": (4, 64),
    "n_steps": (16, 256),
    "batch_size": (128, 512, 1024),
    "n_policies": (1, 3, 4),
    "chunk_size": (16, 32, 64, 256),
    "threads": tuple(sorted({1, THREADS // 2 or 1} - {THREADS})),
}


class Variant:
    """A model with one setting changed, and what its iterations took."""

    def __init__(self, name: str, value: int) -> None:
        self.name, self.value = name, value
        self.settings = BASE | ({name: value} if name else {})
        n_envs = self.settings["envs"] * self.settings["n_policies"]
        self.model = MDPO(
            "ImpalaCnnPolicy",
            VecMonitor(ProcgenVecEnv(n_envs, "bigfish", num_levels=500, seed=0)),
            n_steps=self.settings["n_steps"],
            batch_size=self.settings["batch_size"],
            n_epochs=1,
            n_policies=self.settings["n_policies"],
            chunk_size=self.settings["chunk_size"],
            precision="auto",
            seed=0,
        )
        self.seconds: list[tuple[float, float]] = []

    @property
    def steps(self) -> int:
        return self.model.n_steps * self.model.n_envs

    def iterate(self) -> None:
        th.set_num_threads(self.settings["threads"])
        self.seconds.append(iteration_seconds(self.model))


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()

    variants = [Variant("", 0), *(Variant(name, value) for name, values in VALUES.items() for value in values)]
    for _ in range(args.repeats + 1):
        for variant in variants:
            variant.iterate()

    rows = []
    for variant in variants:
        del variant.seconds[0]  # which warmed up
        rollout, update = (statistics.median(times) for times in zip(*variant.seconds, strict=True))
        what = f"{variant.name} = {variant.value}" if variant.name else ", ".join(f"{k} = {v}" for k, v in BASE.items())
        images = variant.steps * variant.settings["n_policies"]  # each sample passes through every member
        speed = f"{variant.steps / (rollout + update):.0f}"
        rows.append([what, str(variant.steps), f"{rollout:.2f}", f"{update:.2f}", speed, f"{images / update:.0f}"])
    header = ["setting", "steps", "rollout s", "update s", "environment steps/s", "trained images/s"]
    precision = resolve_precision("auto", variants[0].model.device, variants[0].model.observation_space)
    summary = (
        f"One iteration with one epoch, IMPALA encoder in {precision}, `envs` per policy, median of {args.repeats} "
        f"interleaved repeats.\n\n{table(header, rows)}"
    )
    measured = []
    for variant in variants:
        rollouts, updates = zip(*variant.seconds, strict=True)
        measured.append({"settings": variant.settings, "rollout_seconds": rollouts, "update_seconds": updates})
    write("scaling", summary, measured, args.folder)


if __name__ == "__main__":
    main()
