"""The endurance run works, and its verdict can be that something is wrong."""

import csv
import importlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def soak():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        return importlib.import_module("soak")


def synthetic(soak, memory=0.0, slowdown=0.0, handles=0.0):
    """Two hours, a sample a minute with noise, every second one compared; growth per hour."""
    noise = np.random.default_rng(0).normal(size=(2, 120))
    samples = []
    for k, t in enumerate(np.arange(120) / 60):
        speed = 1000 * (1 if t < 1 else 0.7)  # others work on the machine, too
        relative = None if k % 2 else 1 - slowdown / 100 * t + 0.005 * noise[1, k]
        used = 500 + memory * t + noise[0, k]
        samples.append(soak.Sample(3600 * t, used, int(20 + handles * t), 4, speed, relative, k))
    return samples


def test_slope_is_found_with_an_interval(soak):
    exact = soak.slope([0.0, 3600.0, 7200.0], [1.0, 3.0, 5.0])
    assert (exact.value, exact.low, exact.high) == pytest.approx((2, 2, 2))
    memory, speed = soak.slopes(synthetic(soak, memory=30.0, slowdown=8.0))
    assert memory.low < 30 < memory.high
    assert speed.low < -8 < speed.high


@pytest.mark.parametrize(
    ("leak", "said"),
    [({"memory": 30}, "memory grows"), ({"slowdown": 8}, "speed by -8"), ({"handles": 3}, "5 more file handles")],
)
def test_leaks_are_reported_and_noise_is_not(soak, leak, said):
    (problem,) = soak.verdict(synthetic(soak, **leak), soak.Limits())
    assert said in problem
    assert soak.verdict(synthetic(soak), soak.Limits()) == []


def test_too_short_a_run_is_no_verdict(soak):
    with pytest.raises(ValueError, match="2 comparisons after the warm-up of 6900 s make no line"):
        soak.settled(synthetic(soak), 6900)


def test_rounds_train_and_are_sampled(soak, tmp_path, monkeypatch):
    monkeypatch.setattr(soak, "PAIRS", 1)
    monkeypatch.setattr(soak, "N_STEPS", 16)
    (sample,) = soak.soak(minutes=0.001, every=0, comparing=60, times=1, path=tmp_path / "soak.csv")
    (row,) = csv.DictReader((tmp_path / "soak.csv").open())
    assert {name: float(value) for name, value in row.items()} == pytest.approx(asdict(sample))
    assert sample.environments == 4 + 3
    assert sample.memory > 100
    assert min(sample.steps_per_second, sample.relative_speed, sample.handles, sample.threads) > 0


def test_summary_tells_what_is_wrong(soak):
    samples = synthetic(soak, memory=30.0)
    text = soak.summary(samples, samples, soak.verdict(samples, soak.Limits()))
    assert "119 minutes" in text
    assert "memory grows by +30" in text
    assert "| file handles | 20 | 20 |  |" in text
