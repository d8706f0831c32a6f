"""Robustness: distances by hand, real policies on real Procgen, the command."""

import hashlib
import json
import math
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from scipy import stats
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecMonitor

from sb3_mdpo import MDPO
from sb3_mdpo.cli.main import main
from sb3_mdpo.envs import ProcgenVecEnv
from sb3_mdpo.envs.native import UNSEEN_LEVELS
from sb3_mdpo.lab import state_sampling
from sb3_mdpo.lab.generalization.evaluation import all_policies
from sb3_mdpo.lab.generalization.results import confidence_interval
from sb3_mdpo.lab.generalization.trained import TrainedModel, open_trained
from sb3_mdpo.lab.perturbations.images import STRENGTHS, Perturbation
from sb3_mdpo.lab.perturbations.renderings import RENDERINGS, draw_states
from sb3_mdpo.lab.robustness import distances, measure, returns
from sb3_mdpo.lab.robustness.measure import measure_robustness
from sb3_mdpo.lab.state_sampling import log_probabilities, play, sample_states, sampling_steps
from tests.support.envs import maker
from tests.support.helpers import TINY

BIGFISH = "procgen-bigfish-easy-v0"
COLOURS = sum(map(len, STRENGTHS.values()))
NOISE = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)


def seeded(seed: int = 0) -> th.Generator:
    return th.Generator().manual_seed(seed)


def logs(*rows) -> th.Tensor:
    return th.tensor(rows, dtype=th.float64).log()


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """States close together, so that few steps suffice."""
    monkeypatch.setattr(state_sampling, "SPACING", 4)
    monkeypatch.setattr(state_sampling, "MIN_STEPS", 8)
    monkeypatch.setattr(state_sampling, "MAX_ENVS", 4)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """MDPO with two members that do not do the same everywhere, in a file."""
    model = MDPO("MlpPolicy", ProcgenVecEnv(4, "bigfish", distribution_mode="easy", num_threads=0), **TINY)
    with th.no_grad():
        for member in model.policy.members:
            member.action_net.weight.mul_(100)
    path = tmp_path_factory.mktemp("robustness") / "model.zip"
    model.save(path)
    return path


@pytest.fixture
def trained(saved) -> TrainedModel:
    return open_trained(saved, BIGFISH, device="cpu")


def model_of(env, algorithm=PPO) -> TrainedModel:
    """A model that plays in the given kind of environments."""
    model = algorithm("MlpPolicy", env(2, None), **TINY)

    class Trained(TrainedModel):
        def make_env(self, n_envs, seed=None, **env_kwargs):
            return env(n_envs, seed)

    return Trained(model, BIGFISH, "nowhere")


def test_distances_by_hand():
    """p = (1/2, 1/2), q = (1/4, 3/4): KL = ln 2 / 2 + ln(2/3) / 2, total variation 1/4."""
    p, q = logs((0.5, 0.5)), logs((0.25, 0.75))
    assert distances.kl_divergence(p, q).item() == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    assert distances.kl_divergence(q, p).item() == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5))
    assert distances.total_variation(p, q).item() == distances.total_variation(q, p).item() == pytest.approx(0.25)
    certain = logs((1.0, 0.0))
    assert distances.kl_divergence(certain, p).item() == pytest.approx(math.log(2))  # 0 log 0 = 0
    assert distances.total_variation(certain, logs((0.0, 1.0))).item() == 1


def test_entropy_and_variation_between_states_by_hand():
    """Two visits in two environments. Pairs of different environments: 0-1, 0-3, 2-1, 2-3."""
    states = logs((1.0, 0.0), (0.5, 0.5), (0.8, 0.2), (0.0, 1.0))
    assert distances.entropy(states).tolist() == pytest.approx([0, math.log(2), 0.5004024, 0], abs=1e-7)
    assert distances.variation_between_states(states, n_envs=2) == pytest.approx((0.5 + 1 + 0.3 + 0.8) / 4)


NOT_PLAYED = dict.fromkeys(("return_mean", "return_low", "return_high"))


def apart(*distances: float) -> th.Tensor:
    """Distributions at these total variations from the uniform one of two actions."""
    return logs(*[(0.5 + distance, 0.5 - distance) for distance in distances])


def test_rows_by_hand():
    """
    Two visits in three environments, two draws. Means of the draws 0.3 0 0.1 and 0.1 0.2 0.1, of the environments
    0.2 0.1 0.1, their standard error 1/30 and the t quantile 4.3027.
    """
    perturbed = th.stack([apart(0.3, 0, 0.1, 0.1, 0.2, 0), apart(0.3, 0, 0.1, 0.1, 0.2, 0.2)])
    comparison = measure.Comparison("other background", None, apart(*[0] * 6), perturbed)
    row = measure.make_row("policy 0", comparison, 3, NOT_PLAYED)
    assert (row.policy, row.perturbation, row.strength, row.n) == ("policy 0", "other background", None, 6)
    assert row.tv_mean == pytest.approx(2 / 15)
    assert (row.tv_low, row.tv_high) == pytest.approx((2 / 15 - 4.3027 / 30, 2 / 15 + 4.3027 / 30), abs=1e-4)
    assert row.tv_max == pytest.approx(0.3)
    assert row.kl_max == pytest.approx(-0.5 * math.log(4 * 0.8 * 0.2))  # of the original to the perturbed, not back
    halves = [(0.5 + d) * math.log(0.5 + d) + (0.5 - d) * math.log(0.5 - d) for d in (0.3, 0, 0.1, 0.1, 0.2)]
    first, second = sum(halves) + math.log(0.5), sum(halves) + halves[-1]
    assert row.entropy == pytest.approx(-(first + second) / 12)


def test_intervals_count_filters_and_environments_by_hand():
    """
    Means 0.1, 0.2 and 0.3 of three filters and 0.15 and 0.25 of two environments, without interaction: mean squares
    0.02 and 0.015, so the variance of the mean is 0.035 / 6, with 0.035^2 / (0.02^2 / 2 + 0.015^2 / 1) degrees of
    freedom.
    """
    table = np.array([[0.05, 0.15], [0.15, 0.25], [0.25, 0.35]])
    half = stats.t.ppf(0.975, 0.035**2 / (0.02**2 / 2 + 0.015**2)) * math.sqrt(0.035 / 6)
    assert distances.crossed_interval(table) == pytest.approx((0.2 - half, 0.2 + half))
    perturbed = th.stack([apart(*row) for row in table])
    row = measure.make_row("a", measure.Comparison("random convolution", None, apart(0, 0), perturbed), 2, NOT_PLAYED)
    assert (row.tv_low, row.tv_high) == pytest.approx((0.2 - half, 0.2 + half))
    assert distances.crossed_interval(np.full((3, 2), 0.4)) == pytest.approx((0.4, 0.4))


@pytest.mark.parametrize(
    ("n_filters", "n_envs", "filters", "environments"),
    [(32, 64, 1.0, 0.3), (8, 64, 1.0, 0.1), (32, 16, 0.1, 1.0), (8, 8, 0.5, 0.5), (8, 8, 0.0, 0.0)],
)
def test_intervals_cover_the_mean_over_all_filters_and_states(n_filters, n_envs, filters, environments):
    """
    Simulated distances with a part that belongs to the filter, one to the environment and one to both. An interval over
    environments alone, as it was before, covers far less often if filters differ.
    """
    rng, covered, without_filters = np.random.default_rng(0), [], []
    for _ in range(1000):
        table = filters * rng.normal(size=(n_filters, 1)) + environments * rng.normal(size=n_envs)
        table = 3 + table + rng.normal(size=(n_filters, n_envs))
        for outcomes, (low, high) in (
            (covered, distances.crossed_interval(table)),
            (without_filters, confidence_interval(table.mean(axis=0).tolist())),
        ):
            outcomes.append(low <= 3 <= high)
    assert 0.93 <= np.mean(covered) <= (0.97 if filters or environments else 1)
    assert np.mean(without_filters) < 0.75 or filters < 1


def test_networks_get_perturbed_images_scaled_to_their_inputs(trained):
    (policy, *_) = all_policies(trained.model).values()
    nothing = Perturbation("nothing", None, (lambda images: images,))
    darker = Perturbation("half, and a third", 0.5, (lambda images: images / 2, lambda images: images / 3))
    images, _ = policy.obs_to_tensor(NOISE)
    same, dark = measure.compare_images(policy, images, log_probabilities(policy, images), [nothing, darker], 3)
    th.testing.assert_close(same.perturbed, same.original[None], rtol=0, atol=1e-5)
    expected = [log_probabilities(policy, images / divisor) for divisor in (2, 3)]
    th.testing.assert_close(dark.perturbed, th.stack(expected), rtol=0, atol=1e-5)
    assert not th.allclose(dark.perturbed[0], dark.original, atol=1e-3)


def test_samples_are_spread_over_environments_and_time(monkeypatch):
    monkeypatch.undo()
    few, many = sampling_steps(10, 0), sampling_steps(300, 0)
    assert (few.shape, many.shape) == ((1, 10), (5, 60))
    assert 64 < few.max() < 256
    assert (many // 64 == np.arange(5)[:, None]).all()
    assert len(np.unique(many)) > 150


def test_samples_are_what_the_policy_observed_with_the_states_behind_it(trained):
    (policy, *_) = all_policies(trained.model).values()
    sampled = sample_states(trained, policy, 8, seed=3)
    assert (sampled.observations.shape, sampled.n_envs) == ((8, 64, 64, 3), 4)
    assert len({image.tobytes() for image in sampled.observations}) == 8
    np.testing.assert_array_equal(draw_states(sampled.engine_states), sampled.observations)
    assert measure.missing_renderings(sampled) == {}
    steps = sampling_steps(8, seed=3)
    env = trained.make_env(4, 3, **UNSEEN_LEVELS)
    seen = [now.copy() for (now, _), _ in zip(play(policy, env, seeded(3)), range(steps.max() + 1), strict=False)]
    env.close()
    expected = [seen[step][index] for visit in steps for index, step in enumerate(visit)]
    np.testing.assert_array_equal(sampled.observations, expected)


def test_probabilities_are_those_of_the_actions(trained):
    *members, ensemble = all_policies(trained.model).values()
    images, _ = members[0].obs_to_tensor(NOISE)
    probabilities = [log_probabilities(member, images).exp() for member in members]
    for member, ours in zip(members, probabilities, strict=True):
        th.testing.assert_close(ours.float(), member.get_distribution(images).distribution.probs)
    th.testing.assert_close(log_probabilities(ensemble, images).exp(), sum(probabilities) / 2)
    # Floats from 0 to 255 mean the same as bytes
    th.testing.assert_close(log_probabilities(members[0], images.float()).exp(), probabilities[0])


def test_measurement_on_procgen(trained):
    robustness = measure_robustness(trained, states=8, draws=3, progress=False)
    document = json.loads(robustness.to_json())
    per_policy = 1 + COLOURS + len(RENDERINGS)
    assert [row["policy"] for row in document["rows"]] == [
        name for name in ("policy 0", "policy 1", "ensemble") for _ in range(per_policy)
    ]
    photometric = ((name, strength) for name, strengths in STRENGTHS.items() for strength in strengths)
    expected = [("random convolution", None), *photometric, *((name, None) for name in RENDERINGS)]
    assert [(row["perturbation"], row["strength"]) for row in document["rows"][:per_policy]] == expected
    assert {row["n"] for row in document["rows"]} == {document["settings"]["states"]} == {8}
    settings = document["settings"]
    assert settings["omitted"] == {}
    assert settings["model_sha256"] == hashlib.sha256(trained.path.read_bytes()).hexdigest()
    assert settings["timesteps"] == trained.model.num_timesteps
    assert [policy["policy"] for policy in document["unperturbed"]] == ["policy 0", "policy 1", "ensemble"]
    for policy in document["unperturbed"]:
        assert 0 < policy["entropy"] <= math.log(15)
        assert 0 < policy["tv_states"] <= 1
        assert policy["return_mean"] is None
    for row in document["rows"]:
        for distance in ("kl", "tv"):
            mean, low, high, largest = (row[f"{distance}_{what}"] for what in ("mean", "low", "high", "max"))
            assert low <= mean <= high
            assert 0 < mean <= largest
        assert row["tv_max"] <= 1
        assert row["tv_mean"] <= math.sqrt(row["kl_mean"] / 2) + 1e-9  # Pinsker, and Jensen
    assert robustness == measure_robustness(trained, states=8, draws=3, progress=False)
    assert robustness != measure_robustness(trained, states=8, draws=3, seed=1, progress=False)
    # A constant policy is robust
    for member in trained.model.policy.members:
        th.nn.init.zeros_(member.action_net.weight)
    for row in measure_robustness(trained, states=4, draws=2, progress=False).rows:
        assert (row.kl_max, row.tv_max) == pytest.approx((0, 0), abs=1e-12)


def test_dropout_is_no_perturbation(trained):
    """Rows compare the policies as they act: in evaluation mode, whatever they were in."""
    member = trained.model.policy.members[0]
    member.mlp_extractor.policy_net.append(th.nn.Dropout(0.5))
    trained.model.policy.set_training_mode(True)
    images = th.randint(256, (2, 3, 64, 64), generator=seeded())
    th.testing.assert_close(log_probabilities(member, images), log_probabilities(member, images), rtol=0, atol=0)


def test_stacked_frames_are_perturbed_frame_by_frame_and_not_rendered():
    def stacked(n_envs, seed):
        return VecFrameStack(ProcgenVecEnv(n_envs, "bigfish", seed=seed, num_threads=0), 2)

    robustness = measure_robustness(model_of(stacked), states=4, draws=2, progress=False)
    assert len(robustness.rows) == 1 + COLOURS
    assert set(robustness.settings["omitted"]) == set(RENDERINGS)
    assert "stacked frames" in robustness.to_text()


def spaces_of(observations, actions, n_stack=1):
    return lambda n_envs, _seed: VecFrameStack(DummyVecEnv([maker(observations, actions)] * n_envs), n_stack)


@pytest.mark.parametrize("n_stack", [1, 3])
def test_other_environments_have_no_renderings_and_grey_ones_no_colors(n_stack):
    grey = spaces_of(spaces.Box(0, 255, (16, 16, 1), np.uint8), spaces.Discrete(3, start=5), n_stack)
    robustness = measure_robustness(model_of(grey, MDPO), states=4, draws=2, progress=False)
    assert {row.policy for row in robustness.rows} == {"policy 0", "policy 1", "ensemble"}
    assert {row.perturbation for row in robustness.rows} == {"random convolution", "brightness", "contrast"}
    assert set(robustness.settings["omitted"]) == {*RENDERINGS, "saturation", "hue"}
    assert "No 'hue': the images are grey." in robustness.to_text()


@pytest.mark.parametrize(
    ("observations", "actions", "message"),
    [
        (spaces.Box(-1, 1, (3,)), spaces.Discrete(2), "perturbations are for images"),
        (spaces.Box(0, 255, (8, 8, 3), np.uint8), spaces.MultiDiscrete([2, 2]), "use a model with Discrete actions"),
        (spaces.Box(0, 255, (8, 8, 3), np.uint8), spaces.Box(-1, 1, (2,)), "use a model with Discrete actions"),
    ],
)
def test_models_that_cannot_be_measured_are_refused(observations, actions, message):
    with pytest.raises(ValueError, match=message):
        measure_robustness(model_of(spaces_of(observations, actions)), states=4, draws=2)


def test_players_see_perturbed_images(trained, monkeypatch):
    """Environment i sees draw i % 2, in the values of the networks' inputs."""
    (policy, *_) = all_policies(trained.model).values()
    seen = []
    monkeypatch.setattr(returns, "sample_actions", lambda _policy, images, _generator: seen.append(images))
    halves = Perturbation("darker", 0.5, (lambda images: images / 2, lambda images: images - 1))
    returns.PerturbedPlayer(policy, halves, 3, seeded()).predict(NOISE[:3])
    images = policy.obs_to_tensor(NOISE[:3])[0].float()
    th.testing.assert_close(seen[0], th.stack([images[0] / 2, images[1] - 255, images[2] / 2]))


class Paying(gym.Env):
    """Episodes of one step that pay a fixed reward."""

    observation_space = spaces.Box(0, 255, (16, 16, 3), np.uint8)
    action_space = spaces.Discrete(3)

    def __init__(self, reward: float = 0.0) -> None:
        self.reward = reward

    def reset(self, *, seed=None, options=None):
        return np.zeros((16, 16, 3), np.uint8), {}

    def step(self, action):
        return np.zeros((16, 16, 3), np.uint8), self.reward, True, False, {}


def test_returns_by_hand():
    """Environments pay 1, 2, 3 and 4. With two draws, the first is of 1 and 3, the second of 2 and 4."""
    asked = []

    class Trained(TrainedModel):
        def make_env(self, n_envs, seed=None, **env_kwargs):
            asked.append((n_envs, seed, env_kwargs))
            return VecMonitor(DummyVecEnv([partial(Paying, k + 1.0) for k in range(n_envs)]))

    trained = Trained(PPO("MlpPolicy", DummyVecEnv([Paying]), **TINY), BIGFISH, "nowhere")
    two = Perturbation("two", None, (lambda images: images, lambda images: 1 - images))
    played = returns.PerturbedPlay(trained, [two], 3, episodes=4, seed=5)

    def ends(*numbers: float) -> dict:
        low, high = confidence_interval(numbers)
        return {"return_mean": 2.5, "return_low": pytest.approx(low), "return_high": pytest.approx(high)}

    assert played.returns(trained.model.policy) == ends(1, 2, 3, 4)
    assert played.returns(trained.model.policy, "two") == ends(2, 3)
    assert played.returns(trained.model.policy, "no background") == ends(1, 2, 3, 4)
    assert played.returns(trained.model.policy, "other background") == NOT_PLAYED
    assert asked == [(4, 5, UNSEEN_LEVELS | more) for more in ({}, {}, {"use_backgrounds": False})]
    assert returns.PerturbedPlay(trained, [two], 3, episodes=0, seed=5).returns(trained.model.policy) == NOT_PLAYED


def test_measurement_with_episodes(trained):
    robustness = measure_robustness(trained, states=4, draws=2, episodes=2, progress=False)
    for row in (*robustness.unperturbed, *robustness.rows):
        if getattr(row, "perturbation", "") == "other background":
            assert row.return_mean is None
        else:
            assert row.return_low <= row.return_mean <= row.return_high
    assert f"{robustness.unperturbed[0].return_mean:.2f}" in robustness.to_text()


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"draws": 1}, "1 random convolution"),
        ({"states": 1}, "1 state"),
        ({"episodes": 1}, "1 episode.* or 0 to play none"),
        ({"episodes": -2}, "-2 episode"),
    ],
)
def test_numbers_that_give_no_interval_are_refused(numbers, message, trained):
    with pytest.raises(ValueError, match=message):
        measure_robustness(trained, **{"states": 4, "draws": 2, **numbers})


def test_command(saved, tmp_path, capsys):
    arguments = ["robustness", str(saved), "--env", BIGFISH, "--states", "4", "--draws", "2", "--device", "cpu"]
    main(arguments)
    written = saved.with_name("robustness.json")
    table = capsys.readouterr().out
    assert f"Written: {written}" in table
    document = json.loads(written.read_text())
    assert table.count("\n") >= len(document["rows"]) + 2
    assert set(document["rows"][0]) == {
        *("policy", "perturbation", "strength", "n", "entropy", "return_mean", "return_low", "return_high"),
        *(f"{distance}_{what}" for distance in ("kl", "tv") for what in ("mean", "low", "high", "max")),
    }
    main([*arguments, "-o", str(tmp_path / "new" / "other.json")])
    assert json.loads((tmp_path / "new" / "other.json").read_text()) == document
