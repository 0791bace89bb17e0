"""The files of `ray up`, against Ray's own schema and for what keeps the clusters shut."""

import copy
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from templates import FOLDER, RAY_UP, commands_of, documents, name_of

ray_util = pytest.importorskip("ray.autoscaler._private.util", reason="Ray's own validation is not where it was")

each = pytest.mark.parametrize("path", RAY_UP, ids=name_of)


def _validate(config: dict[str, Any]) -> None:
    ray_util.validate_config(ray_util.prepare_config(copy.deepcopy(config)))


@each
def test_ray_takes_it(path: Path) -> None:
    _validate(documents(path)[0])


def test_what_ray_would_refuse_is_seen() -> None:
    (config,) = documents(FOLDER / "ray-up" / "aws.yaml")
    for changes, error in (
        ({"idle_timeout": 5}, jsonschema.ValidationError),
        ({"max_workers": "eight"}, jsonschema.ValidationError),
        ({"head_node_type": "heads"}, ValueError),
    ):
        with pytest.raises(error):
            _validate({**config, **changes})


def test_the_three_platforms_are_there() -> None:
    assert {documents(path)[0]["provider"]["type"] for path in RAY_UP} == {"aws", "gcp", "local"}


@each
def test_its_commands_are_whole(path: Path) -> None:
    for command in commands_of(path):  # YAML takes what follows ' #' for a comment, in the midst of a quoted word too
        checked = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True)
        assert checked.returncode == 0, (command, checked.stderr)


@each
def test_ray_starts_with_the_token_and_shows_its_dashboard_to_the_head_alone(path: Path) -> None:
    (config,) = documents(path)
    starts = [command for command in commands_of(path) if "ray start" in command]
    assert len(starts) == 2
    assert all(command.startswith("RAY_AUTH_MODE=token ray start ") for command in starts)
    (head,) = [command for command in config["head_start_ray_commands"] if "ray start" in command]
    assert "--dashboard-host=127.0.0.1" in head.split()
    assert any("~/.ray/auth_token" in text for text in [*commands_of(path), *config["file_mounts"]])
    assert config["auth"]["ssh_user"] != "root"
    assert not any("sudo" in command for command in commands_of(path))


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_machines_of_a_cloud_have_no_public_address_and_take_the_token_from_its_secrets(name: str) -> None:
    (config,) = documents(FOLDER / "ray-up" / f"{name}.yaml")
    assert config["provider"]["use_internal_ips"] is True
    secrets = {"aws": "aws secretsmanager get-secret-value", "gcp": "gcloud secrets versions access"}[name]
    (fetch,) = [command for command in config["setup_commands"] if secrets in command]
    assert fetch.startswith("umask 077;")
    for machine in (kind["node_config"] for kind in config["available_node_types"].values()):
        if name == "aws":
            assert machine["SubnetIds"]
            assert machine["SecurityGroupIds"], "Ray's own group lets the whole world to port 22"
            assert machine["MetadataOptions"]["HttpTokens"] == "required"
        else:
            assert all(set(interface) == {"subnetwork"} for interface in machine["networkInterfaces"])


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_the_head_stays_and_the_workers_are_spot_machines(name: str) -> None:
    (config,) = documents(FOLDER / "ray-up" / f"{name}.yaml")
    kinds = dict(config["available_node_types"])
    head, (worker,) = kinds.pop(config["head_node_type"]), kinds.values()
    market = {"aws": "InstanceMarketOptions", "gcp": "scheduling"}[name]
    assert market not in head["node_config"]
    assert "spot" in str(worker["node_config"][market]).lower()
    assert head["resources"] == {"CPU": 0}
    assert worker["resources"]["GPU"] == 1
    assert 1 <= worker["min_workers"] < worker["max_workers"] == config["max_workers"]


def test_the_hosts_get_the_token_of_a_file() -> None:
    (config,) = documents(FOLDER / "ray-up" / "hosts.yaml")
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.raydisc-token"
    assert "chmod 600 ~/.ray/auth_token" in config["setup_commands"]
