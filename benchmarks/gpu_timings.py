"""The parts of ``gpu.py`` that measure time and memory."""

import statistics
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch as th
from gpu_checks import within
from gpu_setup import NEEDS_CUDA, Row, Setup, grids, images, vectors, with_rollout, without_tf32
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from timing import iteration_seconds, seconds_of
from variants import Clock

from sb3_mdpo import MDPO
from sb3_mdpo.common.buffers import generalized_advantage_estimate
from sb3_mdpo.common.distributions import distribution_checks
from sb3_mdpo.mdpo.losses import LossSettings
from sb3_mdpo.mdpo.update import METRICS, draw_peers, minibatch_step

Step = Callable[[RolloutBufferSamples], th.Tensor]
GIBIBYTE = 2**30
REPEATS = 3
# Steps that are compared: rounding is amplified from each to the next
COMPARED = 4


def milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms"


def in_turn(functions: dict[str, Callable[[], object]], at_least: float = 0.0) -> dict[str, list[float]]:
    """Seconds per call of each."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(REPEATS):
        for name, function in functions.items():
            seconds[name].append(seconds_of(function, at_least))
    return seconds


def compared(seconds: dict[str, list[float]]) -> str:
    """Medians of two ways, and their ratio."""
    first, second = (statistics.median(times) for times in seconds.values())
    parts = ", ".join(f"{name} {milliseconds(statistics.median(times))}" for name, times in seconds.items())
    return f"{parts}: {first / second:.2f} times as fast"


# Ways to run the update


def eager_step(model: MDPO) -> Step:
    """One minibatch of ``MDPO.train()``."""
    return partial(_step, minibatch_step, model, draw_peers(model.n_policies, "all"), model._loss_settings())


def _step(
    function: Any, model: MDPO, peers: list[list[int]], settings: LossSettings, minibatch: RolloutBufferSamples
) -> th.Tensor:
    active = set(range(model.n_policies))
    metrics: th.Tensor = function(model.policy, minibatch, peers, settings, active, model.max_grad_norm)
    return metrics


def compiled_step(model: MDPO, setup: Setup) -> Step:
    """The same, compiled: losses, their gradients and the optimizer, with CUDA graphs of what is between breaks."""
    options = {"mode": "reduce-overhead"} if setup.on_cuda else {"backend": "aot_eager"}
    compiled = th.compile(minibatch_step, **options)
    peers, settings = draw_peers(model.n_policies, "all"), model._loss_settings()

    def step(minibatch: RolloutBufferSamples) -> th.Tensor:
        th.compiler.cudagraph_mark_step_begin()
        return _step(compiled, model, peers, settings, minibatch).clone()  # the next replay writes over it

    return step


def state_tensors(model: MDPO) -> list[th.Tensor]:
    moments = [value for state in model.policy.optimizer.state.values() for value in state.values()]
    return [*(parameter.data for parameter in model.policy.parameters()), *moments]


def put_back(model: MDPO, saved: list[th.Tensor]) -> None:
    """In place, because a CUDA graph holds on to addresses."""
    for tensor, before in zip(state_tensors(model), saved, strict=True):
        tensor.copy_(before)


class StaticStep:
    """
    A step on minibatches that always have the same addresses, as CUDA graphs need them; on CUDA one graph of the whole
    step, optimizer included. The state of the model afterwards is that before.
    """

    def __init__(self, model: MDPO, step: Step, minibatch: RolloutBufferSamples) -> None:
        self.minibatch = type(minibatch)(*(tensor.clone() for tensor in minibatch))
        saved = [tensor.clone() for tensor in state_tensors(model)]
        self.graph = None
        if model.device.type != "cuda":
            self.replay = partial(step, self.minibatch)
            return
        side = th.cuda.Stream()  # warmed up on a stream of its own, as torch's notes on CUDA graphs ask for
        side.wait_stream(th.cuda.current_stream())
        with th.cuda.stream(side):
            for _ in range(3):
                step(self.minibatch)
        th.cuda.current_stream().wait_stream(side)
        model.policy.optimizer.zero_grad()
        self.graph = th.cuda.CUDAGraph()
        with th.cuda.graph(self.graph):
            metrics = step(self.minibatch)
        put_back(model, saved)

        def replay() -> th.Tensor:
            self.graph.replay()
            return metrics.clone()

        self.replay = replay

    def __call__(self, minibatch: RolloutBufferSamples) -> th.Tensor:
        for static, given in zip(self.minibatch, minibatch, strict=True):
            static.copy_(given)
        return self.replay()


def epoch(model: MDPO, step: Step) -> None:
    for minibatch in model.rollout_buffer.get(model.batch_size):
        step(minibatch)


def compare_steps(setup: Setup, make: Callable[..., MDPO], way: str) -> Iterator[Row]:
    """An epoch of the update, eager and in another way, in turn: equal up to rounding, and seconds."""
    without_tf32()
    # Adam's count of steps on the device, as CUDA graphs need it
    model = with_rollout(make(setup, {"optimizer_kwargs": {"eps": 1e-5, "capturable": setup.on_cuda}}))
    eager = eager_step(model)
    with distribution_checks(False):
        minibatches = list(model.rollout_buffer.get(model.batch_size))
        first = (minibatches * COMPARED)[:COMPARED]
        other = compiled_step(model, setup) if way == "compiled" else StaticStep(model, eager, minibatches[0])
        saved = [tensor.clone() for tensor in state_tensors(model)]
        other(minibatches[0])  # compiles
        metrics = {}
        for name, step in (("eager", eager), (way, other)):
            put_back(model, saved)
            metrics[name] = np.stack([step(minibatch).cpu().numpy()[:, : METRICS.index("loss")] for minibatch in first])
        yield within(f"losses, {way} and eager", metrics[way], metrics["eager"], 1e-3, 1e-3)
        seconds = in_turn({"eager": partial(epoch, model, eager), way: partial(epoch, model, other)}, setup.size(2, 0))
    skipped = f" (without a graph: {NEEDS_CUDA})" if way == "graph" and not setup.on_cuda else ""
    what = f"an epoch of {len(minibatches)} minibatches of {model.batch_size}, {way}"
    yield Row(what, compared(seconds) + skipped, None, seconds)


def _vectors(setup: Setup, policy_kwargs: dict[str, Any]) -> MDPO:
    return vectors(setup, policy_kwargs=policy_kwargs)


def _images(setup: Setup, policy_kwargs: dict[str, Any]) -> MDPO:
    small = {"features_extractor_kwargs": {"channels": (4, 4), "features_dim": 16}} if setup.miniature else {}
    return images(setup, policy_kwargs=small | policy_kwargs)[1]


def graph_of_vectors(setup: Setup) -> Iterator[Row]:
    return compare_steps(setup, _vectors, "graph")


def graph_of_images(setup: Setup) -> Iterator[Row]:
    return compare_steps(setup, _images, "graph")


def compiled_vectors(setup: Setup) -> Iterator[Row]:
    return compare_steps(setup, _vectors, "compiled")


def compiled_update(setup: Setup) -> Iterator[Row]:
    """``MDPO(compile=True)`` and without, in turn."""
    without_tf32()
    what = "update with compile=True"
    if not setup.on_cuda:
        yield Row(what, f"{NEEDS_CUDA}; on a CPU see throughput.py")
        return
    models = {name: with_rollout(images(setup, compile=name == "compiled")[1]) for name in ("eager", "compiled")}
    seconds = in_turn({name: model.train for name, model in models.items()})
    yield Row(what, compared(seconds), None, seconds)


# Iterations


def measured_iterations(model: MDPO, clock: Clock) -> dict[str, float]:
    """Medians of the seconds in rollouts, of the environments in them, and in updates."""
    with_rollout(model)
    parts: dict[str, list[float]] = {"rollout": [], "environments": [], "update": []}
    for _ in range(REPEATS):
        clock.seconds.clear()
        rollout, update = iteration_seconds(model)
        for name, seconds in zip(parts, (rollout, clock.seconds["environments"], update), strict=True):
            parts[name].append(seconds)
    return {name: statistics.median(seconds) for name, seconds in parts.items()}


def described(model: MDPO, seconds: dict[str, float]) -> str:
    """Parts of an iteration, and the most that overlapping two of them could hide."""
    total = seconds["rollout"] + seconds["update"]
    inference = seconds["rollout"] - seconds["environments"]
    steps = {"environments": seconds["environments"], "inference": inference}
    per_step = ", ".join(f"{name} {milliseconds(each / model.n_steps)}" for name, each in steps.items())
    return (
        f"{model.n_steps * model.n_envs / total:.0f} steps/s; a step of {model.n_envs} environments: {per_step}; an "
        f"update: {milliseconds(seconds['update'])}. Overlapping stepping and inference hides at most "
        f"{100 * min(steps.values()) / total:.0f} % of an iteration, rollout and update "
        f"{100 * min(seconds['rollout'], seconds['update']) / total:.0f} %"
    )


def iterations(setup: Setup) -> Iterator[Row]:
    """Where the time of an iteration goes."""
    without_tf32()
    clock = Clock()
    model = vectors(setup, clock=clock)
    seconds = measured_iterations(model, clock)
    yield Row("MlpPolicy on CartPole", described(model, seconds), None, seconds)
    for what, precision, tf32 in (
        ("fp32", "fp32", False),
        ("fp32 with TF32 convolutions, torch's default", "fp32", True),
        ("bf16", "bf16", True),
    ):
        th.backends.cudnn.allow_tf32 = tf32
        clock = Clock()
        name, model = images(setup, clock, precision=precision)
        seconds = measured_iterations(model, clock)
        yield Row(f"ImpalaCnnPolicy on {name}, {what}", described(model, seconds), None, seconds)


def memory(setup: Setup) -> Iterator[Row]:
    """The peak of an update, the model and its rollouts included."""
    model, peaks = with_rollout(images(setup)[1]), []
    for chunk_size in (None, setup.size(512, 16), setup.size(128, 8)):
        model.chunk_size = chunk_size
        if setup.on_cuda:
            th.cuda.reset_peak_memory_stats()
        seconds = seconds_of(model.train)
        peak = th.cuda.max_memory_allocated() if setup.on_cuda else None
        result = f"peak {NEEDS_CUDA}" if peak is None else f"peak {peak / GIBIBYTE:.2f} GiB"
        raw = {"peak": peak, "seconds": seconds}
        yield Row(f"chunk_size={chunk_size}", f"{result}; {milliseconds(seconds)}", None, raw)
        peaks.append(peak)
    falls = peaks == sorted(peaks, reverse=True) if setup.on_cuda else None
    yield Row("smaller chunks need less", NEEDS_CUDA if falls is None else str(falls).lower(), falls)


def rollouts_on_host(setup: Setup) -> Iterator[Row]:
    """``rollout_buffer_kwargs=dict(device="cpu")`` against rollouts on the device; and GAE, which differs with it."""
    without_tf32()
    places = {"device": setup.device, "host": "cpu"}
    buffers = {}
    for name, device in places.items():
        model = with_rollout(grids(setup, rollout_buffer_kwargs={"device": device}))
        buffers[name] = {what: getattr(model.rollout_buffer, what).cpu().numpy() for what in ("actions", "advantages")}
    same = bool((buffers["host"]["actions"] == buffers["device"]["actions"]).all())
    yield Row("actions, host and device", "equal" if same else "differ", same)
    advantages = [buffers[name]["advantages"] for name in ("host", "device")]
    yield within("advantages, host and device", *advantages, 1e-4, 1e-4)
    for name, device in places.items():
        clock = Clock()
        _, model = images(setup, clock, rollout_buffer_kwargs={"device": device})
        seconds = measured_iterations(model, clock)
        yield Row(f"rollouts on the {name}", described(model, seconds), None, seconds)
    yield from advantages_of_long_rollouts(setup)


def advantages_of_long_rollouts(setup: Setup) -> Iterator[Row]:
    steps, n_envs = setup.size(2048, 128), 64
    generator = th.Generator().manual_seed(setup.seed)
    rewards, values, starts = (th.rand(steps, n_envs, generator=generator) for _ in range(3))
    arguments = (rewards, values, (starts < 0.01).float(), values[0], th.zeros(n_envs))
    of = {name: partial(_gae, *(one.to(name) for one in arguments)) for name in ("cpu", setup.device)}
    expected, actual = of["cpu"](), of[setup.device]().cpu()
    yield within(f"GAE of {steps} x {n_envs}, host and device", actual, expected, 1e-4, 1e-4)
    seconds = {name: [seconds_of(function, setup.size(1, 0))] for name, function in of.items()}
    result = ", ".join(f"{name} {milliseconds(times[0])}" for name, times in seconds.items())
    yield Row(f"GAE of {steps} x {n_envs}", result, None, seconds)


def _gae(*arguments: th.Tensor) -> th.Tensor:
    return generalized_advantage_estimate(*arguments, gamma=0.99, gae_lambda=0.95)
