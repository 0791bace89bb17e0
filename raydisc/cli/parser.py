"""The command line of ``raydisc``: its subcommands and their options."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import raydisc
from raydisc.cli import texts
from raydisc.exit_codes import BAD_INPUT

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

STORAGE = "runs"
"""The default of the storage folder, as in the experiment file."""

SHELLS = ("bash", "zsh")
"""The shells that ``raydisc completion`` knows."""

_Commands: TypeAlias = "argparse._SubParsersAction[_Parser]"


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; its result holds the chosen subcommand as ``command``."""
    parser = _Parser(prog="raydisc", description=texts.ABOUT, epilog=texts.START)
    parser.add_argument("--version", action=_Version, help="print the version and exit")
    _add_storage(parser, default=None)
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", dest="command", required=True, parser_class=_Parser
    )
    of_storage = [
        _add_run_command(commands),
        _add_recommend(commands),
        _add_validate(commands),
        _add_plan(commands),
        _add_show(commands),
        _add_compare(commands),
        _add_resume(commands),
        *_add_cluster_commands(commands),
        _add_gc(commands),
    ]
    for command in of_storage:
        _add_storage(command, default=argparse.SUPPRESS)
    _add_predict(commands)
    commands.add_parser(
        "schema",
        help="print the JSON Schema of experiment files",
        description=texts.SCHEMA,
        epilog=texts.SCHEMA_EXAMPLES,
    )
    _add_completion(commands)
    return parser


def _add_run_command(commands: _Commands) -> argparse.ArgumentParser:
    run = commands.add_parser("run", help="run an experiment file", description=texts.RUN, epilog=texts.RUN_EXAMPLES)
    run.add_argument(
        "files", metavar="FILE", type=Path, nargs="+", help="an experiment file (YAML); several are run in turn"
    )
    _add_overrides(run)
    run.add_argument("--name", help="the run's name (default: the file's name)")
    _add_plain(run)
    return run


def _add_recommend(commands: _Commands) -> argparse.ArgumentParser:
    recommend = commands.add_parser(
        "recommend",
        help="spend a budget on the best student that it buys",
        description=texts.RECOMMEND,
        epilog=texts.RECOMMEND_EXAMPLES,
    )
    _add_experiment(recommend)
    budget = recommend.add_mutually_exclusive_group(required=True)
    budget.add_argument("--flops", metavar="X", type=float, help="the budget in FLOPs, such as 1e15")
    budget.add_argument(
        "--hours", metavar="H", type=float, help="the budget in hours of one device like this machine's"
    )
    budget.add_argument("--money", metavar="M", type=float, help="the budget in money (with --price)")
    recommend.add_argument("--price", metavar="MONEY", type=float, help="price of a device-hour")
    recommend.add_argument("--name", help="the run's name (default: the file's name and -recommend)")
    _add_plain(recommend)
    recommend.add_argument("--json", action="store_true", help="print the recommendation as JSON")
    return recommend


def _add_validate(commands: _Commands) -> argparse.ArgumentParser:
    validate = commands.add_parser(
        "validate",
        help="check an experiment file before any training",
        description=texts.VALIDATE,
        epilog=texts.VALIDATE_EXAMPLES,
    )
    _add_experiment(validate)
    return validate


def _add_plan(commands: _Commands) -> argparse.ArgumentParser:
    plan = commands.add_parser(
        "plan", help="print what an experiment will cost", description=texts.PLAN, epilog=texts.PLAN_EXAMPLES
    )
    _add_experiment(plan)
    plan.add_argument("--gpus", metavar="N", type=int, help="plan for N GPUs (default: for this machine)")
    plan.add_argument("--gpu-memory", metavar="SIZE", help="the memory of each GPU, such as 80GiB or 40000MB")
    plan.add_argument("--address", metavar="ADDRESS", help="plan for the Ray cluster at this address, or auto")
    plan.add_argument("--probe", action="store_true", help="time a few steps on this machine and print hours")
    plan.add_argument(
        "--price", metavar="MONEY", type=float, help="price of a device-hour; prints costs (with --probe)"
    )
    plan.add_argument("--json", action="store_true", help="print JSON")
    return plan


def _add_show(commands: _Commands) -> argparse.ArgumentParser:
    show = commands.add_parser(
        "show", help="print stages, candidates and ranking of a run", description=texts.SHOW, epilog=texts.SHOW_EXAMPLES
    )
    _add_run(show)
    show.add_argument("--json", action="store_true", help="print JSON")
    return show


def _add_compare(commands: _Commands) -> argparse.ArgumentParser:
    compare = commands.add_parser(
        "compare",
        help="compare the schedules of one run or several",
        description=texts.COMPARE,
        epilog=texts.COMPARE_EXAMPLES,
    )
    compare.add_argument("runs", metavar="RUN", nargs="+", help="a run's name")
    compare.add_argument("--json", action="store_true", help="print a JSON list, one object for each row")
    compare.add_argument("--markdown", action="store_true", help="print Markdown tables")
    compare.add_argument("--csv", metavar="FILE", type=Path, help="also write the rows to a CSV file")
    return compare


def _add_resume(commands: _Commands) -> argparse.ArgumentParser:
    resume = commands.add_parser(
        "resume", help="continue an interrupted run", description=texts.RESUME, epilog=texts.RESUME_EXAMPLES
    )
    _add_run(resume)
    _add_overrides(resume)
    _add_plain(resume)
    return resume


def _add_cluster_commands(commands: _Commands) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """Add the commands of clusters, and return those that also have a storage."""
    ls = commands.add_parser("ls", help="list the runs", description=texts.LS, epilog=texts.LS_EXAMPLES)
    ls.add_argument("--json", action="store_true", help="print a JSON list")
    submit = commands.add_parser(
        "submit", help="send an experiment to a Ray cluster", description=texts.SUBMIT, epilog=texts.SUBMIT_EXAMPLES
    )
    _add_submission(submit)
    _add_jobs(commands, ls, submit)
    return ls, submit


def _add_gc(commands: _Commands) -> argparse.ArgumentParser:
    gc = commands.add_parser(
        "gc", help="remove files that no run needs any more", description=texts.GC, epilog=texts.GC_EXAMPLES
    )
    gc.add_argument("--outputs", action="store_true", help="include teacher outputs that only finished runs used")
    gc.add_argument("--delete", action="store_true", help="remove the files (default: only list them)")
    gc.add_argument("--json", action="store_true", help="print JSON")
    return gc


def _add_predict(commands: _Commands) -> None:
    predict = commands.add_parser(
        "predict", help="label a file with a finished student", description=texts.PREDICT, epilog=texts.PREDICT_EXAMPLES
    )
    predict.add_argument("student", metavar="STUDENT", help="folder or address of a student in STORAGE/RUN/students")
    predict.add_argument(
        "file", metavar="FILE", type=Path, nargs="?", help="the rows to label (default: the test set of --glue)"
    )
    predict.add_argument("--output", metavar="FILE", type=Path, required=True, help="the file to write the labels to")
    predict.add_argument("--glue", metavar="TASK", help="write GLUE's submission format for this task")


def _add_completion(commands: _Commands) -> None:
    completion = commands.add_parser(
        "completion",
        help="print a script for completion in a shell",
        description=texts.COMPLETION,
        epilog=texts.COMPLETION_EXAMPLES,
    )
    completion.add_argument("shell", metavar="SHELL", choices=SHELLS, help="bash or zsh")


class _Parser(argparse.ArgumentParser):
    """A parser that keeps the line breaks of its texts and takes no abbreviated options."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"raydisc: {message} (see `{self.prog} --help`)\n")

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        # argparse's own keeps to itself that the reader has gone, on which the exit code depends.
        print(message, end="", file=file or sys.stderr)


class _Version(argparse.Action):
    """The option that prints the version; it is looked up only when asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
        super().__init__(option_strings, dest=argparse.SUPPRESS, default=argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        print(f"raydisc {raydisc.__version__}")
        parser.exit()


def _add_storage(parser: argparse.ArgumentParser, default: str | None) -> None:
    # A subcommand's default is suppressed: it would overwrite a value given before the subcommand.
    help = f"the folder or address (s3://BUCKET/FOLDER) of all runs (default: the experiment file's, or {STORAGE})"
    parser.add_argument("--storage", metavar="STORAGE", default=default, help=help)


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run's name")


def _add_experiment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="an experiment file (YAML)")
    _add_overrides(parser)


def _add_overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set", metavar="KEY=VALUE", dest="overrides", action="append", default=[],
        help="override a setting of the file: student.scale=0.05, 'seeds=[0, 1]'; may be repeated",
    )  # fmt: skip


def _add_submission(parser: argparse.ArgumentParser) -> None:
    _add_experiment(parser)
    parser.add_argument("--name", help="the run's name (default: the file's name)")
    parser.add_argument(
        "--pip", choices=["auto", "none"], default="auto",
        help="auto: install the versions of this installation for the job; none: use the packages of the cluster and "
        "refuse to run if their versions differ",
    )  # fmt: skip
    parser.add_argument("--no-pip", dest="pip", action="store_const", const="none", help="short for --pip none")
    parser.add_argument(
        "--shared", metavar="FOLDER", type=Path, action="append", default=[],
        help="a folder that the cluster can read too: its files are not sent; may be repeated",
    )  # fmt: skip
    parser.add_argument("--wait", action="store_true", help="show progress and comparison, exit with the job's code")
    parser.add_argument("--json", action="store_true", help="print a JSON object")


def _add_jobs(commands: _Commands, ls: argparse.ArgumentParser, submit: argparse.ArgumentParser) -> None:
    status = commands.add_parser(
        "status", help="print the state of a job of a cluster", description=texts.STATUS, epilog=texts.STATUS_EXAMPLES
    )
    status.add_argument("job", metavar="JOB", nargs="?", help="a job's id (default: list them)")
    status.add_argument("--json", action="store_true", help="print JSON")
    logs = commands.add_parser(
        "logs", help="print the output of a job", description=texts.LOGS, epilog=texts.LOGS_EXAMPLES
    )
    logs.add_argument("job", metavar="JOB", help="a job's id")
    logs.add_argument("--follow", action="store_true", help="follow the job to its end and exit with its code")
    stop = commands.add_parser("stop", help="interrupt a job", description=texts.STOP, epilog=texts.STOP_EXAMPLES)
    stop.add_argument("job", metavar="JOB", help="a job's id")
    help = "the cluster: http://HEAD:8265, or auto for the one on this machine (default: RAY_ADDRESS)"
    for command in (submit, status, logs, stop):
        command.add_argument("--address", metavar="ADDRESS", help=help)
    ls.add_argument("--address", metavar="ADDRESS", help="list the jobs of the cluster at this address instead")


def _add_plain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plain", action="store_true", help="print progress as plain lines, as without a terminal")
