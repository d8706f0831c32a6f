"""What was never run on a GPU works in miniature on a CPU, and its checks can fail."""

import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch as th

ROOT = Path(__file__).parents[2]


def imported(name: str):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        return importlib.import_module(name)


gpu, checks, timings, setup = map(imported, ("gpu", "gpu_checks", "gpu_timings", "gpu_setup"))
SMALL = setup.Setup("cpu", miniature=True)
BUDGETED = setup.Setup("cpu", miniature=False)


@pytest.mark.expensive
def test_miniature_runs_every_part_and_names_what_needs_cuda(tmp_path):
    command = [sys.executable, "benchmarks/gpu.py", "--device", "cpu", "--miniature", "--folder", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert result.returncode == 0, result.stdout
    written = json.loads((tmp_path / "gpu.json").read_text())
    assert written["command"].startswith("python benchmarks/gpu.py --device cpu --miniature")
    assert written["versions"]["torch"] == th.__version__
    measured = written["measured"]
    assert (measured["device"], measured["seed"], measured["miniature"]) == ("cpu", 0, True)
    assert [part["part"] for part in measured["parts"]] == [part.name for part in gpu.PARTS]
    text = (tmp_path / "gpu.md").read_text()
    for part in measured["parts"]:
        assert part["error"] is None
        assert part["rows"]
        for row in part["rows"]:
            verdict = {True: "pass", None: ""}[row["passed"]]
            assert f"| {part['part']} | {row['what']} | {row['result']} | {verdict} |" in text
    skipped = {part["part"] for part in measured["parts"] for row in part["rows"] if "needs CUDA" in row["result"]}
    assert {
        "one process with NCCL",
        "CUDA graph, images",
        "MDPO(compile=True), images",
        "memory of an update",
    } < skipped
    assert skipped.isdisjoint({"parity with the authors' update", "exact resume", "iterations and overlap"})


def test_budgets_are_twenty_minutes_in_all():
    assert sum(part.budget + gpu.GRACE for part in gpu.PARTS) <= 20 * 60


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "there is no CUDA device"),
        (["--device", "cpu"], "takes hours without --miniature"),
        (["--parts", "magic"], "invalid choice: 'magic'"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(th.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        gpu.main()
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_copy_without_git_is_refused_before_anything_is_measured(monkeypatch, capsys):
    def no_git():
        raise subprocess.CalledProcessError(128, "git")

    monkeypatch.setattr(gpu, "commit", no_git)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--miniature"])
    with pytest.raises(SystemExit) as ended:
        gpu.main()
    assert ended.value.code == 2
    assert "this is not a git checkout: git init" in capsys.readouterr().err


# Parts that end in other ways


def fails(_):
    yield setup.Row("before", "1", True)
    raise RuntimeError("no such\nkernel | image")


def dies(_):
    yield setup.Row("before", "2", False)
    os.kill(os.getpid(), signal.SIGKILL)


def hangs(_):
    yield from ()
    signal.pause()


def works(_):
    yield setup.Row("after", "3")


@pytest.mark.expensive
def test_parts_that_fail_die_or_hang_do_not_stop_the_others(capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))  # processes() adds to it
    parts = [setup.Part(function.__name__, function, 0.5) for function in (fails, dies, hangs, works)]
    context = gpu.processes()
    outcomes = [gpu.outcome_of(part, BUDGETED if part.name == "hangs" else SMALL, context) for part in parts]
    assert [one.error for one in outcomes] == [
        "RuntimeError: no such\nkernel | image",
        "its process died",
        "longer than its budget of 0.5 s",
        None,
    ]
    assert [[row.result for row in one.rows] for one in outcomes] == [["1"], ["2"], [], ["3"]]
    assert "in fails" in outcomes[0].trace
    text = gpu.summary(outcomes, SMALL)
    assert "1 of 2 checks passed, 3 of 4 parts ended with an error" in text
    assert "| no such kernel \\| image | ERROR |".removeprefix("| ") in text
    assert "| dies | before | 2 | FAIL |" in text
    assert "dies: before: 2: FAIL" in capsys.readouterr().out
    assert [gpu.has_failed([one]) for one in outcomes] == [True, True, True, False]


def test_a_failed_check_is_enough_for_exit_code_1(monkeypatch, tmp_path):
    outcome = gpu.Outcome("dies", None, [setup.Row("check", "wrong", False)])
    monkeypatch.setattr(gpu, "outcome_of", lambda *_: outcome)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--miniature", "--folder", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        gpu.main()
    assert ended.value.code == 1


# Checks that fail


def test_tolerances_are_stated_and_kept():
    assert checks.within("", [1.0, 2.0], [1.0, 2.0001], 1e-4).passed
    row = checks.within("", [1.0, 2.0], [1.0, 2.001], 1e-4, 1e-5)
    assert not row.passed
    assert "(relative 0.0001, absolute 1e-05)" in row.result
    assert not checks.within("", np.nan, 1.0, 1e-4).passed


def test_parity_fails_where_losses_norms_gradients_or_changes_differ():
    update = checks.recorded_update(checks.recorded_model("cpu"))
    assert all(row.passed for row in checks.compared_with_record(update))
    other = {
        "metrics": 1.5 * update["metrics"],
        "gradients": [{name: 1.5 * gradient for name, gradient in one.items()} for one in update["gradients"]],
        "changes": [{name: 1.5 * change for name, change in one.items()} for one in update["changes"]],
    }
    assert not any(row.passed for row in checks.compared_with_record(other))


def test_trainings_of_different_seeds_are_not_the_same_bits():
    models = [setup.with_rollout(setup.vectors(setup.Setup("cpu", True, seed))) for seed in (0, 0, 1)]
    assert checks.same_bits(*models[:2])
    assert not checks.same_bits(*models[1:])


def test_waits_are_counted_by_line():
    numbers = th.arange(3.0)
    with checks.Waits(th.device("cpu")) as waits:
        numbers = (numbers + 1).cpu()
        numbers.sum().item()
        bool(numbers.any())
        numbers.nonzero()
    assert waits.at == {"elsewhere": 3}
    callback = checks.counted(setup.vectors(SMALL, n_envs=8, n_steps=8, batch_size=16))
    (actions, steps), (rollout, once) = callback.rollout[0].most_common()  # whether they are finite
    assert actions.startswith("sb3_mdpo/common/distributions.py:")
    assert rollout.startswith("sb3_mdpo/common/nonfinite.py:")
    assert (steps, once) == (8, 1)


def test_an_update_that_waits_is_found(monkeypatch):
    step = timings.minibatch_step
    monkeypatch.setattr("sb3_mdpo.mdpo.mdpo.minibatch_step", lambda *a, **k: step(*a, **k) * step(*a, **k).sum().item())
    rows = [row for row in checks.synchronizations(SMALL) if "minibatch" in row.what]
    assert [(row.passed, row.raw["waits"]) for row in rows] == [(False, 1.0)] * 3


def test_steps_that_differ_from_eager_ones_are_found(monkeypatch):
    monkeypatch.setattr(timings.StaticStep, "__call__", lambda self, minibatch: 1.1 * self.replay())
    losses, _ = timings.graph_of_vectors(SMALL)
    assert not losses.passed


def test_capturing_a_graph_leaves_the_model_as_it_was(monkeypatch):
    for name in ("Stream", "current_stream", "stream", "CUDAGraph", "graph"):  # capturing itself needs a GPU
        monkeypatch.setattr(th.cuda, name, MagicMock())
    model = setup.with_rollout(setup.vectors(SMALL))
    minibatch = next(model.rollout_buffer.get(model.batch_size))
    before = [tensor.clone() for tensor in timings.state_tensors(model)]
    eager, states = timings.eager_step(model), []

    def step(samples):
        metrics = eager(samples)
        states.append([tensor.clone() for tensor in timings.state_tensors(model)])
        return metrics

    model.device = th.device("cuda")
    static = timings.StaticStep(model, step, minibatch)
    assert [all(map(th.equal, state, before)) for state in states] == [False] * 4  # three to warm up, one is captured
    assert all(map(th.equal, timings.state_tensors(model), before))
    static(minibatch)
    static.graph.replay.assert_called_once_with()
    assert len(states) == 4
