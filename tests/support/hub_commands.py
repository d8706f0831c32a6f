"""Commands against the stand-in for the Hub, and the files that they leave."""

import importlib
import subprocess
import sys
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.utils import disable_progress_bars

from tests.support.commands import _execute, run
from tests.support.hub_server import HubServer


def hub_environment(hub: HubServer, folder: Path) -> dict[str, str]:
    """The variables with which ``huggingface_hub`` talks to the stand-in."""
    disabled = {f"HF_HUB_DISABLE_{name}": "1" for name in ("TELEMETRY", "XET", "PROGRESS_BARS")}
    addresses = {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(folder / "hf"),
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    return {**addresses, **disabled, "HF_TOKEN": "hf_dummy", "OMP_NUM_THREADS": "1"}


def command(hub: HubServer, cwd: Path, *words: str, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
    """Run ``sb3-mdpo ...`` or ``rl_zoo3 ...`` in a forked process."""
    argv = ["python", "-m", "tests.support.hub_commands", *words]
    result = run(argv, cwd, env=hub_environment(hub, cwd) | env)
    if check:
        assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result


def refused(result: subprocess.CompletedProcess[str], name: str) -> str:
    """The one line on stderr of a command that refused."""
    assert result.returncode == 2, result.stdout + result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"sb3-mdpo {name}: ")
    return line


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


if __name__ == "__main__":
    importlib.reload(constants)  # read before the fork, from other variables
    disable_progress_bars()
    sys.orig_argv = [sys.executable, str(Path(sys.executable).with_name(sys.argv[1])), *sys.argv[2:]]  # as installed
    _execute(sys.argv[1:], Path(), {}, [])
