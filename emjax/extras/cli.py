"""The command line: `emjax demo`, `emjax fit` and `emjax study`.

Every failure is one sentence on stderr and exit status 2; after Ctrl-C what is finished is reported and written, and
the exit status is 130. What a command needs is imported when it runs, so that `--help` and a typo answer at once.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

from emjax.extras import study_cli

FAILED, INTERRUPTED = 2, 130
# Written out, so that --help answers at once; a version without one of them says so (emjax.extras.named_families).
_FAMILIES = (
    *("linear", "gaussian", "poisson", "binomial", "student-t"),
    *("exponential", "gamma", "negative-binomial", "categorical"),
)
_MOST_ROWS = 10**9  # of the demo, whose data are simulated at once: 16 GB


class _Parser(argparse.ArgumentParser):
    """argparse, with an error of one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(FAILED, f"{self.prog}: {message}; see {self.prog} --help\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line on `argv` (default: the process's) and return the exit status."""
    parser = _build_parser()
    arguments = parser.parse_args(argv)
    if not hasattr(arguments, "run"):
        parser.print_help()
        return 0
    from emjax.base.status import DataError
    from emjax.engine.compilation_cache import use_compilation_cache
    from emjax.extras.optional import MissingExtraError

    with suppress(DataError):  # a second run starts faster; without a folder nothing is lost
        use_compilation_cache()
    try:
        return arguments.run(arguments)
    except (DataError, MissingExtraError) as error:
        return _fail(str(error))
    except MemoryError:
        return _fail("not enough memory; use fewer replicates, restarts or rows at a time")
    except BrokenPipeError:
        # The reader of a pipe went away (| head): nothing is wrong, and the interpreter must not try to flush again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("emjax: interrupted before anything was finished", file=sys.stderr)
        return INTERRUPTED


def _fail(message: str) -> int:
    print(f"emjax: {' '.join(message.split())}", file=sys.stderr)
    return FAILED


def _build_parser() -> _Parser:
    parser = _Parser(prog="emjax", description="EM fits of latent-variable models to thousands of datasets at once.")
    commands = parser.add_subparsers(title="commands", metavar="{demo,fit,study}", parser_class=_Parser)
    _add_demo(commands)
    _add_fit(commands)
    study_cli.add(commands, _Parser, _at_least)
    return parser


def _add_demo(commands: Any) -> None:
    text = (
        "The article's problem as a Monte Carlo experiment: two regression lines, fitted to many simulated samples, "
        "with bias, empirical SE and RMSE of every parameter, each with its Monte Carlo standard error."
    )
    demo = commands.add_parser("demo", help="a Monte Carlo experiment: bias and standard errors", description=text)
    add = demo.add_argument
    add("--n", type=_at_least(4), default=100, help="rows per sample (default %(default)s)")
    add("--replicates", type=_at_least(1), default=10_000, help="simulated samples (default %(default)s)")
    add("--restarts", type=_at_least(1), help="random starts per sample (default 10; 1 with --start truth)")
    add("--noise", type=_positive, default=1.0, help="factor on both noise scales (default %(default)s)")
    add("--start", choices=["random", "truth"], default="random", help="(default %(default)s)")
    _add_common(demo)
    add(
        "--out", default="emjax-demo", metavar="FOLDER", help="where the tables and the figure go (default %(default)s)"
    )
    demo.set_defaults(run=_demo)


def _add_fit(commands: Any) -> None:
    text = (
        "Fit a mixture or a hidden Markov model to a CSV file, by default of linear regressions, one per group: a row "
        "per group and component, or per parameter too, with the status and log-likelihood (nats). A group that cannot "
        "be fitted has its reason in its row and harms no other."
    )
    fit = commands.add_parser("fit", help="fit a CSV file, one model per group", description=text)
    add = fit.add_argument
    add("file", metavar="data.csv", help="comma-separated UTF-8 with a header")
    add("formula", help="such as 'y ~ x1 + x2'; 'y ~ x - 1' has no intercept, 'y1 + y2 ~ 1' two responses")
    add("--components", type=_at_least(1), required=True, metavar="K", help="components, or states, per group")
    add("--family", default="linear", choices=_FAMILIES, metavar="NAME", help=f"{', '.join(_FAMILIES)} (%(default)s)")
    add("--latent", default="mixture", choices=["mixture", "hidden-markov"], help="(default %(default)s)")
    add("--by", metavar="COLUMN", help="fit every value of this column on its own")
    add("--unit", metavar="COLUMN", help="rows with one value share a component, or are a sequence, in file order")
    add("--weights", metavar="COLUMN", help="how often a row, or with --unit a unit, counts")
    add("--trials", metavar="COLUMN", help="trials of a binomial response, which counts the successes")
    add("--gating", metavar="FORMULA", help="covariates of the mixing weights, such as '~ z1 + z2'")
    add("--initial-distribution", choices=["free", "stationary"], help="of a hidden Markov model (default free)")
    add("--restarts", type=_at_least(1), default=20, help="random starts per group (default %(default)s)")
    add("--scale", choices=["component", "common"], help="noise scale, of linear and student-t (default component)")
    add("--tol", type=_positive, default=1e-6, help="stop at this remaining gain in nats (default %(default)s)")
    _add_common(fit)
    add("--drop-missing", action="store_true", help="leave out rows with missing values and say how many")
    add("--out", metavar="FITS.CSV", help="write the table to this file; printed otherwise")
    fit.set_defaults(run=_fit)


def _add_common(command: Any) -> None:
    command.add_argument("--seed", type=_at_least(0), default=1, help="of everything random (default %(default)s)")
    command.add_argument(
        "--precision",
        choices=["float64", "float32"],
        default="float64",
        help="(default %(default)s; float32 is polished)",
    )
    command.add_argument(
        "--race", action="store_true", help="a short run from every start, then only the best few to their ends"
    )
    command.add_argument(
        "--acceleration",
        choices=["auto", "squarem", "none"],
        default="auto",
        help="extrapolate EM's steps: of restarts that are slow, of all, of none (default %(default)s)",
    )


def _acceleration(arguments: argparse.Namespace) -> str | None:
    return None if arguments.acceleration == "none" else arguments.acceleration


def _at_least(smallest: int) -> Any:
    def whole_number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{text}' is not a whole number") from None
        if value < smallest:
            raise argparse.ArgumentTypeError(f"{value} is too small, it must be at least {smallest}")
        return value

    return whole_number


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number") from None
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} must be positive and finite")
    return value


def _demo(arguments: argparse.Namespace) -> int:
    from emjax.extras import demo, files, progress, report
    from emjax.extras.optional import MissingExtraError, require

    if arguments.start == "truth" and arguments.restarts not in (None, 1):
        return _fail("--restarts with --start truth: every restart would be the same; leave --restarts out")
    if arguments.n * arguments.replicates > _MOST_ROWS:
        return _fail(f"--n times --replicates is more than {_MOST_ROWS:,} rows; use fewer, or several runs and seeds")
    folder = files.prepare_folder(arguments.out)
    try:
        require("matplotlib", "plots")
        draw = True
    except MissingExtraError as error:
        print(f"emjax: no figure will be drawn: {error}", file=sys.stderr)
        draw = False
    restarts = 1 if arguments.start == "truth" else arguments.restarts or 10
    design = demo.Design(
        n=arguments.n,
        replicates=arguments.replicates,
        restarts=restarts,
        noise=arguments.noise,
        seed=arguments.seed,
        precision=arguments.precision,
        acceleration=_acceleration(arguments),
        start=arguments.start,
        race=arguments.race,
    )
    began = time.perf_counter()
    with progress.Reporter(design.replicates, "replicates") as reporter:
        experiment = demo.run_experiment(design, reporter)
    print(report.describe_results(experiment, time.perf_counter() - began))
    written = {"measures.csv": report.measures_csv, "estimates.csv": report.estimates_csv}
    for name, text in written.items():
        files.write_text(folder / name, text(experiment))
    if draw:
        from emjax.extras.plots import save_experiment

        save_experiment(experiment, folder / "estimates.png")
    names = [*written, *(["estimates.png"] if draw else [])]
    print(f"\nWritten to {folder}: {', '.join(names)}")
    return _ending(experiment.fits, design.replicates, "replicates")


def _fit(arguments: argparse.Namespace) -> int:
    from emjax.extras import files, frames, progress, tables
    from emjax.extras.optional import require

    for package in ("pandas", "formulaic"):
        require(package, "frames")
    out = files.prepare_file(arguments.out) if arguments.out else None
    table = files.read_table(arguments.file, [name for name in (arguments.by, arguments.unit) if name])
    names = ("family", "scale", "unit", "weights", "trials", "gating", "latent", "initial_distribution")
    roles = {name: getattr(arguments, name) for name in names}
    groups = frames.build_groups(table, arguments.formula, arguments.by, arguments.drop_missing, **roles)
    if groups.dropped:
        print(f"emjax: {groups.dropped:,} of {len(table):,} rows with missing values left out", file=sys.stderr)
    if groups.unobserved:
        print(
            f"emjax: {groups.unobserved:,} of {len(table):,} rows lack a finite value and are unobserved",
            file=sys.stderr,
        )
    with progress.Reporter(len(groups.data)) as reporter:
        fits = _fit_groups(arguments, groups, reporter)
    result = tables.fits_table(fits, groups)
    if out is None:
        print(tables.print_table(result))
    else:
        _write_or_print(out, result.to_csv(index=False, lineterminator="\n"))
        print(f"Written to {out}: {len(result):,} rows")
    counts = ", ".join(f"{count:,} {name}" for name, count in fits.status_counts().items() if count)
    print(f"emjax: {len(fits):,} of {len(groups.data):,} fits: {counts}", file=sys.stderr)
    return _ending(fits, len(groups.data), "fits")


def _write_or_print(out: Any, text: str) -> None:
    """A disk that filled up meanwhile must not cost the fits."""
    from emjax.base.status import DataError
    from emjax.extras.files import write_text

    try:
        write_text(out, text)
    except DataError:
        print(text, end="")
        raise


def _fit_groups(arguments: argparse.Namespace, groups: Any, reporter: Any) -> Any:
    import emjax

    return emjax.fit_many(
        groups.model(arguments.components),
        groups.data,
        arguments.seed,
        restarts=arguments.restarts,
        stop=emjax.Stop(tol=arguments.tol),
        precision=arguments.precision,
        race=emjax.Race() if arguments.race else None,
        acceleration=_acceleration(arguments),
        ids=groups.labels,
        progress=reporter,
    )


def _ending(fits: Any, asked: int, unit: str) -> int:
    if fits.complete:
        return 0
    message = f"interrupted: {len(fits):,} of {asked:,} {unit} were finished, and what is printed and written is theirs"
    print(f"emjax: {message}", file=sys.stderr)
    return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
