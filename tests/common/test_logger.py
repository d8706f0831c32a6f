"""What MDPO logs arrives wherever SB3 and the zoo can write it: PPO's keys, and each member's own."""

import csv
import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import HParam, configure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from sb3_mdpo import MDPO
from tests.support.commands import run
from tests.support.helpers import both
from tests.support.training import N_ENVS, ROLLOUT, EachStep, cartpole, small

OF_EACH_MEMBER = (
    *("ep_rew_mean", "ep_len_mean", "policy_gradient_loss", "value_loss", "entropy_loss", "distill_kl"),
    *("clip_fraction", "approx_kl", "loss", "grad_norm", "explained_variance"),
)
OF_MDPO = {
    *(f"policy_{k}/{name}" for k in range(2) for name in OF_EACH_MEMBER),
    "train/distill_kl",
    "train/distill_coef",
    "train/grad_norm",
}
COUNTERS = ["time/iterations", "time/total_timesteps", "train/n_updates"]


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """TensorBoard's scalars, by tag and step, of all event files in a folder."""
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    tags = accumulator.Tags()["scalars"]
    return {tag: {event.step: event.value for event in accumulator.Scalars(tag)} for tag in tags}


def csv_rows(folder: Path) -> list[dict[str, float]]:
    with (folder / "progress.csv").open() as file:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]


def json_rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "progress.json").read_text().splitlines()]


def table(text: str) -> set[str]:
    """The names in SB3's tables, with their group."""
    names, group = set(), ""
    for line in text.splitlines():
        if not line.startswith("|"):
            continue
        name, value = (cell.strip() for cell in line.strip("|").split("|"))
        if value:
            names.add(group + name)
        else:
            group = name
    return names


@pytest.fixture(scope="module")
def logs(tmp_path_factory) -> dict[type, Path]:
    """The same run of PPO and MDPO, each written in all formats at once."""
    folders = {}
    for algorithm in (PPO, MDPO):
        folders[algorithm] = tmp_path_factory.mktemp(algorithm.__name__)
        model = small(algorithm, clip_range_vf=0.2)
        model.set_logger(configure(str(folders[algorithm]), ["log", "csv", "json", "tensorboard"]))
        model.learn(5 * ROLLOUT)
        model.logger.close()
    return folders


def test_keys_are_ppos_and_those_of_the_members_in_every_format(logs):
    for read in (
        lambda folder: csv_rows(folder)[-1],
        lambda folder: json_rows(folder)[-1],
        lambda folder: table((folder / "log.txt").read_text()),
        scalars,
    ):
        ppo, mdpo = (set(read(logs[algorithm])) for algorithm in (PPO, MDPO))
        assert {"rollout/ep_rew_mean", "train/value_loss", "train/clip_range_vf", "time/fps"} <= ppo
        assert mdpo - ppo == OF_MDPO
        assert ppo - mdpo == set()


def test_counters_are_ppos(logs):
    for rows in (csv_rows, json_rows):
        ppo, mdpo = (
            [[row.get(name) for name in COUNTERS] for row in rows(logs[algorithm])] for algorithm in (PPO, MDPO)
        )
        # The first row is written before the first update
        assert mdpo == ppo == [[k, k * ROLLOUT, k - 1 if k > 1 else None] for k in range(1, 6)]
    steps = [list(scalars(logs[algorithm])["train/value_loss"]) for algorithm in (PPO, MDPO)]
    assert steps[1] == steps[0] == [k * ROLLOUT for k in range(2, 6)]


def test_every_format_has_the_same_finite_values(logs):
    events = scalars(logs[MDPO])
    for from_csv, from_json in zip(csv_rows(logs[MDPO]), json_rows(logs[MDPO]), strict=True):
        assert all(map(math.isfinite, from_json.values()))
        assert from_csv == pytest.approx(from_json)
        step = from_json["time/total_timesteps"]
        for tag, series in events.items():
            if step in series:
                assert series[step] == pytest.approx(from_json[tag], rel=1e-6), tag
            else:
                assert tag not in from_json


@both
def test_only_verbose_prints_where_the_logs_are_and_the_table(algorithm, tmp_path, capsys):
    small(algorithm, tensorboard_log=str(tmp_path)).learn(ROLLOUT)
    assert capsys.readouterr().out == ""
    small(algorithm, tensorboard_log=str(tmp_path), verbose=1).learn(3 * ROLLOUT)
    printed = capsys.readouterr().out
    assert "Using cpu device" in printed
    assert f"Logging to {tmp_path / algorithm.__name__}_2" in printed
    assert {"train/value_loss", "time/total_timesteps", "rollout/ep_rew_mean"} <= table(printed)
    assert (table(printed) >= OF_MDPO) == (algorithm is MDPO)
    assert printed.count("total_timesteps") == 3


@both
@pytest.mark.parametrize(("log_interval", "iterations"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4]), (None, [])])
def test_log_interval(algorithm, log_interval, iterations, tmp_path):
    model = small(algorithm)
    model.set_logger(configure(str(tmp_path), ["json"]))
    model.learn(5 * ROLLOUT, log_interval=log_interval)
    assert [row["time/iterations"] for row in json_rows(tmp_path)] == iterations


@both
def test_a_logger_of_ones_own_stays(algorithm, tmp_path):
    logger = configure(str(tmp_path / "mine"), ["csv"])
    model = small(algorithm, tensorboard_log=str(tmp_path / "board"))
    model.set_logger(logger)
    model.learn(ROLLOUT).learn(ROLLOUT, reset_num_timesteps=False)
    assert model.logger is logger
    assert not (tmp_path / "board").exists()
    assert [row["time/total_timesteps"] for row in csv_rows(tmp_path / "mine")] == [ROLLOUT, 2 * ROLLOUT]


@both
def test_callbacks_can_add_keys(algorithm, tmp_path):
    model = small(algorithm)
    model.set_logger(configure(str(tmp_path), ["json"]))
    look = EachStep(lambda _: model.logger.record_mean("custom/mean_step", model.num_timesteps))
    model.learn(2 * ROLLOUT, callback=look)
    steps = [range(N_ENVS, ROLLOUT + 1, N_ENVS), range(ROLLOUT + N_ENVS, 2 * ROLLOUT + 1, N_ENVS)]
    assert [row["custom/mean_step"] for row in json_rows(tmp_path)] == [sum(run) / len(run) for run in steps]


@both
def test_tensorboard_folders_are_numbered_and_continued(algorithm, tmp_path):
    name = algorithm.__name__
    model = small(algorithm, tensorboard_log=str(tmp_path))
    model.learn(2 * ROLLOUT)
    model.learn(2 * ROLLOUT, reset_num_timesteps=False)
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}_1"]
    # Both parts in one curve
    assert sorted(scalars(tmp_path / f"{name}_1")["time/fps"]) == [k * ROLLOUT for k in range(1, 5)]
    model.learn(ROLLOUT)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{name}_1", f"{name}_2"]
    assert list(scalars(tmp_path / f"{name}_2")["time/fps"]) == [ROLLOUT]
    model.learn(ROLLOUT, tb_log_name="mine")
    # A loaded model goes on in the latest folder as well
    model.save(tmp_path / "model")
    loaded = algorithm.load(tmp_path / "model", env=cartpole())
    loaded.learn(ROLLOUT, tb_log_name="mine", reset_num_timesteps=False)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == [f"{name}_1", f"{name}_2", "mine_1"]
    assert sorted(scalars(tmp_path / "mine_1")["time/fps"]) == [ROLLOUT, 2 * ROLLOUT]


class HParamCallback(BaseCallback):
    """As in SB3's documentation of TensorBoard: the hyperparameters, and the metrics to show beside them."""

    def _on_training_start(self) -> None:
        names = ("learning_rate", "gamma", *(["distill_coef"] if isinstance(self.model, MDPO) else []))
        values = {"algorithm": type(self.model).__name__} | {name: getattr(self.model, name) for name in names}
        hparams = HParam(values, {"rollout/ep_len_mean": 0, "train/value_loss": 0.0})
        self.logger.record("hparams", hparams, exclude=("stdout", "log", "json", "csv"))

    def _on_step(self) -> bool:
        return True


@both
def test_tensorboard_gets_the_hyperparameters(algorithm, tmp_path):
    extra = {"distill_coef": 0.5} if algorithm is MDPO else {}
    model = small(algorithm, gamma=0.9, tensorboard_log=str(tmp_path), **extra)
    model.learn(2 * ROLLOUT, callback=HParamCallback())
    accumulator = EventAccumulator(str(tmp_path / f"{algorithm.__name__}_1"))
    accumulator.Reload()
    written = HParamsPluginData.FromString(
        accumulator.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    ).session_start_info.hparams
    assert written["algorithm"].string_value == algorithm.__name__
    values = {name: value.number_value for name, value in written.items() if name != "algorithm"}
    assert values == {"learning_rate": 3e-4, "gamma": 0.9, **extra}
    assert {"rollout/ep_len_mean", "train/value_loss"} <= set(accumulator.Tags()["scalars"])


@pytest.fixture(scope="module")
def wandb_run(tmp_path_factory) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Configuration and history of one run of the zoo with ``--track``, without network."""
    folder = tmp_path_factory.mktemp("wandb")
    # A forked process runs no exit functions, with which wandb would write the rest
    (folder / "track.py").write_text("import wandb\nfrom rl_zoo3.cli import main\n\nmain()\nwandb.finish()\n")
    result = run(
        "python track.py train --algo mdpo --env CartPole-v1 -n 300 --track --eval-freq -1 --device cpu "
        "--num-threads 1 --seed 1 -params n_envs:2 n_steps:50 batch_size:50 n_epochs:1 distill_coef:0.5 n_policies:2",
        cwd=folder,
        env={"WANDB_MODE": "offline", "WANDB_DIR": str(folder), "MPLBACKEND": "Agg"},
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    config: dict[str, Any] = {}
    history = []
    for record in wandb_records(file):
        kind = record.WhichOneof("record_type")
        updates = record.run.config.update if kind == "run" else record.config.update if kind == "config" else ()
        config.update({item.key: json.loads(item.value_json) for item in updates})
        if kind == "history":
            # Names with a slash come in one piece, but not as ``key``
            history.append(
                {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            )
    return config, history


def wandb_records(file: Path) -> Iterator[Any]:
    """wandb has no reader for its offline files, which are LevelDB logs: blocks of 32 KiB under a 7-byte header."""
    from wandb.proto import wandb_internal_pb2

    data, position, record = file.read_bytes(), 7, b""
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:  # a block's end that is too short for another chunk
            position += left
            continue
        _crc, length, kind = struct.unpack("<IHB", data[position : position + 7])
        record += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield wandb_internal_pb2.Record.FromString(record)
            record = b""


def test_wandb_gets_the_hyperparameters_from_the_zoo(wandb_run):
    config, _ = wandb_run
    assert (config["algo"], config["env"], config["n_timesteps"]) == ("mdpo", "CartPole-v1", 300)
    assert config["hyperparams"]["distill_coef"] == 0.5
    saved = config["saved_hyperparams"]
    # From the command line, and from MDPO's file
    expected = {"n_steps": 50, "n_envs": 2, "n_policies": 2, "distill_coef": 0.5, "gamma": 0.98, "gae_lambda": 0.8}
    assert {name: saved[name] for name in expected} == expected


def test_wandb_gets_the_metrics_through_tensorboard(wandb_run):
    _, history = wandb_run
    assert [row["global_step"] for row in history] == [100, 200, 300]
    assert history[0].keys() >= {"policy_0/ep_rew_mean", "policy_1/ep_rew_mean", "rollout/ep_rew_mean"}
    for row in history[1:]:
        assert row.keys() >= OF_MDPO | {"train/value_loss"}
        assert row["train/distill_coef"] == 0.5
        assert math.isfinite(row["policy_0/distill_kl"])
