"""Commands against the stand-in for the Hub, and the files that they leave."""

import subprocess
from pathlib import Path

from sb3_mdpo.utils.terminal import CODE
from tests.support.commands import run
from tests.support.hub_server import HubServer


def hub_environment(hub: HubServer, folder: Path) -> dict[str, str]:
    """The variables with which ``huggingface_hub`` talks to the stand-in."""
    disabled = {f"HF_HUB_DISABLE_{name}": "1" for name in ("TELEMETRY", "XET", "PROGRESS_BARS")}
    addresses = {"HF_ENDPOINT": hub.url, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    return {**addresses, **disabled, "HF_HOME": str(folder / "hf"), "HF_TOKEN": "hf_dummy", "OMP_NUM_THREADS": "1"}


def command(hub: HubServer, cwd: Path, *words: str, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
    """Run ``sb3-mdpo ...`` or ``rl_zoo3 ...`` in a forked process."""
    return run(list(words), cwd, env=hub_environment(hub, cwd) | env, check=check)


def refused(result: subprocess.CompletedProcess[str], name: str) -> str:
    """The line on stderr of a command that refused, beside that on what it may execute."""
    assert result.returncode == 2, result.stdout + result.stderr
    (line,) = (line for line in result.stderr.splitlines() if not line.endswith(CODE))
    assert line.startswith(f"sb3-mdpo {name}: ")
    return line


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
