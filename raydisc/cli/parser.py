"""The command line of ``raydisc``: its subcommands, their options and their help texts."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import raydisc
from raydisc.exit_codes import BAD_INPUT

STORAGE = "runs"
"""The default of the storage folder, as in the experiment file."""

SHELLS = ("bash", "zsh")
"""The shells that ``raydisc completion`` knows."""

_ABOUT = """\
Find the teacher assistant that gives the best student of a fine-tuned transformer at the size you can afford,
and compare what the search cost with the alternatives (kd, maxidisc, minidisc), as Ray Tune trials."""

_START = """\
start here:
  raydisc run experiments/quickstart.yaml        run a whole search without any download
  raydisc compare quickstart                     print what each schedule reached and what it cost
  raydisc show quickstart                        print its stages, and its candidates ranked by λ-tradeoff

on a cluster:
  raydisc submit FILE --address http://HEAD:8265 --storage /mnt/nfs/runs --wait

exit codes: 0 done, 1 failed, 2 bad input, 3 stopped by its budget or a signal, or with its cluster
(continue with `raydisc resume RUN`)"""

_RUN = """\
Fine-tune the teacher where the file says so, run every schedule as Ray Tune trials and print the comparison.
Results are written to STORAGE/NAME; progress goes to stderr. A stage that any run in the storage has computed
is not computed again, and the same experiment under the same name continues where it stopped."""

_RUN_EXAMPLES = """\
examples:
  raydisc run experiments/quickstart.yaml
  raydisc run experiments/sst2.yaml --set task.glue=sst2
  raydisc run experiments/sst2.yaml --name sst2-5 --set student.scale=0.05 --set 'seeds=[0]'
  raydisc run experiments/sst2.yaml --name sst2-2m --set student.parameters=2e6"""

_VALIDATE = """\
Check an experiment file, its data and its teacher, and say in one sentence what is wrong, before any
training. Prints the resolved experiment, with every default filled in, as YAML."""

_VALIDATE_EXAMPLES = """\
examples:
  raydisc validate experiments/sst2.yaml
  raydisc validate experiments/sst2.yaml --set task.glue=sst2 > resolved.yaml"""

_PLAN = """\
Print what an experiment will cost before anything is run: the candidates, every stage with its FLOPs, the
bytes it keeps and the memory it needs, the cost of MiniDisc beside that of MaxiDisc, and whether the model
fits the devices. Nothing is trained: the file, the data and the teacher's configuration are read, no weights."""

_PLAN_EXAMPLES = """\
examples:
  raydisc plan experiments/quickstart.yaml
  raydisc plan experiments/sst2.yaml --gpus 8 --gpu-memory 80GiB
  raydisc plan experiments/sst2.yaml --address auto            for the cluster on this machine
  raydisc plan experiments/quickstart.yaml --probe --price 2.5
  raydisc plan experiments/quickstart.yaml --json | jq '.schedules[0].flops'"""

_SHOW = "Print what a run has done: its stages with their costs, and its candidates ranked by λ-tradeoff."

_SHOW_EXAMPLES = """\
examples:
  raydisc show quickstart
  raydisc show quickstart --json | jq '.candidates[0]'"""

_COMPARE = """\
Print one row for each schedule, path and seed: the student's validation and test metric, the cost of the
search, that cost relative to the oracle path's, and the regret. The controls kd_equal_compute and
kd_supernet_init are listed beside the schedules: without them no verdict is possible."""

_COMPARE_EXAMPLES = """\
examples:
  raydisc compare quickstart
  raydisc compare sst2 mrpc --csv comparison.csv
  raydisc compare sst2 --markdown
  raydisc compare quickstart --json | jq '.[] | select(.selected)'"""

_RESUME = """\
Continue a run that was interrupted, has spent its budget or had failed trials. Finished stages are not run
again; an interrupted stage continues from its last checkpoint."""

_RESUME_EXAMPLES = """\
examples:
  raydisc resume quickstart
  raydisc resume sst2 --storage /mnt/nfs/runs
  raydisc resume sst2 --set budget.device_hours=200"""

_LS = "List the runs in a storage with their task, state and number of finished trials, or the jobs of a cluster."

_LS_EXAMPLES = """\
examples:
  raydisc ls
  raydisc ls --storage /mnt/nfs/runs
  raydisc ls --address http://HEAD:8265
  raydisc ls --json | jq '.[].name'"""

_SUBMIT = """\
Send an experiment to a Ray cluster, which runs it as `raydisc run` does. The job consists of the code of this
installation, the resolved file and the local files that it names (at most 64 MiB), and nothing else. A stage
that any run in the storage has computed is not computed again. For a cluster that requires a token, set
RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH=FILE (or RAY_AUTH_TOKEN)."""

_SUBMIT_EXAMPLES = """\
examples:
  raydisc submit experiments/sst2.yaml --address http://HEAD:8265 --storage /mnt/nfs/runs
  raydisc submit experiments/sst2.yaml --storage s3://BUCKET/runs --wait > comparison.txt
  raydisc submit experiments/quickstart.yaml --address auto --pip none --json | jq -r .job"""

_STATUS = "Print the run, state, exit code and times of a job of a cluster; without a job, list all jobs of raydisc."

_STATUS_EXAMPLES = """\
examples:
  raydisc status
  raydisc status sst2-1f0c53a7 --address http://HEAD:8265
  raydisc status sst2-1f0c53a7 --json | jq .exit_code"""

_LOGS = "Print the output of a job: its progress, and the comparison once it has ended."

_LOGS_EXAMPLES = """\
examples:
  raydisc logs sst2-1f0c53a7
  raydisc logs sst2-1f0c53a7 --follow --address http://HEAD:8265"""

_STOP = """\
Interrupt a job. Finished stages are kept, and so is the last checkpoint of a stage that was interrupted:
submitting the same file again continues from there."""

_STOP_EXAMPLES = """\
examples:
  raydisc stop sst2-1f0c53a7
  raydisc stop sst2-1f0c53a7 --address http://HEAD:8265"""

_GC = """\
List files that no run needs any more: artifacts that only removed runs used (remove a run by removing its
folder), remains of stages that were killed, and Tune's own files. They are listed by default and removed with
--delete. Artifacts are kept while a run is in progress; do not use --delete while a run is being started."""

_GC_EXAMPLES = """\
examples:
  raydisc gc
  raydisc gc --outputs --delete
  raydisc gc --json | jq .bytes"""

_PREDICT = """\
Label a file (Parquet, CSV or JSONL with the task's text columns) with a finished student. Writes one row for
each row of the file, in the same order, or one row for each word if the student tags words."""

_PREDICT_EXAMPLES = """\
examples:
  raydisc predict STUDENT new.csv --output labels.csv
  raydisc predict STUDENT test.parquet --output SST-2.tsv --glue sst2      in GLUE's submission format"""

_SCHEMA = """\
Print the JSON Schema of experiment files. With it an editor completes keys, shows what each setting means and
underlines mistakes; the first line of the file names the schema:
  # yaml-language-server: $schema=raydisc.schema.json"""

_SCHEMA_EXAMPLES = """\
examples:
  raydisc schema > raydisc.schema.json"""

_COMPLETION = """\
Print a script with which a shell completes commands, options and file names of raydisc when Tab is pressed.
Load it in the shell's start-up file."""

_COMPLETION_EXAMPLES = """\
examples:
  raydisc completion bash > ~/.local/share/bash-completion/completions/raydisc
  raydisc completion zsh > ~/.zfunc/_raydisc      with fpath+=~/.zfunc before compinit"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; its result holds the chosen subcommand as ``command``."""
    parser = _Parser(prog="raydisc", description=_ABOUT, epilog=_START)
    parser.add_argument("--version", action=_Version, help="print the version and exit")
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
        "plan", help="print what an experiment will cost", description=_PLAN, epilog=_PLAN_EXAMPLES
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

    show = commands.add_parser(
        "show", help="print stages, candidates and ranking of a run", description=_SHOW, epilog=_SHOW_EXAMPLES
    )
    _add_run(show)
    show.add_argument("--json", action="store_true", help="print JSON")

    compare = commands.add_parser(
        "compare",
        help="compare the schedules of one run or several",
        description=_COMPARE,
        epilog=_COMPARE_EXAMPLES,
    )
    compare.add_argument("runs", metavar="RUN", nargs="+", help="a run's name")
    compare.add_argument("--json", action="store_true", help="print a JSON list, one object for each row")
    compare.add_argument("--markdown", action="store_true", help="print Markdown tables")
    compare.add_argument("--csv", metavar="FILE", type=Path, help="also write the rows to a CSV file")

    resume = commands.add_parser(
        "resume", help="continue an interrupted run", description=_RESUME, epilog=_RESUME_EXAMPLES
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
    gc = commands.add_parser("gc", help="remove files that no run needs any more", description=_GC, epilog=_GC_EXAMPLES)
    gc.add_argument("--outputs", action="store_true", help="include teacher outputs that only finished runs used")
    gc.add_argument("--delete", action="store_true", help="remove the files (default: only list them)")
    gc.add_argument("--json", action="store_true", help="print JSON")
    for command in (run, validate, plan, show, compare, resume, ls, submit, gc):
        _add_storage(command, default=argparse.SUPPRESS)

    predict = commands.add_parser(
        "predict", help="label a file with a finished student", description=_PREDICT, epilog=_PREDICT_EXAMPLES
    )
    predict.add_argument("student", metavar="STUDENT", help="folder or address of a student in STORAGE/RUN/students")
    predict.add_argument(
        "file", metavar="FILE", type=Path, nargs="?", help="the rows to label (default: the test set of --glue)"
    )
    predict.add_argument("--output", metavar="FILE", type=Path, required=True, help="the file to write the labels to")
    predict.add_argument("--glue", metavar="TASK", help="write GLUE's submission format for this task")
    commands.add_parser(
        "schema", help="print the JSON Schema of experiment files", description=_SCHEMA, epilog=_SCHEMA_EXAMPLES
    )
    completion = commands.add_parser(
        "completion",
        help="print a script for completion in a shell",
        description=_COMPLETION,
        epilog=_COMPLETION_EXAMPLES,
    )
    completion.add_argument("shell", metavar="SHELL", choices=SHELLS, help="bash or zsh")
    return parser


class _Parser(argparse.ArgumentParser):
    """A parser that keeps the line breaks of its texts and takes no abbreviated options."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"raydisc: {message} (see `{self.prog} --help`)\n")


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


def _add_jobs(
    commands: "argparse._SubParsersAction[_Parser]", ls: argparse.ArgumentParser, submit: argparse.ArgumentParser
) -> None:
    status = commands.add_parser(
        "status", help="print the state of a job of a cluster", description=_STATUS, epilog=_STATUS_EXAMPLES
    )
    status.add_argument("job", metavar="JOB", nargs="?", help="a job's id (default: list them)")
    status.add_argument("--json", action="store_true", help="print JSON")
    logs = commands.add_parser("logs", help="print the output of a job", description=_LOGS, epilog=_LOGS_EXAMPLES)
    logs.add_argument("job", metavar="JOB", help="a job's id")
    logs.add_argument("--follow", action="store_true", help="follow the job to its end and exit with its code")
    stop = commands.add_parser("stop", help="interrupt a job", description=_STOP, epilog=_STOP_EXAMPLES)
    stop.add_argument("job", metavar="JOB", help="a job's id")
    help = "the cluster: http://HEAD:8265, or auto for the one on this machine (default: RAY_ADDRESS)"
    for command in (submit, status, logs, stop):
        command.add_argument("--address", metavar="ADDRESS", help=help)
    ls.add_argument("--address", metavar="ADDRESS", help="list the jobs of the cluster at this address instead")


def _add_plain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plain", action="store_true", help="print progress as plain lines, as without a terminal")
