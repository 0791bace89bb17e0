"""The ``raydisc`` command.

It calls the runtime and the reports, prints their results and turns the outcome into an exit code. Each command
imports the modules that it needs by itself, so that ``raydisc --help`` does not wait for torch and Ray.
"""

import argparse
import json
import logging
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from raydisc.cli.parser import STORAGE, build_parser
from raydisc.config.experiment import Experiment, checked_run_name, load_experiment
from raydisc.errors import InputError
from raydisc.exit_codes import DONE, STOPPED, exit_code_of, exit_code_of_run, say
from raydisc.registry import nearest

if TYPE_CHECKING:
    from raydisc.runtime.driver import RunResult
    from raydisc.storage.folder import Storage


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: The words after ``raydisc``; by default those of the process.

    Returns:
        The exit code: 0 done; 1 failed; 2 bad input; 3 stopped by its budget, by a signal or with its cluster, so that
        ``raydisc resume`` can continue; 141 the reader of its output has gone.
    """
    return exit_code_of(lambda: _perform(arguments))


def _perform(arguments: Sequence[str] | None) -> int:
    options = build_parser().parse_args(arguments)
    # Where there is no home to write to, matplotlib reports on the terminal where it keeps its cache instead.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    return _COMMANDS[options.command](options)


def _run(options: argparse.Namespace) -> int:
    """Run the files one after another; all are read first, and the last code that is not 0 is returned."""
    if options.name is not None and len(options.files) > 1:
        raise InputError(f"`--name` names one run, but there are {len(options.files)} files; leave it out")
    experiments = [_experiment(options, file, name=options.name) for file in options.files]
    for name, count in Counter(experiment.name for experiment in experiments).items():
        if count > 1:
            raise InputError(f"{count} of the files are named '{name}', but runs of one storage need different names")
    codes = [DONE]
    for experiment in experiments:
        codes.append(_execute(experiment, options.plain))
        if codes[-1] == STOPPED:
            break
    return next((code for code in reversed(codes) if code != DONE), DONE)


def _recommend(options: argparse.Namespace) -> int:
    from raydisc.cli.recommend import print_recommendations, recommending

    experiment = recommending(options, _experiment(options))

    def report(result: "RunResult") -> None:
        print_recommendations(experiment, result, options.plain, options.json)

    return _execute(experiment, options.plain, report)


def _resume(options: argparse.Namespace) -> int:
    storage = _storage(options)
    name = _run_name(storage, options.run)
    file = storage.path(f"{name}/experiment.yaml")
    storage.fetch_again(f"{name}/experiment.yaml")
    if not storage.has(f"{name}/experiment.yaml"):
        known = [found for found in storage.folders() if storage.has(f"{found}/experiment.yaml")]
        hint = nearest(name, known) if known else "; start one with `raydisc run FILE`"
        raise InputError(f"there is no run '{name}' in '{storage}'{hint}")
    settings = [*options.overrides, _setting("storage", str(storage))]
    return _execute(load_experiment(file, settings), options.plain)


def _execute(experiment: Experiment, plain: bool, report: "Callable[[RunResult], None] | None" = None) -> int:
    """Run an experiment and print what came of it: its comparison, unless there is another report."""
    from raydisc.report.live.reporter import LiveReporter
    from raydisc.runtime.driver import run_experiment

    elsewhere = "" if experiment.storage == STORAGE else f" --storage {shlex.quote(experiment.storage)}"
    resume = f"raydisc resume {experiment.name}{elsewhere}"
    try:
        result = run_experiment(experiment, reporter=LiveReporter(plain=plain))
    except KeyboardInterrupt:
        say(f"interrupted; continue with: {resume}")
        return STOPPED
    if report is not None:
        report(result)
    else:
        _print_comparison(experiment, result, plain)
    return exit_code_of_run(result.failures, result.following, f"continue with more budget: {resume} --set budget...")


def _print_comparison(experiment: Experiment, result: "RunResult", plain: bool) -> None:
    from raydisc.report.ledger import Ledger
    from raydisc.report.tables import print_comparison
    from raydisc.storage.address import open_storage

    print_comparison(Ledger(open_storage(experiment.storage) / "ledger"), [experiment.name], plain=plain)
    for name, place in result.places.items():
        print(f"{name}: {place}")


def _validate(options: argparse.Namespace) -> int:
    experiment = _experiment(options)
    # Imported after the file was read: the message about a typing error should not wait for torch.
    from raydisc.runtime.driver import check_experiment

    for notice in check_experiment(experiment):
        print(f"notice: {notice}", file=sys.stderr)
    print(experiment.to_yaml(), end="")
    return DONE


def _plan(options: argparse.Namespace) -> int:
    experiment = _experiment(options)
    from raydisc.forecast.tables import plan_sheets
    from raydisc.report.table import print_sheets
    from raydisc.runtime.planning import forecast

    plan = forecast(experiment, options.gpus, options.gpu_memory, options.address, options.probe, options.price)
    for notice in plan["notices"]:
        print(f"notice: {notice}", file=sys.stderr)
    if options.json:
        print(json.dumps(plan, indent=2))
    else:
        print_sheets(plan_sheets(plan), sys.stdout)
    return DONE


def _show(options: argparse.Namespace) -> int:
    from raydisc.report.ledger import Ledger
    from raydisc.report.show import show
    from raydisc.report.show_tables import render_show

    storage = _storage(options)
    shown = show(Ledger(storage / "ledger"), _run_name(storage, options.run))
    if options.json:
        print(json.dumps(shown, indent=2))
    else:
        render_show(shown)
    return DONE


def _compare(options: argparse.Namespace) -> int:
    from raydisc.report.compare import compare, comparison
    from raydisc.report.ledger import Ledger
    from raydisc.report.platforms import mixtures
    from raydisc.report.tables import comparison_markdown, csv_text, print_comparison

    storage = _storage(options)
    ledger, runs = Ledger(storage / "ledger"), [_run_name(storage, run) for run in options.runs]
    rows = compare(ledger, runs)
    if options.csv:
        _write(options.csv, csv_text(rows))
    if options.json:
        for notice in mixtures(ledger, comparison(ledger, runs)):
            print(f"notice: {notice}", file=sys.stderr)
        print(json.dumps(rows, indent=2))
    elif options.markdown:
        print(comparison_markdown(ledger, runs))
    else:
        print_comparison(ledger, runs)
    return DONE


def _submit(options: argparse.Namespace) -> int:
    experiment = _experiment(options, name=options.name)
    from raydisc.cli.cluster_commands import submit_command

    return submit_command(experiment, options)


def _status(options: argparse.Namespace) -> int:
    from raydisc.cli.cluster_commands import list_jobs, show_job

    return list_jobs(options) if options.job is None else show_job(options)


def _logs(options: argparse.Namespace) -> int:
    from raydisc.cli.cluster_commands import print_log

    return print_log(options)


def _stop(options: argparse.Namespace) -> int:
    from raydisc.cli.cluster_commands import stop_job

    return stop_job(options)


def _ls(options: argparse.Namespace) -> int:
    if options.address is not None:
        from raydisc.cli.cluster_commands import list_jobs

        return list_jobs(options)
    from raydisc.report.runs import list_runs
    from raydisc.report.table import Sheet, print_sheets

    storage = _storage(options)
    runs = list_runs(storage)
    if options.json:
        print(json.dumps(runs, indent=2))
        return DONE
    lines = [
        [
            run["name"],
            run["task"] or "",
            run["state"] or "",
            f"{run['finished']}/{run['trials'] or '?'}",
            run["when"][:19],
        ]
        for run in runs
    ]
    if lines:
        print_sheets(
            [Sheet(f"runs in {storage}", ["<run", "<task", "<state", "trials", "<last (UTC)"], lines)], sys.stdout
        )
    else:
        print(f"there are no runs in {storage} yet; start one with `raydisc run FILE`")
    return DONE


def _gc(options: argparse.Namespace) -> int:
    from raydisc.report.table import Sheet, print_sheets
    from raydisc.runs.garbage import find_litter, remove

    storage = _storage(options)
    found = find_litter(storage, options.outputs)
    if options.delete:
        found = [litter for litter in found if remove(storage, litter)]
    total = sum(litter.size for litter in found)
    if options.json:
        folders = [{"path": litter.name, "why": litter.why, "bytes": litter.size} for litter in found]
        print(json.dumps({"deleted": options.delete, "bytes": total, "folders": folders}, indent=2))
        return DONE
    done = "removed" if options.delete else "can be removed with --delete"
    lines = [[litter.name, litter.why, f"{litter.size:,}"] for litter in found]
    title = f"{storage}: {total:,} bytes {done}"
    print_sheets([Sheet(title, ["<folder", "<why", "bytes"], lines)], sys.stdout) if lines else print(title)
    return DONE


def _predict(options: argparse.Namespace) -> int:
    from raydisc.cli.predict import predict_file

    rows = predict_file(options.student, options.file, options.output, glue=options.glue)
    print(f"{rows} rows labelled: {options.output}")
    return DONE


def _schema(_: argparse.Namespace) -> int:
    from raydisc.config.json_schema import experiment_schema

    print(json.dumps(experiment_schema(), indent=2, ensure_ascii=False))
    return DONE


def _completion(options: argparse.Namespace) -> int:
    from raydisc.cli.completion import completion_script

    print(completion_script(build_parser(), options.shell))
    return DONE


def _experiment(options: argparse.Namespace, file: Path | None = None, **fields: str | None) -> Experiment:
    given = {"storage": options.storage, **fields}
    settings = [_setting(key, value) for key, value in given.items() if value is not None]
    return load_experiment(file or options.file, [*options.overrides, *settings])


def _setting(key: str, text: str) -> str:
    # A JSON string is a quoted YAML string, so that a name such as 2024 remains text.
    return f"{key}={json.dumps(text)}"


def _storage(options: argparse.Namespace) -> "Storage":
    from raydisc.storage.address import open_storage

    return open_storage(options.storage or STORAGE)


def _run_name(storage: "Storage", run: str) -> str:
    """Return the name of a run that was given by its name or by the path of its folder."""
    return checked_run_name(Path(run).name if Path(run).parent == storage.folder else run)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"--csv {path} cannot be written: {error.strerror}") from error


_COMMANDS = {
    "run": _run,
    "recommend": _recommend,
    "validate": _validate,
    "plan": _plan,
    "show": _show,
    "compare": _compare,
    "resume": _resume,
    "ls": _ls,
    "submit": _submit,
    "status": _status,
    "logs": _logs,
    "stop": _stop,
    "gc": _gc,
    "predict": _predict,
    "schema": _schema,
    "completion": _completion,
}


if __name__ == "__main__":
    sys.exit(main())
