"""Jobs of a real cluster: submitted, watched, stopped, gone on with; strangers are refused."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from desk import EXPERIMENT, said_until, student_hashes
from files import write_files
from head import Client, Head, running_head
from s3_server import Server

from raydisc.report.ledger import Ledger
from raydisc.storage.mirrored import CACHE_VARIABLE

pytestmark = pytest.mark.cluster
pytest.importorskip("aiohttp", reason="job submission needs ray[default]")

ONE_SCHEDULE = EXPERIMENT.replace("[kd, maxidisc, {minidisc: {lam: 0.2}}]", "[kd]") + "resources: {trials: 1}\n"
SUBMIT = ("submit", "tiny.yaml", "--pip", "none")


@pytest.fixture(scope="module")
def head(s3_server: Server) -> Iterator[Head]:
    """Its machines have keys for the server of S3."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "key-of-tests")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-tests")
        with running_head() as started:
            yield started


@pytest.fixture(scope="module")
def user(head: Head, tmp_path_factory: pytest.TempPathFactory) -> Client:
    """A user who has the token, and in whose folder the storage is that the cluster sees too."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "tiny.yaml").write_text(ONE_SCHEDULE + f"storage: {folder / 'runs'}\n")
    (folder / ".env").write_text("HF_TOKEN=hf_secret")
    return Client(folder, {**head.access, "RAY_ADDRESS": head.address, "HF_TOKEN": "hf_secret"})


@pytest.fixture(scope="module")
def submitted(user: Client) -> dict[str, Any]:
    """What `submit --wait --json` has printed of a whole run, and how it went on."""
    process = user.start(*SUBMIT, "--wait", "--json")
    printed, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return {**json.loads(printed), "said": said}


def stages(user: Client) -> Any:
    return Ledger(user.folder / "runs" / "ledger").read("stages", latest=False, state="finished")


def test_waiting_shows_progress_and_ends_with_the_comparison(submitted: dict[str, Any], head: Head) -> None:
    assert re.search(r"\[\d+:\d\d\] kd-to-0.25-seed-0: distil", submitted["said"])
    assert re.fullmatch(r"tiny-[0-9a-f]{8}", submitted["job"])
    assert (submitted["run"], submitted["state"], submitted["exit_code"]) == ("tiny", "finished", 0)
    [row] = [row for row in submitted["comparison"] if row["schedule"] == "kd"]
    assert 0 <= row["test_metric"] <= 1


def test_the_same_file_again_computes_nothing_and_prints_the_table(user: Client, submitted: dict[str, Any]) -> None:
    before, hashes = stages(user), student_hashes(user)
    assert len(before) > 3
    assert len(hashes) == 1
    printed = user.run(*SUBMIT, "--wait")
    assert printed.startswith("tiny: accuracy on reviews, seed 0\n")
    assert "------" not in printed
    assert stages(user).equals(before)
    assert student_hashes(user) == hashes


def test_the_storage_of_a_job_may_be_behind_an_address(
    user: Client, submitted: dict[str, Any], s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    storage = s3.address(f"{s3.bucket()}/runs")
    told = user.json(*SUBMIT, "--wait", "--json", "--storage", storage)
    assert told["exit_code"] == 0
    metrics = [[row["test_metric"] for row in it["comparison"]] for it in (told, submitted)]
    assert metrics[0] == metrics[1]
    assert user.json("compare", "tiny", "--json", "--storage", storage) == told["comparison"]


def test_status_logs_and_ls_tell_of_the_job(user: Client, submitted: dict[str, Any], head: Head) -> None:
    job = submitted["job"]
    codes, printed = zip(
        *user.several(
            ("status", job, "--json"), ("status", job), ("logs", job), ("logs", job, "--follow"),
            ("ls", "--address", head.address, "--json"), ("status",), ("stop", job),
        ),
        strict=True,
    )  # fmt: skip
    assert {*codes} == {0}
    told, state, log, followed, jobs, states, stopped = printed
    told = json.loads(told)
    assert (told["job"], told["state"], told["exit_code"]) == (job, "finished", 0)
    assert told["storage"] == str(user.folder / "runs")
    assert "exit code: 0" in state
    assert "finished: kd-to-0.25-seed-0" in log
    assert followed == log
    assert job in {each["job"] for each in json.loads(jobs)}
    assert re.search(rf"{job} +tiny +finished +0 ", states)
    assert f"{job} had already ended: finished" in stopped


def test_what_a_job_is_told_holds_no_secret(user: Client, submitted: dict[str, Any], head: Head) -> None:
    from_cluster = subprocess.run(
        [sys.executable, "-c", "from ray.job_submission import *; print(JobSubmissionClient().list_jobs())"],
        env={**head.access, "RAY_ADDRESS": head.address, "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert submitted["job"] in from_cluster
    packed = [path for path in head.folder.glob("ray/session_*/runtime_resources/**/*") if path.is_file()]
    names = {path.name for path in packed}
    assert {"experiment.yaml", "requirements.txt", "job.py"} <= names
    assert not [name for name in names if name.startswith(".") and not name.endswith(".lock")]
    texts = [from_cluster, submitted["said"], user.run("logs", submitted["job"]), *map(_text, packed)]
    assert not [text for text in texts if head.token in text or "hf_secret" in text]


def _text(path: Path) -> str:
    return path.read_text(errors="replace")


def test_strangers_are_refused(user: Client, head: Head) -> None:
    for variables in ({}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}):
        stranger = Client(user.folder, {**variables, "RAY_ADDRESS": head.address})
        for code, said in stranger.several(SUBMIT, ("status",)):
            assert code == 2
            assert said.count("\n") == 1
            assert "refuses this client: set RAY_AUTH_MODE=token" in said
            assert "RAY_AUTH_TOKEN_PATH" in said


def test_unknown_jobs_and_clusters_are_named(user: Client) -> None:
    (one, unknown), (other, nowhere) = user.several(("logs", "nothing"), ("status", "--address", "http://127.0.0.1:9"))
    assert (one, other) == (2, 2)
    assert "has no job 'nothing'" in unknown
    assert nowhere.startswith("raydisc: no cluster can be reached at http://127.0.0.1:9 ")
    assert nowhere.count("\n") == 1


def test_what_is_wrong_there_ends_with_code_2(user: Client) -> None:
    said = user.run(*SUBMIT, "--wait", "--name", "wrong", "--set", "resources.cpus=64", code=2)
    assert "raydisc: resources.cpus: a trial asks for 64" in said
    assert user.json("status", "--json")[0]["exit_code"] == 2


def test_a_job_whose_budget_is_spent_ends_with_code_3(user: Client, submitted: dict[str, Any]) -> None:
    two = ("--set", "schedules=[kd, {takd: {path: [0.5]}}]", "--set", "budget.trials=1")
    said = user.run(*SUBMIT, "--wait", "--name", "short", *two, code=3)
    assert "the budget is spent; next would be: " in said


@pytest.mark.slow
def test_the_versions_of_here_are_installed_for_the_job(user: Client) -> None:
    table = user.run("submit", "tiny.yaml", "--wait", "--name", "pinned", "--set", "schedules=[kd]")
    assert "pinned: accuracy on reviews" in table


LONG = (*SUBMIT, "--wait", "--name", "long", "--set", "teacher.seed=1", "--set", "distillation.epochs=10000")


def test_a_stopped_job_is_interrupted(user: Client) -> None:
    waiting = user.start(*LONG)
    job = _once_it_says(waiting, r"kd-to-0.25-seed-0: distil")
    assert f"{job}: interrupted; submitting the same file again" in user.run("stop", job)
    _, said = waiting.communicate(timeout=180)
    assert waiting.returncode == 3, said
    assert "submitting the same file again continues its run" in said
    assert json.loads((user.folder / "runs/long/run.json").read_text())["state"] == "interrupted"
    assert {"finetune", "importance"} <= set(stages(user).query("run == 'long'")["kind"])


@pytest.mark.slow
def test_a_stopped_job_can_be_gone_on_with_and_its_name_is_held_meanwhile(user: Client) -> None:
    first = user.start(*LONG)
    job = _once_it_says(first, r"kd-to-0.25-seed-0: distil")
    finished = stages(user)
    assert "the run 'long' is running already" in user.run(*LONG, code=2)
    user.run("stop", job)
    first.communicate(timeout=180)
    second = user.start(*LONG)
    job = _once_it_says(second, r"kd-to-0.25-seed-0: distil")
    assert stages(user).equals(finished), "the teacher is there already"
    second.send_signal(signal.SIGINT)
    _, said = second.communicate(timeout=180)
    assert second.returncode == 3
    assert f"no longer waiting; the job goes on\nfollow it: raydisc logs {job} --follow" in said
    assert user.json("status", job, "--json")["state"] == "running"
    user.run("stop", job)


def _once_it_says(process: "subprocess.Popen[str]", pattern: str) -> str:
    """Wait until a waiting client says this; gives its job's id."""
    return re.findall(r"^job: (\S+)$", said_until(process, pattern), re.MULTILINE)[0]


FROM_PYTHON = """
import asyncio, raydisc
async def cell():  # a notebook runs its cells inside an event loop
    return raydisc.submit(raydisc.load_experiment("files.yaml"), address="auto", pip="none")
print(asyncio.run(cell()))
"""


@pytest.mark.slow
def test_files_of_the_user_reach_every_process_from_a_notebook_too(user: Client, head: Head) -> None:
    write_files(user.folder)
    clean = {"HOME": str(user.folder), "PATH": "/usr/bin", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", FROM_PYTHON],
        cwd=user.folder,
        env={**clean, **head.access},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    log = user.run("logs", done.stdout.strip(), "--follow")
    assert "files: accuracy on data" in log
    assert (user.folder / "files/files/students").is_dir(), "a cluster of this machine sees the user's folder"
    written = (user.folder / "files/files/experiment.yaml").read_text()
    assert "train: inputs/task.train/data/train.csv" in written
