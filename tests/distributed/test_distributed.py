"""Data-parallel training: real processes of torchrun learn what a single one does."""

import os
import pickle
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import CallbackList, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnvWrapper
from torch.distributed import HashStore

from sb3_mdpo import MDPO
from sb3_mdpo.callbacks import ResumableCheckpointCallback
from sb3_mdpo.common.buffers import normalize_advantages
from sb3_mdpo.common.ranks import ALONE
from sb3_mdpo.distributed import process_group
from sb3_mdpo.distributed.group import TorchRanks, environment_seed, seed_generators
from sb3_mdpo.distributed.launch import attempt_store
from sb3_mdpo.distributed.reductions import GlobalMeanStd, normalized, powers, variance
from sb3_mdpo.mdpo import mdpo
from sb3_mdpo.zoo.torchrun import JOB, run_to_resume, sign
from tests.support.commands import run
from tests.support.distributed_programs import CASES, N_ENVS, ROLLOUTS, SIZE, TENSORS, Hang, Poison, make_model
from tests.support.faults import Training, differences
from tests.support.helpers import assert_same_parameters
from tests.support.hub_commands import files_in
from tests.support.studies import wait_until

ROOT = Path(__file__).parents[2]
TIMEOUT = 600  # seconds for a job of torchrun
PROGRAMS = "tests.support.distributed_programs"
TOGETHER = ("--standalone", f"--nproc-per-node={SIZE}")


def torchrun(*arguments: str, cwd: Path, machine: tuple[str, ...] = TOGETHER) -> "subprocess.Popen[str]":
    """Start processes, by default two that find each other on a free port."""
    command = [sys.executable, "-m", "torch.distributed.run", *machine, *arguments]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    pipes: dict[str, int] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, cwd=cwd, env=env, text=True, **pipes)


def output_of(process: "subprocess.Popen[str]", succeeds: bool = True) -> str:
    try:
        output, _ = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        process.terminate()  # torchrun ends its processes
        raise
    assert (process.returncode == 0) == succeeds, output
    return output


def program(name: str, folder: Path, *options: str, timeout: float = TIMEOUT, succeeds: bool = True) -> str:
    return output_of(torchrun(*options, "-m", PROGRAMS, name, str(folder), str(timeout), cwd=folder), succeeds)


# What two processes learn


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("trained")
    return folder, program("in_order", folder)


def by_member(parts: list[Any], n_policies: int, axis: int = 0) -> Any:
    """Arrays of every process as a single process with all environments has them, with environments along an axis."""
    members = [np.split(np.asarray(part), n_policies, axis) for part in parts]
    return np.concatenate([part[k] for k in range(n_policies) for part in members], axis)


class Replay(VecEnvWrapper):
    """Repeats what the environments of all processes returned, whatever the actions."""

    def __init__(self, records: list[dict[str, Any]], n_policies: int) -> None:
        super().__init__(make_vec_env("CartPole-v1", N_ENVS))
        self.n_policies = n_policies
        self.resets = [by_member(parts, n_policies) for parts in zip(*(one["resets"] for one in records), strict=True)]
        self.steps = list(zip(*(one["steps"] for one in records), strict=True))

    def reset(self) -> Any:
        return self.resets.pop(0)

    def step_async(self, actions: Any) -> None:
        pass

    def step_wait(self) -> Any:
        obs, rewards, dones, infos = zip(*self.steps.pop(0), strict=True)
        arrays = (by_member(parts, self.n_policies) for parts in (obs, rewards, dones))
        return *arrays, list(by_member(infos, self.n_policies))


def union(permutations: list[Any], batch_size: int) -> Any:
    """One order of all samples of a member whose minibatches are the unions of those of the processes."""
    share, n_samples = batch_size // SIZE, len(permutations[0])
    orders = [permutation + rank * n_samples for rank, permutation in enumerate(permutations)]
    return np.concatenate([order[k : k + share] for k in range(0, n_samples, share) for order in orders])


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore:batch_size")
def test_two_processes_equal_a_single_one_up_to_rounding(name: str, trained: tuple[Path, str], monkeypatch) -> None:
    folder, _ = trained
    records = [th.load(folder / f"{name} {rank}.pt", weights_only=False) for rank in range(SIZE)]
    one, other = records
    assert one["peers"] == other["peers"]
    assert not np.array_equal(one["permutations"][0], other["permutations"][0])
    n_policies = CASES[name].get("n_policies", 2)
    model = make_model(name, Replay(records, n_policies))
    drawn = zip(one["permutations"], other["permutations"], strict=True)
    orders, peers = [union(list(parts), model.batch_size) for parts in drawn], list(one["peers"])
    monkeypatch.setattr(np.random, "permutation", lambda n: orders.pop(0))
    monkeypatch.setattr(mdpo, "draw_peers", lambda *_: peers.pop(0))
    train, updates = model.train, list(zip(one["updates"], other["updates"], strict=True))
    assert len(updates) == ROLLOUTS

    def train_on_theirs() -> None:
        update, of_other = updates.pop(0)
        th.testing.assert_close(dict(model.policy.state_dict()), update.before, rtol=1e-4, atol=1e-5)
        th.testing.assert_close(update.after, of_other.after, rtol=0, atol=0)
        for tensor in TENSORS:
            theirs = by_member([update.buffer[tensor], of_other.buffer[tensor]], n_policies, axis=1)
            ours = getattr(model.rollout_buffer, tensor)
            if tensor in ("observations", "rewards", "episode_starts"):  # normalised by the statistics of all
                np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
            ours[:] = th.as_tensor(theirs)
        model.policy.load_state_dict(update.before)
        train()
        th.testing.assert_close(dict(model.policy.state_dict()), update.after, rtol=1e-4, atol=1e-5)
        logged = {key: value for key, value in model.logger.name_to_value.items() if "/" in key}
        assert {key: update.logged[key] for key in logged} == pytest.approx(logged, rel=1e-3, abs=1e-5)

    model.train = train_on_theirs  # type: ignore[method-assign]
    model.learn(ROLLOUTS * model.n_steps * N_ENVS, log_interval=None)
    assert (updates, orders, peers) == ([], [], [])
    assert model.trained_samples == one["trained_samples"] == other["trained_samples"]
    full = ROLLOUTS * model.n_epochs * model.n_steps * N_ENVS * min(n_policies, 2)  # with one peer
    assert (model.trained_samples < full) == (name == "target_kl")
    assert model.num_timesteps == one["num_timesteps"] == other["num_timesteps"] == ROLLOUTS * 16 * N_ENVS
    normalize: Any = model.get_vec_normalize_env()
    for record in records:
        for rms in ("obs_rms", "ret_rms"):
            for key, value in vars(getattr(normalize, rms)).items():  # SB3 adds up in single precision
                np.testing.assert_allclose(record[rms][key], value, rtol=1e-6, atol=1e-7)
    assert one["episodes"] == other["episodes"]
    # In a step, a single process counts member after member, and several process after process
    ours = [sorted(episode["r"] for episode in episodes) for episodes in model.member_ep_info_buffers or []]
    assert [sorted(episodes) for episodes in one["episodes"]] == ours
    assert any(ours)


def test_the_first_process_ends_the_training_of_all_and_models_are_ordinary_files(trained: tuple[Path, str]) -> None:
    folder, output = trained
    stopped = [th.load(folder / f"stopped {rank}.pt", weights_only=False) for rank in range(SIZE)]
    (steps, seen, drawn), (steps_of_other, seen_of_other, drawn_of_other) = stopped
    assert steps == steps_of_other == 200
    assert seen == list(range(4, 204, 4))
    assert not seen_of_other
    assert drawn != drawn_of_other
    assert output.count("total_timesteps") == 3  # of 64, 128 and 192 steps, once each
    models = [MDPO.load(folder / f"two policies {rank}.zip") for rank in range(SIZE)]
    assert_same_parameters(models[0].policy, models[1].policy)
    assert models[0].num_timesteps == ROLLOUTS * 16 * N_ENVS


# The zoo

RUN = """
CartPole-v1:
  {policy: MlpPolicy, policy_kwargs: "dict(net_arch=[16])", normalize: true, n_envs: 8, n_steps: 32, batch_size: 64,
   n_epochs: 2, n_timesteps: 1536, learning_rate: lin_1e-3, callback: [
     sb3_mdpo.callbacks.ResumableCheckpointCallback: {save_freq: 256},
     sb3_mdpo.callbacks.BudgetCallback,
     tests.support.studies.Gate: {reached: reached, at_step: 512, opened: opened}]}
"""
COMMAND = (
    "-m sb3_mdpo.zoo train --algo mdpo --env CartPole-v1 -conf run.yml -f logs -tb tb --device cpu --num-threads 1 "
    "--eval-freq 1000 --eval-episodes 2 --n-eval-envs 1"
)
SEED = ("--seed", "1")
SAVED = Path("logs", "mdpo", "CartPole-v1_1")


def zoo(folder: Path, *options: str, seed: tuple[str, ...] = SEED, **kwargs: Any) -> "subprocess.Popen[str]":
    folder.mkdir(exist_ok=True)
    (folder / "run.yml").write_text(RUN)
    return torchrun(*options, *COMMAND.split(), *seed, cwd=folder, **kwargs)


def kill_one(launcher: "subprocess.Popen[str]", folder: Path, times: int = 1) -> None:
    """Kill the launcher's last process when it waits for the gate and there is a checkpoint to resume from."""
    for _ in range(times):
        os.kill(waiting(launcher, folder)[-1], signal.SIGKILL)
    (folder / "opened").touch()


def waiting(launcher: "subprocess.Popen[str]", folder: Path) -> list[int]:
    """The launcher's processes, when they wait for the gate and there is a checkpoint to resume from."""
    reached, children = folder / "reached", Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children")

    def waits() -> bool:
        assert launcher.poll() is None, output_of(launcher)
        return reached.exists() and any(folder.glob(f"{SAVED}/checkpoints/checkpoint_*[1-9]*.zip"))

    wait_until(waits, TIMEOUT)
    reached.unlink()
    return list(map(int, children.read_text().split()))


def lives(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run of two processes that is left alone, and its output."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "opened").touch()
    return folder, output_of(zoo(folder))


def assert_same_runs(one: Path, other: Path) -> None:
    assert differences(Training("CartPole-v1", one), Training("CartPole-v1", other)) == []
    assert files(one) == files(other)


def files(folder: Path) -> set[str]:
    return {name for name in files_in(folder) if "tfevents" not in name}


def test_killed_runs_are_restarted_or_resumed_by_hand(alone: tuple[Path, str], tmp_path: Path) -> None:
    """And end where they would have."""
    killed = zoo(tmp_path, "--max-restarts=1")
    kill_one(killed, tmp_path, times=2)
    output = output_of(killed, succeeds=False)
    assert "Resuming from step" in output
    assert "train --resume" in output
    resumed = torchrun("-m", "sb3_mdpo.zoo", "train", "--resume", str(SAVED), cwd=tmp_path)
    assert output_of(resumed).count("Resuming from step") == 1
    assert_same_runs(alone[0], tmp_path)
    assert MDPO.load(tmp_path / SAVED / "CartPole-v1.zip").num_timesteps == 1536
    statistics = pickle.loads((tmp_path / SAVED / "CartPole-v1" / "vecnormalize.pkl").read_bytes())
    assert type(statistics.obs_rms) is RunningMeanStd  # no process is needed to read it


def test_a_process_killed_on_one_machine_is_restarted_on_all(alone: tuple[Path, str], tmp_path: Path) -> None:
    """Two launchers on this one. Each counts its own restarts, so theirs may differ."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    machine = ("--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", f"--rdzv-endpoint=localhost:{port}")
    options = ("--max-restarts=2", "--rdzv-id=interrupted")
    launchers = [zoo(tmp_path, *options, machine=machine) for _ in range(2)]
    kill_one(launchers[1], tmp_path)
    assert "Resuming from step" in "".join(output_of(launcher) for launcher in launchers)
    assert_same_runs(alone[0], tmp_path)


def test_a_single_process_is_restarted_and_its_job_can_be_started_again(tmp_path: Path) -> None:
    """Also with a random seed, which the zoo draws in every process."""
    machine = ("--nproc-per-node=1", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", "--rdzv-id=requeued")
    restarts = (*machine, "--max-restarts=1")
    killed = zoo(tmp_path, machine=restarts, seed=())
    kill_one(killed, tmp_path, times=2)
    assert "Resuming from step" in output_of(killed, succeeds=False)
    logs = tmp_path / "logs" / "mdpo"
    before = {path: path.read_bytes() for path in logs.rglob("*") if path.is_file()}
    other = run(["python", *COMMAND.split(), *SEED], cwd=tmp_path, env={"TORCHELASTIC_RUN_ID": "requeued"})
    assert f"--rdzv-id=requeued belongs to {SAVED}, which was started with" in other.stderr
    assert other.returncode != 0
    assert before == {path: path.read_bytes() for path in logs.rglob("*") if path.is_file()}
    assert "Resuming from step" in output_of(zoo(tmp_path, machine=restarts, seed=()))
    assert [path.name for path in logs.iterdir()] == [SAVED.name]
    assert MDPO.load(tmp_path / SAVED / "CartPole-v1.zip").num_timesteps == 1536


def test_processes_end_when_torchrun_is_killed_and_nothing_resumes_beside_them(alone, tmp_path: Path) -> None:
    machine = (*TOGETHER[1:], "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", "--rdzv-id=killed")
    launcher = zoo(tmp_path, machine=machine)
    pids = waiting(launcher, tmp_path)
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        launcher.kill()
        launcher.wait()
        before = {path: path.read_bytes() for path in (tmp_path / "logs").rglob("*") if path.is_file()}
        refused = output_of(zoo(tmp_path, machine=machine), succeeds=False)
        assert refused.count(f"Another process is training in {SAVED}/checkpoints: wait for it, or stop it.") == 1
        assert before == {path: path.read_bytes() for path in (tmp_path / "logs").rglob("*") if path.is_file()}
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        wait_until(lambda: not any(map(lives, pids)), TIMEOUT)
    finally:
        for pid in filter(lives, pids):
            os.kill(pid, signal.SIGKILL)
    (tmp_path / "opened").touch()
    assert "Resuming from step 512" in output_of(zoo(tmp_path, machine=machine))  # written at the end
    assert_same_runs(alone[0], tmp_path)


def test_a_single_process_ends_when_torchrun_is_killed(tmp_path: Path) -> None:
    rank = """
import os, signal
from pathlib import Path
from sb3_mdpo.distributed import process_group
with process_group():
    Path("unfinished").write_text(str(os.getpid()))
    Path("unfinished").rename("pid")
    while True:
        signal.pause()
"""
    launcher = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {rank!r}])"
    env = os.environ | {"PYTHONPATH": str(ROOT), "TORCHELASTIC_RUN_ID": "7"}
    process = subprocess.Popen([sys.executable, "-c", launcher], cwd=tmp_path, env=env)
    wait_until(lambda: (tmp_path / "pid").exists() or process.poll() is not None, TIMEOUT)
    process.kill()
    process.wait()
    pid = int((tmp_path / "pid").read_text())
    try:
        wait_until(lambda: not lives(pid))
    finally:
        if lives(pid):
            os.kill(pid, signal.SIGKILL)


BEGUN = Path("here/mdpo/Env_1")


@pytest.fixture
def launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """In place of torchrun, in a folder with a run that it began."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "7")
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "sb3_mdpo.zoo", "train", "-f", "here"])
    (BEGUN / "checkpoints").mkdir(parents=True)
    sign(BEGUN)
    return monkeypatch


def sign_anew() -> None:
    (BEGUN / JOB).unlink()
    sign(BEGUN)


def test_runs_of_a_job(launcher: pytest.MonkeyPatch) -> None:
    assert run_to_resume() is None  # without checkpoints
    (BEGUN / "checkpoints" / "checkpoint_000000000064.zip").touch()
    assert run_to_resume() == BEGUN
    launcher.setattr(sys, "orig_argv", [*sys.orig_argv, "--seed", "2"])
    with pytest.raises(ValueError, match=r"--rdzv-id=7 belongs to here/mdpo/Env_1, which was .* -f here`: "):
        run_to_resume()
    launcher.setenv("TORCHELASTIC_RUN_ID", "8")
    assert run_to_resume() is None


def test_runs_of_jobs_without_an_id(launcher: pytest.MonkeyPatch) -> None:
    (BEGUN / "checkpoints" / "checkpoint_000000000064.zip").touch()
    launcher.setenv("TORCHELASTIC_RUN_ID", "none")
    sign_anew()
    assert run_to_resume() is None  # perhaps of an earlier process with the launcher's number
    launcher.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert run_to_resume() == BEGUN
    launcher.setenv("TORCHELASTIC_ERROR_FILE", "/logs/none_one/attempt_1/0/error.json")
    assert run_to_resume() is None  # of another launcher
    sign_anew()
    launcher.setenv("TORCHELASTIC_ERROR_FILE", "/logs/none_one/attempt_2/0/error.json")
    assert run_to_resume() == BEGUN
    launcher.setenv("TORCHELASTIC_ERROR_FILE", "/logs/none_two/attempt_2/0/error.json")
    assert run_to_resume() is None
    launcher.setenv("GROUP_WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="on several machines torchrun needs a --rdzv-id"):
        run_to_resume()
    launcher.delenv("TORCHELASTIC_RUN_ID")
    assert run_to_resume() is None


def test_only_the_first_process_writes(alone: tuple[Path, str]) -> None:
    folder, output = alone
    assert [path.name for path in (folder / SAVED).parent.iterdir()] == [SAVED.name]
    assert len(list((folder / SAVED).glob("*.monitor.csv"))) == 4  # of its own environments
    assert len(list((folder / "tb").rglob("*tfevents*"))) == 1
    assert output.count("Saving to logs") == 1
    assert output.count("Eval num_timesteps=1000") == 1


def test_a_checkpoint_of_several_processes_is_refused_by_one(alone: tuple[Path, str]) -> None:
    model = MDPO("MlpPolicy", make_vec_env("CartPole-v1", 4), n_steps=32, batch_size=64)
    with pytest.raises(ValueError, match=r"with 2 processes, this one has 1: .* Start 2 with torchrun"):
        model.learn(1, ResumableCheckpointCallback(alone[0] / SAVED / "checkpoints", resume=True))


# Processes in trouble


def test_a_process_that_hangs_ends_all_with_a_message(tmp_path: Path) -> None:
    output = program("hang", tmp_path, timeout=8, succeeds=False)
    assert "hanging" in output
    assert "rank 0 of 2 waited" in output
    assert "in vain for the end of an environment step of the other ranks" in output


def test_nan_in_one_process_ends_all(tmp_path: Path) -> None:
    assert "NonFiniteError: NaN or infinity in weights of member 1" in program("poison", tmp_path, succeeds=False)


def test_restarted_processes_do_not_look_for_the_dead_ones(tmp_path: Path) -> None:
    """The first one is there before the other, whose dead namesake's address torchrun's store still has."""
    assert program("late", tmp_path, "--max-restarts=1").count("all [0, 1] are here") == 2


# One process at a time


def fake_ranks(rank: int = 0) -> TorchRanks:
    return TorchRanks(rank, 2, rank)


def test_moments_of_several_processes_by_hand() -> None:
    # 1, 2 in one process and 3, 6 in the other: mean 3, variance (4 + 1 + 0 + 9) / 4 = 3.5, of a sample 14 / 3
    averaged = (powers(th.tensor([[1.0, 2.0]])) + powers(th.tensor([[3.0, 6.0]]))) / 2
    th.testing.assert_close(averaged, th.tensor([[3.0], [12.5]], dtype=th.float64))
    th.testing.assert_close(variance(averaged), th.tensor([3.5], dtype=th.float64))
    ours = normalized(th.tensor([[3.0, 6.0]]), averaged, 2)
    th.testing.assert_close(ours, th.tensor([[0.0, 3 / (14 / 3) ** 0.5]]))
    th.testing.assert_close(ours[0], normalize_advantages(th.tensor([1.0, 2.0, 3.0, 6.0]))[2:])
    # A single sample of all processes is not normalised
    alone = th.tensor([[5.0], [7.0]])
    th.testing.assert_close(normalized(alone, powers(alone), 1), alone)
    th.testing.assert_close(ALONE.normalize(alone), alone)


@pytest.mark.parametrize("shape", [(), (3,)])
def test_statistics_of_all_environments_are_those_of_one_process(shape: tuple[int, ...]) -> None:
    """Also far from 0, where squares lose their digits."""
    rng = np.random.default_rng(0)
    expected = RunningMeanStd(shape=shape)
    first = GlobalMeanStd(expected.copy(), lambda sums: sums, 2)
    for _ in range(20):
        batches = rng.normal(1e6, 0.1, (2, 4, *shape))
        expected.update(batches.reshape(8, *shape))
        # The other process computes its sums around the same mean
        offsets = batches[1] - first.mean
        theirs = np.stack([offsets.mean(axis=0), np.square(offsets).mean(axis=0)])
        first._average = lambda sums, theirs=theirs: (sums + theirs) / 2
        first.update(batches[0])
    np.testing.assert_allclose(first.mean, expected.mean, rtol=1e-12)
    np.testing.assert_allclose(first.var, expected.var, rtol=1e-6)
    assert first.count == expected.count
    assert type(pickle.loads(pickle.dumps(first))) is RunningMeanStd


def test_no_two_processes_have_the_same_seeds() -> None:
    seeds = [environment_seed(3, rank, 7) + idx for rank in range(100) for idx in range(7)]
    assert len(set(seeds)) == 700
    assert max(seeds) < 2**31
    assert environment_seed(3, 0, 7) != environment_seed(4, 0, 7)
    drawn = []
    for rank in range(4):
        seed_generators(3, rank, 4)
        drawn += [np.random.random(), th.rand(()).item()]
    assert len(set(drawn)) == 8


def test_every_attempt_has_a_store_of_its_own() -> None:
    store = HashStore()
    with pytest.raises(RuntimeError, match="ranks 1, 2 did not start"):
        attempt_store(store, 0, 3, timeout=0.05)
    for attempt in ("first", "second"):
        with ThreadPoolExecutor(3) as pool:
            parts = list(pool.map(lambda rank: attempt_store(store, rank, 3, timeout=60), range(3)))
        assert not any(part.check(["who"]) for part in parts)
        parts[2].set("who", attempt)
        assert [part.get("who") for part in parts] == [attempt.encode()] * 3


def test_counts_that_cannot_be_divided_name_the_nearest_multiples(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fake_ranks().share(8, "n_envs") == 4
    with pytest.raises(ValueError, match=r"batch_size=65 .* among 2 processes: .* multiple of 2, e\.g\. 64 or 66"):
        fake_ranks().share(65, "batch_size")
    monkeypatch.setattr(th.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="GPUs"):
        fake_ranks(1)._check_device(th.device("cuda:0"))
    fake_ranks(1)._check_device(th.device("cuda:1"))
    monkeypatch.setattr(th.cuda, "device_count", lambda: 1)  # the launcher shows each process its own GPU only
    fake_ranks(1)._check_device(th.device("cuda:0"))


def test_callbacks_with_every_rank_run_in_every_process() -> None:
    everywhere, checkpoints = Hang(0, 0), ResumableCheckpointCallback()
    given = CallbackList([checkpoints, EvalCallback(make_vec_env("CartPole-v1")), CallbackList([everywhere])])
    assert fake_ranks(0).callbacks(given) is given
    assert fake_ranks(1).callbacks(given) == [checkpoints, [everywhere]]
    assert fake_ranks(1).callbacks(lambda *_: True) is None
    assert fake_ranks(1).callbacks(Poison(0, 0)) is not None


def test_without_torchrun_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    with process_group() as ranks:
        assert ranks is ALONE
        assert ranks.share(7, "n_envs") == 7
    monkeypatch.setenv("SB3_MDPO_TIMEOUT", "soon")
    with pytest.raises(ValueError, match="SB3_MDPO_TIMEOUT='soon' must be a positive number"), process_group():
        pass
