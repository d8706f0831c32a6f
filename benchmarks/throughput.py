"""Environment steps per second at the paper's setting: MDPO, SB3's PPO, and the authors' code.

python benchmarks/throughput.py --authors PATH

PATH is a checkout of https://github.com/MyRepositories-hub/Mutual-Distillation-Policy-Optimization; without
it the authors' code is left out. Every variant runs in a process of its own, one after the other, and all
of them again for every repeat, so that what else the machine does falls on all alike.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch as th
from report import argument_parser, table, write
from timing import seconds_of
from torch import nn
from variants import VARIANTS

# (channels in, channels out, height and width, how often) of the IMPALA encoder's convolutions on 64 x 64 images
CONVOLUTIONS = ((3, 16, 64, 1), (16, 16, 32, 4), (16, 32, 32, 1), (32, 32, 16, 4), (32, 32, 16, 1), (32, 32, 8, 4))
GIGABYTE = 2**30


def ceiling(precision: str, device: str, chunk: int) -> float:
    """Images per second through the encoder's convolutions alone, forwards and backwards."""
    dtype = {"fp32": th.float32, "bf16": th.bfloat16}[precision]
    seconds = 0.0
    for channels_in, channels_out, size, times in CONVOLUTIONS:
        convolution = nn.Conv2d(channels_in, channels_out, 3, padding=1, device=device, dtype=dtype)
        convolution = convolution.to(memory_format=th.channels_last)
        x = th.randn(chunk, channels_in, size, size, device=device, dtype=dtype, requires_grad=channels_in > 3)
        x = x.to(memory_format=th.channels_last)
        gradient = th.randn(chunk, channels_out, size, size, device=device, dtype=dtype)
        gradient = gradient.to(memory_format=th.channels_last)

        def step(convolution: nn.Module = convolution, x: th.Tensor = x, gradient: th.Tensor = gradient) -> None:
            convolution(x).backward(gradient)

        step()
        seconds += times * seconds_of(step, 0.3)
    return chunk / seconds


def copy_bandwidth(device: str) -> float:
    """Bytes per second, read and written, of a copy of 256 MiB."""
    x = th.zeros(2**28, dtype=th.uint8, device=device)
    y = th.empty_like(x)
    y.copy_(x)
    return 2 * x.numel() / seconds_of(lambda: y.copy_(x), 1.0)


def run(variant: str, args: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, str(Path(__file__).with_name("variants.py")), variant, "--n-steps", str(args.n_steps)]
    command += ["--n-envs", str(args.n_envs), "--iterations", str(args.iterations), "--device", args.device]
    command += ["--authors", str(args.authors)] if variant == "authors" else []
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    measured: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    print(f"{variant}: {measured['steps_per_second']:.0f} steps/s", file=sys.stderr, flush=True)
    return measured


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--authors", type=Path, help="checkout of the authors' repository")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, help="only these")
    parser.add_argument("--n-envs", type=int, default=64, help="environments per policy")
    parser.add_argument("--n-steps", type=int, default=256, help="fewer save time: same speed, less memory")
    parser.add_argument("--iterations", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--name", default="throughput", help="name of the result")
    args = parser.parse_args()
    if args.authors and not (args.authors / "trainer.py").is_file():
        parser.error(f"{args.authors} is no checkout of the authors' repository: there is no trainer.py in it.")
    names = args.variants or [name for name in VARIANTS if name != "authors" or args.authors]
    if "authors" in names and not args.authors:
        parser.error("the variant authors needs --authors PATH")

    device = "cuda" if args.device != "cpu" and th.cuda.is_available() else "cpu"
    chunk = 64 if device == "cpu" else 2048
    measured: list[dict[str, Any]] = []
    ceilings: dict[str, list[float]] = {"fp32": [], "bf16": []}
    bandwidths: list[float] = []
    for _ in range(args.repeats):
        for precision, values in ceilings.items():
            values.append(ceiling(precision, device, chunk))
        bandwidths.append(copy_bandwidth(device))
        measured += [run(name, args) for name in names]

    medians = {
        name: {
            key: statistics.median(row[key] for row in measured if row["variant"] == name)
            for key in ("steps_per_second", "images_per_second", "environments", "inference", "update", "peak_bytes")
        }
        for name in names
    }
    ratios_to = [name for name in ("authors", "sb3_ppo") if name in names]
    rows = []
    for name, row in medians.items():
        precision = next(m["precision"] for m in measured if m["variant"] == name)
        speed = row["steps_per_second"]
        rows.append(
            [
                f"{name} ({precision})",
                f"{speed:.0f}",
                *(f"{speed / medians[other]['steps_per_second']:.2f}" for other in ratios_to),
                f"{row['images_per_second']:.0f}",
                " / ".join(f"{100 * row[part]:.0f}" for part in ("environments", "inference", "update")),
                f"{row['peak_bytes'] / GIGABYTE:.1f}",
                f"{100 * row['images_per_second'] / statistics.median(ceilings[precision]):.0f} %",
            ]
        )
    header = ["variant", "environment steps/s", *(f"x {other}" for other in ratios_to), "trained images/s"]
    header += ["% environments / inference / update", "peak GiB", "of the convolutions' ceiling"]
    policies = f"{args.n_envs} environments x {args.n_steps} steps per policy, 3 epochs, minibatches of 2,048"
    limits = ", ".join(f"{precision} {statistics.median(values):.0f}" for precision, values in ceilings.items())
    summary = (
        f"Procgen hard, IMPALA encoder, {policies}; {args.iterations} iteration(s), median of {args.repeats} "
        f"interleaved repeats.\n\n{table(header, rows)}\n\nCeiling, images/s through the encoder's convolutions "
        f"alone (chunks of {chunk}): {limits}; copying: {statistics.median(bandwidths) / GIGABYTE:.0f} GiB/s read "
        "and written."
    )
    raw = {"runs": measured, "ceilings": ceilings, "copy_bytes_per_second": bandwidths}
    write(args.name, summary, raw, args.folder)


if __name__ == "__main__":
    main()
