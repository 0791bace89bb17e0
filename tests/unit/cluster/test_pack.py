"""What travels with a job, and what never does."""

from pathlib import Path
from typing import Any

import pytest

import raydisc
from raydisc.cluster import pack as packing
from raydisc.cluster.pack import pack, pack_code, storage_seen
from raydisc.config.experiment import Experiment, StudentConfig, TaskConfig, TeacherConfig, load_experiment
from raydisc.errors import InputError

SECRET = "hf_0123456789abcdefghijklmnopqrstuvwxyz"


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with data, a teacher, and what is nobody's business."""
    folder = tmp_path / "desk"
    for name, text in {
        "sst2/train.csv": "text,label\na,0\n",
        "sst2/validation.csv": "text,label\nb,1\n",
        "sst2/notes.csv": "private",
        "teacher/config.json": "{}",
        "teacher/model.safetensors": "weights",
        "teacher/vocab.txt": "[PAD]",
        "teacher/optimizer.pt": "pickle",
        "teacher/.token.json": SECRET,
        "teacher/.git/config.json": SECRET,
        ".env": f"HF_TOKEN={SECRET}",
        "id_rsa": SECRET,
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setenv("RAY_AUTH_TOKEN", SECRET)
    return folder


def experiment(**task: Any) -> Experiment:
    names = {"train": "sst2/train.csv", "validation": "sst2/validation.csv"}
    return Experiment(
        name="one",
        task=TaskConfig(**{**names, "text": ["text"], "metric": "accuracy", **task}),
        teacher=TeacherConfig(model="teacher"),
        student=StudentConfig(scale=[0.1]),
        storage="/mnt/runs",
    )


def packed(folder: Path, *arguments: Any, **options: Any) -> set[str]:
    pack(*arguments, folder=folder, **options)
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_the_pack_holds_what_the_run_needs_and_nothing_else(desk: Path, tmp_path: Path) -> None:
    files = packed(tmp_path / "pack", experiment(), ["numpy==2.0"])
    assert files == {
        "experiment.yaml",
        "requirements.txt",
        "inputs/task.train/sst2/train.csv",
        "inputs/task.validation/sst2/validation.csv",
        "inputs/teacher.model/teacher/config.json",
        "inputs/teacher.model/teacher/model.safetensors",
        "inputs/teacher.model/teacher/vocab.txt",
    }
    everything = b"".join((tmp_path / "pack" / name).read_bytes() for name in files)
    assert SECRET.encode() not in everything
    assert str(desk).encode() not in everything, "no folder of the user's machine is named"


def test_the_packed_experiment_names_the_packed_files_and_every_default(
    desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(experiment(), ["numpy==2.0"], tmp_path / "pack")
    monkeypatch.chdir(tmp_path / "pack")
    read = load_experiment("experiment.yaml")
    assert Path(str(read.task.train)).read_text() == "text,label\na,0\n"
    assert Path(str(read.teacher.model), "config.json").is_file()
    given = experiment()
    same = {"task": given.task, "teacher": given.teacher}
    assert read.model_copy(update=same) == given
    assert "temperature" in Path("experiment.yaml").read_text()


def test_the_same_experiment_makes_the_same_pack(desk: Path, tmp_path: Path) -> None:
    contents = []
    for name in ("first", "second"):
        files = packed(tmp_path / name, experiment(), ["numpy==2.0"])
        contents.append({file: (tmp_path / name / file).read_bytes() for file in files})
    assert contents[0] == contents[1]


def test_what_the_cluster_has_itself_is_named_and_not_sent(desk: Path, tmp_path: Path) -> None:
    asked = experiment(
        train=str(desk / "sst2/train.csv"), validation="/mnt/nfs/nowhere/validation.csv", test="s3://bucket/test.csv"
    ).model_copy(update={"teacher": TeacherConfig(model="google/bert_uncased", tokenizer="package:some/folder")})
    files = packed(tmp_path / "pack", asked, [], shared=[desk / "sst2"])
    assert files == {"experiment.yaml", "requirements.txt"}
    read = load_experiment(tmp_path / "pack/experiment.yaml")
    assert (read.task, read.teacher) == (asked.task, asked.teacher)


def test_files_beyond_the_limit_are_refused(desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (desk / "sst2/train.csv").open("ab") as file:
        file.truncate(packing.LIMIT_BYTES - 1000)
    packed(tmp_path / "fits", experiment(), [])
    with (desk / "teacher/model.safetensors").open("ab") as file:
        file.truncate(2000)
    with pytest.raises(InputError, match=r"^teacher\.model: .*are 64 MiB, more than the 64 .* --shared FOLDER$"):
        pack(experiment(), [], tmp_path / "large")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (".env", "task.train: '.env' is a hidden file"),
        ("none.csv", "task.train: the file 'none.csv' does not exist"),
        ("sst2", "task.train: 'sst2' is not a file"),
    ],
)
def test_files_that_cannot_be_sent(desk: Path, tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(InputError, match=said.replace(".", r"\.")):
        pack(experiment(train=name), [], tmp_path / "pack")


def test_the_code_is_this_raydisc_without_anything_beside_it(tmp_path: Path) -> None:
    target = pack_code(tmp_path)
    assert target == tmp_path / "raydisc"
    copied = {path.relative_to(target) for path in target.rglob("*") if path.is_file()}
    source = Path(raydisc.__file__).parent
    assert copied == {path.relative_to(source) for path in source.rglob("*.py")}
    assert (target / "cluster/pack.py").read_bytes() == (source / "cluster/pack.py").read_bytes()


@pytest.mark.parametrize("storage", ["/mnt/nfs/runs", "s3://bucket/runs", "gs://bucket/runs"])
def test_storage_that_a_cluster_can_see(storage: str) -> None:
    assert storage_seen(storage, here=False) == storage


@pytest.mark.parametrize("storage", ["runs", "~/runs", "./runs"])
def test_a_relative_storage_is_for_a_cluster_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert storage_seen(storage, here=True) == str(tmp_path / "runs")
    with pytest.raises(InputError, match="an absolute folder that all its nodes can read, or an address"):
        storage_seen(storage, here=False)
