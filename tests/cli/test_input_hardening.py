"""Damaged files and command lines end in a message and change nothing; what the documentation says they say is true."""

import io
import json
import re
import sys
import zipfile
from functools import partial
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings

from sb3_mdpo.cli.main import main
from sb3_mdpo.lab.report.data import _logged_returns
from sb3_mdpo.lab.statistics.results import read_csv
from sb3_mdpo.utils.terminal import CODE, LONGEST_MESSAGE, one_line
from sb3_mdpo.utils.yaml_files import MOST_VALUES, PlainLoader, read_mapping
from tests.support import workspace as files
from tests.support.inputs import NoFile, array_file, to_yaml
from tests.support.resources import RESET
from tests.support.surfaces import FILES, Outcome, Surface, Workspace, command, nothing_begins, surfaces
from tests.support.workspace import GRID, PLAIN_RUN, RUN, SETTINGS, valid_files, working_folder

EXAMPLES = settings(
    max_examples=10, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)
PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
ROW = re.compile(r"^\| (?P<case>[^|`]+) \| `(?P<command>[^`]+)` \| `(?P<message>[^`]+)` \|$", re.MULTILINE)
ROWS = list(ROW.finditer(PAGE.read_text()))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workspace")
    with working_folder(folder), nothing_begins():
        yield Workspace(folder)


@pytest.mark.parametrize("name", surfaces())
def test_damaged_input_ends_in_a_message(name, workspace):
    surface, findings = surfaces()[name], []

    @seed(0)
    @EXAMPLES
    @given(surface.inputs)
    def try_all(value):
        outcome = workspace.try_input(surface, value)
        if outcome.kind == "finding":
            findings.append((outcome.message, value))

    try_all()
    assert not findings


@pytest.mark.parametrize("name", FILES)
def test_valid_files_are_accepted(name, workspace):
    """Otherwise nothing would be known about what happens to damaged ones."""
    surface = surfaces()[name]
    assert workspace.try_input(surface, valid_files()[surface.file]) == Outcome("accepted")


def replaced(before: bytes, after: bytes):
    """What puts one text in another's place."""
    return lambda content: after.join(content.split(before))


# What the page calls it -> the file, None if it is the command that is wrong, and its content or what is done to it
CASES = {
    "a study file that is not YAML": ("study.yml", b"name: ["),
    "a study file that is not text": ("study.yml", b"\xff\xfe"),
    "no study file": ("study.yml", NoFile.MISSING),
    "a folder instead of a file": ("study.yml", NoFile.FOLDER),
    "a key twice": ("study.yml", replaced(b"jobs: 1", b"jobs: 1\njobs: 2")),
    "a key misspelt": ("study.yml", replaced(b"timesteps", b"timestep")),
    "a number that YAML reads as text": ("study.yml", replaced(b"timesteps: 2048", b"timesteps: 1e6")),
    "a fraction of a CPU or GPU that Ray cannot give": ("study.yml", replaced(b"gpus: 0.25", b"gpus: 1.5")),
    "a file that contains itself": ("study.yml", b"name: &a [*a]"),
    "an option out of range": (None, b""),
    "a changed run in a study": (f"{files.STUDY_RUN}/run.yml", b"{}"),
    "a study in the folder of another one": ("study.yml", replaced(b"- 3\n- 4", b"- 5\n- 6")),
    "a complete run that lost its model": (f"{files.STUDY_RUN}/{GRID}.zip", NoFile.MISSING),
    "a model cut short": ("mdpo.zip", lambda valid: valid[:1000]),
    "a model without its environment": (None, b""),
    "a device that does not exist": (None, b""),
    "a seed out of range": (None, b""),
    "a run with an empty args.yml": (f"{SETTINGS}/args.yml", b""),
    "a run whose args.yml lacks a setting": (f"{SETTINGS}/args.yml", b"algo: mdpo"),
    "a run without config.yml": (f"{SETTINGS}/config.yml", NoFile.MISSING),
    "a run whose normalize is not an expression": (f"{SETTINGS}/config.yml", b"normalize: dict("),
    "an empty table of evaluations": (f"{RUN}/generalization.csv", b""),
    "an analysis that is not JSON": (f"{RUN}/features.json", b"{"),
    "an empty monitor.csv": (f"{PLAIN_RUN}/0.monitor.csv", b""),
    "a run without checkpoints": (files.CHECKPOINT, NoFile.MISSING),
    "a checkpoint cut short, and no other": (files.CHECKPOINT, lambda valid: valid[:-1]),
    "an export without weights": ("export/model.safetensors", NoFile.MISSING),
    "an export cut short": ("export/model.safetensors", lambda valid: valid[:-1]),
    "a shared run whose settings name code": ("snapshot/config.yml", lambda valid: valid + b"env_wrapper: os.system"),
    "shared statistics that are not JSON": ("snapshot/vec_normalize.json", b"cos\nsystem"),
}


def test_page_has_all_cases():
    assert [row["case"] for row in ROWS] == list(CASES)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["case"])
def test_messages_are_those_of_the_page(row, workspace):
    file, content = CASES[row["case"]]
    surface = Surface(row["case"], command(row["command"]), file, refusals=(ValueError,))
    content = content(valid_files()[file]) if callable(content) else content
    assert workspace.try_input(surface, content) == Outcome("refused", row["message"])


MODEL = f"mdpo.zip --env {GRID}"
NO_FILE, NO_FOLDER, UNWRITABLE = "is a folder: give the name of a file", "is not a folder", "cannot be written"
# Command -> where it is told to write -> what is wrong with that
OUTPUTS = {
    f"evaluate {RUN}": {"export": NO_FILE, "a.txt": ".csv or .json", "mdpo.zip/a.csv": UNWRITABLE},
    f"robustness {RUN}": {"export": NO_FILE, "a.csv": "ends in .json", "mdpo.zip/a.json": UNWRITABLE},
    f"features {RUN}": {"mdpo.zip": NO_FOLDER, "mdpo.zip/a": UNWRITABLE},
    f"report {RUN}": {"export": NO_FILE, "a.pdf": ".html or .htm", "mdpo.zip/a.html": UNWRITABLE},
    f"report {RUN} --figures mdpo.zip": {"a.html": NO_FOLDER},
    f"export {RUN}": {"mdpo.zip": NO_FOLDER, "mdpo.zip/a": UNWRITABLE},
    f"export {RUN} --format onnx": {"export": NO_FILE, "mdpo.zip/a": UNWRITABLE},
    "study run study.yml": {"mdpo.zip": NO_FOLDER, "mdpo.zip/a": UNWRITABLE},
}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"evaluate {RUN} -o table.txt", "table.txt has no known format: use a name that ends in .csv or .json."),
        (f"evaluate {RUN} --levels 0", "train_levels=0 must be"),
        (f"evaluate {RUN} --env CartPole-v1", "leave the id out"),
        (f"evaluate {MODEL}", "does not store how many levels it was trained on: pass their number"),
        ("evaluate mdpo.zip --env CartPole-v1", "CartPole-v1 has no levels to choose from"),
        (f"evaluate {RUN}/generalization.csv --env {GRID}", "saved model"),
        ("evaluate nothing", "There is no folder"),
        ("evaluate logs", "run folder"),
        ("robustness mdpo.zip --env CartPole-v1", "CartPole-v1 has no levels"),
        (f"robustness {MODEL} --states 1", "1 state(s) give no interval: use at least 2"),
        (f"robustness mdpo.zip {MODEL} -o new.json", "Several models would be written to"),
        (f"features ppo.zip {MODEL}", "pass a folder to write to (-o)"),
        (f"features mdpo.zip {MODEL} -o out", "The same model twice"),
        (f"features ppo.zip {MODEL} --observations 2 -o out", "use at least 3 here"),
        (f"features {MODEL} --draws 2", "use at least 3 draws"),
        (f"features {PLAIN_RUN} --load-best", "There is no"),
        (f"features {RUN} -o study.yml", "study.yml is not a folder"),
        ("report nowhere", "There is no folder"),
        ("report export", "has no results.csv"),
        ("report export", "logs/mdpo/CartPole-v1_1"),
        ("report results --reps 0", "reps=0 must be at least 1"),
        *(  # before any of their work
            (f"{text} -o {output}", message) for text, outputs in OUTPUTS.items() for output, message in outputs.items()
        ),
        ("study plan study.yml --steps-per-second 0", "'0' is not a throughput"),
        ("study plan study.yml --steps-per-second mdpo=x", "'mdpo=x' is not a throughput: write 1500 or mdpo=1500"),
        ("study plan study.yml --steps-per-second nan", "'nan' is not a throughput"),
        ("study plan study.yml --steps-per-second ppo=5", "the throughput of mdpo is not known"),
        ("study plan study.yml --steps-per-second 5 ppo_l2=5", "the study has no method ppo_l2; it has mdpo"),
        ("study plan study.yml --measured nowhere", "nowhere has no results.csv"),
        ("study plan study.yml --measured nowhere --steps-per-second 5", "not allowed with"),
        ("study plan study.yml --machines 0", "'0' is not an integer of at least 1"),
        ("study run study.yml --address auto", "--address: only for Ray, add --engine ray"),
        ("study run study.yml --engine ray --jobs 2", "--jobs is for this machine"),
        ("study run study.yml --engine dask", "invalid choice: 'dask'"),
    ],
)
def test_impossible_arguments_end_in_a_message(text, message, workspace):
    outcome = workspace.try_input(Surface(text, command(f"sb3-mdpo {text}")), b"")
    assert outcome.kind == "refused"
    assert message in outcome.message


@pytest.mark.parametrize(
    "text",
    [
        *(f"evaluate {path}" for path in (RUN, MODEL)),
        *(f"{name} {path}" for name in ("features", "robustness") for path in (RUN, MODEL)),
        *(f"export {path} -o out" for path in (RUN, "mdpo.zip")),
        f"push {RUN} a/b --device cpu",
        f"report {RUN} -o page.html --reps 2",
    ],
)
def test_commands_say_that_models_can_execute_code(text, workspace, capsys, monkeypatch):
    """Before anything is unpickled, and in their help."""

    def stop(*_: object, **__: object) -> None:
        raise ValueError("unpickled")

    monkeypatch.setattr("yaml.UnsafeLoader.get_single_data", stop)
    monkeypatch.setattr("stable_baselines3.common.save_util.json_to_data", stop)
    with pytest.raises(SystemExit):
        main(text.split())
    note, error = capsys.readouterr().err.splitlines()
    assert note == f"Opening {text.split()[1]} {CODE}"
    assert "unpickled" in error
    with pytest.raises(SystemExit):
        main([text.split()[0], "--help"])
    assert CODE in " ".join(capsys.readouterr().out.split())


def test_nothing_is_said_of_what_does_not_exist(workspace, capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", "nowhere"])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("sb3-mdpo evaluate: There is no folder nowhere")


@pytest.mark.parametrize(
    ("text", "package", "extra"),
    [(f"features {MODEL}", "captum", "lab"), ("study run study.yml --engine ray", "ray", "distributed")],
)
def test_missing_packages_are_named(text, package, extra, workspace, monkeypatch):
    find_spec = "sb3_mdpo.utils.optional_dependencies.find_spec"
    monkeypatch.setattr(find_spec, lambda name: None if name == package else object())
    outcome = workspace.try_input(Surface(text, command(f"sb3-mdpo {text}")), b"")
    assert f"{package} is not installed: run pip install 'sb3-mdpo[{extra}]'" in outcome.message
    assert outcome.kind == "refused"


def test_messages_are_one_line_for_terminals():
    assert one_line("a\n  b\tc\x1b[31m\u2028d") == "a b c\\x1b[31m d"
    long = one_line("a" * 600 + "b" * 600)
    assert long == "a" * 500 + " [...] " + "b" * 500
    assert len(long) <= LONGEST_MESSAGE + len(" [...] ")


def saved_with(**settings: object) -> bytes:
    """The saved model of the workspace with other settings."""
    content = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(valid_files()["mdpo.zip"])) as old, zipfile.ZipFile(content, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, json.dumps(json.loads(data) | settings) if name == "data" else data)
    return content.getvalue()


FOUND = [  # by fuzzing, each of them once not refused, or not by a message that names the file
    ("resume, args.yml", to_yaml(files.ARGS | {3: "cpu"})),
    ("push, args.yml", to_yaml(files.ARGS | {"env": GRID.replace("-", "/")})),
    ("push, args.yml", to_yaml(files.ARGS | {"gym_packages": [""]})),
    ("run, config.yml", to_yaml(files.CONFIG | {"env_kwargs": {"num_levels": False}})),
    ("run, config.yml", to_yaml(files.CONFIG | {"env_kwargs": {"num_levels": -1}})),
    ("run, config.yml", to_yaml(files.CONFIG | {"env_kwargs": {"num_levels": 0}})),
    ("study plan, results.csv", b"\xff"),
    ("report, arguments", ["report", PLAIN_RUN, "--figures", "out"]),
    ("evaluate, saved model", partial(saved_with, n_policies="2 ")),
    ("MDPO.load", partial(saved_with, n_policies=[2])),
    ("hyperparameters", {"distill_coef": 10**400}),
    ("hyperparameters", {"policy": ["a.b", "a.b"]}),
]


@pytest.mark.parametrize(("surface", "found"), FOUND)
def test_what_was_found_is_refused(surface, found, workspace):
    found = found() if callable(found) else found
    assert workspace.try_input(surfaces()[surface], found).kind == "refused"


def test_numbers_that_would_end_the_process_are_text(tmp_path):
    """pandas issue 63089: its own reader of numbers is not to see them."""
    number = "4e492493924924"
    (tmp_path / "a.csv").write_text(f"kl\n{number}\n")
    assert read_csv(tmp_path / "a.csv")["kl"].tolist() == [number]
    (tmp_path / "0.monitor.csv").write_text(f'#{{"t_start": 1.0}}\nr,l,t\n{number},3,0.5\n')
    assert _logged_returns(tmp_path)["mean_return"].tolist() == []  # it is no finite return


@pytest.mark.parametrize(
    ("shape", "data"),
    [((2**34,), b""), ((2**40, 2**20), b""), ((2**30, 0), b""), ((2**26,), bytes(2**29))],
    ids=["more than memory", "more than addresses", "empty rows", "a lot of zeros"],
)
def test_report_names_evaluations_of_impossible_shapes(shape, data, workspace):
    content = array_file({"timesteps": ((2,), bytes(16)), "results": (shape, data)})
    outcome = workspace.try_input(surfaces()["report, evaluations.npz"], content)
    assert outcome.kind == "refused"
    assert "evaluations.npz cannot be read" in outcome.message


ALIASES = "\n".join(["k0: &k0 [x]", *(f"k{k}: &k{k} [{', '.join([f'*k{k - 1}'] * 8)}]" for k in range(1, 12))])

MERGES = "\n".join(["k0: &k0 {x: 1}", *(f"k{k}: &k{k} {{<<: [{', '.join([f'*k{k - 1}'] * 8)}]}}" for k in range(1, 9))])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 60 + "]" * 60, "a.yml is nested more than 50 levels deep"),
        ("[" * 1500, "a.yml is not YAML|a.yml is nested"),
        (ALIASES, f"a.yml has more than {MOST_VALUES} values"),
        (MERGES, f"a mapping has more than {MOST_VALUES} keys"),
        *((f"{key}: cpu", "a.yml has the key .*, which is not text") for key in ("true", "2026-01-01", "null")),
    ],
)
def test_yaml_that_is_deep_or_huge_or_has_odd_keys_is_refused(text, message, tmp_path):
    (tmp_path / "a.yml").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_mapping(tmp_path / "a.yml")


class Counted(str):
    """A text that counts how often texts like it are compared."""

    comparisons = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Counted.comparisons += 1
        return super().__eq__(other)


def test_keys_are_not_compared_with_all_those_before_them():
    """99,000 keys took minutes."""
    keys = [Counted(k) for k in range(1000)]
    pairs = [
        (yaml.ScalarNode("tag:yaml.org,2002:str", key), yaml.ScalarNode("tag:yaml.org,2002:str", "")) for key in keys
    ]
    assert len(PlainLoader("").construct_mapping(yaml.MappingNode("tag:yaml.org,2002:map", pairs))) == len(keys)
    assert Counted.comparisons < 10 * len(keys)


@pytest.mark.parametrize(
    ("surface", "kind", "message"),
    [
        (Surface("a traceback", lambda _: [][0]), "finding", "IndexError"),
        (Surface("nothing said", lambda _: sys.exit(2)), "finding", "no message"),
        (Surface("another exit code", lambda _: sys.exit(1)), "finding", "exit code 1"),
        (Surface("a file left", lambda _: Path("left").touch() or main(["pull", "a", "b"])), "finding", "left"),
        (Surface("another file", command("sb3-mdpo pull"), "study.yml"), "finding", "does not name study.yml"),
        (Surface("a refusal", command("sb3-mdpo pull")), "refused", "the following arguments are required"),
        (Surface("no refusal", lambda _: None), "accepted", ""),
    ],
    ids=lambda value: value.name if isinstance(value, Surface) else "",
)
def test_harness_knows_a_finding(surface, kind, message, workspace):
    outcome = workspace.try_input(surface, b"")
    assert outcome.kind == kind
    assert message in outcome.message
    assert workspace.snapshot() == workspace.pristine


ONLY_LINUX = pytest.mark.skipif(not RESET.exists(), reason="only Linux counts the memory of a part")


@pytest.mark.parametrize(("limit", "value"), [("SECONDS", 0.0), pytest.param("MEBIBYTES", 32, marks=ONLY_LINUX)])
def test_harness_knows_what_takes_too_much(limit, value, workspace, monkeypatch):
    surface = Surface("64 MiB", lambda _: bytearray(2**26))
    assert workspace.try_input(surface, b"").kind == "accepted"
    monkeypatch.setattr(f"tests.support.surfaces.{limit}", value)
    outcome = workspace.try_input(surface, b"")
    assert outcome.kind == "finding"
    assert re.fullmatch(r"takes 0 seconds and \d+ MiB: ", outcome.message)
