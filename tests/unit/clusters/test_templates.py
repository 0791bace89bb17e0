"""What holds for every template: a header with its commands, no secret, nothing public, scripts that are whole."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from templates import ALL, FOLDER, MANIFESTS, RAY_UP, SHELL, documents, name_of, values_of

each = pytest.mark.parametrize("path", ALL, ids=name_of)

PARTS = ["Gives", "Costs", "Launch", "Submit", "Tear down"]


def _header(path: Path) -> dict[str, str]:
    """The parts of a file's header, in their order."""
    text = path.read_text()
    if path.suffix == ".py":
        lines = text.split('"""')[1].splitlines()
    else:
        comments = re.match(r"(?:#.*\n)+", text)
        assert comments is not None, "no header"
        lines = [line.removeprefix("#").strip() for line in comments.group().splitlines()]
    parts: dict[str, str] = {}
    for line in lines:
        found = re.match(rf"\s*({'|'.join(PARTS)}):\s*(.*)", line)
        if found:
            parts[found.group(1)] = found.group(2)
        elif parts:
            parts[list(parts)[-1]] += "\n" + line
    return parts


@each
def test_its_header_says_what_it_gives_and_costs_and_how_it_is_used(path: Path) -> None:
    header = _header(path)
    assert list(header) == PARTS
    assert "about" in header["Costs"] or re.search(r"\d", header["Costs"]), "an order of magnitude"
    assert "raydisc submit FILE" in header["Submit"]
    command = r"(kubectl|ray (up|down)|sbatch|scancel|docker|python|kill)\b"
    assert re.search(command, header["Launch"])
    assert re.search(command, header["Tear down"])
    assert name_of(path) in header["Launch"] or "rayjob-" in path.name, "the launch names the file"


@each
def test_a_client_that_it_tells_to_connect_is_told_of_the_token(path: Path) -> None:
    submit = _header(path)["Submit"]
    if "RAY_ADDRESS" in submit:
        assert "RAY_AUTH_MODE=token" in submit
        assert "RAY_AUTH_TOKEN_PATH=" in submit


def test_the_index_names_every_template_and_nothing_else() -> None:
    named = set(re.findall(r"\]\(([\w./-]+)\)", (FOLDER / "README.md").read_text()))
    assert {name for name in named if not name.startswith("..")} == {name_of(path) for path in ALL}


@each
def test_it_holds_no_secret(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"\b(hf_[A-Za-z0-9]{8,}|AKIA[0-9A-Z]{12,}|gh[pousr]_\w{20,}|[0-9a-f]{32,})\b", text)
    assert not re.search(r"BEGIN [A-Z ]*PRIVATE KEY", text)
    assert not re.search(r"RAY_AUTH_TOKEN=(?!\$)\S", text)
    for word in re.findall(r"^(?!\s*#).*?\b(?:password|secret_?key|auth_token)\b\s*[:=]\s*(\S+)", text, re.M | re.I):
        assert word.startswith(("$", "~", "{", '"~', '"$')), word


@each
def test_no_secret_is_typed_into_a_command(path: Path) -> None:
    assert "--from-literal" not in path.read_text(), "it would stand in the list of processes"
    for string in re.findall(r"--secret-string\s+(\S+)", path.read_text()):
        assert string.startswith("file://")


@each
def test_nothing_is_public(path: Path) -> None:
    code = "\n".join(line for line in path.read_text().splitlines() if not line.lstrip().startswith("#"))
    assert not re.search(r"LoadBalancer|NodePort|kind: Ingress|enableIngress|hostPort|accessConfigs", code)
    for host in re.findall(r"dashboard[-_]host[\"']?[=:,]\s*[\"']?([\w.]+)", code):
        assert host == "127.0.0.1" or path in MANIFESTS, "in a pod the network policy says who reaches it"
    if path not in MANIFESTS:
        assert "0.0.0.0" not in code


@each
def test_it_names_no_machine_of_ours(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"/(work|home/(?!ray/)|Users|root)/", text)
    addresses = set(re.findall(r"\b\d+\.\d+\.\d+\.\d+\b", text))
    assert addresses <= {"127.0.0.1", "0.0.0.0"}
    urls = set(re.findall(r"https?://([\w.-]+)", text))
    assert urls <= {"127.0.0.1", "www.googleapis.com", "download.pytorch.org", "pypi.org"}


@pytest.mark.parametrize("path", [*MANIFESTS, *RAY_UP], ids=name_of)
def test_ray_does_not_report_its_use(path: Path) -> None:
    if path.name != "platform.yaml":
        text = path.read_text()
        told = {"0"} if path in MANIFESTS else set()
        values = {
            variable["value"]
            for document in documents(path)
            for variables in values_of(document, "env")
            for variable in variables
            if variable["name"] == "RAY_USAGE_STATS_ENABLED"
        }
        assert values == told
        assert told or "RAY_USAGE_STATS_ENABLED=0" in text


@pytest.mark.parametrize("path", SHELL, ids=name_of)
def test_the_script_is_whole(path: Path) -> None:
    checked = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:/usr/bin:/usr/local/bin")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    checked = subprocess.run([shellcheck, "--severity=warning", str(path)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_the_slurm_job_is_its_users_alone_and_cleans_up() -> None:
    script = (FOLDER / "slurm.sh").read_text()
    for needed in (
        "umask 077",
        "set -euo pipefail",
        "trap tear_down EXIT",
        "export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=",
        "--dashboard-host=127.0.0.1",
        "#SBATCH --exclusive",
        '[ "$(id -u)" -ne 0 ]',
        'rm -rf "$folder"',
    ):
        assert needed in script
