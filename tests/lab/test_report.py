"""sb3-mdpo report: its page in a real browser, its figures, and what it refuses."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from sb3_mdpo._version import __version__
from sb3_mdpo.cli.main import main
from sb3_mdpo.lab.report.data import read_report_data
from sb3_mdpo.lab.report.formatting import Number
from sb3_mdpo.lab.report.method_style import COLORS, method_styles
from sb3_mdpo.lab.report.page import SECTIONS, make_page
from sb3_mdpo.lab.report.tables import write_tables
from sb3_mdpo.lab.statistics.aggregates import aggregate_scores, probability_of_improvement
from sb3_mdpo.lab.statistics.scores import final_scores, score_matrices
from tests.support import tiny_studies
from tests.support.browser import PHONE, WIDE, open_page, start_browser
from tests.support.commands import run as run_command
from tests.support.results import BIGFISH, COINRUN, STEPS, synthetic_features, synthetic_results, synthetic_robustness
from tests.support.tiny_studies import GRID

REPS, TASK = 50, f"{BIGFISH}, 500 levels"
HOSTILE = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"


@pytest.fixture(scope="module")
def browser():
    with start_browser() as started:
        yield started


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A study of one short run, of two policies."""
    folder = tmp_path_factory.mktemp("trained")
    tiny_studies.write(folder / "tiny.yml", num_levels=[20], methods=["mdpo"], seeds=[3])
    result = run_command("sb3-mdpo study run tiny.yml", cwd=folder)
    assert result.returncode == 0, result.stderr[-3000:]
    return folder / "studies" / "tiny"


def run_folder(trained: Path) -> Path:
    return next(path for path in trained.iterdir() if path.name.startswith(GRID))


def write_study(folder: Path, results: pd.DataFrame) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    results.to_csv(folder / "results.csv", index=False)
    return folder


def add_analyses(study: Path, results: pd.DataFrame) -> None:
    """robustness.json, features.json and saliency.png of every run, whose folder is made for them."""
    runs, end = results[["run", "method", "env_id", "seed"]].drop_duplicates(), int(results["timesteps"].max())
    for run in runs.itertuples():
        settings = study / run.run / run.env_id
        settings.mkdir(parents=True)
        for name, text in {"args.yml": "algo: mdpo", "config.yml": "gamma: 0.999", "command.txt": "train it"}.items():
            (settings / name).write_text(f"{text} # {run.seed}\n")
        policies = ["policy 0", "policy 1"]
        level = 0.1 + 0.1 * list(results["method"].unique()).index(run.method)
        (settings.parent / "robustness.json").write_text(json.dumps(synthetic_robustness(policies, level, end)))
        (settings.parent / "features.json").write_text(json.dumps(synthetic_features(policies, level, end)))
        Image.new("RGB", (40, 20), "#88aacc").save(settings.parent / "saliency.png")


def one_run(folder: Path, **changes) -> Path:
    """A study of one run that was evaluated once, with its analyses."""
    results = synthetic_results(methods=["ppo"], seeds=[0], env_ids=[BIGFISH], steps=[100])
    study = write_study(folder / "study", results.assign(**changes))
    if not changes:
        add_analyses(study, results)
    return study


def count_colors(picture: Path) -> int:
    with Image.open(picture) as image:
        assert min(image.size) > 100
        return len(image.convert("RGB").getcolors(1 << 24))


def report(folder: Path, output: Path, *options: str) -> Path:
    main(["report", str(folder), *options, "-o", str(output), "--reps", str(REPS)])
    return output


@pytest.fixture(scope="module")
def complete(tmp_path_factory) -> tuple[Path, pd.DataFrame]:
    """The page of a study that has everything but models, and the study's table."""
    folder, results = tmp_path_factory.mktemp("complete"), synthetic_results()
    study = write_study(folder / "study", results)
    (study / "study.yml").write_text("name: synthetic # as asked for")
    add_analyses(study, results)
    more = ("--figures", str(folder / "figures"), "--tables", str(folder / "tables"))
    report(study, folder / "report.html", *more)
    return folder / "report.html", results


@pytest.fixture(scope="module")
def page(browser, complete):
    """The complete page, open for all tests that only look at it."""
    with open_page(browser, complete[0]) as opened:
        yield opened


def rows_of(page, section: str, place: int = 0) -> list[list[str]]:
    """The texts of a table's cells."""
    table = page.locator(f"#{section} table").nth(place)
    return table.evaluate("table => [...table.rows].map(row => [...row.cells].map(cell => cell.textContent))")


def traces(page, chart: str) -> list[dict]:
    """The traces drawn by plotly, without bands."""
    every = page.evaluate(
        "id => document.getElementById(id).data.map(t => ({name: t.name, x: t.x, y: t.y, fill: t.fill || '', "
        "symbol: t.marker ? t.marker.symbol : '', text: t.mode.includes('text') ? t.text : '', "
        "color: (t.line && t.line.color) || (t.marker && t.marker.color), "
        "dash: t.line ? t.line.dash || '' : ''}))",
        chart,
    )
    return [trace for trace in every if not trace["fill"]]


def trace_of(page, chart: str, name: str) -> dict:
    return next(trace for trace in traces(page, chart) if trace["name"] == name)


def test_summary_and_curves_show_the_table(page):
    assert page.title() == "synthetic"
    facts = dict(rows_of(page, "summary"))
    shown = [facts[key] for key in ("methods", "seeds", "runs")]
    assert shown == ["mdpo, independent, ppo", "0, 1, 2", "18"]
    assert ["mdpo", "6", "2,000", "1,000", "12,000", "40"] in rows_of(page, "summary", 1)
    unseen, training = (trace for trace in traces(page, "chart-curves-0") if trace["name"].startswith("mdpo"))
    assert unseen["x"] == list(STEPS)
    assert unseen["y"] == pytest.approx([40 * (0.6 * step / 2000 + 0.01) for step in STEPS])
    assert training["y"] == pytest.approx([y + 8 for y in unseen["y"]])


def test_menu_changes_the_horizontal_axis(page):
    chart = page.locator("#chart-curves-1")
    for label, per_step in (("steps per policy", 0.5), ("images trained on", 6), ("seconds", 1 / 50)):
        chart.locator(".updatemenu-header").click()
        chart.locator(".updatemenu-dropdown-button", has_text=label).click()
        chart.locator(".xtitle", has_text=label).wait_for()
        assert traces(page, "chart-curves-1")[0]["x"] == pytest.approx([step * per_step for step in STEPS])


def test_comparison_shows_the_estimates(page, complete):
    _, results = complete
    scores = final_scores(results)
    matrices = score_matrices(scores[scores["policies"] == "members"])
    table = rows_of(page, "aggregates")
    assert table[0] == ["method", "IQM", "median", "mean", "optimality gap"]
    estimates = aggregate_scores(matrices, REPS)
    for row in estimates.itertuples():
        cells = next(cells for cells in table if cells[0] == row.method)
        assert str(Number(row.estimate, low=row.low, high=row.high)) in cells
    drawn = {(trace["y"][0], round(trace["x"][0], 6)) for trace in traces(page, "chart-aggregates")}
    assert drawn == {(row.method, round(row.estimate, 6)) for row in estimates.itertuples()}
    assert [row[0] for row in rows_of(page, "aggregates", 1)[1:]] == ["mdpo", "independent"]  # which have ensembles
    iqm = trace_of(page, "chart-efficiency", "ppo")
    assert iqm["y"] == pytest.approx([0.3 * step / 2000 + 0.01 for step in STEPS])
    assert rows_of(page, "improvement")[1:] == [
        [row.method, row.other, f"{row.probability:.2f}"]  # three seeds are too few for an interval
        for row in probability_of_improvement(matrices, "mdpo").itertuples()
    ]
    profile = trace_of(page, "chart-profiles", "mdpo")
    above = dict(zip(np.round(profile["x"], 2), profile["y"], strict=True))
    assert (above[0.0], above[0.5], above[0.6], above[0.7]) == pytest.approx((1, 1, 1 / 3, 0))


def test_games_gap_and_distance_show_the_table(page):
    games = {tuple(row[:3]): row[3:] for row in rows_of(page, "games")}
    head = games["environment", "method", "policies"]
    mdpo = dict(zip(head, games[TASK, "mdpo", "members"], strict=True))
    assert [mdpo[key] for key in ("unseen return", "training return")] == ["23.80 \u00b1 0.40", "31.80 \u00b1 0.40"]
    assert not [
        title for title in head if "paper" in title or "authors" in title
    ]  # nothing is published on so few steps
    assert [TASK, "ppo", "members", "8.00"] in rows_of(page, "gap")
    assert traces(page, "chart-gap-0")[0]["y"] == pytest.approx([8] * len(STEPS))
    assert [TASK, "mdpo", "0.0125 \u00b1 0.0000"] in rows_of(page, "distillation")
    distance = traces(page, "chart-distillation-0")
    assert [trace["name"] for trace in distance] == ["mdpo", "independent"]
    assert distance[0]["y"] == pytest.approx([0.5 * (1 - step / 2000) for step in STEPS])


def test_spread_and_differences_show_the_table(page):
    head = ["environment", "method", "policies", "levels", "return"]
    spread = rows_of(page, "games", 2)
    assert spread[0] == [*head, "between runs", "between members", "error over episodes"]
    # Scores of 0.585 + 0.01 * seed times 40; Student's quantile is 4.3027, and 8 is the distance of two members
    assert [TASK, "mdpo", "members", "unseen", "23.80 (22.81 to 24.79)", "0.40", "5.66", "0.10"] in spread
    assert [TASK, "ppo", "members", "training", "20.10 (19.11 to 21.09)", "0.40", "", "0.10"] in spread
    head, *differences = rows_of(page, "games", 1)
    assert head == ["environment", "method", "minus", "policies", "seeds", "unseen return", "training return", "gap"]
    assert [TASK, "mdpo", "ppo", "members", "3", "11.70", "11.70", "0.00"] in differences


def test_analyses_show_what_the_runs_hold(page):
    # Two policies in each of three runs, in each environment: the mean KL is 0.1 + 0.3 and 0.01 more
    cells = next(row for row in rows_of(page, "robustness") if row[:4] == [TASK, "brightness", "0.3", "mdpo"])
    assert cells[4] == "3"
    shown = [float(cell.split()[0]) for cell in cells[5:]]
    assert shown == pytest.approx([0.2025, 0.405, 0.615, 1.0], abs=6e-4)  # also divided by 0.5; maximum; entropy
    assert trace_of(page, "chart-robustness-3", "ppo")["y"] == pytest.approx([0.2025, 0.3025])
    cells = next(row for row in rows_of(page, "representation") if row[:2] == [TASK, "independent"])
    assert [cells[2], cells[5]] == ["3", "64"]
    assert [float(cell.split()[0]) for cell in cells[3:5]] == pytest.approx([0.205, 12.5])
    cells = next(row for row in rows_of(page, "representation", 1) if row[:2] == [TASK, "mdpo"])
    assert cells[2:4] == ["members of a run", "3"]
    assert float(cells[4].split()[0]) == 0.875
    assert len(traces(page, "chart-tsne-0")) == 4
    pictures, configuration = page.locator("#representation img"), page.locator("#configuration")
    assert pictures.count() == 3
    assert pictures.first.evaluate("image => image.naturalWidth") == 40
    configuration.locator("summary", has_text="All commands (18)").click()
    assert page.get_by_text("train it # 2").first.is_visible()
    assert "as asked for" in configuration.text_content()
    assert "gamma: 0.999 # 0" in configuration.text_content()
    assert "No frames of mdpo" in page.locator("#frames .note").first.text_content()


def test_methods_look_the_same_in_all_charts(page):
    for chart in ("chart-curves-0", "chart-efficiency", "chart-profiles", "chart-gap-1", "chart-robustness-0"):
        colors = {trace["name"].split(",")[0]: trace["color"] for trace in traces(page, chart)}
        assert colors == {"mdpo": COLORS[0], "independent": COLORS[1], "ppo": COLORS[2]}, chart
    # Colors that come again come with another mark
    names = [f"method {k}" for k in range(2 * len(COLORS))]
    assert len({(style.color, style.symbol) for style in method_styles(names).values()}) == len(names)


def test_published_curves_are_drawn_as_far_as_the_study_reaches(browser, tmp_path):
    steps = [1_000_000 * k for k in range(5)]  # of all policies together
    results = synthetic_results(steps=steps, env_ids=[BIGFISH]).replace({"independent": "ppo_2x_data"})
    path = report(write_study(tmp_path / "study", results), tmp_path / "report.html", "--figures", str(tmp_path / "f"))
    names = ["ppo (MDPO paper)", "mdpo (MDPO paper)", "ppo (Procgen authors)"]
    with open_page(browser, path) as page:
        published = [trace for trace in traces(page, "chart-curves-0") if trace["name"].split(", ")[0] in names]
        assert [(trace["name"], trace["dash"]) for trace in published] == [
            each for name in names for each in ((name, "dot"), (f"{name}, training", "dashdot"))
        ]
        ends = {trace["name"]: (trace["x"][-1], trace["y"][-1]) for trace in published if trace["dash"] == "dot"}
        # ppo of the study has one policy; mdpo's two policies made 2,000,000 steps each
        assert ends == {names[0]: (4e6, 0.09), names[1]: (4e6, 0.11), names[2]: (4e6, 0.25)}
        (gap,) = (trace for trace in traces(page, "chart-gap-0") if trace["name"] == names[1])
        assert gap["y"][-1] == pytest.approx(0.27 - 0.11)
        for name in names:
            assert page.locator("#chart-curves-0 .legendtext", has_text=name).count() == 1
        head, *rows = rows_of(page, "games")
        assert head[-2:] == ["MDPO paper, unseen return", "Procgen authors, unseen return"]
        shown = {(row[1], row[2]): row[-2:] for row in rows}
        assert shown["mdpo", "members"] == ["0.11", ""]
        assert shown["mdpo", "ensemble"] == ["", ""]
        assert shown["ppo", "members"] == ["0.09", "0.25"]
        drawn = [trace for trace in traces(page, "chart-games") if trace["name"] in names]
        marks = {(trace["name"], *mark) for trace in drawn for mark in zip(trace["y"], trace["x"], strict=True)}
        # ppo_2x_data has made as many steps per policy as mdpo
        assert marks == {
            *((names[0], "ppo", 0.09), (names[2], "ppo", 0.25), (names[1], "mdpo", 0.11)),
            *((names[0], "ppo_2x_data", 0.11), (names[2], "ppo_2x_data", 0.22)),
        }
        assert sorted(page.locator("#chart-games .legendtext").all_text_contents()) == sorted(names)
        page.locator("#chart-curves-0 .updatemenu-header").click()
        page.locator("#chart-curves-0 .updatemenu-dropdown-button", has_text="steps per policy").click()
        page.locator("#chart-curves-0 .xtitle", has_text="steps per policy").wait_for()
        assert trace_of(page, "chart-curves-0", names[1])["x"][-1] == 2e6
    assert count_colors(tmp_path / "f" / "learning_curves.png") > 3


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["1400 pixels", "390 pixels"])
def test_the_page_fits_the_screen_and_its_contents_stay_reachable(browser, complete, viewport):
    with open_page(browser, complete[0], viewport) as page:
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        beyond = "([...document.querySelectorAll('h1, h2, h3, p, .scroll, figure, .chart svg.main-svg')]"
        beyond += ".filter(part => part.getBoundingClientRect().right > innerWidth).length)"
        assert page.evaluate(beyond) == 0
        widths = page.evaluate("[...document.querySelectorAll('.chart svg.main-svg')].map(svg => svg.clientWidth)")
        assert widths
        assert min(widths) > 200
        boxes = "[...document.querySelectorAll('section > .scroll')]"
        cut = page.evaluate(f"{boxes}.filter(box => box.scrollWidth > box.clientWidth).length")
        assert (cut > 0) == (viewport is PHONE)  # there tables scroll in their own boxes
        for section in SECTIONS:
            page.locator(f"nav a[href='#{section.anchor}']").click()
            page.wait_for_function(
                "anchor => document.getElementById(anchor).getBoundingClientRect().top < innerHeight",
                arg=section.anchor,
            )
            top, bottom = page.evaluate(
                "(({top, bottom}) => [top, bottom])(document.querySelector('nav').getBoundingClientRect())"
            )
            assert 0 <= top < bottom <= viewport["height"]


def test_every_figure_says_how_many_seeds_it_shows_and_what_its_bands_are(page):
    captions = page.locator("figure figcaption").all_text_contents()
    assert len(captions) == page.locator("figure").count() == page.locator(".chart, figure img").count() > 20
    for caption in captions:
        assert re.search(r"\bn = \d+ (seeds?|policies)\b", caption), caption
        assert re.search(r"standard deviation|95 % intervals|lowest to highest|[Nn]o bands", caption), caption
    sample = "n = 3 seeds of each method; 10 episodes per policy and set of levels in an evaluation. "
    shown = {
        anchor: page.locator(f"#{anchor} .chart figcaption").first.text_content() for anchor in ("gap", "profiles")
    }
    assert shown["gap"] == f"{sample}Bands and bars: \u00b1 one standard deviation over seeds."
    assert shown["profiles"].startswith(f"{sample}Bands and bars: 95 % intervals over seeds")


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (Number(0.33681, deviation=0.07812), "0.337 \u00b1 0.078"),
        (Number(1234.5678, deviation=123.4), "1,235 \u00b1 123"),
        (Number(5.76, low=5.41, high=6.02), "5.76 (5.41 to 6.02)"),
        (Number(0.0125, 4, deviation=0.0), "0.0125 \u00b1 0.0000"),
        (Number(0.16, deviation=0.00999999), "0.160 \u00b1 0.010"),
        (Number(-0.5, 3), "-0.500"),
        (Number(0.00000123, deviation=0.00000001), "0.0000 \u00b1 0.0000"),
    ],
)
def test_numbers_have_the_digits_that_their_uncertainty_allows(number, shown):
    assert str(number) == shown


def test_tables_are_there_for_other_programs_and_for_papers(page, complete):
    folder = complete[0].parent / "tables"
    tables = {path.stem for path in folder.glob("*.csv")}
    assert tables == {path.stem for path in folder.glob("*.tex")}
    assert len(tables) == page.locator("table").count()
    games = pd.read_csv(folder / "games.csv").set_index(["environment", "method", "policies"])
    mdpo = games.loc[TASK, "mdpo", "members"]
    assert mdpo[["unseen return", "unseen return SD"]].tolist() == pytest.approx([23.8, 0.4])
    scores = pd.read_csv(folder / "aggregates.csv").set_index("method").loc["mdpo"]
    assert scores["IQM low"] <= scores["IQM"] <= scores["IQM high"]
    for name, rows in {"games": rows_of(page, "games"), "aggregates": rows_of(page, "aggregates")}.items():
        begin, top, head, middle, *body, bottom, end, _ = (folder / f"{name}.tex").read_text().split("\n")
        assert re.fullmatch(r"\\begin\{tabular\}\{l+r+\}", begin)
        assert [top, middle, bottom, end] == [r"\toprule", r"\midrule", r"\bottomrule", r"\end{tabular}"]
        lines = [line.removesuffix(r" \\").split(" & ") for line in (head, *body)]
        assert [[cell.replace(r"$\pm$", "\u00b1") for cell in line] for line in lines] == rows


def test_tables_escape_what_latex_would_execute(tmp_path):
    names = [r"\input{/etc/passwd}", "50 % & more\n\n#1", "$x_0^2$ ~{a}"]
    table = pd.DataFrame({"a_b": names, "x": [Number(-1.5, deviation=0.25), "", Number(2.0)], "n": [1, 2, 3]})
    write_tables({"odd": table}, tmp_path)
    *_, first, second, third, _, _, _ = (tmp_path / "odd.tex").read_text().split("\n")
    assert first == r"\textbackslash input\{/etc/passwd\} & $-$1.50 $\pm$ 0.25 & 1 \\"
    assert second == r"50 \% \& more \#1 &  & 2 \\"
    assert third == r"\$x\_0\textasciicircum 2\$ \textasciitilde \{a\} & 2.00 & 3 \\"
    assert r"a\_b & x & n \\" in (tmp_path / "odd.tex").read_text()
    back = pd.read_csv(tmp_path / "odd.csv")
    assert back["a_b"].tolist() == names
    assert back.columns.tolist() == ["a_b", "x", "x SD", "n"]


def test_ppo_is_marked_where_only_ppo_2x_data_was_trained(browser, tmp_path):
    results = synthetic_results(env_ids=[BIGFISH]).replace({"ppo": "ppo_2x_data"})
    study = write_study(tmp_path / "study", results)
    path = report(study, tmp_path / "report.html", "--figures", str(tmp_path / "figures"))
    row = [TASK, "ppo (first half of ppo_2x_data)", "members", "3", "6.40 \u00b1 0.40", "0.160 \u00b1 0.010"]
    with open_page(browser, path) as page:
        marked = [trace for trace in traces(page, "chart-curves-0") if trace["text"]]
        assert [(trace["text"], trace["x"]) for trace in marked] == [("ppo", [1000])]
        assert marked[0]["y"] == pytest.approx([40 * (0.3 * 0.5 + 0.01)])
        assert page.locator("#chart-curves-0 .textpoint", has_text="ppo").count() == 1
        assert row in [cells[: len(row)] for cells in rows_of(page, "games")]
    for rest in (results.replace({"independent": "ppo"}), results[results["timesteps"] > 1000]):
        with open_page(browser, report(write_study(study, rest), path)) as page:
            assert not [trace for trace in traces(page, "chart-curves-0") if trace["text"]]
            assert not [cells for cells in rows_of(page, "games") if "first half" in cells[1]]


def test_figures_are_there_for_print_and_screen(complete):
    files = sorted((complete[0].parent / "figures").iterdir())
    names = ["aggregates", "gap", "inter_policy_kl", "learning_curves", "performance_profiles"]
    names += ["probability_of_improvement", "sample_efficiency"]
    assert [file.name for file in files] == [f"{name}.{kind}" for name in names for kind in ("pdf", "png")]
    for file in files:
        if file.suffix == ".pdf":
            assert file.read_bytes().startswith(b"%PDF")
        else:
            assert count_colors(file) > 3  # something is drawn


def test_the_same_data_make_the_same_page(complete):
    path, _ = complete
    html = path.read_text()
    (made,) = re.findall(r"<footer>sb3-mdpo (\S+, \d{4}-\d\d-\d\d)</footer>", html)
    assert made.startswith(__version__)
    assert make_page(read_report_data(path.parent / "study", REPS)).html(made) == html


def test_names_from_files_are_text(browser, tmp_path):
    results = synthetic_results(methods=["mdpo", "independent"], seeds=[0, 1], env_ids=[BIGFISH], steps=[100, 200])
    results = results.replace({"independent": HOSTILE, "synthetic": HOSTILE})
    results["run"] = results["run"].str.replace("independent", "other")
    study = write_study(tmp_path / "study", results)
    add_analyses(study, results)
    for file in study.rglob("*.json"):
        file.write_text(file.read_text().replace("policy 1", HOSTILE).replace("no background", HOSTILE))
    for file in study.rglob("*.txt"):
        file.write_text(f"</pre>{HOSTILE}")
    with open_page(browser, report(study, tmp_path / "report.html")) as page:
        assert page.evaluate("window.hacked") is None
        assert page.title() == HOSTILE
        assert HOSTILE in [row[0] for row in rows_of(page, "aggregates")]
        assert page.locator("#chart-curves-0 .legendtext", has_text="<script>window.hacked").count() == 1


def test_sections_with_nothing_to_show_say_what_to_do(browser, tmp_path):
    results = synthetic_results(methods=["ppo"], env_ids=[BIGFISH])
    path = report(write_study(tmp_path / "study", results), tmp_path / "report.html")
    with open_page(browser, path) as page:
        hints = {section.anchor: page.locator(f"#{section.anchor} .hint").all_text_contents() for section in SECTIONS}
        hints = {anchor: texts for anchor, texts in hints.items() if texts}
        assert {"improvement", "distillation", "robustness", "representation", "frames", "configuration"} == set(hints)
        assert "sb3-mdpo robustness RUN" in hints["robustness"][0]
        assert "sb3-mdpo features RUN" in hints["representation"][0]
        assert all("sb3-mdpo" in hint[0] for hint in hints.values())
        assert page.evaluate("[...document.querySelectorAll('.plotly-graph-div')].every(div => div.data.length)")


@pytest.mark.parametrize(
    ("seeds", "lacking", "note"),
    [
        ((4,), None, "1 seed(s) give no interval"),
        ((0, 1), ("ppo", 1), "ppo on procgen-bigfish-hard-v0, 500 levels lacks"),
    ],
)
def test_too_few_runs_show_a_note_instead_of_intervals(browser, tmp_path, seeds, lacking, note):
    results = synthetic_results(seeds=seeds, env_ids=[BIGFISH], steps=[100, 200])
    if lacking:
        results = results[(results["method"] != lacking[0]) | (results["seed"] != lacking[1])]
    path = report(write_study(tmp_path / "study", results), tmp_path / "report.html", "--figures", str(tmp_path / "f"))
    with open_page(browser, path) as page:
        assert note in page.locator("#aggregates .note").text_content()
        row = ["mdpo", *[f"{0.6 + 0.01 * seeds[0]:.2f}"] * 2]
        assert row in rows_of(page, "aggregates")
        shown = [page.locator(part).count() for part in ("#improvement .hint", "#profiles .chart", "#games .chart")]
        assert shown == [1, 0, 1]
    assert not (tmp_path / "f" / "aggregates.png").exists()
    assert (tmp_path / "f" / "learning_curves.png").exists()


@pytest.mark.parametrize(
    ("n_seeds", "probability"), [(3, "1.00"), (5, "1.00 (0.57 to 1.00)"), (10, "1.00 (0.72 to 1.00)")]
)
def test_intervals_of_one_environment_need_five_seeds(browser, tmp_path, n_seeds, probability):
    results = synthetic_results(["mdpo", "ppo"], range(n_seeds), [BIGFISH], steps=[100, 200])
    path = report(write_study(tmp_path / "study", results), tmp_path / "report.html", "--figures", str(tmp_path / "f"))
    with open_page(browser, path) as page:
        assert rows_of(page, "improvement")[1:] == [["mdpo", "ppo", probability]]
        captions = page.locator("#improvement figcaption, #profiles figcaption").all_text_contents()
        assert len(captions) == 2
        assert all(("95 % intervals" in caption) == (n_seeds >= 5) for caption in captions)
        assert all(("No bands or bars: too few seeds" in caption) == (n_seeds == 3) for caption in captions)
        note = page.locator("#aggregates .note").all_text_contents()
        assert note == ([] if n_seeds >= 5 else ["No intervals: 3 seeds are too few."])
        head, *rows = rows_of(page, "aggregates")
        assert head == ["method", "IQM", "mean"]
        assert all("to" in row[1] for row in rows) == (n_seeds >= 5)
        assert traces(page, "chart-profiles")
        assert "nan" not in page.locator("body").inner_text().lower().split()
    assert count_colors(tmp_path / "f" / "probability_of_improvement.png") > 3


def test_returns_that_cannot_be_averaged_are_not(browser, tmp_path):
    results = synthetic_results().replace({BIGFISH: "One-v0", COINRUN: "Another-v0"})  # without ranges of scores
    results[["unseen_normalized", "training_normalized"]] = np.nan
    path = report(write_study(tmp_path / "study", results), tmp_path / "report.html")
    with open_page(browser, path) as page:
        assert "not normalised" in page.locator("#aggregates .note").text_content()
        assert page.locator("#aggregates table").count() == 0


def test_a_study_that_was_run_shows_its_policies_at_play(browser, trained, tmp_path):
    path = report(trained, tmp_path / "report.html")
    with open_page(browser, path) as page:
        assert f"{GRID}, 20 levels" in dict(rows_of(page, "summary"))["environments"]
        members = pd.read_csv(trained / "results.csv").query("policy != 'ensemble'")
        unseen = members.groupby("timesteps")["unseen_return"].mean()
        drawn = traces(page, "chart-curves-0")[0]
        assert drawn["x"] == unseen.index.tolist()
        assert drawn["y"] == pytest.approx(unseen.tolist())
        strip = page.locator("#frames img")
        assert strip.evaluate("image => image.naturalWidth") > 800
        configuration = page.locator("#configuration").text_content()
        assert "n_envs" in configuration
        assert "--algo mdpo" in configuration
        assert f"sb3-mdpo robustness {run_folder(trained)}" in page.locator("#robustness .hint").text_content()
    frames = run_folder(trained) / "frames.png"
    assert count_colors(frames) > 10
    drawn_at = frames.stat().st_mtime_ns
    report(trained, path)
    assert frames.stat().st_mtime_ns == drawn_at  # kept
    os.utime(frames, (0, 0))
    report(trained, path)
    assert frames.stat().st_mtime_ns > drawn_at  # older than the model


def test_a_run_of_the_zoo_has_a_page_too(browser, trained, tmp_path):
    run = shutil.copytree(run_folder(trained), tmp_path / run_folder(trained).name)
    with open_page(browser, report(run, tmp_path / "report.html")) as page:
        assert page.title() == run.name
        assert dict(rows_of(page, "summary"))["seeds"] == "3"
        assert "1 seed(s) give no interval" in page.locator("#aggregates .note").text_content()
    (run / "generalization.csv").unlink()
    with open_page(browser, report(run, tmp_path / "report.html")) as page:
        assert f"One run on {GRID}, seed 3." in page.locator("#summary").text_content()
        episodes = pd.read_csv(run / "monitor.csv", skiprows=1)
        curve = traces(page, "chart-curves-0")[0]
        assert curve["name"].startswith("training")
        assert curve["x"][-1] == episodes["l"].sum()
        assert page.locator("#games .hint").count() == 1
    with pytest.raises(SystemExit):
        report(run, tmp_path / "report.html", "--figures", str(tmp_path / "figures"))


def test_a_run_of_a_study_is_of_the_method_that_the_study_says(browser, tmp_path):
    results = synthetic_results(methods=["independent", "ppo"], seeds=[0], env_ids=[BIGFISH], steps=[100])
    study = write_study(tmp_path / "study", results)
    add_analyses(study, results)
    run = study / results[results["method"] == "ppo"]["run"].iloc[0]
    args = {"algo": "mdpo", "env": BIGFISH, "env_kwargs": None, "gym_packages": [], "seed": 0}
    (run / BIGFISH / "args.yml").write_text(yaml.safe_dump(args))
    (run / f"{BIGFISH}.zip").write_bytes(b"")
    with open_page(browser, report(run, tmp_path / "report.html")) as page:
        assert page.title() == run.name
        assert dict(rows_of(page, "summary"))["methods"] == "ppo"
        assert {row[1] for row in rows_of(page, "games")[1:]} == {"ppo"}


MINIMAL = ["env_id", "num_levels", "method", "seed", "timesteps", "policy", "training_return", "unseen_return"]


def test_studies_and_tables_of_others_have_one_page(browser, tmp_path):
    first, second = (synthetic_results(methods, env_ids=[BIGFISH]) for methods in (["mdpo", "ppo"], ["mdpo"]))
    for name, results in (("first", first), ("second", second)):
        study = write_study(tmp_path / name, results.assign(study=name))
        (study / "study.yml").write_text(f"name: {name}")
        add_analyses(study, results)
    theirs = tmp_path / "theirs.csv"
    synthetic_results(["leep"], env_ids=[BIGFISH])[MINIMAL].to_csv(theirs, index=False)
    page_of_all = report(
        tmp_path / "first", tmp_path / "all.html", str(tmp_path / "second"), str(theirs), "--reference", "leep"
    )
    with open_page(browser, page_of_all) as page:
        assert page.title() == "first and second"
        assert dict(rows_of(page, "summary"))["methods"] == "leep, mdpo (first), ppo, mdpo (second)"
        assert ["leep", "3", "2,000", "1,000", "", ""] in rows_of(page, "summary", 1)
        assert [row[:2] for row in rows_of(page, "improvement")[1:]] == [
            ["leep", method] for method in ("mdpo (first)", "ppo", "mdpo (second)")
        ]
        assert {row[1] for row in rows_of(page, "games", 1)[1:]} == {"leep"}
        assert {row[3] for row in rows_of(page, "robustness")[1:]} == {"mdpo (first)", "ppo", "mdpo (second)"}
        configuration = page.locator("#configuration").text_content()
        assert str(tmp_path / "second" / "study.yml") in configuration
        assert "nan" not in page.locator("body").inner_text().lower().split()
    with open_page(browser, report(theirs, tmp_path / "theirs.html")) as page:
        assert page.title() == "theirs"
        assert dict(rows_of(page, "summary"))["methods"] == "leep"


def test_what_cannot_be_compared_is_refused(tmp_path, capsys):
    results = synthetic_results(["mdpo", "ppo"], env_ids=[BIGFISH], steps=[100])
    one, same = (write_study(tmp_path / folder / "small", results) for folder in "ab")
    assert "are both called small: rename one of them" in refused(capsys, str(one), str(same))
    assert "There is no method leep: compare one of mdpo, ppo." in refused(capsys, str(one), "--reference", "leep")
    (tmp_path / "empty").mkdir()
    message = refused(capsys, str(one), str(tmp_path / "empty"))
    assert message.endswith("results.csv: give folders of studies, or tables (.csv), to compare them.")


def refused(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as error:
        main(["report", *arguments])
    assert error.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_runs_are_looked_for_in_the_study_only(tmp_path, capsys):
    assert "is not the name of a folder in it" in refused(capsys, str(one_run(tmp_path, run="../elsewhere")))


def test_a_broken_table_is_named_and_the_old_report_stays(tmp_path, capsys):
    study = one_run(tmp_path)
    (tmp_path / "report.html").write_text("old")
    (study / "results.csv").write_text("study\nthis")
    assert str(study / "results.csv") in refused(capsys, str(study), "-o", str(tmp_path / "report.html"))
    assert (tmp_path / "report.html").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_broken_measurement_is_named_and_the_rest_of_the_report_is_made(browser, tmp_path, capsys):
    study, path = one_run(tmp_path), tmp_path / "report.html"
    broken = next(study.rglob("robustness.json"))
    wrong = broken.read_text().replace("64", '"many"')

    def problem() -> str:
        with pytest.raises(SystemExit) as error:
            report(study, path)
        assert error.value.code == 1
        return capsys.readouterr().err.splitlines()[-1]

    for text in ("{", '{"rows": 3}', '{"settings": {}}', '{"rows": [{"policy": "policy 0"}]}', wrong):
        broken.write_text(text)
        assert problem().startswith(f"sb3-mdpo report: no Robustness: {broken}")
    with open_page(browser, path) as page:
        assert str(broken) in page.locator("#robustness .note").text_content()
        assert page.locator("#robustness figure").count() == 0
        assert page.locator("#representation table").count() == 2
    features = next(study.rglob("features.json"))
    features.write_text(json.dumps(synthetic_features(["policy 0"], 0.1, 100, ["one", "another"])))
    broken.unlink()
    assert "is about one, another together: write it anew" in problem()


def test_complete_runs_that_lack_files_are_named(browser, trained, tmp_path, capsys):
    study = shutil.copytree(trained, tmp_path / "study")
    capsys.readouterr()
    report(study, tmp_path / "report.html")
    assert "put it back" not in capsys.readouterr().err
    run = run_folder(study)
    (run / "generalization.csv").unlink()
    (run / f"{GRID}.zip").unlink()
    report(study, tmp_path / "report.html")
    message = (
        f"{run} has no generalization.csv and no {GRID}.zip: put it back, or delete the folder to train the run again."
    )
    assert f"sb3-mdpo report: {message}" in capsys.readouterr().err
    with open_page(browser, tmp_path / "report.html") as page:
        assert message in page.locator("#summary .note").text_content()
