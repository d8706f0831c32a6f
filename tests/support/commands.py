"""
Commands in forked processes: the console scripts, without each one importing torch and rl-zoo3 again.

A forked process has an exit code, a working folder, an environment and streams of its own, as a started one has. Start
a real process (:mod:`subprocess`) where the start of the interpreter, the installed script or signals are tested.
"""

import importlib
import multiprocessing
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from runpy import run_module, run_path
from tempfile import TemporaryDirectory

import torch as th
from huggingface_hub import constants
from huggingface_hub.utils import disable_progress_bars

# torch._dynamo is imported by the first optimizer, seaborn by rl_zoo3.cli: both take longer than a short training
PRELOADED = [
    *("pytest", "torch._dynamo", "torch.utils.tensorboard", "gymnasium.envs.classic_control"),
    *("rl_zoo3.cli", "rl_zoo3.train", "rl_zoo3.enjoy", "sb3_mdpo.mdpo", "sb3_mdpo.envs.procgen_vec"),
    *("sb3_mdpo.persistence.checkpoints.callback", "sb3_mdpo.lab.generalization.callback"),
    *(f"sb3_mdpo.cli.{command}" for command in ("evaluate", "export", "features", "hub", "report", "study", "main")),
]

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(PRELOADED)


def run(
    command: str | list[str],
    cwd: Path,
    env: Mapping[str, str] | None = None,
    timeout: float = 300,
    check: bool = False,
) -> subprocess.CompletedProcess[str]:
    """
    :param command: ``rl_zoo3 ...``, ``sb3-mdpo ...``, ``python -m MODULE ...`` or ``python FILE ...``
    :param cwd: working folder
    :param env: variables to set; what torch or the start-up hook reads while they are imported has no effect
    :param timeout: seconds after which the process is killed and ``subprocess.TimeoutExpired`` raised
    :param check: whether the test fails unless the exit code is 0
    :return: exit code and what it wrote
    """
    argv = shlex.split(command) if isinstance(command, str) else list(command)
    with TemporaryDirectory() as folder:
        outputs = [Path(folder) / name for name in ("stdout", "stderr")]
        process = _context.Process(target=_execute, args=(argv, cwd, dict(env or {}), outputs))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(argv, timeout)
        stdout, stderr = (path.read_text() if path.exists() else "" for path in outputs)
    assert not check or process.exitcode == 0, stdout[-3000:] + stderr[-3000:]
    return subprocess.CompletedProcess(argv, process.exitcode, stdout, stderr)


def _execute(argv: list[str], cwd: Path, env: dict[str, str], outputs: list[Path]) -> None:
    for descriptor, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    os.chdir(cwd)
    os.environ.update(env)
    th.set_num_threads(1)  # the networks of the tests are too small to share among threads
    importlib.reload(constants)  # huggingface_hub has read them from the variables of the fork server
    disable_progress_bars()
    sys.orig_argv = [sys.executable, *argv[1:]]
    if argv[:2] == ["python", "-m"]:
        sys.argv = argv[2:]
        run_module(argv[2], run_name="__main__", alter_sys=True)
    elif argv[0] == "python":
        sys.argv = argv[1:]
        run_path(argv[1], run_name="__main__")
    else:
        sys.argv = argv
        sys.orig_argv.insert(1, str(Path(sys.executable).with_name(argv[0])))  # as installed
        (script,) = entry_points(group="console_scripts", name=argv[0])
        sys.exit(script.load()())
