"""What every benchmark takes, and what it writes beside its numbers: command, versions, machine."""

import argparse
import json
import os
import platform
import subprocess
import sys
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch as th

PACKAGES = ("sb3-mdpo", "stable-baselines3", "rl-zoo3", "torch", "numpy", "gymnasium")


RESULTS = Path(__file__).parent / "results"


def argument_parser(description: str | None) -> argparse.ArgumentParser:
    """
    :param description: what the benchmark is for
    :return: a parser with the option that all of them have
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=RESULTS, help="where results go")
    return parser


def processor() -> str:
    """:return: the processor's name, and which of the instructions for bfloat16 it has"""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor()
    lines = dict(line.split(":", 1) for line in info.read_text().split("\n\n")[0].splitlines() if ":" in line)
    fields = {name.strip(): value.strip() for name, value in lines.items()}
    flags = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in fields.get("flags", "").split()]
    return f"{fields.get('model name', platform.processor())} ({', '.join(flags) or 'no bfloat16 instructions'})"


def command() -> str:
    """:return: what was typed, with the script's path in the repository and only the last part of other paths"""
    script, *arguments = sys.argv
    typed = [Path(argument).name if argument.startswith("/") else argument for argument in arguments]
    return " ".join(["python", f"benchmarks/{Path(script).name}", *typed])


def commit() -> str:
    """:return: the commit that was measured, marked where files had been changed since"""
    describe = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(
        describe, capture_output=True, text=True, check=True, cwd=Path(__file__).parent
    ).stdout.strip()


def circumstances() -> dict[str, Any]:
    """:return: what somebody needs to measure the same again"""
    return {
        "command": command(),
        "commit": commit(),
        "date": datetime.now(timezone.utc).date().isoformat(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "torch_threads": th.get_num_threads(),
        "gpu": th.cuda.get_device_name() if th.cuda.is_available() else None,
    }


def table(header: list[str], rows: list[list[str]]) -> str:
    """:return: a Markdown table"""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def receipt(facts: dict[str, Any]) -> str:
    """:return: command, date, machine, commit and versions in a sentence"""
    versions = ", ".join(f"{package} {number}" for package, number in facts["versions"].items())
    machine = f"{facts['processor']}, {facts['cores']} cores, GPU: {facts['gpu'] or 'none'}"
    versions = f"Python {facts['python']}, {versions}"
    return f"`{facts['command']}`, {facts['date']}; {machine}; commit {facts['commit']}, {versions}."


def write(name: str, summary: str, measured: Any, folder: Path) -> None:
    """
    Print a result, and write it as Markdown and with its raw numbers as JSON.

    :param name: name of the benchmark
    :param summary: Markdown
    :param measured: raw numbers
    :param folder: where to write
    """
    facts = circumstances()
    print(f"\n{summary}\n\n{receipt(facts)}")
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in (
        (folder / f"{name}.md", f"{summary}\n\n{receipt(facts)} Raw numbers: `{name}.json`.\n"),
        (folder / f"{name}.json", json.dumps(facts | {"measured": measured}) + "\n"),
    ):
        unfinished = path.with_name(path.name + ".part")
        unfinished.write_text(text)
        unfinished.replace(path)
