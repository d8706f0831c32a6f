"""One training writes in a folder at a time."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import rl_zoo3.train  # noqa: F401 # replaces gymnasium's TimeLimit, as in the forked processes
from filelock import FileLock
from stable_baselines3.common.callbacks import BaseCallback

from sb3_mdpo import MDPO
from sb3_mdpo.callbacks import ResumableCheckpointCallback
from sb3_mdpo.persistence.checkpoints import callback
from sb3_mdpo.persistence.checkpoints.archive import checkpoints, read
from sb3_mdpo.persistence.checkpoints.lock import LOCK
from tests.support import commands
from tests.support.faults import ForkedProcess
from tests.support.helpers import TINY
from tests.support.studies import wait_until

STEPS = 128


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def learn(folder: Path, *others: BaseCallback, **kwargs: Any) -> MDPO:
    checkpoint = ResumableCheckpointCallback(folder, verbose=0, **kwargs)
    return MDPO("MlpPolicy", "CartPole-v1", **TINY).learn(STEPS, [checkpoint, *others])


class Hold(BaseCallback):
    """Trains no further, and has a child that outlives it."""

    def __init__(self, child: Path) -> None:
        super().__init__()
        self.child = child

    def _on_step(self) -> bool:
        if pid := os.fork():
            self.child.with_name("unfinished").write_text(str(pid))
            self.child.with_name("unfinished").rename(self.child)
        while True:
            signal.pause()


def test_a_second_training_in_a_folder_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    """Its forked children do not count, for example the environments of a SubprocVecEnv."""
    folder, child = tmp_path / "checkpoints", tmp_path / "child"
    first = commands._context.Process(target=learn, args=(folder, Hold(child)))
    first.start()
    try:
        wait_until(lambda: child.exists() or not first.is_alive(), 300)
        before = contents(folder)
        assert len(before) == 2  # the lock and the checkpoint of step 0
        for resume in (True, False):
            with pytest.raises(ValueError, match=f"^Another process is training in {folder}: wait for it, or stop it"):
                learn(folder, resume=resume)
        assert contents(folder) == before
        first.kill()
        first.join()
        os.kill(int(child.read_text()), 0)  # it is there
        assert learn(folder, resume=True).num_timesteps == STEPS
    finally:
        first.kill()
        os.kill(int(child.read_text()), signal.SIGKILL)


class Fail(BaseCallback):
    def _on_step(self) -> bool:
        raise RuntimeError("no more")


def test_the_lock_is_free_after_a_training_however_it_ended(tmp_path: Path) -> None:
    with FileLock(tmp_path / LOCK, timeout=0), pytest.raises(ValueError, match="Another process is training"):
        learn(tmp_path)
    learn(tmp_path)
    with FileLock(tmp_path / LOCK, timeout=0):
        pass
    with pytest.raises(ValueError, match="has checkpoints of an earlier training"):
        learn(tmp_path)
    with FileLock(tmp_path / LOCK, timeout=0):
        pass
    with pytest.raises(RuntimeError, match="no more"):
        learn(tmp_path / "failed", Fail())
    with FileLock(tmp_path / "failed" / LOCK, timeout=0):
        pass


def test_a_signal_during_the_checkpoint_after_an_error_waits_for_it(tmp_path: Path, monkeypatch) -> None:
    """As of torchrun, when another process has ended."""
    write, before = callback.write, signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def interrupted(*args: Any) -> Path:
        monkeypatch.setattr(callback, "write", write)
        signal.raise_signal(signal.SIGTERM)
        return write(*args)

    class FailLater(Fail):
        def _on_step(self) -> bool:
            if self.num_timesteps < 40:
                return True
            monkeypatch.setattr(callback, "write", interrupted)
            return super()._on_step()

    monkeypatch.setattr(callback, "SHARE", float("inf"))  # a snapshot at every rollout
    try:
        with pytest.raises(SystemExit, match="143"):
            learn(tmp_path, FailLater())
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)
    assert read(checkpoints(tmp_path)[0]).snapshot.num_timesteps == 32


RUN = """
CartPole-v1:
  {policy: MlpPolicy, policy_kwargs: "dict(net_arch=[8])", n_envs: 4, n_steps: 32, batch_size: 32, n_epochs: 1,
   n_timesteps: 1024, callback: [
     sb3_mdpo.callbacks.ResumableCheckpointCallback: {save_freq: 1},
     tests.support.studies.Gate: {reached: reached, at_step: 512, opened: opened}]}
"""
ZOO = ["python", "-m", "sb3_mdpo.zoo", "train"]
OPTIONS = "--algo mdpo --env CartPole-v1 -conf run.yml -f logs --device cpu --num-threads 1 --seed 1 --eval-freq -1"
FOLDER = "logs/mdpo/CartPole-v1_1"


@pytest.mark.parametrize("vec_env", ["dummy", "subproc"])
def test_a_run_is_resumed_by_one_process_at_a_time_and_keeps_its_monitor_lines(vec_env: str, tmp_path: Path) -> None:
    (tmp_path / "run.yml").write_text(RUN)
    run, reached = tmp_path / FOLDER, tmp_path / "reached"
    resume = [*ZOO, "--resume", FOLDER]
    for command in ([*ZOO, *OPTIONS.split(), "--vec-env", vec_env], resume):
        first = ForkedProcess(command, tmp_path)
        try:
            wait_until(lambda first=first: reached.exists() or first.poll() is not None, 300)
            reached.unlink()
            before = contents(run)
            second = commands.run(resume, tmp_path)
            (line,) = second.stderr.splitlines()
            assert f": Another process is training in {FOLDER}/checkpoints: wait for it, or stop it." in line
            assert second.returncode == 2
            assert contents(run) == before
        finally:
            first.kill()
            first.wait(60)
    (tmp_path / "opened").touch()
    left_by_a_kill = run / ".best_model.zip.1.tmp"
    left_by_a_kill.touch()
    last = commands.run([*resume, "--progress"], tmp_path, check=True)
    assert "1024/1024" in last.stdout.replace(",", "")
    assert not left_by_a_kill.exists()
    assert MDPO.load(run / "CartPole-v1.zip").num_timesteps == 1024
    monitors = [path for path in before if path.name.endswith("monitor.csv")]
    assert len(monitors) == (4 if vec_env == "dummy" else 1)
    episodes = [line for path in monitors for line in before[path].splitlines()[2:]]
    assert 256 < sum(int(line.split(b",")[1]) for line in episodes) <= 512
    for path in monitors:
        assert path.read_bytes().startswith(before[path])
        assert len(path.read_bytes()) > len(before[path])
