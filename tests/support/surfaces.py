"""
Where what somebody wrote comes in, as a table: a file or a command line, what can be wrong with it, and what reads it.

A new surface is one more :class:`Surface`. What would train, play or use the network ends at a seam
(:class:`WorkBegins`): whatever gets that far was accepted.
"""

import io
import os
import re
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import yaml
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

from sb3_mdpo import MDPO
from sb3_mdpo.cli.main import main
from sb3_mdpo.persistence.export.document import from_bytes
from sb3_mdpo.zoo.__main__ import main as zoo
from sb3_mdpo.zoo.hook import install
from sb3_mdpo.zoo.hyperparams import distill_coef_schedule, preprocess_hyperparams
from tests.support.inputs import (
    NoFile,
    argument_lists,
    csv_files,
    devices,
    flag,
    json_files,
    model_files,
    numbers,
    odd_values,
    paths,
    plain_files,
    words,
    yaml_files,
)
from tests.support.workspace import (
    ARGS,
    CHECKPOINT,
    CONFIG,
    GRID,
    PLAIN_RUN,
    RUN,
    SETTINGS,
    SHARED_CONFIG,
    STUDY,
    STUDY_RUN,
    make_workspace,
    ordered,
    to_export,
    valid_files,
)

Input = bytes | NoFile | list[str] | dict[str, Any]
MESSAGE = re.compile(r"(sb3-mdpo|python -m sb3_mdpo\.zoo)( [\w-]+){0,2}: \S.*")
LONGEST_MESSAGE = 1200  # characters
SECONDS = 60.0


class WorkBegins(Exception):
    """Raised where the work would begin."""


class TooSlow(Exception):
    """Raised where an input takes too long, in whatever way."""


@dataclass(frozen=True)
class Surface:
    """
    :param name: what it is called
    :param inputs: what is generated
    :param feed: has it read, in a folder made by :func:`~tests.support.workspace.make_workspace`
    :param file: path in that folder of the file that an input is written to; None where an input is an argument
    :param refusals: what may be raised where it is no command, which says no by one line and exit code 2
    """

    name: str
    inputs: SearchStrategy[Any]
    feed: Callable[[Any], object]
    file: str | None = None
    refusals: tuple[type[Exception], ...] = ()


@dataclass(frozen=True)
class Outcome:
    """
    :param kind: what happened
    :param message: what was said, or what is wrong
    """

    kind: Literal["accepted", "refused", "finding"]
    message: str = ""


def _stop(*_args: Any, **_kwargs: Any) -> Any:
    raise WorkBegins


SEAMS = {
    "sb3_mdpo.lab.generalization.trained.TrainedModel.make_env": _stop,
    "sb3_mdpo.zoo.run.Run.make_env": _stop,
    "sb3_mdpo.lab.study.runner.run_all": _stop,
    "sb3_mdpo.lab.study.ray_engine.run_all_on_ray": _stop,
    "sb3_mdpo.lab.study.plan.probe": _stop,
    "sb3_mdpo.hub.push._check_repository": lambda *_: None,
    "sb3_mdpo.hub.pull._download": _stop,
    "sb3_mdpo.lab.report.sections.study.filmstrips": _stop,
    "sb3_mdpo.lab.report.page.get_plotlyjs": lambda: "",
    "rl_zoo3.cli.main": _stop,
    "sb3_mdpo.zoo.resume._train": _stop,
    "runpy.run_module": _stop,
}


@contextmanager
def seams() -> Iterator[None]:
    """
    :return: context manager in which nothing is trained, played or sent
    """
    install()
    with ExitStack() as stack:
        for name, replacement in SEAMS.items():
            stack.enter_context(patch(name, replacement))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        yield


class Workspace:
    """
    A folder with one valid file of every kind.

    :param folder: where to make it
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        make_workspace(folder)
        self.valid = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        self.pristine = self.snapshot()

    def snapshot(self) -> dict[Path, tuple[int, int] | None]:
        """
        :return: size and time of everything in it
        """
        found: dict[Path, tuple[int, int] | None] = {}
        for root, folders, files in os.walk(self.folder):
            found |= dict.fromkeys(Path(root, name) for name in folders)
            for name in files:
                stat = os.lstat(os.path.join(root, name))
                found[Path(root, name)] = (stat.st_size, stat.st_mtime_ns)
        return found

    def reset(self, now: dict[Path, tuple[int, int] | None]) -> None:
        """
        Make everything as it was.

        :param now: what is there
        """
        for path in now.keys() - self.pristine.keys() | {path for path in self.valid if now.get(path, ()) is None}:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        for path, content in self.valid.items():
            if now.get(path) != self.pristine[path]:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                self.pristine[path] = _stat(path)

    def put(self, file: str, value: bytes | NoFile) -> dict[Path, tuple[int, int] | None]:
        """
        :param file: a file in it
        :param value: what shall be there
        :return: what the folder holds then
        """
        path = self.folder / file
        if isinstance(value, bytes):
            path.write_bytes(value)
            return self.pristine | {path: _stat(path)}
        path.unlink()
        if value is NoFile.FOLDER:
            path.mkdir()
            return self.pristine | {path: None}
        return {known: stat for known, stat in self.pristine.items() if known != path}

    def try_input(self, surface: Surface, value: Input) -> Outcome:
        """
        :param surface: a surface
        :param value: an input
        :return: what comes of it
        """
        before = self.pristine if surface.file is None else self.put(surface.file, value)  # type: ignore[arg-type]
        outcome = _run(surface, value)
        after = self.snapshot()
        if outcome.kind == "refused" and surface.file is not None and not _names(outcome.message, surface.file):
            outcome = Outcome("finding", f"does not name {surface.file}: {outcome.message}")
        if outcome.kind == "refused" and after != before:
            changed = sorted({str(path) for path, _ in before.items() ^ after.items()})
            outcome = Outcome("finding", f"changed {', '.join(changed)} though it said: {outcome.message}")
        self.reset(after)
        return outcome


def _stat(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _names(message: str, file: str) -> bool:
    """Whether a message says which file it is about, or which folder: the run's, or the one that it is in."""
    path = Path(file)
    return any(name in message for name in (path.name, str(path.parent), str(path.parent.parent)) if name != ".")


def _run(surface: Surface, value: Input) -> Outcome:
    said = io.StringIO()
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(said), _time_limit(SECONDS):
            surface.feed(value)
    except WorkBegins:
        return Outcome("accepted")
    except SystemExit as end:
        if end.code in (0, None):
            return Outcome("accepted")
        return _of_command(said.getvalue()) if end.code == 2 else Outcome("finding", f"exit code {end.code}")
    except surface.refusals as error:
        message = " ".join(str(error).split())
        return Outcome("refused", message) if message else Outcome("finding", f"empty {type(error).__name__}")
    except Exception as error:
        return Outcome("finding", f"{type(error).__name__}: {str(error)[:300]}")
    return Outcome("accepted")


def _of_command(said: str) -> Outcome:
    lines = [
        line for line in said.split("\n") if line and "\r" not in line
    ]  # progress bars end with a line of their own
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


def command(*arguments: str) -> Callable[[Any], None]:
    """:return: what runs ``sb3-mdpo`` with these arguments, whatever the input"""
    return lambda _: main(arguments)


def pull_snapshot(_: Any) -> None:
    def download(_repo_id: str, _revision: str | None, folder: Path, trust: bool) -> bool:
        shutil.copytree("snapshot", folder)
        return trust

    with patch("sb3_mdpo.hub.pull._download", download):
        main(["pull", "a/b"])


def run_zoo(arguments: list[str]) -> None:
    with patch("sys.argv", ["python -m sb3_mdpo.zoo", *arguments]):
        zoo()


def _resume(_: Any) -> None:
    run_zoo(["train", "--resume", RUN])


@cache
def _environments() -> VecEnv:
    return make_vec_env("CartPole-v1", n_envs=4)


def _make_model(hyperparams: dict[str, Any]) -> None:
    hyperparams = {"policy": "MlpPolicy", "n_steps": 8, "batch_size": 8} | hyperparams
    preprocess_hyperparams(hyperparams)
    MDPO(env=_environments(), device="cpu", **hyperparams)


def _load_member(_: Any) -> None:
    model = MDPO.load("mdpo.zip", device="cpu")
    model.load_ppo(0, "ppo.zip")


SCHEDULES = st.one_of(words, st.builds("{}_{}".format, st.sampled_from(["lin", "warmup", "linear"]), words), odd_values)
MEMBERS = st.lists(st.one_of(st.sampled_from(["MlpPolicy", "CnnPolicy", "a.b", "os.path"]), odd_values), max_size=3)
HYPERPARAMS = st.fixed_dictionaries(
    {},
    optional={
        "policy": st.one_of(MEMBERS, words, odd_values),
        "n_policies": st.one_of(st.integers(-2, 9), st.sampled_from([None, "2", 2.5, 2.0, True, [2]])),
        "distill_coef": SCHEDULES,
        "detach_peers": odd_values,
        "distill_mode": st.one_of(st.sampled_from(["all", "random"]), odd_values),
        "precision": st.one_of(st.sampled_from(["fp32", "bf16", "auto"]), odd_values),
        "chunk_size": odd_values,
        "compile": st.one_of(st.just("yes"), st.integers(2, 5), st.none()),
        "predict_with": st.one_of(st.sampled_from(["ensemble", 0, 1]), odd_values),
        "batch_size": odd_values,
        "n_epochs": odd_values,
        "clip_range": odd_values,
        "clip_range_vf": odd_values,
        "normalize_advantage": odd_values,
        "target_kl": odd_values,
        "policy_kwargs": st.one_of(
            st.fixed_dictionaries({"member_kwargs": odd_values}), st.lists(odd_values, max_size=3), odd_values
        ),
    },
)
MODEL = st.sampled_from([RUN, "mdpo.zip", "ppo.zip", PLAIN_RUN, "study.yml", "studies/small", "nowhere", "", "."])
LOADED = {"--seed": numbers, "--device": devices, "--load-best": flag, "--env": st.one_of(st.just(GRID), words)}
ONE_OF = {"--output": paths, "-o": paths}
EVALUATE = LOADED | ONE_OF | dict.fromkeys(["--levels", "--start-level", "--episodes", "--n-envs"], numbers)
STUDY_OPTIONS = {"-o": paths, "--jobs": numbers}
STUDY_FILE = st.sampled_from(["study.yml", "study.yml", "study.yml", "nowhere.yml", ".", "mdpo.zip"])
REPOSITORY = st.one_of(st.sampled_from(["a/b", "a/b/c", "a", "/", "../..", "a b/c"]), words)
PUSH = {
    **dict.fromkeys(["--episodes", "--n-envs", "--video", "--seed"], numbers),
    **dict.fromkeys(["--private", "--deterministic", "--load-best"], flag),
    "--device": devices,
    "-m": words,
}
PULL = {"-f": paths, "--exp-id": numbers, "--force": flag, "--revision": words}


def _commands() -> list[Surface]:
    lists = {
        "evaluate": argument_lists(["evaluate"], [MODEL], EVALUATE | {"--deterministic": flag}),
        "study run": argument_lists(
            ["study", "run"],
            [STUDY_FILE],
            {
                **STUDY_OPTIONS,
                "--threads": numbers,
                "--device": devices,
                "--engine": st.sampled_from(["ray", "local"]) | words,
                "--address": words,
                "--storage": paths,
            },
        ),
        "study plan": argument_lists(
            ["study", "plan"],
            [STUDY_FILE],
            {
                "--steps-per-second": numbers | words,
                "--measured": paths,
                "--probe": numbers,
                "--device": devices,
                "--machines": numbers,
                "--jobs": numbers,
                "--json": flag,
            },
        ),
        "study status": argument_lists(["study", "status"], [STUDY_FILE], STUDY_OPTIONS),
        "report": argument_lists(
            ["report"],
            [st.sampled_from([RUN, PLAIN_RUN, "nowhere", ".", "study.yml", "studies/small"])],
            {"-o": paths, "--figures": paths, "--reps": st.one_of(st.sampled_from(["1", "2", "0"]), words)},
        ),
        "robustness": argument_lists(
            ["robustness"], [MODEL], LOADED | ONE_OF | {"--states": numbers, "--draws": numbers}
        ),
        "features": argument_lists(
            ["features"], [MODEL], LOADED | ONE_OF | {"--observations": numbers, "--draws": numbers}
        ),
        "push": argument_lists(["push"], [MODEL, REPOSITORY], PUSH),
        "pull": argument_lists(["pull"], [REPOSITORY], PULL),
        "no command": argument_lists([], [words], {"--help": flag, "--version": flag}),
    }
    made = [Surface(f"{name}, arguments", strategy, main) for name, strategy in lists.items()]
    zoo_words = st.one_of(st.sampled_from(["train", "enjoy", "hyperparams", "record_video", "Train"]), words)
    resume = argument_lists(
        ["train", "--resume"],
        [st.sampled_from([RUN, RUN, PLAIN_RUN, "nowhere", ".", "mdpo.zip"])],
        {"--device": devices, "--num-threads": numbers, "--verbose": numbers, "--progress": flag},
    )
    return [
        *made,
        Surface("zoo, arguments", st.lists(zoo_words, max_size=3), run_zoo),
        Surface("resume, arguments", resume, run_zoo),
    ]


def _file(name: str, file: str, strategy: Callable[..., SearchStrategy[Any]], *arguments: str, **more: Any) -> Surface:
    feed = more.pop("feed", None) or command(*arguments)
    return Surface(name, strategy(valid_files()[file], **more), feed, file)


def _saved() -> list[Surface]:
    grid = ("--env", GRID, "--levels", "20", "--device", "cpu")
    refusals = (ValueError, OSError, TypeError)
    model = model_files(valid_files()["mdpo.zip"])
    config, tensors = valid_files()["export/config.json"], plain_files(valid_files()["export/model.safetensors"])
    exported = yaml_files(config, from_bytes(config), to_export)
    return [
        Surface("MDPO.load", model, lambda _: MDPO.load("mdpo.zip", device="cpu"), "mdpo.zip", refusals),
        Surface("evaluate, saved model", model, command("evaluate", "mdpo.zip", *grid), "mdpo.zip"),
        _file("evaluate, model of PPO", "ppo.zip", model_files, "evaluate", "ppo.zip", *grid),
        *(
            Surface(f"from_export, {name}", damaged, lambda _: MDPO.from_export("export"), f"export/{name}", refusals)
            for name, damaged in (("config.json", exported), ("model.safetensors", tensors))
        ),
        Surface("load_ppo", model_files(valid_files()["ppo.zip"]), _load_member, "ppo.zip", refusals),
    ]


def _report(folder: str, *sections: str) -> Callable[[Any], None]:
    """What makes the report of a folder with some of its sections."""

    def run(_: Any) -> None:
        from sb3_mdpo.lab.report.sections import SECTIONS

        chosen = tuple(section for section in SECTIONS if section.anchor in sections)
        with patch("sb3_mdpo.lab.report.page.SECTIONS", chosen):
            main(["report", folder, "-o", "page.html", "--reps", "2"])

    return run


def _runs() -> list[Surface]:
    evaluate, push = ("evaluate", RUN, "--device", "cpu"), ("push", RUN, "a/b", "--device", "cpu")
    return [
        _file("run, args.yml", f"{SETTINGS}/args.yml", yaml_files, *evaluate, document=ARGS, wrap=ordered),
        _file("run, config.yml", f"{SETTINGS}/config.yml", yaml_files, *evaluate, document=CONFIG, wrap=ordered),
        _file("resume, args.yml", f"{SETTINGS}/args.yml", yaml_files, feed=_resume, document=ARGS, wrap=ordered),
        _file("resume, config.yml", f"{SETTINGS}/config.yml", yaml_files, feed=_resume, document=CONFIG, wrap=ordered),
        _file("resume, checkpoint", CHECKPOINT, plain_files, feed=_resume),
        _file("push, args.yml", f"{SETTINGS}/args.yml", yaml_files, *push, document=ARGS, wrap=ordered),
    ]


def _reports() -> list[Surface]:
    return [
        _file(f"report, {name}", f"{folder}/{file}", strategy, feed=_report(folder, *sections))
        for name, folder, file, strategy, sections in (
            ("command.txt", RUN, f"{GRID}/command.txt", plain_files, ["configuration"]),
            ("generalization.csv", RUN, "generalization.csv", csv_files, ["summary", "curves", "gap", "distillation"]),
            ("robustness.json", RUN, "robustness.json", json_files, ["robustness"]),
            ("features.json", RUN, "features.json", json_files, ["representation"]),
            ("monitor.csv", PLAIN_RUN, "0.monitor.csv", csv_files, ["summary", "curves"]),
            ("evaluations.npz", PLAIN_RUN, "evaluations.npz", plain_files, ["summary", "curves"]),
            ("results.csv", "results", "results.csv", csv_files, ["summary", "curves", "aggregates", "games"]),
        )
    ]


def _studies() -> list[Surface]:
    status, run, plan = (("study", action, "study.yml") for action in ("status", "run", "plan"))
    conf = yaml.safe_load(valid_files()[f"{STUDY_RUN}/run.yml"])
    return [
        _file("study file", "study.yml", yaml_files, *status, document=STUDY),
        _file("study, evaluations", f"{STUDY_RUN}/generalization.csv", csv_files, *status),
        _file("study, run.yml", f"{STUDY_RUN}/run.yml", yaml_files, *run, document=conf),
        _file("study plan, results.csv", "results/results.csv", csv_files, *plan, "--measured", "results"),
    ]


def _shared() -> list[Surface]:
    documents = {"args.yml": ARGS, "config.yml": SHARED_CONFIG, "env_kwargs.yml": {"num_levels": 20}}
    config, statistics = (valid_files()[f"snapshot/{name}"] for name in ("config.json", "vec_normalize.json"))
    return [
        *(
            _file(f"pull, {name}", f"snapshot/{name}", yaml_files, feed=pull_snapshot, document=document)
            for name, document in documents.items()
        ),
        _file("pull, metrics", "snapshot/train_eval_metrics.zip", plain_files, feed=pull_snapshot),
        _file("pull, export", "snapshot/model.safetensors", plain_files, feed=pull_snapshot),
        Surface(
            "pull, config.json",
            yaml_files(config, from_bytes(config), to_export),
            pull_snapshot,
            "snapshot/config.json",
        ),
        Surface("pull, statistics", json_files(statistics), pull_snapshot, "snapshot/vec_normalize.json"),
    ]


def _python() -> list[Surface]:
    return [
        Surface("hyperparameters", HYPERPARAMS, _make_model, refusals=(ValueError, TypeError)),
        Surface("schedules", st.text() | words, distill_coef_schedule, refusals=(ValueError,)),
    ]


@cache
def surfaces() -> dict[str, Surface]:
    """:return: all of them by name"""
    table = [*_commands(), *_studies(), *_runs(), *_reports(), *_saved(), *_shared(), *_python()]
    return {surface.name: surface for surface in table}
