"""Where the time of an update goes, operation by operation, with torch.profiler.

python benchmarks/profile_update.py
"""

import numpy as np
import torch as th
from report import argument_parser, table, write
from torch.profiler import ProfilerActivity, profile
from variants import PAPER, Clock, native

from sb3_mdpo import MDPO
from sb3_mdpo.common.precision import resolve_precision

WHAT = {
    "aten::convolution_backward": "convolutions, backwards",
    "aten::mkldnn_convolution": "convolutions",
    "aten::cudnn_convolution": "convolutions",
    "aten::max_pool2d_with_indices": "max-pooling",
    "aten::max_pool2d_with_indices_backward": "max-pooling, backwards",
    "aten::fill_": "zeroing, mostly for the max-pooling's gradient",
    "aten::threshold_backward": "ReLU, backwards",
    "aten::clamp_min": "ReLU",
    "aten::clamp_min_": "ReLU, in place",
    "aten::add_": "residual connections, accumulating gradients",
    "aten::copy_": "conversions between types, mostly of images",
    "aten::mm": "dense layers, backwards",
    "aten::addmm": "dense layers",
    "aten::div": "scaling of images",
    "aten::index": "gathering minibatches",
}


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--n-steps", type=int, default=64)
    parser.add_argument("--rows", type=int, default=14)
    args = parser.parse_args()

    env = native(128, Clock())
    model = MDPO(
        "ImpalaCnnPolicy", env, n_steps=args.n_steps, precision=args.precision, seed=0, **PAPER | {"n_epochs": 1}
    )
    model.learn(args.n_steps * 128, log_interval=None)  # fills the buffer and warms up
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if th.cuda.is_available() else [])]
    with profile(activities=activities) as profiler:
        model.train()
    name = "self_device_time_total" if th.cuda.is_available() else "self_cpu_time_total"
    operations = sorted(profiler.key_averages(), key=lambda operation: getattr(operation, name), reverse=True)
    times = np.array([getattr(operation, name) for operation in operations])
    rows = [
        [f"`{operation.key}`", WHAT.get(operation.key, ""), str(operation.count), f"{100 * share:.1f} %"]
        for operation, share in zip(operations[: args.rows], times / times.sum(), strict=False)
    ]
    rows.append(["all others", "", "", f"{100 * times[args.rows :].sum() / times.sum():.1f} %"])
    precision = resolve_precision(args.precision, model.device, model.observation_space)
    summary = (
        f"One epoch of the update at the paper's setting, {args.n_steps} steps of 128 environments, in {precision}: "
        f"{times.sum() / 1e6:.1f} s in operations.\n\n{table(['operation', 'what it is', 'calls', 'share'], rows)}"
    )
    measured = [{"operation": o.key, "calls": o.count, "microseconds": getattr(o, name)} for o in operations]
    write("profile_update", summary, measured, args.folder)


if __name__ == "__main__":
    main()
