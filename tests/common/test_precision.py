"""What makes training faster changes nothing but rounding: chunks, memory layout, bfloat16, compilation."""

import copy
import pickle
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import nn

from sb3_mdpo import MDPO, ImpalaCNN
from sb3_mdpo.common.precision import (
    CPU_CHUNK,
    MALLOC_SETTINGS,
    automatic_chunk_size,
    has_bfloat16,
    resolve_precision,
)
from sb3_mdpo.mdpo.losses import LossSettings
from sb3_mdpo.mdpo.update import METRICS, draw_peers, minibatch_step
from tests.support.envs import BrightSideEnv, maker
from tests.support.helpers import collect, needs_compiler
from tests.support.training import small

IMAGE = spaces.Box(0, 255, (3, 36, 36), np.uint8)
VECTOR = spaces.Box(-1, 1, (3,))
SMALL = {"features_extractor_kwargs": {"channels": (4, 8), "features_dim": 16}}
SETTINGS = LossSettings(0.2, 0.2, 0.01, 0.5, distill_coef=1.0, normalize_advantage=True)


def images(**kwargs) -> MDPO:
    """Two members that differ, with a full rollout of 96 samples each."""
    settings = {"n_steps": 24, "batch_size": 96, "policy_kwargs": SMALL}
    model = small(MDPO, make_vec_env(BrightSideEnv, n_envs=8, seed=0), "ImpalaCnnPolicy", **settings | kwargs)
    collect(model)
    model.policy.members[1].action_net.bias.data += th.tensor([1.0, -1.0])
    return model


def step(model: MDPO, **kwargs) -> tuple[th.Tensor, list[th.Tensor]]:
    """Metrics and gradients of one step, without its change of the weights."""
    np.random.seed(0)
    minibatch = next(iter(model.rollout_buffer.get(model.batch_size)))
    before = [p.detach().clone() for p in model.policy.parameters()]
    peers = draw_peers(model.n_policies, "all")
    active = kwargs.pop("active", set(range(model.n_policies)))
    metrics = minibatch_step(model.policy, minibatch, peers, SETTINGS, active, **{"max_grad_norm": 1e9} | kwargs)
    gradients = [th.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.policy.parameters()]
    for parameter, old in zip(model.policy.parameters(), before, strict=True):
        parameter.data = old
    return metrics, gradients


def assert_same_step(actual, expected, rtol: float = 1e-4) -> None:
    th.testing.assert_close(actual[0], expected[0], rtol=rtol, atol=rtol / 10)
    for mine, its in zip(actual[1], expected[1], strict=True):
        assert (mine - its).norm() <= rtol * its.norm() + 1e-6


@pytest.mark.parametrize("chunk_size", [1, 32, 36, 95])
def test_chunks_add_up_to_the_minibatch(chunk_size):
    model = images()
    whole = step(model)
    assert whole[0][:, METRICS.index("distill_kl")].min() > 0.1
    assert_same_step(step(model, chunk_size=chunk_size), whole)


@pytest.mark.parametrize("chunk_size", [96, 1000])
def test_one_chunk_is_the_minibatch_bit_for_bit(chunk_size):
    model = images()
    metrics, gradients = step(model)
    again, others = step(model, chunk_size=chunk_size)
    assert th.equal(metrics, again)
    assert all(th.equal(mine, its) for mine, its in zip(gradients, others, strict=True))


@pytest.mark.parametrize(
    ("policy", "observations", "actions", "kwargs"),
    [
        ("MlpPolicy", VECTOR, spaces.Box(-1, 1, (2,)), {"n_policies": 3}),
        ("MlpPolicy", VECTOR, spaces.Box(-1, 1, (2,)), {"use_sde": True}),
        ("MultiInputPolicy", spaces.Dict({"a": IMAGE, "b": VECTOR}), spaces.MultiDiscrete([2, 3]), {}),
    ],
)
def test_chunks_of_other_spaces_add_up(policy, observations, actions, kwargs):
    env = DummyVecEnv([maker(observations, actions)] * (2 * kwargs.get("n_policies", 2)))
    model = MDPO(policy, env, n_steps=20, batch_size=40, seed=0, **kwargs)
    collect(model)
    assert_same_step(step(model, chunk_size=16), step(model))


@pytest.mark.parametrize("chunk_size", [None, 10])
def test_a_member_beyond_target_kl_leaves_nothing_behind(chunk_size):
    """Its chunks had been differentiated before the whole minibatch's KL was known."""
    model = images()
    model.policy.members[1].action_net.bias.data += th.tensor([4.0, -4.0])
    active = {0, 1}
    _, gradients = step(model, active=active, target_kl=0.5, chunk_size=chunk_size)
    assert active == {0}
    # What member 0 has is its own term's gradient, the peer taken as it was when that term was differentiated
    _, alone = step(model, active={0}, chunk_size=chunk_size)
    n_first = len(list(model.policy.members[0].parameters()))
    for mine, its in zip(gradients[:n_first], alone[:n_first], strict=True):
        th.testing.assert_close(mine, its)
    assert not any(gradient.any() for gradient in gradients[n_first:])


def test_chunks_need_less_memory():
    """Bytes that the graph keeps for the backward pass, at the same time."""

    def most_kept(chunk_size: int | None) -> int:
        kept = most = 0

        class Saved:
            def __init__(self, tensor: th.Tensor) -> None:
                nonlocal kept, most
                self.tensor = tensor
                kept += tensor.nbytes
                most = max(most, kept)

            def __del__(self) -> None:
                nonlocal kept
                kept -= self.tensor.nbytes

        with th.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.tensor):
            step(images(), chunk_size=chunk_size)
        return most

    assert most_kept(12) < most_kept(None) / 7


@pytest.mark.parametrize("shape", [(3, 36, 36), (3, 33, 35)])
def test_channels_last_equals_contiguous(shape):
    th.manual_seed(0)
    encoder = ImpalaCNN(spaces.Box(0, 255, shape, np.uint8), features_dim=16, channels=(4, 8))
    x, gradient = th.rand(5, *shape), th.randn(5, 16)

    def run(memory_format: th.memory_format) -> list[th.Tensor]:
        encoder.zero_grad()
        features = encoder(x.to(memory_format=memory_format))
        features.backward(gradient)
        return [features.detach(), *(p.grad.clone() for p in encoder.parameters())]

    for last, contiguous in zip(run(th.channels_last), run(th.contiguous_format), strict=True):
        assert (last - contiguous).norm() <= 1e-4 * contiguous.norm()


def weights_of(source: MDPO, target: MDPO) -> MDPO:
    target.policy.load_state_dict(source.policy.state_dict())
    target.rollout_buffer = source.rollout_buffer
    return target


def test_bfloat16_stays_close_to_float32():
    """
    bfloat16 has 8 significant bits: factors are rounded by up to 2^-9. Measured with five seeds, losses differ by
    at most 0.1 % of their size, gradients by 0.8 % of their length; the bounds are wider by a factor of five or more.
    """
    exact = images()
    rounded = weights_of(exact, images(precision="bf16"))
    expected, actual = step(exact), step(rounded)
    th.testing.assert_close(actual[0], expected[0], rtol=0.01, atol=0.005)
    mine, its = (th.cat([gradient.flatten() for gradient in gradients]) for gradients in (actual[1], expected[1]))
    assert 0 < (mine - its).norm() < 0.04 * its.norm()


def test_only_the_encoder_is_in_bfloat16():
    model = images(precision="bf16")
    member = model.policy.members[0]
    encoder = member.features_extractor
    layers = {"conv": encoder.cnn[0].conv, "dense": encoder.linear[0], "features": encoder}
    seen: dict[str, th.dtype] = {}
    for name, module in (layers | {"logits": member.action_net, "values": member.value_net}).items():
        module.register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out.dtype}))
    metrics, gradients = step(model)
    assert seen.pop("conv") == seen.pop("dense") == th.bfloat16
    assert list(seen.values()) == [th.float32] * 3
    assert {tensor.dtype for tensor in (metrics, *gradients, *model.policy.parameters())} == {th.float32}


def test_rollouts_and_updates_have_the_same_precision():
    """Otherwise the probability ratio would not start at 1."""
    model = images(precision="bf16")
    model.policy.members[1].action_net.bias.data -= th.tensor([1.0, -1.0])  # as they were in the rollout
    metrics, _ = step(model)
    assert metrics[:, METRICS.index("approx_kl")].abs().max() < 1e-3
    assert metrics[:, METRICS.index("clip_fraction")].max() == 0


def test_precision_is_saved_with_the_model(tmp_path):
    """That a model learns in bfloat16 is tested in ``test_run.py::test_image_task_is_solved``."""
    model = images(precision="bf16")
    model.save(tmp_path / "model")
    loaded = MDPO.load(tmp_path / "model")
    assert loaded.precision == "bf16"
    image = IMAGE.sample()
    assert loaded.predict(image, deterministic=True)[0] == model.predict(image, deterministic=True)[0]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda policy: pickle.loads(pickle.dumps(policy))])
def test_copies_of_a_policy_have_weights_of_their_own(copied):
    policy = images(precision="bf16").policy
    twin = copied(policy)
    x = th.as_tensor(BrightSideEnv.observation_space.sample()[None])
    mine, its = (one.members[0].predict_values(x) for one in (policy, twin))
    assert th.equal(mine, its)
    its.sum().backward()
    weights = [one.members[0].features_extractor.linear[0].weight for one in (policy, twin)]
    assert (weights[0].grad is None, weights[1].grad is None) == (True, False)
    for parameter in twin.parameters():
        parameter.data.zero_()
    assert not twin.members[0].extract_features(x).any()


class Linear(BaseFeaturesExtractor):
    """The least to compile."""

    def __init__(self, observation_space: spaces.Box) -> None:
        super().__init__(observation_space, 4)
        self.linear = nn.Linear(3 * 36 * 36, 4)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return th.relu(self.linear(observations.flatten(1)))


@needs_compiler
@pytest.mark.expensive
def test_compiled_equals_eager():
    model = images(policy_kwargs={"features_extractor_class": Linear})
    assert_same_step(step(model, chunk_size=32, compile=True), step(model, chunk_size=32), rtol=1e-3)


def test_freed_memory_is_kept_once_images_are_trained_on_the_cpu(monkeypatch):
    calls: dict[int, int] = {}
    library = SimpleNamespace(mallopt=lambda parameter, value: calls.update({parameter: value}) or 1)
    monkeypatch.setattr("sb3_mdpo.common.precision.ctypes.CDLL", lambda _name: library)
    small(MDPO, "CartPole-v1").learn(32)
    model = small(MDPO, make_vec_env(BrightSideEnv, n_envs=2), "ImpalaCnnPolicy", policy_kwargs=SMALL)
    assert calls == {}
    model.learn(32)
    assert calls == (MALLOC_SETTINGS if sys.platform == "linux" else {})


CPU = th.device("cpu")


@pytest.mark.parametrize("available", [True, False])
def test_auto_is_bfloat16_for_images_on_hardware_that_has_it(available, monkeypatch):
    assert has_bfloat16(CPU) == (th.cpu._is_amx_tile_supported() or th.cpu._is_avx512_bf16_supported())
    monkeypatch.setattr("sb3_mdpo.common.precision.has_bfloat16", lambda _device: available)
    for space in (IMAGE, spaces.Dict({"a": VECTOR, "b": IMAGE})):
        assert resolve_precision("auto", CPU, space) == ("bf16" if available else "fp32")
    assert resolve_precision("auto", CPU, VECTOR) == "fp32"
    assert [resolve_precision(precision, CPU, IMAGE) for precision in ("fp32", "bf16")] == ["fp32", "bf16"]


class Normalized(BaseFeaturesExtractor):
    def __init__(self, observation_space: spaces.Box) -> None:
        super().__init__(observation_space, 3 * 36 * 36)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.norm(observations).flatten(1)


def test_chunks_are_chosen_for_images_on_the_cpu_alone():
    # Images of 36x36 pixels: three times as many as of 64x64
    assert automatic_chunk_size(images().policy) == 3 * CPU_CHUNK
    space = spaces.Box(0, 255, (64, 64, 3), np.uint8)
    env = DummyVecEnv([maker(space, spaces.Discrete(2))] * 2)
    assert automatic_chunk_size(small(MDPO, env, "ImpalaCnnPolicy", policy_kwargs=SMALL).policy) == CPU_CHUNK
    assert automatic_chunk_size(MDPO("MlpPolicy", "CartPole-v1", device="cpu").policy) is None
    # Statistics of a batch are not the mean of its chunks'
    normalized = images(policy_kwargs={"features_extractor_class": Normalized})
    assert automatic_chunk_size(normalized.policy) is None


def test_the_chunk_size_is_used():
    model = images(chunk_size=10)
    sizes: set[int] = set()
    model.policy.members[0].action_net.register_forward_hook(lambda _m, _i, out: sizes.add(len(out)))
    model.learn(24 * 8)
    assert sizes == {4, 10, 6}  # environments of a member, chunks, the rest of 96


def test_bfloat16_needs_an_encoder_with_weights():
    with pytest.raises(ValueError, match=r"precision='bf16' is for features extractors with weights, .* has none"):
        MDPO("MlpPolicy", "CartPole-v1", precision="bf16")
