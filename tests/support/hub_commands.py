"""Real commands against the stand-in for the Hub, and what they leave."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.hub_server import HubServer

BIN = Path(sys.executable).parent


def command(hub: HubServer, cwd: Path, program: str, *arguments: str, check: bool = True, **env: str):
    environ = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(cwd / "hf"),
        "HF_TOKEN": "hf_dummy",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
        "OMP_NUM_THREADS": "1",
        **env,
    }
    program = str(BIN / program)
    result = subprocess.run(
        [program, *arguments], cwd=cwd, env=environ, capture_output=True, text=True, timeout=300, check=False
    )
    if check:
        assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result


def refused(result: subprocess.CompletedProcess, name: str) -> str:
    """The one line on stderr of a command that could not do what was asked."""
    assert result.returncode == 2, result.stdout + result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"sb3-mdpo {name}: ")
    return line


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
