"""``sb3-mdpo report``. Heavy modules are imported when it runs."""

import argparse
import sys
from pathlib import Path

from sb3_mdpo.utils.optional_dependencies import need
from sb3_mdpo.utils.outputs import check_output_file, check_output_folder
from sb3_mdpo.utils.terminal import add_code_note, note_code, one_line


def add_report(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``sb3-mdpo report``."""
    parser.add_argument(
        "folders",
        metavar="FOLDER",
        type=Path,
        nargs="+",
        help="a study's folder or a run folder of rl_zoo3 train; or several studies, and tables (.csv), to compare",
    )
    parser.add_argument(
        "--reference", metavar="METHOD", help="the method that others are compared with (default: mdpo, or the first)"
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("report.html"), help="default: report.html")
    parser.add_argument("--figures", metavar="FOLDER", type=Path, help="also write the charts as PNG and PDF there")
    parser.add_argument("--tables", metavar="FOLDER", type=Path, help="also write the tables as CSV and LaTeX there")
    parser.add_argument("--reps", type=int, default=2000, help="repetitions of the bootstrap (default: 2000)")
    add_code_note(parser)
    parser.set_defaults(run=_report)


def _report(args: argparse.Namespace) -> None:
    check_output_file(args.output, ".html", ".htm")
    for folder in filter(None, (args.figures, args.tables)):
        check_output_folder(folder)
    packages = ("pandas", "plotly", "jinja2", "matplotlib", "rliable", "scipy")
    need("lab", **{package: package for package in packages})
    from sb3_mdpo.lab.report.data import read_report_data
    from sb3_mdpo.lab.report.figures import write_figures
    from sb3_mdpo.lab.report.page import make_page
    from sb3_mdpo.lab.report.tables import write_tables
    from sb3_mdpo.utils.atomic import replacing

    folder, *others = args.folders
    note_code(*(path for path in args.folders if path.is_dir()))  # tables hold no code
    data = read_report_data(folder, args.reps, args.reference, others)
    page = make_page(data, progress=True)
    html = page.html()
    figures = [] if args.figures is None else write_figures(data, args.figures)  # or an error
    tables = [] if args.tables is None else write_tables(page.tables, args.tables)
    with replacing(args.output) as file:
        file.write(html.encode())
    print(f"Report: {args.output}")
    for path in figures:
        print(f"Figure: {path}")
    for path in tables:
        print(f"Table: {path}")
    for message in (*data.lacking, *page.problems):
        print(one_line(f"sb3-mdpo report: {message}"), file=sys.stderr)
    if page.problems:
        sys.exit(1)
