"""Representations: the measures by hand and by their properties, real models on real Procgen, the command."""

import hashlib
import io
import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch as th
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.image import imread
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecFrameStack

from sb3_mdpo import MDPO, ImpalaCnnPolicy
from sb3_mdpo.cli.features import output_folder, tables
from sb3_mdpo.cli.main import main
from sb3_mdpo.envs import make_levels
from sb3_mdpo.lab import state_sampling
from sb3_mdpo.lab.generalization.trained import TrainedModel, open_trained
from sb3_mdpo.lab.perturbations.images import image_perturbations
from sb3_mdpo.lab.representation.analysis import (
    UNCHANGED,
    analyse_features,
    collect_observations,
    features_of,
    features_of_versions,
    named_policies,
)
from sb3_mdpo.lab.representation.embedding import draw_embeddings, embed
from sb3_mdpo.lab.representation.measures import distance_ratio, effective_rank, is_constant, linear_cka
from sb3_mdpo.lab.representation.results import FeatureAnalysis, PolicyFeatures
from sb3_mdpo.lab.representation.saliency import draw_saliency, saliency_of
from sb3_mdpo.lab.state_sampling import sample_from_all, sample_states

COINRUN = "procgen-coinrun-easy-v0"
ROLLOUT = {"n_steps": 8, "batch_size": 8, "device": "cpu"}
SMALL = {"features_extractor_kwargs": {"channels": (4, 4), "features_dim": 8}}

NUMBERS = st.floats(-10, 10, width=32).map(lambda x: round(x, 3))
FEATURES = st.tuples(st.integers(2, 8), st.integers(1, 5)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=NUMBERS)
)
VERSIONS = arrays(np.float64, st.tuples(st.integers(2, 5), st.integers(3, 5), st.integers(1, 3)), elements=NUMBERS)


def rotation(dim: int, seed: int) -> np.ndarray:
    """A random orthogonal map, rotation or reflection."""
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))[0]


def test_distance_ratio_by_hand():
    # Within the first 2, 4, 2, within the second 0, 6, 6: mean 10/3. Between, without pairs under the same
    # perturbation: 0-10, 0-16, 2-10, 2-16, 4-10, 4-10, mean 10
    features = np.array([[[0.0], [2.0], [4.0]], [[10.0], [10.0], [16.0]]])
    assert distance_ratio(features) == pytest.approx(1 / 3)
    # In the plane: the corners of a triangle with sides 3, 4 and 5, and thrice the origin
    features = np.array([[[0.0, 0.0], [3.0, 0.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]])
    assert distance_ratio(features) == pytest.approx(((3 + 4 + 5) / 6) / ((0 + 3 + 5) / 3))


def test_distance_ratio_of_features_that_ignore_the_perturbation_or_the_observation():
    rng = np.random.default_rng(0)
    assert distance_ratio(np.repeat(rng.normal(size=(20, 1, 8)), 5, axis=1)) == 0
    assert distance_ratio(np.repeat(rng.normal(size=(1, 5, 8)), 20, axis=0)) == pytest.approx(1)
    assert distance_ratio(rng.normal(size=(40, 10, 8))) == pytest.approx(1, abs=0.02)


@given(VERSIONS, st.floats(0.01, 100), st.integers(0, 9))
def test_distance_ratio_knows_no_scale_place_or_direction(features, scale, seed):
    ratio = distance_ratio(features)
    moved = scale * features @ rotation(features.shape[-1], seed) + 1
    if is_constant(features.reshape(-1, features.shape[-1])):
        assert np.isnan(ratio)
    else:
        assert 0 <= ratio <= 2 + 1e-12  # by the triangle inequality
        assert distance_ratio(moved) == pytest.approx(ratio, rel=1e-5, abs=1e-9)


def hsic(x: np.ndarray, y: np.ndarray) -> float:
    """Equation 5 of Song et al. 2012, as written."""
    n, ones = len(x), np.ones(len(x))
    a, b = (z @ z.T * (1 - np.eye(n)) for z in (x, y))
    product = np.trace(a @ b) + (ones @ a @ ones) * (ones @ b @ ones) / ((n - 1) * (n - 2))
    return float(product - 2 / (n - 2) * ones @ a @ b @ ones) / (n * (n - 3))


def test_linear_cka_by_hand():
    """
    Inner products of different observations: x -1 at 0-1 and 2-3 and 0 elsewhere, y 1 at 0-2 and 0 elsewhere. Centred
    by hand: x (-2, 1, 1) / 3 of the pairs (0-1 and 2-3, 0-2 and 1-3, 0-3 and 1-2), y (-1, 2, -1) / 6.
    """
    x = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    y = np.array([[1.0], [0.0], [1.0], [0.0]])
    assert linear_cka(x, y) == pytest.approx((2 + 2 - 1) / 6)
    assert linear_cka(x + 5, 3 - y) == pytest.approx(1 / 2)
    # A single pair of different observations, 0-1 or 0-2, says that x and y differ
    assert linear_cka(np.array([[1.0], [1.0], [0.0], [0.0]]), y) == pytest.approx(-1 / 2)
    assert np.isnan(linear_cka(np.array([[1.0], [0.0], [0.0], [0.0]]), y))  # one observation is like no other


@given(st.integers(4, 9), st.integers(0, 99))
def test_linear_cka_is_that_of_the_unbiased_estimator(n, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, 3)), rng.normal(size=(n, 2))
    assert linear_cka(x, y) == pytest.approx(hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y)), abs=1e-9)


def test_linear_cka_of_independent_features_is_about_zero():
    """The biased estimate is 0.33 here."""
    rng = np.random.default_rng(0)
    ckas = [linear_cka(*rng.normal(size=(2, 512, 256))) for _ in range(8)]
    assert np.abs(ckas).max() < 0.02
    assert min(ckas) < 0 < max(ckas)


@given(FEATURES, st.integers(1, 4), st.floats(0.01, 100), st.integers(0, 9))
def test_linear_cka_knows_no_scale_place_or_direction(x, dim, scale, seed):
    y = np.random.default_rng(seed).normal(size=(len(x), dim))
    cka = linear_cka(x, y)
    if np.isnan(cka):
        assert is_constant(x) or len(x) < 4 or np.isnan(linear_cka(x, x))
        return
    assert -1 <= cka <= 1
    assert linear_cka(y, x) == pytest.approx(cka)
    assert linear_cka(x, x) == pytest.approx(1)
    moved = scale * x @ rotation(x.shape[1], seed) + 1
    assert linear_cka(moved, y) == pytest.approx(cka, rel=1e-4, abs=1e-6)
    assert linear_cka(x, moved) == pytest.approx(1)


def test_effective_rank_by_hand():
    # Singular values 3 and 1 (columns are orthogonal): exp of the entropy of 3/4 and 1/4
    features = np.array([[1.5, 0.5], [1.5, -0.5], [-1.5, 0.5], [-1.5, -0.5]])
    assert effective_rank(features) == pytest.approx((4 / 3) ** (3 / 4) * 4 ** (1 / 4))
    assert effective_rank(features + 100) == pytest.approx(effective_rank(features))
    assert effective_rank(features / [3, 1]) == pytest.approx(2)
    assert effective_rank(np.outer(np.arange(5), [1, 2, 3])) == pytest.approx(1)


@given(FEATURES, st.floats(0.01, 100))
def test_effective_rank_is_between_one_and_the_dimension(features, scale):
    rank = effective_rank(features)
    if is_constant(features):
        assert rank == 0
    else:
        n_observations, dim = features.shape
        assert 1 - 1e-9 <= rank <= min(n_observations - 1, dim) * (1 + 1e-9)
        assert effective_rank(scale * features) == pytest.approx(rank)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e9])
def test_constant_features(value):
    features = np.full((6, 3), value) + np.float32(1e-7) * value * np.arange(6)[:, None] / 6  # rounding
    assert is_constant(features)
    assert effective_rank(features) == 0
    ckas = [linear_cka(features, np.diag(range(6))), linear_cka(np.diag(range(6)), features)]
    assert np.isnan([distance_ratio(features.reshape(2, 3, 3)), *ckas]).all()


def test_too_few_observations_or_perturbations():
    one, rng = np.array([[1.0, 2.0]]), np.random.default_rng(0)
    assert np.isnan([effective_rank(one), linear_cka(one, one), linear_cka(np.eye(3), np.eye(3))]).all()
    assert np.isnan([distance_ratio(rng.normal(size=shape)) for shape in ((1, 5, 3), (5, 2, 3))]).all()
    with pytest.raises(ValueError, match="Features of 3 and of 4 observations"):
        linear_cka(np.eye(3), np.eye(4))


@pytest.fixture(scope="module", autouse=True)
def short():
    """States close together, so that few steps suffice."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state_sampling, "SPACING", 4)
        patch.setattr(state_sampling, "MIN_STEPS", 12)
        yield


@pytest.fixture(scope="module")
def model() -> MDPO:
    env = make_levels(COINRUN, 4, seed=0, num_levels=20)
    return MDPO("ImpalaCnnPolicy", env, seed=0, policy_kwargs=SMALL, **ROLLOUT)


@pytest.fixture(scope="module")
def mdpo(model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("models") / "mdpo.zip"
    model.save(path)
    return path


@pytest.fixture(scope="module")
def ppo(mdpo) -> Path:
    """Actor and critic have an encoder each, and other ones than the mdpo."""
    path = mdpo.with_name("ppo.zip")
    kwargs = {"features_extractor_kwargs": {"channels": (4,), "features_dim": 12}, "share_features_extractor": False}
    PPO(ImpalaCnnPolicy, make_levels(COINRUN, 2, seed=0), seed=1, policy_kwargs=kwargs, **ROLLOUT).save(path)
    return path


@pytest.fixture(scope="module")
def opened(mdpo, ppo) -> list[TrainedModel]:
    return [open_trained(path, COINRUN, device="cpu") for path in (mdpo, ppo)]


@pytest.fixture(scope="module")
def analysis(opened) -> FeatureAnalysis:
    return analyse_features(opened, observations=14, draws=3, seed=1, tsne_draws=5)


def test_observations_are_from_unseen_levels_and_from_everybodys_play(opened, monkeypatch):
    played = []

    def make_env(self, n_envs, seed=None, **env_kwargs):
        played.append((self.path.stem, n_envs, seed, env_kwargs))
        return make_levels(self.env_id, n_envs, seed, **env_kwargs)

    monkeypatch.setattr(TrainedModel, "make_env", make_env)
    images = collect_observations(opened, 14, seed=5)
    unseen = {"num_levels": 0, "start_level": 0}
    # A third of 14, rounded up
    assert played == [("mdpo", 5, 5, unseen), ("mdpo", 5, 6, unseen), ("ppo", 5, 7, unseen)]
    assert (images.shape, images.dtype) == ((15, 3, 64, 64), np.uint8)
    assert len(np.unique(images.reshape(15, -1), axis=0)) == 15
    assert np.array_equal(collect_observations(opened, 14, seed=5), images)
    assert not np.array_equal(collect_observations(opened, 14, seed=6)[:5], images[:5])


def test_states_of_all_are_the_samples_of_each_member(model, opened):
    """65 of each member, rounded up: twice from 33 environments. First come the first visits to all environments."""
    sampled = sample_from_all(opened[:1], 2 * 65, seed=3)
    assert (sampled.n_envs, len(sampled.observations)) == (66, 132)
    for k, member in enumerate(model.policy.members):
        own = sample_states(opened[0], member, 65, seed=3 + k)
        for visit in range(2):
            places = slice(66 * visit + 33 * k, 66 * visit + 33 * (k + 1))
            np.testing.assert_array_equal(sampled.observations[places], own.observations[own.visit(visit)])
            assert sampled.engine_states[places] == own.engine_states[own.visit(visit)]
    assert sampled.players == (hashlib.sha256(opened[0].path.read_bytes()).hexdigest(),)


def test_features_are_the_actors_encoders_output_without_dropout():
    encoder = {"channels": (4,), "features_dim": 8, "dropout": 0.5}
    kwargs = {"features_extractor_kwargs": encoder, "share_features_extractor": False}
    env = make_levels(COINRUN, 2, seed=0)
    policy = PPO(ImpalaCnnPolicy, env, policy_kwargs=kwargs, **ROLLOUT).policy
    images = policy.obs_to_tensor(env.reset())[0].float()
    env.close()
    policy.train()
    features = features_of(policy, images)
    policy.eval()
    with th.no_grad():
        np.testing.assert_array_equal(features, policy.pi_features_extractor(images / 255))
        assert not np.allclose(features, policy.vf_features_extractor(images / 255))


def test_all_policies_see_the_same_versions(opened):
    policies = named_policies(opened)
    images = collect_observations(opened, 42, seed=0)
    convolutions, *photometric = image_perturbations(4, 3, th.Generator().manual_seed(0))
    made_by, features = features_of_versions(policies, images, [UNCHANGED, convolutions, photometric[0]], 3)
    assert made_by == ["none", *["random convolution"] * 4, "brightness"]
    scaled = th.as_tensor(images) / 255
    versions = [scaled, *convolutions(scaled), (0.5 * scaled)]
    for name, policy in policies.items():
        assert features[name].shape == (42, 6, 8 if "mdpo" in name else 12)
        for v, version in enumerate(versions):
            np.testing.assert_allclose(features[name][:, v], features_of(policy, 255 * version), atol=1e-5)


def test_analysis_is_what_the_measures_say_every_time(opened, analysis):
    policies = named_policies(opened)
    images = collect_observations(opened, 14, seed=1)
    originals = {name: features_of(policy, th.as_tensor(images).float()) for name, policy in policies.items()}
    names = ["mdpo.zip policy 0", "mdpo.zip policy 1", "ppo.zip policy 0"]
    assert [row.policy for row in analysis.policies] == names
    assert [row.features_dim for row in analysis.policies] == [8, 8, 12]
    assert [row.model for row in analysis.policies] == [str(opened[k].path) for k in (0, 0, 1)]
    for row in analysis.policies:
        assert row.effective_rank == pytest.approx(effective_rank(originals[row.policy]), rel=1e-4)
    assert [(row.a, row.b) for row in analysis.cka] == list(combinations(names, 2))
    for row in analysis.cka:
        assert row.cka == pytest.approx(linear_cka(originals[row.a], originals[row.b]), rel=1e-4)
    convolutions, *photometric = image_perturbations(3, 3, th.Generator().manual_seed(1))
    for attribute, perturbations in (("distance_ratio", [convolutions]), ("distance_ratio_photometric", photometric)):
        _, features = features_of_versions(policies, images, perturbations, 3)
        for row in analysis.policies:
            assert getattr(row, attribute) == pytest.approx(distance_ratio(features[row.policy]), rel=1e-4)
    again = analyse_features(opened, observations=14, draws=3, seed=1, tsne_draws=5)
    assert again.as_dict() == analysis.as_dict()
    for name, saliency in analysis.saliency.items():
        np.testing.assert_array_equal(again.saliency[name], saliency)


def test_pictures_can_be_of_some_of_the_models(opened):
    analysis = analyse_features(opened, observations=6, draws=3, tsne_draws=3, pictured=opened[1:])
    assert len(analysis.policies) == 3
    assert list(analysis.embeddings) == list(analysis.saliency) == ["ppo.zip policy 0"]


def test_runs_of_the_same_name_are_told_apart(opened):
    paths = ["logs/mdpo/coinrun_1", "logs/ppo/coinrun_1", "more/ppo/coinrun_2"]
    runs = [replace(opened[1], path=Path(path)) for path in paths]
    assert list(named_policies(runs[1:])) == ["coinrun_1 policy 0", "coinrun_2 policy 0"]
    tails = ("mdpo/coinrun_1", "ppo/coinrun_1", "ppo/coinrun_2")
    assert list(named_policies(runs)) == [f"{tail} policy 0" for tail in tails]


@pytest.fixture(scope="module")
def images(opened):
    return collect_observations(opened[:1], 3)


def test_t_sne_keeps_apart_what_is_apart():
    rng = np.random.default_rng(0)
    centres = np.repeat(20 * rng.normal(size=(3, 1, 16)), 15, axis=1)
    places = embed((centres + rng.normal(size=centres.shape)).reshape(45, 16), seed=0).reshape(3, 15, 2)
    assert distance_ratio(places) < 0.3


@pytest.mark.parametrize("shape", [(4, 3), (6, 1), (12, 40)])
def test_t_sne_of_few_images_or_features(shape):
    features = np.random.default_rng(0).normal(size=shape)
    places = embed(features, seed=2)
    assert places.shape == (shape[0], 2)
    assert np.isfinite(places).all()
    assert np.array_equal(places, embed(features, seed=2))
    assert len(np.unique(places, axis=0)) == shape[0]


def test_t_sne_of_a_collapsed_encoder_is_a_point_and_of_three_images_refused():
    assert not embed(np.full((10, 5), 0.3)).any()
    with pytest.raises(ValueError, match="t-SNE of 3 images: use at least 4"):
        embed(np.eye(3))


def test_saliency_depends_on_the_frame_and_on_the_policy(opened, images):
    of = [saliency_of(policy, images, seed=0) for policy in opened[0].model.policy.members]
    for saliency in of:
        assert saliency.shape == (len(images), 64, 64)
        assert (saliency >= 0).all()
        assert (saliency.max(axis=(1, 2)) > 0).all()
    assert np.abs(of[0][0] - of[0][1]).max() > 0.1 * of[0][0].max()
    assert np.abs(of[0] - of[1]).max() > 0.1 * of[0].max()
    # The noise alone makes no such difference
    other_noise = saliency_of(opened[0].model.policy.members[0], images, seed=1)
    assert np.corrcoef(other_noise.ravel(), of[0].ravel())[0, 1] > 0.9
    th.manual_seed(5)
    expected = th.rand(1)
    th.manual_seed(5)
    np.testing.assert_array_equal(saliency_of(opened[0].model.policy.members[0], images, seed=1), other_noise)
    assert th.equal(th.rand(1), expected)  # leaves no trace
    assert all(parameter.grad is None for parameter in opened[0].model.policy.parameters())


def test_saliency_without_noise_is_the_gradient_of_the_most_probable_action(opened, images, monkeypatch):
    monkeypatch.setattr("sb3_mdpo.lab.representation.saliency.NOISE", 0.0)
    policy = opened[0].model.policy.members[1]
    inputs = th.as_tensor(images).float().requires_grad_()
    distribution = policy.get_distribution(inputs)
    actions = distribution.mode()
    assert set(actions.tolist()) != {0}
    distribution.log_prob(actions).sum().backward()
    expected = inputs.grad.abs().amax(dim=1).numpy()
    np.testing.assert_allclose(saliency_of(policy, images), expected, rtol=1e-3, atol=1e-6 * expected.max())


def test_saliency_is_where_the_policy_looks(mdpo, images):
    """It is blind to all colors but green, and to all but a rectangle of it."""
    policy = open_trained(mdpo, COINRUN, device="cpu").model.policy.members[0]
    encoder = policy.features_extractor
    images = images[:1]

    class Rectangle(th.nn.Module):
        def forward(self, images):
            masked = th.zeros_like(images)
            masked[:, 1, :10, 20:30] = images[:, 1, :10, 20:30]
            return encoder(masked)

    policy.pi_features_extractor = Rectangle()
    (saliency,) = saliency_of(policy, images)
    assert (saliency[:10, 20:30] > 0).mean() > 0.5
    saliency[:10, 20:30] = 0
    assert not saliency.any()


def test_saliency_wants_discrete_actions():
    policy = PPO("MlpPolicy", "Pendulum-v1", **ROLLOUT).policy
    with pytest.raises(ValueError, match=r"the actions are Box\(-2.0, 2.0"):
        saliency_of(policy, np.zeros((1, 3), np.uint8))


def test_files_have_null_for_undefined_numbers(analysis, tmp_path):
    files = analysis.write(tmp_path / "new")
    assert [file.name for file in files] == ["features.json", "tsne.png", "saliency.png"]
    assert sorted((tmp_path / "new").iterdir()) == sorted(files)
    content = json.loads(files[0].read_text())
    assert list(content) == ["settings", "policies", "cka", "tsne"]
    assert content["settings"]["env_id"] == COINRUN
    assert content["settings"]["observations"] == 14
    assert content["policies"][2]["effective_rank"] == analysis.policies[2].effective_rank
    assert content["cka"][0] == {"a": "mdpo.zip policy 0", "b": "mdpo.zip policy 1", "cka": analysis.cka[0].cka}
    # Four observations, themselves and under five convolutions, of three policies
    assert len(content["tsne"]) == 3 * 4 * 6
    place = content["tsne"][6 + 3]
    assert (place["policy"], place["observation"]) == ("mdpo.zip policy 0", 1)
    assert place["perturbation"] == "random convolution"
    assert [place["x"], place["y"]] == analysis.embeddings["mdpo.zip policy 0"][1, 3].tolist()
    assert sum(place["perturbation"] == "none" for place in content["tsne"]) == 3 * 4
    blind = replace(analysis, policies=[PolicyFeatures("policy 0", "here", float("nan"), float("nan"), 0.0, 8)])
    content = json.loads(blind.write(tmp_path)[0].read_text(), parse_constant=pytest.fail)
    assert content["policies"][0]["distance_ratio"] is None
    assert content["policies"][0]["effective_rank"] == 0


def test_pictures_show_all_policies_and_frames(analysis):
    def shape(draw, *content) -> tuple[int, ...]:
        draw(file := io.BytesIO(), *content)
        file.seek(0)
        return imread(file).shape[:2]

    of_all = shape(draw_saliency, analysis.images, analysis.saliency, 3)
    of_one = shape(draw_saliency, analysis.images, dict(list(analysis.saliency.items())[:1]), 3)
    of_two_frames = shape(draw_saliency, analysis.images[:2], {k: v[:2] for k, v in analysis.saliency.items()}, 3)
    assert of_all[0] - of_one[0] == 2 * 180  # a row of 1.5 inches each
    assert of_all[1] - of_two_frames[1] == 4 * 180
    columns = [shape(draw_embeddings, dict(list(analysis.embeddings.items())[:n]))[1] for n in (1, 3)]
    assert columns[1] == 3 * columns[0]
    # Grey and stacked frames
    for channels, of_one in ((1, 1), (4, 1), (12, 3)):
        draw_saliency(io.BytesIO(), np.zeros((2, channels, 16, 16), np.uint8), {"0": np.zeros((2, 16, 16))}, of_one)


def test_tables_hold_all_numbers(analysis):
    policies, cka = tables(analysis).split("\n\n")
    for row, line in zip(analysis.policies, policies.splitlines()[1:], strict=True):
        numbers = (row.distance_ratio, row.distance_ratio_photometric, row.effective_rank)
        assert line.split() == [*row.policy.split(), *(f"{number:.3f}" for number in numbers), str(row.features_dim)]
    for alignment in analysis.cka:
        assert cka.count(f" {alignment.cka:.3f}") == 2
    assert "CKA" not in tables(replace(analysis, cka=[]))


def test_command(mdpo, tmp_path, capsys):
    options = ["--observations", "9", "--draws", "3", "--seed", "4", "--device", "cpu"]
    main(["features", str(mdpo), "--env", COINRUN, *options])
    out = capsys.readouterr().out
    content = json.loads(mdpo.with_name("features.json").read_text())
    assert [row["policy"] for row in content["policies"]] == ["policy 0", "policy 1"]
    assert len(content["cka"]) == 1
    (described,) = content["settings"]["models"]
    assert described["model_sha256"] == hashlib.sha256(mdpo.read_bytes()).hexdigest()
    settings = content["settings"]
    assert [settings[key] for key in ("env_id", "observations", "draws", "seed")] == [COINRUN, 9, 3, 4]
    assert len(content["tsne"]) == 2 * 4 * 101
    for row in content["policies"]:
        assert f"{row['distance_ratio']:.3f}" in out
    for name in ("features.json", "tsne.png", "saliency.png"):
        assert str(mdpo.with_name(name)) in out
        assert mdpo.with_name(name).stat().st_size > 1000
    # Runs have their own folder, and others can be named
    assert output_folder(mdpo.parent, None) == mdpo.parent
    assert output_folder(mdpo, tmp_path / "new") == tmp_path / "new"


def test_models_of_different_environments_or_images_are_not_compared(opened):
    other = replace(opened[1], env_id="procgen-maze-easy-v0")
    with pytest.raises(ValueError, match=r"mdpo.zip is a model of procgen-coinrun.* of procgen-maze-easy-v0"):
        analyse_features([opened[0], other], observations=4)
    stacked = VecFrameStack(make_levels(COINRUN, 2), 2)
    of_stacked = PPO(ImpalaCnnPolicy, stacked, policy_kwargs=SMALL, **ROLLOUT)
    with pytest.raises(ValueError, match=r"shape \(6, 64, 64\), .*mdpo.zip of \(3, 64, 64\)"):
        collect_observations([opened[0], replace(opened[1], model=of_stacked)], 4)
    of_vectors = PPO("MlpPolicy", "CartPole-v1", **ROLLOUT)
    with pytest.raises(ValueError, match=r"ppo.zip observes Box\(.* are for images"):
        collect_observations([replace(opened[1], model=of_vectors)], 4)
