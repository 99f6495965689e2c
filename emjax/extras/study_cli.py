"""The command line of simulation studies: `emjax study run|status|report|plot spec.toml`."""

import argparse
import sys
import warnings
from pathlib import Path
from typing import Any

INTERRUPTED = 130
FIGURES = "figures"


def add(commands: Any, parser_class: Any, at_least: Any) -> None:
    """The command `study` and what it can do. at_least : from the smallest allowed to a type of argparse."""
    text = "A Monte Carlo simulation study from a TOML file: run or resume it, see how far it is, report it, draw it."
    study = commands.add_parser("study", help="a simulation study from a TOML file", description=text)
    verbs = study.add_subparsers(
        title="commands", metavar="{run,status,report,plot}", parser_class=parser_class, required=True
    )
    run = _verb(verbs, "run", "compute what the directory lacks", _run)
    run.add_argument("--worker", type=_share, default=(0, 1), metavar="I/N", help="process I of N on one directory")
    run.add_argument("--replicates", type=at_least(1), help="of each scenario (default: the file's)")
    run.add_argument("--threads", type=at_least(1), help="at a time (default: one a core)")
    run.add_argument("--chunk", type=at_least(1), help="replicates a file of results, fixed when a study is begun")
    run.add_argument("--cluster", metavar="ADDRESS", help="of a dask scheduler whose workers compute")
    _verb(verbs, "status", "how far it is, and how the fits ended", _status)
    _verb(verbs, "report", "the measures as Markdown, with the figures", _report)
    _verb(verbs, "plot", "the figures alone", _plot)


def _verb(verbs: Any, name: str, text: str, run: Any) -> Any:
    verb = verbs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    verb.add_argument("spec", metavar="spec.toml", help="the study")
    verb.add_argument("--directory", metavar="D", help="of its results (default: the study's name)")
    verb.set_defaults(run=run)
    return verb


def _share(text: str) -> tuple[int, int]:
    place, slash, count = text.partition("/")
    if not (slash and place.isdecimal() and count.isdecimal() and 0 <= int(place) <= int(count) and int(count) > 0):
        raise argparse.ArgumentTypeError(f"'{text}' is not I/N, such as 0/8")
    return int(place), int(count)


def _read(arguments: argparse.Namespace) -> tuple[Any, Path]:
    from emjax.extras import study_files

    study = study_files.read(arguments.spec, getattr(arguments, "replicates", None))
    return study, Path(arguments.directory or study.name)


def _run(arguments: argparse.Namespace) -> int:
    from contextlib import ExitStack

    from emjax.extras.cluster import connect
    from emjax.extras.progress import Reporter

    study, directory = _read(arguments)
    total = study.replicates * len(study.scenarios) * len(study.methods)
    with ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = lambda message, *rest: print(f"emjax: {message}", file=sys.stderr)
        client = stack.enter_context(connect(arguments.cluster)) if arguments.cluster else None
        reporter = stack.enter_context(Reporter(total))
        ran = study.run(
            directory,
            worker=arguments.worker,
            progress=reporter,
            chunk=arguments.chunk,
            threads=arguments.threads,
            client=client,
        )
    print(f"{directory}: {ran.computed:,} files computed, {ran.found:,} were there or came from other processes")
    if ran.complete:
        return 0
    print("emjax: interrupted; the same command goes on from here", file=sys.stderr)
    return INTERRUPTED


def _status(arguments: argparse.Namespace) -> int:
    from emjax.base.status import DataError, Status
    from emjax.studies import loading, store

    study, directory = _read(arguments)
    there = store.Store(directory)
    there.refuse_changes(there.manifest()["specification"], study.specified())
    try:
        cells = {(str(cell.scenario), cell.method): cell for cell in loading.cells(directory)}
    except DataError as error:
        if "no finished chunk" not in str(error):
            raise
        cells = {}
    done = total = 0
    for scenario in study.scenarios:
        for method in study.methods:
            cell = cells.get((str(scenario), method))
            status = [] if cell is None else [Status(int(code)).name for code in cell.outcomes.status]
            counts = ", ".join(f"{status.count(name):,} {name}" for name in sorted(set(status)))
            levels = ", ".join(f"{name}={level}" for name, level in scenario.items())
            asked = max(study.replicates, len(status))  # an earlier run may have asked for more
            print(f"{levels}  {method}: {len(status):,} of {asked:,}{': ' if counts else ''}{counts}")
            done, total = done + len(status), total + asked
    print(f"{directory}: {done:,} of {total:,} fits ({100 * done / total:.1f} %)")
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from emjax.extras.files import write_text
    from emjax.extras.optional import MissingExtraError
    from emjax.studies import report

    study, directory = _read(arguments)
    results = study.results(directory)
    text = report.markdown(results)
    if not sys.stdout.isatty():  # a report of many scenarios would sweep a terminal away
        print(text)
    write_text(directory / "report.md", text)
    print(f"Written to {directory / 'report.md'}", file=sys.stderr)
    try:
        drawn = _draw(results, directory)
    except MissingExtraError as error:
        print(f"emjax: no figures: {error}", file=sys.stderr)
        return 0
    images = [path.relative_to(directory).as_posix() for path in drawn if path.suffix == ".png"]
    shown = "".join(f"\n![{Path(image).stem}]({image})\n" for image in images)
    write_text(directory / "report.md", f"{text}\n## Figures\n{shown}")
    print(f"Its figures: {directory / FIGURES}", file=sys.stderr)
    return 0


def _plot(arguments: argparse.Namespace) -> int:
    study, directory = _read(arguments)
    _draw(study.results(directory), directory)
    print(f"Written to {directory / FIGURES}")
    return 0


def _draw(results: Any, directory: Path) -> list[Path]:
    """Every figure as PNG and SVG. Errors: MissingExtraError without matplotlib."""
    from emjax.extras import study_plots
    from emjax.extras.optional import require

    require("matplotlib", "plots")
    return study_plots.save_all(results, directory / FIGURES)
