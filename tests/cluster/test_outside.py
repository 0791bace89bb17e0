"""A package outside raydisc that adds one member of each kind: planned, run by trials on Ray, shown, and submitted."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from desk import Desk, make_desk
from head import Client, running_head

from raydisc.report.ledger import Ledger
from raydisc.tasks.reviews import word_tokenizer

pytestmark = pytest.mark.cluster

PACKAGE = Path(__file__).parents[1] / "unit" / "outside"
EXPERIMENT = """
task: {name: praise, options: {copies: 4}, max_length: 16}
teacher:
  tokenizer: tokenizer
  architecture: {model_type: outside_bert, hidden_size: 24, num_hidden_layers: 2, num_attention_heads: 4,
    intermediate_size: 32, max_position_embeddings: 32, initializer_range: 0.2}
  finetune: {epochs: 4, lr: 2.0e-3, batch_size: 16}
grid: {scales: [0.8, 0.5, 0.25], importance: gradient}
student: {scale: 0.25}
schedules: [kd, midway]
distillation: {epochs: 1, lr: 1.0e-3, batch_size: 16, losses: {logit_mae: 1.0}}
resources: {trials: 1}
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the package."""
    source, target = tmp_path_factory.mktemp("source") / "package", tmp_path_factory.mktemp("packages")
    shutil.copytree(PACKAGE, source, ignore=shutil.ignore_patterns("test_*", "__pycache__"))
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check")
    subprocess.run([sys.executable, "-m", "pip", "install", *options, "--target", target, source], check=True)
    return target


@pytest.fixture(scope="module")
def installed(packages: Path) -> Iterator[None]:
    """Put the package on the import path of every command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(packages), os.environ.get("PYTHONPATH")))))
        yield


@pytest.fixture(scope="module")
def user(installed: None, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A user's folder after a run that names all members."""
    desk = desk_with_tokenizer(tmp_path_factory.mktemp("desk") / "user", EXPERIMENT)
    desk.run("run", "tiny.yaml")
    return desk


def desk_with_tokenizer(folder: Path, experiment: str) -> Desk:
    """Make a user's folder with the experiment and the tokenizer that it names."""
    word_tokenizer().save_pretrained(folder / "tokenizer")
    return make_desk(folder, experiment)


def test_plan_and_comparison_agree_on_the_schedule(user: Desk) -> None:
    told = user.several(("plan", "tiny.yaml", "--json"), ("compare", "tiny", "--json"))
    plan, compared = (json.loads(printed) for _, printed in told)
    [planned] = [row for row in plan["schedules"] if row["schedule"] == "midway"]
    assert planned["assistants"] == [[0.5]]
    rows = {row["schedule"]: row for row in compared}
    assert {"kd", "midway"} <= set(rows)
    assert rows["midway"]["path"] == [0.5]
    assert rows["midway"]["search_flops"] == pytest.approx(planned["flops"]["expected"], rel=0.05)


def test_the_ledger_names_all_members(user: Desk) -> None:
    ledger = Ledger(user.folder / "runs" / "ledger")
    [trial] = ledger.rows("trials", run="tiny", schedule="midway")
    assert (trial["task"], trial["metric"]) == ("praise", "mean_recall")
    settings = [json.dumps(stage, default=str) for stage in ledger.rows("stages", run="tiny", kind="distil")]
    assert settings
    assert all("logit_mae" in each for each in settings)
    [counts] = ledger.rows("stages", run="tiny", kind="token_counts")
    assert counts["state"] == "finished"


def test_the_report_has_the_mark_of_the_schedule(user: Desk) -> None:
    report = (user.folder / "runs" / "tiny" / "report.html").read_text()
    assert "midway" in report
    figures = re.findall(r"data:image/svg\+xml;base64,([^'\"]+)", report)
    assert any("#117733" in base64.b64decode(figure).decode() for figure in figures)


def test_the_student_is_of_the_family(user: Desk) -> None:
    [folder] = (user.folder / "runs" / "tiny" / "students").glob("midway-*")
    assert json.loads((folder / "config.json").read_text())["model_type"] == "outside_bert"
    code = "import sys, raydisc; print(type(raydisc.load_student(sys.argv[1])).__name__)"
    loaded = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == ["OutsideBertForSequenceClassification"]


REFUSED = {
    "schedules=[midwya]": "unknown schedule 'midwya'.*did you mean 'midway'",
    "distillation.losses={logit_maee: 1.0}": "unknown loss 'logit_maee'.*did you mean 'logit_mae'",
    "task.name=prise": "unknown task 'prise'.*did you mean 'praise'",
    "task.metric=mean_recal": "unknown metric 'mean_recal'.*did you mean 'mean_recall'",
    "teacher.architecture.model_type=outside_brt": "unknown to transformers.*did you mean 'outside_bert'",
}


def test_names_that_do_not_exist(user: Desk) -> None:
    told = user.several(*(("validate", "tiny.yaml", "--set", changed) for changed in REFUSED))
    for (code, said), wanted in zip(told, REFUSED.values(), strict=True):
        assert code == 2
        assert re.search(wanted, said)


def test_the_package_travels_with_a_job(installed: None, tmp_path: Path) -> None:
    """The machines of the cluster do not have it."""
    pytest.importorskip("aiohttp", reason="job submission needs ray[default]")
    with running_head() as head:
        variables: dict[str, Any] = {**head.access, "RAY_ADDRESS": head.address}
        experiment = EXPERIMENT.replace("[kd, midway]", "[midway]")
        desk = desk_with_tokenizer(tmp_path / "client", experiment + f"storage: {tmp_path / 'runs'}\n")
        client = Client(desk.folder, variables)
        found = client.json("submit", "tiny.yaml", "--pip", "none", "--wait", "--json")
    assert found["exit_code"] == 0
    assert [row["schedule"] for row in found["comparison"]] == ["midway"]
