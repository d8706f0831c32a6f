"""The parts of ``gpu.py`` that check results: parity, precision, processes, resuming, waiting for the device."""

import os
import socket
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from typing import Any
from unittest.mock import patch

import numpy as np
import torch as th
import torch.distributed as dist
from gpu_setup import NEEDS_CUDA, Row, Setup, grids, images, vectors, without_tf32
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from timing import seconds_of
from torch.utils._python_dispatch import TorchDispatchMode

from sb3_mdpo import MDPO
from sb3_mdpo.callbacks import ResumableCheckpointCallback
from sb3_mdpo.common.ranks import enter, leave
from sb3_mdpo.distributed.launch import _join
from sb3_mdpo.mdpo.metrics import UpdateHistory
from sb3_mdpo.mdpo.update import METRICS
from tests.mdpo.test_parity import BOUNDS, LOSSES, RECORD, RTOL_OF_GRAD_NORM, named_parameters, rebuild

ROLLOUT = ("observations", "actions", "rewards", "episode_starts", "values", "log_probs", "advantages", "returns")
PARAMETERS_CHANGE = 0.2  # of the length of a parameter's change, of which rounding is 6 % on a CPU
Update = dict[str, Any]


def within(what: str, actual: Any, expected: Any, rtol: float | np.ndarray, atol: float = 0.0) -> Row:
    """Whether numbers are close, and how much of the tolerance the largest difference takes."""
    actual, expected = np.asarray(actual, dtype=float), np.asarray(expected, dtype=float)
    difference = np.abs(actual - expected)
    largest = float(np.max(difference / (atol + rtol * np.abs(expected))))
    relative = " to ".join(f"{one:g}" for one in sorted({np.min(rtol), np.max(rtol)}))
    tolerance = f"relative {relative}" + (f", absolute {atol:g}" if atol else "")
    raw = {"share_of_tolerance": largest, "largest_difference": float(difference.max())}
    return Row(what, f"{100 * largest:.3g} % of the tolerance ({tolerance})", largest <= 1, raw)


# Parity with the authors' update


def recorded_model(device: str, **settings: Any) -> MDPO:
    """The model of tests/mdpo/test_parity.py, with its recorded rollout, moved to a device as saved models are."""
    on_cpu, file = rebuild(**settings), BytesIO()
    on_cpu.save(file)
    file.seek(0)
    model = MDPO.load(file, device=device)
    model.set_logger(Logger(folder=None, output_formats=[]))
    buffer = model.rollout_buffer
    buffer.reset()
    for name in ROLLOUT:
        getattr(buffer, name).copy_(getattr(on_cpu.rollout_buffer, name))
    buffer.pos, buffer.full = buffer.buffer_size, True
    return model


def recorded_update(model: MDPO) -> Update:
    """Metrics of every minibatch, gradients of the first one, and how far the parameters of each member move."""
    before = [{n: p.detach().clone() for n, p in named_parameters(model, k).items()} for k in range(2)]
    gradients: list[dict[str, th.Tensor]] = []
    histories: list[UpdateHistory] = []
    step, log = model.policy.optimizer.step, model._log_update

    def remember_gradients() -> None:
        if not gradients:
            gradients.extend({n: p.grad.clone().cpu() for n, p in named_parameters(model, k).items()} for k in range(2))
        step()

    def remember_history(history: UpdateHistory, settings: Any) -> None:
        histories.append(history)
        log(history, settings)

    permutations = iter(RECORD["permutations"])
    with (
        patch.object(np.random, "permutation", lambda n: np.array(next(permutations))),
        patch.object(model.policy.optimizer, "step", remember_gradients),
        patch.object(model, "_log_update", remember_history),
    ):
        model.train()
    changes = [{n: (p - before[k][n]).norm().item() for n, p in named_parameters(model, k).items()} for k in range(2)]
    return {"metrics": th.stack(histories[0].steps).cpu().numpy(), "gradients": gradients, "changes": changes}


def losses_of(update: Update) -> np.ndarray:
    """In the authors' units, shape ``(minibatches, policies, losses)``."""
    return np.stack([factor * update["metrics"][..., METRICS.index(ours)] for ours, _, factor in LOSSES], axis=-1)


def recorded_losses() -> np.ndarray:
    each = [[RECORD["per_minibatch"][str(k)][theirs] for _, theirs, _ in LOSSES] for k in range(2)]
    return np.array(each).transpose(2, 0, 1)


def compared_with_record(update: Update) -> Iterator[Row]:
    """The record was made in float32 on a CPU: from the second minibatch on, rounding is amplified."""
    actual, expected, first_epoch = losses_of(update), recorded_losses(), RECORD["minibatches"]
    yield within("losses of the first minibatch", actual[0], expected[0], 1e-5, 1e-5)
    yield within("losses of the first epoch", actual[:first_epoch], expected[:first_epoch], 1e-4, 1e-4)
    yield within("losses of all minibatches", actual, expected, 5e-3, 5e-3)
    norms = np.array([RECORD["grad_norm_before_clip"][str(k)] for k in range(2)]).T
    yield within(
        "gradient norms", update["metrics"][..., METRICS.index("grad_norm")], norms, RTOL_OF_GRAD_NORM[:, None]
    )
    clipped = [RECORD["first_minibatch_clipped_grad"][str(k)] for k in range(2)]
    pairs = [(g.norm().item(), clipped[k][n][0]) for k in range(2) for n, g in update["gradients"][k].items()]
    yield within("clipped gradients of the first minibatch", *zip(*pairs, strict=True), 1e-4, 1e-6)
    after = [RECORD["after_update"][str(k)] for k in range(2)]
    pairs = [(change, after[k][n][0]) for k in range(2) for n, change in update["changes"][k].items()]
    yield within("changes of the parameters", *zip(*pairs, strict=True), PARAMETERS_CHANGE)


def parity(setup: Setup) -> Iterator[Row]:
    """MDPO's update in float32 on the data that the authors' update was recorded on."""
    without_tf32()
    yield from compared_with_record(recorded_update(recorded_model(setup.device)))


def faster_paths(setup: Setup) -> Iterator[Row]:
    """Chunks and bfloat16 against float32, within the bounds of the tests on a CPU."""
    without_tf32()
    exact = recorded_update(recorded_model(setup.device))
    for settings, last in (({"chunk_size": 3}, 1e-2), ({"precision": "bf16"}, 5e-2)):
        ((name, value),) = settings.items()
        other, label = recorded_update(recorded_model(setup.device, **settings)), f"{name}={value}"
        loss, norm, gradient = BOUNDS[name]
        yield within(f"{label}: losses of the first minibatch", losses_of(other)[0], losses_of(exact)[0], loss, loss)
        yield within(f"{label}: losses of all minibatches", losses_of(other), losses_of(exact), last, last)
        norms = [one["metrics"][0, :, METRICS.index("grad_norm")] for one in (other, exact)]
        yield within(f"{label}: gradient norms of the first minibatch", *norms, norm)
        lengths = [
            ((mine - other["gradients"][k][n]).norm().item(), mine.norm().item())
            for k in range(2)
            for n, mine in exact["gradients"][k].items()
        ]
        furthest = max(distance / length for distance, length in lengths)
        result = f"differ by up to {furthest:.2g} of their length (at most {gradient:g})"
        yield Row(f"{label}: gradients of the first minibatch", result, furthest <= gradient, furthest)


# Processes


def one_process(setup: Setup) -> Iterator[Row]:
    """The communication of several processes, with one: ``process_group()`` itself does without it then."""
    without_tf32()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    model = recorded_model(setup.device)
    ranks = _join(60.0, 1)
    enter(ranks)
    try:
        backends = dist.get_backend_config()
        by_nccl = "cuda:nccl" in backends if setup.on_cuda else None
        yield Row("backends", backends if setup.on_cuda else f"{backends}; NCCL {NEEDS_CUDA}", by_nccl)
        yield from compared_with_record(recorded_update(model))
        gradients = [parameter.grad for parameter in model.policy.parameters()]
        seconds = seconds_of(lambda: ranks.average(gradients), 0.2)
        numbers = sum(gradient.numel() for gradient in gradients)
        yield Row("averaging the gradients", f"{1e3 * seconds:.2f} ms for {numbers:,} numbers", None, seconds)
        trained = vectors(setup)
        trained.learn(trained.n_steps * trained.n_envs)
        finite = all(bool(parameter.isfinite().all()) for parameter in trained.policy.parameters())
        yield Row("a training on CartPole", "finite weights" if finite else "weights that are not finite", finite)
    finally:
        leave()
        dist.destroy_process_group()


# Resuming


class Interrupted(Exception):
    pass


class InterruptAt(BaseCallback):
    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def _on_step(self) -> bool:
        if self.num_timesteps >= self.step:
            raise Interrupted
        return True


def state_of(model: MDPO) -> list[th.Tensor]:
    """All weights and moments."""
    moments = model.policy.optimizer.state_dict()["state"].values()
    return [*model.policy.state_dict().values(), *(one[name] for one in moments for name in sorted(one))]


def same_bits(one: MDPO, other: MDPO) -> bool:
    return all(map(th.equal, state_of(one), state_of(other)))


def resume(setup: Setup) -> Iterator[Row]:
    """Trainings with and without an interruption, with torch's deterministic algorithms."""
    without_tf32()
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    th.use_deterministic_algorithms(True, warn_only=True)
    # Max-pooling's gradient may add in any order on a GPU: whether it does is measured, not required
    kinds = (
        ("MlpPolicy, CartPole", lambda: vectors(setup), True),
        ("StridedCnnPolicy, textured grid", lambda: grids(setup), True),
        ("ImpalaCnnPolicy, textured grid", lambda: grids(setup, "ImpalaCnnPolicy"), False),
    )
    for name, make, required in kinds:
        model = make()
        rollout = model.n_steps * model.n_envs
        total = 3 * rollout
        model.learn(total)
        repeated = same_bits(model, make().learn(total))  # made late, because it seeds torch's generators
        yield Row(f"{name}: repeated", "bit for bit" if repeated else "differs", repeated if required else None)
        with tempfile.TemporaryDirectory() as folder:
            options: dict[str, Any] = {"save_freq": rollout, "resume": True, "handle_signals": False, "verbose": 0}
            try:
                callbacks = [ResumableCheckpointCallback(folder, **options), InterruptAt(rollout * 3 // 2)]
                make().learn(total, callbacks)
            except Interrupted:
                resumed = make().learn(total, ResumableCheckpointCallback(folder, **options))
        same = same_bits(model, resumed)
        yield Row(f"{name}: interrupted and resumed", "bit for bit" if same else "differs", same if required else None)


# Waiting for the device

READING = ("_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "_unique2", "equal")
OWN_CODE = ("sb3_mdpo", "stable_baselines3", "torch/nn/utils", "torch/optim")


class Waits(TorchDispatchMode):
    """
    Counts what the host waits for: a number or a copy from the device, by the line that asks for it. On a CPU it counts
    numbers, except those of the optimizer, which are on the host on every device.
    """

    def __init__(self, device: th.device) -> None:
        super().__init__()
        self.device = device
        self.on_cpu = device.type == "cpu"
        self.at: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        if name in (*READING, "copy_", "_to_copy"):
            source, target = (args[1], args[0]) if name == "copy_" else (args[0], result)
            line = _line()
            reads = name in READING or source.device.type != target.device.type
            if reads and source.device.type == self.device.type and not (self.on_cpu and "torch/optim" in line):
                self.at[line] += 1
        return result


def _line() -> str:
    """The innermost line of MDPO, SB3 or an optimizer that is being executed."""
    for frame in reversed(traceback.extract_stack()):
        for folder in OWN_CODE:
            _, found, file = frame.filename.rpartition(f"/{folder}/")
            if found:
                return f"{folder}/{file}:{frame.lineno}"
    return "elsewhere"


class CountWaits(BaseCallback):
    """Counts in the rollout and in the update, and CUDA's own warnings of synchronisations beside them."""

    def _on_rollout_start(self) -> None:
        self.waits, self.warned = Waits(self.model.device), warnings.catch_warnings(record=True)
        self.caught = self.warned.__enter__()
        warnings.simplefilter("always")
        if th.cuda.is_available():
            th.cuda.set_sync_debug_mode("warn")
        self.waits.__enter__()

    def _count(self) -> tuple[Counter[str], int]:
        at, self.waits.at = self.waits.at, Counter()
        warned = sum("synchronizing CUDA operation" in str(one.message) for one in self.caught or ())
        (self.caught or []).clear()
        return at, warned

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.rollout = self._count()

    def _on_training_end(self) -> None:
        self.update = self._count()
        self.waits.__exit__(None, None, None)
        if th.cuda.is_available():
            th.cuda.set_sync_debug_mode("default")
        self.warned.__exit__(None, None, None)


def counted(model: MDPO) -> CountWaits:
    model.learn(model.n_steps * model.n_envs, log_interval=None)  # warms up
    callback = CountWaits()
    model.learn(model.n_steps * model.n_envs, callback, log_interval=None)
    return callback


def synchronizations(setup: Setup) -> Iterator[Row]:
    """Per step of a rollout and per minibatch: what twice as many of them add."""
    kinds = (
        ("MlpPolicy, discrete actions", lambda **sizes: vectors(setup, n_envs=8, **sizes), 4),
        ("MlpPolicy, Gaussian actions", lambda **sizes: vectors(setup, "Pendulum-v1", n_envs=8, **sizes), 4),
        ("ImpalaCnnPolicy", lambda **sizes: images(setup, **sizes)[1], setup.size(64, 4)),
    )
    for name, make, per_policy in kinds:
        steps, minibatches = 8, 4
        short, long = (
            counted(make(n_steps=steps * n, n_epochs=1, batch_size=steps * per_policy // minibatches)) for n in (1, 2)
        )
        for what, one, other, times, allowed in (
            ("step of a rollout", short.rollout, long.rollout, steps, 2),  # whether actions are finite, and the actions
            ("minibatch", short.update, long.update, minibatches, 0),
        ):
            waits = (other[0].total() - one[0].total()) / times
            warned = (other[1] - one[1]) / times
            cuda = f"CUDA warns of {warned:g}" if setup.on_cuda else f"CUDA's warnings {NEEDS_CUDA}"
            result = f"{waits:g} (at most {allowed}); {cuda}"
            raw = {"waits": waits, "warnings": warned, "lines": dict(other[0])}
            passed = waits <= allowed and (allowed > 0 or warned <= 0)  # sending observations is warned of as well
            yield Row(f"{name}: waits per {what}", result, passed, raw)
