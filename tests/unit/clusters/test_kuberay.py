"""The manifests for Kubernetes, against KubeRay's own definitions and for what keeps them shut."""

import gzip
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from templates import FOLDER, PLATFORM, RAY_MANIFESTS, cluster_spec, documents, name_of, pod_templates, ray_version

ASSETS = os.environ.get("RAYDISC_TEST_ASSETS")
FLAVOURS = ["cpu", "gpu", "gpu-pool", "spot"]

each = pytest.mark.parametrize("path", RAY_MANIFESTS, ids=name_of)


def _json_schema(crd: dict[str, Any]) -> dict[str, Any]:
    """A custom resource's schema as a strict JSON Schema: unknown keys are refused, as KubeRay silently drops them."""
    (version,) = [version for version in crd["spec"]["versions"] if version["name"] == "v1"]
    schema = _strict(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    return schema


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {name: _strict(value) for name, value in schema.items()}
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        strict["additionalProperties"] = False
    return strict


@pytest.fixture(scope="module")
def kuberay() -> dict[str, jsonschema.Draft202012Validator]:
    """What KubeRay takes, by kind."""
    if not ASSETS:
        pytest.skip("RAYDISC_TEST_ASSETS is not set: no definitions of KubeRay's resources")
    folder = Path(ASSETS) / "schemas"
    return {
        kind: jsonschema.Draft202012Validator(_json_schema(_definition(folder, kind)))
        for kind in ("RayCluster", "RayJob")
    }


def _definition(folder: Path, kind: str) -> dict[str, Any]:
    text = gzip.decompress((folder / f"ray.io_{kind.lower()}s.yaml.gz").read_bytes())
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # 2 MB: seconds instead of half a minute
    definition: dict[str, Any] = yaml.load(text, Loader=loader)
    return definition


def test_every_flavour_is_there_as_a_cluster_and_as_a_job() -> None:
    wanted = {f"{kind}-{flavour}.yaml" for kind in ("raycluster", "rayjob") for flavour in FLAVOURS}
    assert {path.name for path in RAY_MANIFESTS} == wanted


@each
def test_kuberay_takes_it(path: Path, kuberay: dict[str, jsonschema.Draft202012Validator]) -> None:
    (document,) = documents(path)
    kuberay[document["kind"]].validate(document)


def test_what_kuberay_would_drop_or_refuse_is_seen(kuberay: dict[str, jsonschema.Draft202012Validator]) -> None:
    (document,) = documents(FOLDER / "kuberay" / "raycluster-cpu.yaml")
    for changes in (
        {"authOption": {"mode": "token"}},
        {"authOptions": {"mode": "tokens"}},
        {"headGroupSpec": {"serviceType": "ClusterIP"}},
        {"workerGroupSpecs": [{"groupName": "cpu", "minReplicas": "two"}]},
    ):
        with pytest.raises(jsonschema.ValidationError):
            kuberay["RayCluster"].validate({**document, "spec": {**document["spec"], **changes}})


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_job_brings_the_cluster_of_its_flavour(flavour: str) -> None:
    alone = cluster_spec(FOLDER / "kuberay" / f"raycluster-{flavour}.yaml")
    brought = cluster_spec(FOLDER / "kuberay" / f"rayjob-{flavour}.yaml")
    head = brought["headGroupSpec"]["template"]["spec"]
    mount = head["containers"][0]["volumeMounts"].pop()
    assert (mount["mountPath"], head["volumes"].pop()["configMap"]) == ("/experiment", {"name": "raydisc-experiment"})
    assert brought == alone


@each
def test_names_and_services_do_not_meet(path: Path) -> None:
    names = [documents(other)[0]["metadata"]["name"] for other in RAY_MANIFESTS]
    assert len(set(names)) == len(names), "the head's service has the name of the cluster or of the job"
    assert documents(path)[0]["metadata"]["name"] in path.read_text().split("apiVersion")[0], "named by its header"


@each
def test_it_runs_the_pinned_ray(path: Path) -> None:
    assert cluster_spec(path)["rayVersion"] == ray_version()
    images = {container["image"] for pod in pod_templates(path) for container in pod["spec"]["containers"]}
    device = "cpu" if "cpu" in path.name else "gpu"
    assert images == {f"registry.example/raydisc:{ray_version()}-{device}"}


def test_the_image_is_of_the_pinned_ray() -> None:
    assert f"FROM rayproject/ray:{ray_version()}-py312-" in (FOLDER / "Dockerfile").read_text()


@each
def test_clients_need_the_token_of_a_secret(path: Path) -> None:
    assert cluster_spec(path)["authOptions"] == {"mode": "token", "secretName": "raydisc-token"}


@each
def test_no_pod_runs_as_root(path: Path) -> None:
    cluster = cluster_spec(path)
    autoscaler = [cluster["autoscalerOptions"]] if cluster.get("enableInTreeAutoscaling") else []
    for pod in pod_templates(path):
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        assert pod["spec"]["securityContext"]["runAsUser"] > 0
        assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod["spec"].keys()
        for container in [*pod["spec"]["containers"], *autoscaler]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["securityContext"].keys() == {"allowPrivilegeEscalation", "capabilities"}


@each
def test_only_a_head_that_scales_its_workers_may_talk_to_kubernetes(path: Path) -> None:
    scales = cluster_spec(path).get("enableInTreeAutoscaling", False)
    head, *others = pod_templates(path)
    assert head["spec"].get("automountServiceAccountToken", True) is scales
    assert [pod["spec"]["automountServiceAccountToken"] for pod in others] == [False] * len(others)


@each
def test_what_is_asked_for_is_the_bound(path: Path) -> None:
    containers = [container for pod in pod_templates(path) for container in pod["spec"]["containers"]]
    containers += [cluster_spec(path)["autoscalerOptions"]] if "autoscalerOptions" in cluster_spec(path) else []
    for container in containers:
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert {"cpu", "memory"} <= container["resources"]["limits"].keys()


@each
def test_keys_come_from_secrets(path: Path) -> None:
    for pod in pod_templates(path)[: 1 + len(cluster_spec(path).get("workerGroupSpecs", []))]:
        (container,) = pod["spec"]["containers"]
        environment = {variable["name"]: variable for variable in container["env"]}
        assert environment["HF_TOKEN"]["valueFrom"]["secretKeyRef"]["name"] == "raydisc-hub"
        assert [source["secretRef"]["name"] for source in container["envFrom"]] == ["raydisc-storage"]
        assert {name for name, variable in environment.items() if "value" in variable} == {"RAY_USAGE_STATS_ENABLED"}


def test_the_dashboard_is_reached_from_the_inside_only() -> None:
    by_kind = {(document["kind"], document["metadata"]["name"]): document for document in documents(PLATFORM)}
    namespace = by_kind["Namespace", "raydisc"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    nothing = by_kind["NetworkPolicy", "nothing-but-what-is-allowed"]["spec"]
    assert nothing == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}

    ray = by_kind["NetworkPolicy", "ray"]["spec"]
    ours = {"podSelector": ray["podSelector"]}
    assert len(ray["podSelector"]["matchLabels"]) == 1
    (among_us, operator) = ray["ingress"]
    assert among_us == {"from": [ours]}
    assert operator["from"][0]["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "kuberay-operator"}
    assert [port["port"] for port in operator["ports"]] == [8265]
    assert {port["port"] for rule in ray["egress"] for port in rule.get("ports", [])} == {53, 443, 6443}

    for path in RAY_MANIFESTS:
        assert documents(path)[0]["metadata"]["namespace"] == namespace["metadata"]["name"]
        assert cluster_spec(path)["headGroupSpec"]["serviceType"] == "ClusterIP"
        for pod in pod_templates(path):
            assert pod["metadata"]["labels"].items() >= ray["podSelector"]["matchLabels"].items(), path


def test_pools_grow_and_spot_nodes_never_hold_the_head() -> None:
    for name in ("gpu-pool", "spot"):
        cluster = cluster_spec(FOLDER / "kuberay" / f"raycluster-{name}.yaml")
        (workers,) = cluster["workerGroupSpecs"]
        assert cluster["enableInTreeAutoscaling"]
        assert 1 <= workers["minReplicas"] < workers["maxReplicas"], "raydisc plans with the GPU that it sees"
    head = cluster["headGroupSpec"]["template"]["spec"]
    worker = workers["template"]["spec"]

    def terms(pod: dict[str, Any]) -> list[Any]:
        required = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        return [term["matchExpressions"] for term in required["nodeSelectorTerms"]]

    (never,) = terms(head)
    assert {rule["operator"] for rule in never} == {"DoesNotExist", "NotIn"}
    assert {rule["key"] for rule in never} == {rule["key"] for (rule,) in terms(worker)}
    assert {rule["operator"] for (rule,) in terms(worker)} == {"In"}
