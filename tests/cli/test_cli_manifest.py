from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from scalepool._net.keys import AGENT, DRIVER, ClusterKeys, read_keys, write_keys
from scalepool.cli.root import program

yaml = pytest.importorskip("yaml", reason="PyYAML reads what is printed")
kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="the schemas of Kubernetes")

VERSIONS = ("1.25", "1.31", "1.36")


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClusterKeys:
    path = tmp_path / "keys.json"
    made = ClusterKeys.generate()
    write_keys(str(path), made)
    monkeypatch.setenv("SCALEPOOL_KEY_FILE", str(path))
    return made


def k8s(*arguments: str) -> Result:
    return CliRunner().invoke(program, ["manifest", "k8s", "--image", "me/tasks:1", *arguments])


def objects(*arguments: str) -> dict[tuple[str, str], Any]:
    done = k8s(*arguments)
    assert done.exit_code == 0, done.output
    found = list(yaml.safe_load_all(done.output))
    for one in found:
        for version in VERSIONS:
            kubernetes_validate.validate(one, version, strict=True)
    return {(one["kind"], one["metadata"]["name"]): one for one in found}


def pod(found: Any) -> Any:
    return found["spec"]["template"]["spec"]


def test_all_parts_fit_the_schemas_and_each_other(keys: ClusterKeys) -> None:
    found = objects("--workers", "3")
    assert list(found) == [
        ("Secret", "scalepool-keys"),
        ("Service", "scalepool-head"),
        ("Deployment", "scalepool-head"),
        ("Deployment", "scalepool-worker"),
    ]
    head, worker = found["Deployment", "scalepool-head"], found["Deployment", "scalepool-worker"]
    assert head["spec"]["replicas"] == 1
    assert worker["spec"]["replicas"] == 3
    for one in (head, worker):
        labels = one["spec"]["template"]["metadata"]["labels"]
        assert one["spec"]["selector"]["matchLabels"] == labels
    service = found["Service", "scalepool-head"]["spec"]
    assert service["selector"] == head["spec"]["selector"]["matchLabels"] != worker["spec"]["selector"]["matchLabels"]
    (port,) = service["ports"]
    (listening,) = pod(head)["containers"][0]["ports"]
    assert (port["targetPort"], port["port"]) == (listening["name"], listening["containerPort"])
    assert f"tcp://scalepool-head:{port['port']}" in pod(worker)["containers"][0]["command"][-1]


def test_each_part_gets_the_keys_that_it_needs(keys: ClusterKeys, tmp_path: Path) -> None:
    found = objects()
    files = found["Secret", "scalepool-keys"]["stringData"]
    read = {}
    for name, text in files.items():
        path = tmp_path / name
        path.write_text(text)
        path.chmod(0o600)
        read[name] = read_keys(str(path))
    expected = {"head.json": keys, "worker.json": keys.only_for(AGENT), "program.json": keys.only_for(DRIVER)}
    assert read == expected
    for part in ("head", "worker"):
        (volume,) = [one for one in pod(found["Deployment", f"scalepool-{part}"])["volumes"] if one["name"] == "keys"]
        assert volume["secret"]["secretName"] == "scalepool-keys"
        assert [item["key"] for item in volume["secret"]["items"]] == [f"{part}.json"]


def test_with_a_secret_that_is_there_no_key_is_printed_or_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALEPOOL_KEY_FILE", "/nonexistent/keys.json")
    found = objects("--secret-name", "mine")
    assert "Secret" not in {kind for kind, _ in found}
    assert pod(found["Deployment", "scalepool-worker"])["volumes"][0]["secret"]["secretName"] == "mine"


def test_no_pod_has_more_rights_than_it_needs(keys: ClusterKeys) -> None:
    found = objects()
    for part in ("head", "worker"):
        spec = pod(found["Deployment", f"scalepool-{part}"])
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        (container,) = spec["containers"]
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in spec["volumes"]}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert container[probe]["exec"]["command"][-1].startswith("scalepool status tcp://")


def test_sizes_and_what_workers_are_told(keys: ClusterKeys) -> None:
    found = objects(
        "--name", "big", "--namespace", "team-a", "--cpu", "7500m", "--memory", "64Gi", "--shm", "8Gi", "--gpus", "2",
        "--grace", "120", "--env", "A=it's: {yaml} #no", "--env", "B=", "--worker-args", "--memory '40 GB'",
    )  # fmt: skip
    assert {one["metadata"]["namespace"] for one in found.values()} == {"team-a"}
    spec = pod(found["Deployment", "big-worker"])
    (container,) = spec["containers"]
    assert container["resources"]["limits"] == {"cpu": "7500m", "memory": "64Gi", "nvidia.com/gpu": 2}
    assert {"name": "A", "value": "it's: {yaml} #no"} in container["env"]
    assert {"name": "B", "value": ""} in container["env"]
    assert container["command"][-1].rstrip().endswith("--memory '40 GB'")
    assert spec["terminationGracePeriodSeconds"] == 120
    assert "--drain-timeout 100 " in container["command"][-1]
    (memory,) = [volume for volume in spec["volumes"] if volume["name"] == "shm"]
    assert memory["emptyDir"] == {"medium": "Memory", "sizeLimit": "8Gi"}


@pytest.mark.parametrize("image", ["a: b", "x\ny", '"', "é", "#", "{{x}}"])
def test_whatever_is_given_stays_text(keys: ClusterKeys, image: str) -> None:
    found = objects("--image", image)
    assert pod(found["Deployment", "scalepool-head"])["containers"][0]["image"] == image


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--name", "Big"), "--name 'Big'"),
        (("--name", "x; rm"), "--name"),
        (("--cpu", "many"), "--cpu 'many'"),
        (("--memory", "2 GB"), "--memory"),
        (("--env", "1=2"), "NAME=VALUE"),
        (("--secret-name", "x", "--only", "secret"), "none to print"),
        (("--worker-args", "'"), "No closing quotation"),
        (("--workers", "-1"), "--workers"),
    ],
)
def test_what_kubernetes_would_refuse_is_refused_here(
    keys: ClusterKeys, arguments: tuple[str, ...], words: str
) -> None:
    done = k8s(*arguments)
    assert done.exit_code == 2
    assert words in done.output


def test_a_key_file_of_one_role_is_not_enough(keys: ClusterKeys, tmp_path: Path) -> None:
    path = tmp_path / "agent.json"
    write_keys(str(path), keys.only_for(AGENT))
    done = k8s("--key-file", str(path))
    assert done.exit_code == 1
    assert "a copy for one" in done.output
    assert json.loads(path.read_text())["agent"]["secret"] not in done.output


def test_one_part_alone(keys: ClusterKeys) -> None:
    assert [kind for kind, _ in objects("--only", "secret")] == ["Secret"]
    assert [kind for kind, _ in objects("--only", "workers", "--only", "head")] == [
        "Service",
        "Deployment",
        "Deployment",
    ]


def test_the_job_of_the_page_fits_the_schemas_and_the_secret(keys: ClusterKeys) -> None:
    page = (Path(__file__).parents[2] / "docs" / "kubernetes.md").read_text()
    (text,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    job = yaml.safe_load(text)
    for version in VERSIONS:
        kubernetes_validate.validate(job, version, strict=True)
    (volume,) = pod(job)["volumes"]
    secret = objects()["Secret", volume["secret"]["secretName"]]
    assert volume["secret"]["items"][0]["key"] in secret["stringData"]
