"""What the `raydisc` command understands: its subcommands, their options, and help worth reading."""

import argparse
from pathlib import Path
from typing import Any, NoReturn

from raydisc.exit_codes import BAD_INPUT

STORAGE = "runs"
"""The storage folder when none is given, as in the experiment file."""

_ABOUT = """\
From a fine-tuned transformer to the best student of the size you can afford: which teacher assistant leads
to it, and what the search cost beside the alternatives (kd, maxidisc, minidisc), as Ray Tune trials."""

_START = """\
start here:
  raydisc run experiments/quickstart.yaml        a whole search without any download
  raydisc compare quickstart                     what each schedule reached, and what it cost
  raydisc show quickstart                        its stages, and the candidates ranked by λ-tradeoff

on a cluster:
  raydisc submit FILE --address http://HEAD:8265 --storage /mnt/nfs/runs --wait

exit codes: 0 done, 1 failed, 2 bad input, 3 stopped by its budget or a signal, or with its cluster
(go on with `raydisc resume RUN`)"""

_RUN = """\
Fine-tune the teacher where the file says so, run every schedule as Ray Tune trials, print the comparison.
Results land in STORAGE/NAME; progress goes to stderr. A stage that any run of the storage has computed is
not computed again, and the same experiment under the same name goes on where it was."""

_RUN_EXAMPLES = """\
examples:
  raydisc run experiments/quickstart.yaml
  raydisc run experiments/sst2.yaml --set task.glue=sst2
  raydisc run experiments/sst2.yaml --name sst2-5 --set student.scale=0.05 --set 'seeds=[0]'
  raydisc run experiments/sst2.yaml --name sst2-2m --set student.parameters=2e6"""

_VALIDATE = """\
Read an experiment file, its data and its teacher, and say in one sentence what is wrong, before any
training. Prints the resolved experiment, every default included, as YAML."""

_VALIDATE_EXAMPLES = """\
examples:
  raydisc validate experiments/sst2.yaml
  raydisc validate experiments/sst2.yaml --set task.glue=sst2 > resolved.yaml"""

_PLAN = """\
What an experiment will cost, before anything is paid: candidates, every stage with its FLOPs, what it
keeps and how much memory it needs, what MiniDisc and MaxiDisc cost side by side, and how the model fits the
devices. Nothing is trained: it reads the file, the data and the teacher's configuration, no weights."""

_PLAN_EXAMPLES = """\
examples:
  raydisc plan experiments/quickstart.yaml
  raydisc plan experiments/sst2.yaml --gpus 8 --gpu-memory 80GiB
  raydisc plan experiments/sst2.yaml --address auto            the cluster that runs here
  raydisc plan experiments/quickstart.yaml --probe --price 2.5
  raydisc plan experiments/quickstart.yaml --json | jq '.schedules[0].flops'"""

_SHOW = "What a run did: its stages with their cost, and its candidates ranked by λ-tradeoff."

_SHOW_EXAMPLES = """\
examples:
  raydisc show quickstart
  raydisc show quickstart --json | jq '.candidates[0]'"""

_COMPARE = """\
One row for each schedule, path and seed: the student's validation and test metric, the search's cost, that
cost relative to the oracle path's, and the regret. The controls kd_equal_compute and kd_supernet_init stand
beside the schedules: without them there is no verdict."""

_COMPARE_EXAMPLES = """\
examples:
  raydisc compare quickstart
  raydisc compare sst2 mrpc --csv comparison.csv
  raydisc compare sst2 --markdown
  raydisc compare quickstart --json | jq '.[] | select(.selected)'"""

_RESUME = """\
Go on with a run that was interrupted, has spent its budget or had failed trials. Finished stages are not
run again; one that was broken off goes on from its last checkpoint."""

_RESUME_EXAMPLES = """\
examples:
  raydisc resume quickstart
  raydisc resume sst2 --storage /mnt/nfs/runs
  raydisc resume sst2 --set budget.device_hours=200"""

_LS = "The runs of a storage folder: task, state, and how many trials are done. Or the jobs of a cluster."

_LS_EXAMPLES = """\
examples:
  raydisc ls
  raydisc ls --storage /mnt/nfs/runs
  raydisc ls --address http://HEAD:8265
  raydisc ls --json | jq '.[].name'"""

_SUBMIT = """\
Send an experiment to a Ray cluster, which runs it as `raydisc run` does. The code that runs there is this
raydisc's; with it go the resolved file and the local files that it names, 64 MiB at most, and nothing else.
A stage that any run of the storage has computed is not computed again. A cluster that asks for a token is
told it by RAY_AUTH_MODE=token with RAY_AUTH_TOKEN_PATH=FILE (or RAY_AUTH_TOKEN)."""

_SUBMIT_EXAMPLES = """\
examples:
  raydisc submit experiments/sst2.yaml --address http://HEAD:8265 --storage /mnt/nfs/runs
  raydisc submit experiments/sst2.yaml --storage s3://BUCKET/runs --wait > comparison.txt
  raydisc submit experiments/quickstart.yaml --address auto --pip none --json | jq -r .job"""

_STATUS = "What a cluster knows of a job: its run, state, exit code and times. Without a job, all of raydisc's."

_STATUS_EXAMPLES = """\
examples:
  raydisc status
  raydisc status sst2-1f0c53a7 --address http://HEAD:8265
  raydisc status sst2-1f0c53a7 --json | jq .exit_code"""

_LOGS = "What a job has printed: its progress, and the comparison once it has ended."

_LOGS_EXAMPLES = """\
examples:
  raydisc logs sst2-1f0c53a7
  raydisc logs sst2-1f0c53a7 --follow --address http://HEAD:8265"""

_STOP = """\
Interrupt a job. Finished stages are kept, and one that was broken off its last checkpoint: submitting the
file again goes on from there."""

_STOP_EXAMPLES = """\
examples:
  raydisc stop sst2-1f0c53a7
  raydisc stop sst2-1f0c53a7 --address http://HEAD:8265"""

_GC = """\
What no run needs any more: artifacts that only removed runs used (a run is removed with its folder), what
dead stages have left, Tune's own files. Tells by default, removes with --delete. Artifacts are left alone
while a run is under way; remove nothing while one is being started."""

_GC_EXAMPLES = """\
examples:
  raydisc gc
  raydisc gc --outputs --delete
  raydisc gc --json | jq .bytes"""

_PREDICT = """\
Let a finished student label a file (Parquet, CSV or JSONL with the task's text columns). Writes one row for
each row of the file, in its order; a student that tags words, one for each word."""

_PREDICT_EXAMPLES = """\
examples:
  raydisc predict STUDENT new.csv --output labels.csv
  raydisc predict STUDENT test.parquet --output SST-2.tsv --glue sst2      in GLUE's submission format"""


def build_parser() -> argparse.ArgumentParser:
    """The command line; the chosen subcommand is `command` of what it parses."""
    parser = _Parser(prog="raydisc", description=_ABOUT, epilog=_START)
    _add_storage(parser, default=None)
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", dest="command", required=True, parser_class=_Parser
    )

    run = commands.add_parser("run", help="run an experiment file", description=_RUN, epilog=_RUN_EXAMPLES)
    _add_experiment(run)
    run.add_argument("--name", help="the run's name (default: the file's name)")
    _add_plain(run)

    validate = commands.add_parser(
        "validate",
        help="check an experiment file before any training",
        description=_VALIDATE,
        epilog=_VALIDATE_EXAMPLES,
    )
    _add_experiment(validate)

    plan = commands.add_parser(
        "plan", help="what an experiment will cost, before it is run", description=_PLAN, epilog=_PLAN_EXAMPLES
    )
    _add_experiment(plan)
    plan.add_argument("--gpus", metavar="N", type=int, help="plan for so many GPUs (default: this machine)")
    plan.add_argument("--gpu-memory", metavar="SIZE", help="memory of each: 80GiB, 40000MB")
    plan.add_argument("--address", metavar="ADDRESS", help="plan for the Ray cluster at this address; auto finds it")
    plan.add_argument("--probe", action="store_true", help="time a few steps on this machine's device, tell hours")
    plan.add_argument("--price", metavar="MONEY", type=float, help="of a device-hour, with --probe: tell money too")
    plan.add_argument("--json", action="store_true", help="print JSON")

    show = commands.add_parser(
        "show", help="stages, candidates and ranking of a run", description=_SHOW, epilog=_SHOW_EXAMPLES
    )
    _add_run(show)
    show.add_argument("--json", action="store_true", help="print JSON")

    compare = commands.add_parser(
        "compare",
        help="compare schedules, of one run or of several",
        description=_COMPARE,
        epilog=_COMPARE_EXAMPLES,
    )
    compare.add_argument("runs", metavar="RUN", nargs="+", help="a run's name")
    compare.add_argument("--json", action="store_true", help="print a JSON list, one object for each row")
    compare.add_argument("--markdown", action="store_true", help="print Markdown tables")
    compare.add_argument("--csv", metavar="FILE", type=Path, help="also write the rows to a CSV file")

    resume = commands.add_parser(
        "resume", help="go on with an interrupted run", description=_RESUME, epilog=_RESUME_EXAMPLES
    )
    _add_run(resume)
    _add_overrides(resume)
    _add_plain(resume)

    ls = commands.add_parser("ls", help="list the runs", description=_LS, epilog=_LS_EXAMPLES)
    ls.add_argument("--json", action="store_true", help="print a JSON list")
    submit = commands.add_parser(
        "submit", help="send an experiment to a Ray cluster", description=_SUBMIT, epilog=_SUBMIT_EXAMPLES
    )
    _add_submission(submit)
    _add_jobs(commands, ls, submit)
    gc = commands.add_parser("gc", help="remove what no run needs any more", description=_GC, epilog=_GC_EXAMPLES)
    gc.add_argument("--outputs", action="store_true", help="also outputs of teachers kept for finished runs only")
    gc.add_argument("--delete", action="store_true", help="remove it (default: only tell)")
    gc.add_argument("--json", action="store_true", help="print JSON")
    for command in (run, validate, plan, show, compare, resume, ls, submit, gc):
        _add_storage(command, default=argparse.SUPPRESS)

    predict = commands.add_parser(
        "predict", help="label a file with a finished student", description=_PREDICT, epilog=_PREDICT_EXAMPLES
    )
    predict.add_argument("student", metavar="STUDENT", help="a student's folder or address, under STORAGE/RUN/students")
    predict.add_argument(
        "file", metavar="FILE", type=Path, nargs="?", help="the rows to label (default: --glue's test)"
    )
    predict.add_argument("--output", metavar="FILE", type=Path, required=True, help="where the labels go")
    predict.add_argument("--glue", metavar="TASK", help="write GLUE's submission format for this task")
    return parser


class _Parser(argparse.ArgumentParser):
    """A parser that keeps the line breaks of its texts and takes no abbreviated options."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"raydisc: {message} (see `{self.prog} --help`)\n")


def _add_storage(parser: argparse.ArgumentParser, default: str | None) -> None:
    # A subcommand's default is suppressed, lest it overwrite what stood before the subcommand.
    told = f"the folder of all runs, or its address: s3://BUCKET/FOLDER (default: the experiment file's, or {STORAGE})"
    parser.add_argument("--storage", metavar="STORAGE", default=default, help=told)


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run's name")


def _add_experiment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="an experiment file (YAML)")
    _add_overrides(parser)


def _add_overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set", metavar="KEY=VALUE", dest="overrides", action="append", default=[],
        help="override anything in the file: student.scale=0.05, 'seeds=[0, 1]'; may be given again",
    )  # fmt: skip


def _add_submission(parser: argparse.ArgumentParser) -> None:
    _add_experiment(parser)
    parser.add_argument("--name", help="the run's name (default: the file's name)")
    parser.add_argument(
        "--pip", choices=["auto", "none"], default="auto",
        help="auto: have the versions that are installed here installed for the job; none: take what the cluster has, "
        "and refuse other versions",
    )  # fmt: skip
    parser.add_argument("--no-pip", dest="pip", action="store_const", const="none", help="the same as --pip none")
    parser.add_argument(
        "--shared", metavar="FOLDER", type=Path, action="append", default=[],
        help="a folder that the cluster sees too: files in it are not sent; may be given again",
    )  # fmt: skip
    parser.add_argument("--wait", action="store_true", help="show the progress, then the comparison; exit as the job")
    parser.add_argument("--json", action="store_true", help="print a JSON object")


def _add_jobs(
    commands: "argparse._SubParsersAction[_Parser]", ls: argparse.ArgumentParser, submit: argparse.ArgumentParser
) -> None:
    status = commands.add_parser(
        "status", help="how a job of a cluster stands", description=_STATUS, epilog=_STATUS_EXAMPLES
    )
    status.add_argument("job", metavar="JOB", nargs="?", help="a job's id (default: list them)")
    status.add_argument("--json", action="store_true", help="print JSON")
    logs = commands.add_parser("logs", help="what a job has printed", description=_LOGS, epilog=_LOGS_EXAMPLES)
    logs.add_argument("job", metavar="JOB", help="a job's id")
    logs.add_argument("--follow", action="store_true", help="go on until the job has ended; exit as the job")
    stop = commands.add_parser("stop", help="interrupt a job", description=_STOP, epilog=_STOP_EXAMPLES)
    stop.add_argument("job", metavar="JOB", help="a job's id")
    told = "the cluster: http://HEAD:8265, or auto for the one on this machine (default: RAY_ADDRESS)"
    for command in (submit, status, logs, stop):
        command.add_argument("--address", metavar="ADDRESS", help=told)
    ls.add_argument("--address", metavar="ADDRESS", help="list the jobs of the cluster at this address instead")


def _add_plain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plain", action="store_true", help="progress as plain lines, as where there is no terminal")
