"""
Where what somebody wrote comes in, as a table: a file or a command line, what can be wrong with it, and what reads it.

A new surface is one more :class:`Surface`. Commands run until they would train, play or hand over to another program
(:class:`WorkBegins`): whatever gets that far was accepted.
"""

import argparse
import io
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from stat import S_ISDIR
from typing import Any, Literal
from unittest.mock import patch

import ray
import rl_zoo3.cli
import rl_zoo3.train
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

from sb3_mdpo import MDPO
from sb3_mdpo.cli.main import main, make_parser
from sb3_mdpo.envs import TexturedGridVecEnv
from sb3_mdpo.utils.terminal import CODE
from sb3_mdpo.zoo.__main__ import main as zoo
from sb3_mdpo.zoo.hook import install
from sb3_mdpo.zoo.hyperparams import distill_coef_schedule, preprocess_hyperparams
from tests.support.inputs import NoFile, argument_lists, damaged_files, devices, numbers, odd_values, paths, words
from tests.support.resources import Usage, measuring
from tests.support.workspace import (
    CHECKPOINT,
    GRID,
    PLAIN_RUN,
    RUN,
    SETTINGS,
    STUDY_RUN,
    SharedFolder,
    make_workspace,
    stand_in_for_the_hub,
    valid_files,
)

Input = bytes | NoFile | list[str] | dict[str, Any]
MESSAGE = re.compile(r"(sb3-mdpo|python -m sb3_mdpo\.zoo)( [\w-]+){0,2}: \S.*")
LONGEST_MESSAGE = 1200  # characters
# Of these a report says that they are broken, with exit code 1, and shows the rest
LEFT_OUT = {f"{RUN}/robustness.json", f"{RUN}/features.json"}
# What an input may take: processor time, memory beyond what was used before, and time until it is ended
SECONDS, MEBIBYTES, HANGS = 20.0, 1024, 60.0


class WorkBegins(Exception):
    """Raised where the work would begin."""


class TooSlow(Exception):
    """Raised if an input takes too long."""


@dataclass(frozen=True)
class Surface:
    name: str
    feed: Callable[[Any], object]  # has an input read, in a folder made by make_workspace()
    file: str | None = None  # in that folder, to which inputs are written; None if an input is an argument
    arguments: SearchStrategy[Any] | None = None  # what is generated if it is an argument
    refusals: tuple[type[Exception], ...] = ()  # by functions; commands refuse by one line and exit code 2

    @property
    def inputs(self) -> SearchStrategy[Any]:
        return damaged_files(self.file, valid_files()[self.file]) if self.arguments is None else self.arguments


@dataclass(frozen=True)
class Outcome:
    kind: Literal["accepted", "refused", "finding"]
    message: str = ""  # what was said, or what is wrong
    usage: Usage = field(default_factory=Usage, compare=False)


# The environments of all models in the workspace, the zoo's own programs, processes and clusters
BEGINNINGS = (
    (TexturedGridVecEnv, "__init__"),
    (rl_zoo3.utils, "create_test_env"),
    (rl_zoo3.cli, "main"),
    (rl_zoo3.train, "train"),
    (runpy, "run_module"),
    (subprocess.Popen, "__init__"),
    (ray, "init"),
)


@contextmanager
def nothing_begins() -> Iterator[None]:
    """Nothing is trained or played in this context, and the Hub is on this machine."""
    install()
    valid_files()
    with ExitStack() as stack:
        stack.enter_context(stand_in_for_the_hub()).repositories["a/b"] = SharedFolder()
        for owner, name in BEGINNINGS:
            stack.enter_context(patch.object(owner, name, autospec=True, side_effect=WorkBegins))
        stack.enter_context(patch.object(rl_zoo3.train, "ExperimentManager"))  # which resuming replaces
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        yield


class Workspace:
    """A folder with one valid file of every kind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reset()

    def reset(self) -> None:
        for path in self.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        make_workspace(self.folder)
        self.pristine = self.snapshot()

    def snapshot(self) -> dict[Path, tuple[int, int] | None]:
        """Size and time of every file, None for folders."""
        stats = {path: path.lstat() for path in self.folder.rglob("*")}
        return {path: None if S_ISDIR(it.st_mode) else (it.st_size, it.st_mtime_ns) for path, it in stats.items()}

    def try_input(self, surface: Surface, value: Input) -> Outcome:
        if surface.file is not None:
            path = self.folder / surface.file
            path.unlink()
            if isinstance(value, bytes):
                path.write_bytes(value)
            elif value is NoFile.FOLDER:
                path.mkdir()
        before = self.snapshot()
        with measuring() as usage:
            outcome = _run(surface, value)
        after = self.snapshot()
        if usage.seconds > SECONDS or usage.mebibytes > MEBIBYTES:
            took = f"takes {usage.seconds:.0f} seconds and {usage.mebibytes} MiB"
            outcome = Outcome("finding", f"{took}: {outcome.message}")
        if outcome.kind == "refused" and surface.file is not None and not _names(outcome.message, surface.file):
            outcome = Outcome("finding", f"does not name {surface.file}: {outcome.message}")
        if outcome.kind == "refused" and after != before and surface.file not in LEFT_OUT:
            changed = sorted({str(path) for path, _ in before.items() ^ after.items()})
            outcome = Outcome("finding", f"changed {', '.join(changed)} though it said: {outcome.message}")
        if after != self.pristine:
            self.reset()
        return replace(outcome, usage=usage)


def _names(message: str, file: str) -> bool:
    """Whether a message says which file it is about, or which folder: the run's, or the one that it is in."""
    path = Path(file)
    return any(name in message for name in (path.name, str(path.parent), str(path.parent.parent)) if name != ".")


def _run(surface: Surface, value: Input) -> Outcome:
    said = io.StringIO()
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(said), _time_limit(HANGS):
            surface.feed(value)
    except WorkBegins:
        return Outcome("accepted")
    except SystemExit as end:
        if end.code in (0, None):
            return Outcome("accepted")
        expected = 1 if surface.file in LEFT_OUT else 2
        return _of_command(said.getvalue()) if end.code == expected else Outcome("finding", f"exit code {end.code}")
    except surface.refusals as error:
        message = " ".join(str(error).split())
        return Outcome("refused", message) if message else Outcome("finding", f"empty {type(error).__name__}")
    except Exception as error:
        return Outcome("finding", f"{type(error).__name__}: {str(error)[:300]}")
    return Outcome("accepted")


def _of_command(said: str) -> Outcome:
    # Progress bars end with a line of their own
    lines = [line for line in said.split("\n") if line and "\r" not in line and not line.endswith(CODE)]
    *before, message = lines or [""]
    if not MESSAGE.fullmatch(message):
        return Outcome("finding", f"no message at the end of {said[-300:]!r}")
    if before and not before[0].startswith("usage: "):
        return Outcome("finding", f"more than one line: {said[:300]!r}")
    if len(message) > LONGEST_MESSAGE:
        return Outcome("finding", f"{len(message)} characters: {message[:300]}")
    return Outcome("refused", message)


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    def end(*_: Any) -> None:
        raise TooSlow(f"takes more than {seconds:g} seconds")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run_zoo(arguments: list[str]) -> None:
    with patch("sys.argv", ["python -m sb3_mdpo.zoo", *arguments]):
        zoo()


def command(text: str) -> Callable[[Any], object]:
    """Executes a command line of sb3-mdpo or of its zoo, or an expression with MDPO, whatever the input."""
    match shlex.split(text):
        case ["sb3-mdpo", *arguments]:
            return lambda _: main(arguments)
        case ["python", "-m", "sb3_mdpo.zoo", *arguments]:
            return lambda _: run_zoo(arguments)
    return lambda _: eval(text, {"MDPO": MDPO})


@cache
def _environments() -> VecEnv:
    return make_vec_env("CartPole-v1", n_envs=4)


def _make_model(hyperparams: dict[str, Any]) -> None:
    hyperparams = {"policy": "MlpPolicy", "n_steps": 8, "batch_size": 8} | hyperparams
    preprocess_hyperparams(hyperparams)
    MDPO(env=_environments(), device="cpu", **hyperparams)


MEMBERS = st.lists(st.one_of(st.sampled_from(["MlpPolicy", "CnnPolicy", "a.b", "os.path"]), odd_values), max_size=3)
MEMBER_KWARGS = st.fixed_dictionaries({"member_kwargs": odd_values})
SCHEDULES = st.sampled_from(["lin", "warmup", "linear"])
ODD = ("detach_peers", "chunk_size", "batch_size", "n_epochs", "clip_range", "clip_range_vf", "normalize_advantage")
ODD += ("target_kl",)
HYPERPARAMS = st.fixed_dictionaries(
    {},
    optional={
        "policy": st.one_of(MEMBERS, words, odd_values),
        "n_policies": st.one_of(st.integers(-2, 9), st.sampled_from([None, "2", 2.5, 2.0, True, [2]])),
        "distill_coef": st.one_of(words, st.builds("{}_{}".format, SCHEDULES, words), odd_values),
        "distill_mode": st.one_of(st.sampled_from(["all", "random"]), odd_values),
        "precision": st.one_of(st.sampled_from(["fp32", "bf16", "auto"]), odd_values),
        "compile": st.one_of(st.just("yes"), st.integers(2, 5), st.none()),
        "predict_with": st.one_of(st.sampled_from(["ensemble", 0, 1]), odd_values),
        "policy_kwargs": MEMBER_KWARGS | st.lists(odd_values, max_size=3) | odd_values,
        **dict.fromkeys(ODD, odd_values),
    },
)

MODELS = st.sampled_from([RUN, "mdpo.zip", "ppo.zip", PLAIN_RUN, "study.yml", "studies/small", "nowhere", "", "."])
STUDY_FILES = st.sampled_from(["study.yml", "study.yml", "study.yml", "nowhere.yml", ".", "mdpo.zip"])
RUNS = st.sampled_from([RUN, RUN, PLAIN_RUN, "nowhere", ".", "mdpo.zip", "study.yml", "studies/small"])
REPOSITORIES = st.one_of(st.sampled_from(["a/b", "a/b/c", "a", "/", "../..", "a b/c"]), words)
# Values of the arguments of sb3-mdpo by their names; those of others follow from their types
POSITIONALS = dict.fromkeys(["path", "paths", "run_folder"], MODELS)
POSITIONALS |= {"file": STUDY_FILES, "folders": RUNS, "repo_id": REPOSITORIES}
OPTIONS = {"device": devices, "env": st.just(GRID) | words, "storage": paths, "reps": st.sampled_from(["1", "2", "0"])}


def _values(option: argparse.Action) -> SearchStrategy[str] | None:
    if option.nargs == 0:
        return None  # a flag
    if option.choices:
        return st.sampled_from(list(option.choices)) | words
    by_type = {None: words, Path: paths}
    return OPTIONS.get(option.dest, by_type.get(option.type, numbers | words))


def _commands(parser: argparse.ArgumentParser, name: str = "") -> Iterator[Surface]:
    """The arguments of a command, and of those below it."""
    positionals, options = [], {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            positionals.append(words)
            for below, its_parser in action.choices.items():
                yield from _commands(its_parser, f"{name} {below}".strip())
        elif action.option_strings:
            options |= dict.fromkeys(action.option_strings, _values(action))
        else:
            positionals.append(POSITIONALS[action.dest])
    yield Surface(f"{name or 'no command'}, arguments", main, None, argument_lists(name, positionals, options))


# Surface -> file, and the command or expression that reads it
FILES = {
    "study file": ("study.yml", "sb3-mdpo study status study.yml"),
    "study, evaluations": (f"{STUDY_RUN}/generalization.csv", "sb3-mdpo study status study.yml"),
    "study, run.yml": (f"{STUDY_RUN}/run.yml", "sb3-mdpo study run study.yml"),
    "study plan, results.csv": ("results/results.csv", "sb3-mdpo study plan study.yml --measured results"),
    "run, args.yml": (f"{SETTINGS}/args.yml", f"sb3-mdpo evaluate {RUN} --device cpu"),
    "run, config.yml": (f"{SETTINGS}/config.yml", f"sb3-mdpo evaluate {RUN} --device cpu"),
    "resume, args.yml": (f"{SETTINGS}/args.yml", f"python -m sb3_mdpo.zoo train --resume {RUN}"),
    "resume, config.yml": (f"{SETTINGS}/config.yml", f"python -m sb3_mdpo.zoo train --resume {RUN}"),
    "resume, checkpoint": (CHECKPOINT, f"python -m sb3_mdpo.zoo train --resume {RUN}"),
    "push, args.yml": (f"{SETTINGS}/args.yml", f"sb3-mdpo push {RUN} a/b --device cpu"),
    **{
        f"report, {name}": (f"{folder}/{name}", f"sb3-mdpo report {folder} -o page.html --reps 2")
        for folder, names in {
            RUN: ("generalization.csv", "robustness.json", "features.json"),
            PLAIN_RUN: ("0.monitor.csv", "evaluations.npz"),
            "results": ("results.csv",),
        }.items()
        for name in names
    },
    "report, command.txt": (f"{SETTINGS}/command.txt", f"sb3-mdpo report {RUN} -o page.html --reps 2"),
    "evaluate, saved model": ("mdpo.zip", f"sb3-mdpo evaluate mdpo.zip --env {GRID} --levels 20 --device cpu"),
    "evaluate, model of PPO": ("ppo.zip", f"sb3-mdpo evaluate ppo.zip --env {GRID} --levels 20 --device cpu"),
    "MDPO.load": ("mdpo.zip", "MDPO.load('mdpo.zip', device='cpu')"),
    "load_ppo": ("ppo.zip", "MDPO.load('mdpo.zip', device='cpu').load_ppo(0, 'ppo.zip')"),
    "from_export, config.json": ("export/config.json", "MDPO.from_export('export')"),
    "from_export, model.safetensors": ("export/model.safetensors", "MDPO.from_export('export')"),
    **{
        f"pull, {name}": (f"snapshot/{name}", "sb3-mdpo pull a/b")
        for name in ("args.yml", "config.yml", "config.json", "model.safetensors", "vec_normalize.json")
    },
}
ZOO_WORDS = st.one_of(st.sampled_from(["train", "enjoy", "hyperparams", "record_video", "Train"]), words)
RESUME = {"--device": devices, "--num-threads": numbers, "--verbose": numbers, "--progress": None}
PYTHON_ERRORS = (ValueError, TypeError, OSError)


@cache
def surfaces() -> dict[str, Surface]:
    """All of them by name."""
    table = [
        *_commands(make_parser()),
        Surface("zoo, arguments", run_zoo, None, st.lists(ZOO_WORDS, max_size=3)),
        Surface("resume, arguments", run_zoo, None, argument_lists("train --resume", [RUNS], RESUME)),
        *(
            Surface(name, command(text), file, refusals=PYTHON_ERRORS if text.startswith("MDPO") else ())
            for name, (file, text) in FILES.items()
        ),
        Surface("hyperparameters", _make_model, None, HYPERPARAMS, (ValueError, TypeError)),
        Surface("schedules", distill_coef_schedule, None, st.text() | words, (ValueError,)),
    ]
    return {surface.name: surface for surface in table}
