"""The manifests: what Kustomize builds of them is valid, and what refers to each other fits."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import jsonschema
import kubernetes_validate
import pytest
import yaml
from tests.deploy.files import DEPLOY, read_yaml
from tests.deploy.kustomizing import Build
from tests.deploy.operator_schemas import POD_MONITOR, PROMETHEUS_RULE
from tests.python_process import ROOT
from torch.distributed.run import get_args_parser

import loopscope

FOLDERS = {name: DEPLOY / "kubernetes" / name for name in ("monitoring", "training")}
MONITORING, TRAINING = (Build(folder) for folder in FOLDERS.values())
JOB, SERVICE, MONITOR = (TRAINING.only(kind) for kind in ("Job", "Service", "PodMonitor"))
TEMPLATE = JOB["spec"]["template"]
(CONTAINER,) = TEMPLATE["spec"]["containers"]
ENVIRONMENT = {each["name"]: each for each in CONTAINER["env"]}
PORTS = {each["name"]: each["containerPort"] for each in CONTAINER["ports"]}
RANK_PORTS = {name: port for name, port in PORTS.items() if name.startswith("loopscope-")}
ARGUMENTS = get_args_parser().parse_args([each.replace("$(NODE_RANK)", "0") for each in CONTAINER["args"]])
OLDEST, NEWEST = "1.30", "1.36"
BUILT_IN = [
    each for each in (*MONITORING.objects, *TRAINING.objects) if "monitoring.coreos.com" not in each["apiVersion"]
]
MAX_ANNOTATION_BYTES = 262_144
"""Of all annotations together, which is where `kubectl apply` keeps what it applied last."""


def name_of(each):
    """Return kind and name."""
    return f"{each['kind']}/{each['metadata']['name']}"


def test_every_file_is_used():
    """Nothing lies beside the manifests that no kustomization names."""
    there = {
        path for path in (DEPLOY / "kubernetes").rglob("*") if path.is_file() and "__pycache__" not in path.parts
    } | {path for path in (ROOT / "dashboards" / "rendered").iterdir() if path.suffix == ".json"}

    assert there <= MONITORING.files | TRAINING.files
    assert ROOT / "dashboards" / "rendered" / "prometheusrule.yaml" in MONITORING.files


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize("name", FOLDERS)
def test_kubectl_builds_the_same(name):
    """`kubectl kustomize`, which needs no cluster, makes of the folder what these tests look at."""
    done = subprocess.run(
        ["kubectl", "kustomize", str(FOLDERS[name])], capture_output=True, text=True, check=False, timeout=60
    )
    built = {name_of(each): each for each in yaml.safe_load_all(done.stdout)}

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert built == {name_of(each): each for each in Build(FOLDERS[name]).objects}


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("each", BUILT_IN, ids=name_of)
def test_kubernetes_takes_it(each, version):
    """Every field is one of the API, of its type, in an old release and in a new one."""
    assert kubernetes_validate.validate(each, version, strict=True) == version


def test_validation_refuses_what_is_wrong():
    """A field that Kubernetes does not have is found, or the test above would prove nothing."""
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**JOB, "spec": {**JOB["spec"], "completion": 2}}, NEWEST, strict=True)


@pytest.mark.parametrize(
    ("each", "schema"),
    [(MONITOR, POD_MONITOR), (MONITORING.only("PrometheusRule"), PROMETHEUS_RULE)],
    ids=["pods", "rules"],
)
def test_operator_takes_it(each, schema):
    """PodMonitor and PrometheusRule have documented fields only."""
    assert list(jsonschema.Draft202012Validator(schema).iter_errors(each)) == []


def test_rules_are_the_generated_ones():
    """Kustomize changes nothing but the namespace."""
    generated = read_yaml(ROOT / "dashboards" / "rendered" / "prometheusrule.yaml")

    assert MONITORING.only("PrometheusRule")["spec"] == generated["spec"]


@pytest.mark.parametrize("each", MONITORING.of_kind("ConfigMap"), ids=name_of)
def test_dashboard_is_one_that_grafana_finds(each):
    """The sidecar's label, one dashboard under its own name, and no more than `kubectl apply` can hold."""
    ((file, text),) = each["data"].items()

    assert each["metadata"]["labels"] == {"grafana_dashboard": "1"}
    assert file == f"{each['metadata']['name']}.json" == f"{json.loads(text)['uid']}.json"
    assert len(json.dumps(each).encode()) < MAX_ANNOTATION_BYTES


def test_pods_are_found_by_label_and_port():
    """The PodMonitor selects the job's pods, in its own namespace, and names every port of theirs that has metrics."""
    named = [endpoint["port"] for endpoint in MONITOR["spec"]["podMetricsEndpoints"]]

    assert MONITOR["spec"]["selector"]["matchLabels"].items() <= TEMPLATE["metadata"]["labels"].items()
    assert {each["metadata"]["namespace"] for each in TRAINING.objects} == {"training"}
    assert set(RANK_PORTS) <= set(named)
    assert named == [f"loopscope-{number}" for number in range(8)]
    assert all(len(name) <= 15 for name in named), "Kubernetes' limit"


def test_there_is_a_port_for_each_rank_of_a_pod():
    """Counted up from the default, as the agents take them."""
    first = loopscope.Config().port

    assert list(RANK_PORTS.values()) == [first + number for number in range(int(ARGUMENTS.nproc_per_node))]


def test_scrapes_are_as_far_apart_as_on_one_machine():
    """One interval in both, which the windows of the rules are made for."""
    intervals = {endpoint["interval"] for endpoint in MONITOR["spec"]["podMetricsEndpoints"]}

    assert intervals == {read_yaml(DEPLOY / "prometheus" / "prometheus.yml")["global"]["scrape_interval"]}


def test_token_is_the_same_secret_on_both_sides():
    """Runs ask for what Prometheus shows; without the Secret no pod starts."""
    wanted = {"name": "loopscope", "key": "token"}
    shown = [endpoint["authorization"]["credentials"] for endpoint in MONITOR["spec"]["podMetricsEndpoints"]]

    assert ENVIRONMENT["LOOPSCOPE_TOKEN"]["valueFrom"] == {"secretKeyRef": wanted}
    assert all(each == wanted for each in shown)
    assert TRAINING.of_kind("Secret") == []


def test_ranks_find_each_other():
    """As many nodes as pods, and the first pod's name under the Service that selects them, before they are ready."""
    name, service = JOB["metadata"]["name"], SERVICE["metadata"]["name"]

    assert JOB["spec"]["completionMode"] == "Indexed"
    assert int(ARGUMENTS.nnodes) == JOB["spec"]["completions"] == JOB["spec"]["parallelism"]
    assert TEMPLATE["spec"]["subdomain"] == service
    assert ARGUMENTS.master_addr == f"{name}-0.{service}"
    assert ARGUMENTS.master_port == PORTS["rendezvous"] == SERVICE["spec"]["ports"][0]["port"]
    assert SERVICE["spec"]["selector"].items() <= TEMPLATE["metadata"]["labels"].items()
    assert (SERVICE["spec"]["clusterIP"], SERVICE["spec"]["publishNotReadyAddresses"]) == ("None", True)


def test_script_is_where_it_is_started():
    """The ConfigMap that is mounted has it under the name that torchrun gets."""
    (folder,) = (each["mountPath"] for each in CONTAINER["volumeMounts"] if each["name"] == "script")
    (source,) = (each["configMap"]["name"] for each in TEMPLATE["spec"]["volumes"] if each["name"] == "script")
    (config_map,) = TRAINING.of_kind("ConfigMap")

    assert config_map["metadata"]["name"] == source
    assert ARGUMENTS.training_script.removeprefix(f"{folder}/") in config_map["data"]


def test_what_is_substituted_is_defined():
    """Kubernetes leaves $(NAME) as it stands where the container has no such variable."""
    assert set(re.findall(r"\$\((\w+)\)", " ".join(CONTAINER["args"]))) <= set(ENVIRONMENT)


def test_no_probe_kills_a_training():
    """Who watches only says whether a rank answers, at the path that needs no token."""
    assert {"livenessProbe", "startupProbe"} & set(CONTAINER) == set()
    assert CONTAINER["readinessProbe"]["httpGet"] == {"path": "/healthz", "port": "loopscope-0"}


def test_pod_may_do_nothing_but_train():
    """No root, no capability, no access to the API, nothing to write to but scratch space."""
    pod, container = TEMPLATE["spec"]["securityContext"], CONTAINER["securityContext"]

    assert pod["runAsNonRoot"] is True
    assert pod["runAsUser"] > 0
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["capabilities"] == {"drop": ["ALL"]}
    assert (container["allowPrivilegeEscalation"], container["readOnlyRootFilesystem"]) == (False, True)
    assert TEMPLATE["spec"]["automountServiceAccountToken"] is False
    assert {"requests", "limits"} == set(CONTAINER["resources"])
