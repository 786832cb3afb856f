"""What the objects of an overlay say of each other, of the program, the Dockerfile, Cargo.toml and docs/kubernetes.md."""

import re
import subprocess

from installation import seconds
from manifests import ROOT
from schemas import title

SPARE = 5  # seconds between the end of a drain and that of the grace period
TIMES = ("DRAIN_DELAY", "DRAIN_TIMEOUT", "MAX_TIMEOUT", "MAX_CONNECTION_AGE_GRACE")
OURS = re.compile(r"ONBOARDFLOW_[A-Z0-9_]+")


def problems(installation):
    """What every object alone is innocent of: a selector that selects nothing, a port that nobody has, a Secret that
    nobody makes or documents, a grace period shorter than the drain."""
    namespace = installation.only("Namespace")["metadata"]["name"]
    for one in installation.objects:
        if one["kind"] != "Namespace" and one["metadata"].get("namespace") != namespace:
            yield f"{title(one)} is in another namespace than {namespace}"
        for problem in BY_KIND.get(one["kind"], lambda *_: [])(installation, one):
            yield f"{title(one)}: {problem}"
    yield from pod(installation)
    yield from secrets(installation)
    yield from image(installation)
    yield from grace(installation)


def selects(installation, labels):
    if not labels or not labels.items() <= installation.labels.items():
        yield f"the selector {labels} does not select the pods"


def has_port(installation, wanted):
    if wanted not in [value for port in installation.container["ports"] for value in (port["name"], port["containerPort"])]:
        yield f"the pods have no port {wanted}"


def service(installation, one):
    yield from selects(installation, one["spec"]["selector"])
    for port in one["spec"]["ports"]:
        yield from has_port(installation, port["targetPort"])


def budget(installation, one):
    yield from selects(installation, one["spec"]["selector"]["matchLabels"])


def scaler(installation, one):
    target, container = one["spec"]["scaleTargetRef"], installation.container
    if (target["kind"], target["name"]) != ("Deployment", installation.deployment["metadata"]["name"]):
        yield f"it scales {target['kind']} {target['name']}"
    if "replicas" in installation.deployment["spec"]:
        yield "the Deployment sets replicas too, and each apply would reset them"
    for metric in one["spec"]["metrics"]:
        resource = metric["containerResource"]
        if resource["container"] != container["name"]:
            yield f"there is no container {resource['container']}"
        if resource["name"] not in container["resources"]["requests"]:
            yield f"utilization of {resource['name']} needs a request of it"


def network_policy(installation, one):
    yield from selects(installation, one["spec"]["podSelector"]["matchLabels"])
    for rule in one["spec"].get("ingress", []):
        for port in rule["ports"]:
            yield from has_port(installation, port["port"])


def monitor(installation, one):
    wanted = one["spec"]["selector"]["matchLabels"].items()
    chosen = [service for service in installation.all("Service") if wanted <= service["metadata"]["labels"].items()]
    if len(chosen) != 1:
        yield f"it selects {len(chosen)} Services, and each pod would be scraped as often"
    for endpoint in one["spec"]["endpoints"]:
        if endpoint["port"] not in [port["name"] for service in chosen for port in service["spec"]["ports"]]:
            yield f"the Service has no port {endpoint['port']}"


def route(installation, one):
    for backend in [backend for rule in one["spec"]["rules"] for backend in rule["backendRefs"]]:
        service = installation.named("Service", backend["name"])
        if not service or backend["port"] not in [port["port"] for port in service["spec"]["ports"]]:
            yield f"there is no Service {backend['name']} with port {backend['port']}"
    offered = {match["method"]["service"] for rule in one["spec"]["rules"] for match in rule["matches"]}
    written = set()
    for file in (ROOT / "proto").rglob("*.proto"):
        package = re.search(r"^package (.*);", file.read_text(), re.M)[1]
        written |= {f"{package}.{name}" for name in re.findall(r"^service (\w+)", file.read_text(), re.M)}
    if offered != written:
        yield f"it offers {sorted(offered)}, and proto/ has {sorted(written)}"


def mesh(installation, one):
    for host in one["spec"]["hosts"]:
        if not installation.named("Service", host):
            yield f"there is no Service {host}"


BY_KIND = {
    "Service": service,
    "PodDisruptionBudget": budget,
    "HorizontalPodAutoscaler": scaler,
    "NetworkPolicy": network_policy,
    "ServiceMonitor": monitor,
    "GRPCRoute": route,
    "VirtualService": mesh,
}


def pod(installation):
    spec, container = installation.pod, installation.container
    if spec.get("enableServiceLinks") is not False:
        yield "service links would set ONBOARDFLOW_GATEWAY_* variables"
    if spec.get("automountServiceAccountToken") is not False:
        yield "a service account token is mounted"
    if spec["serviceAccountName"] != installation.only("ServiceAccount")["metadata"]["name"]:
        yield f"the service account {spec['serviceAccountName']} is not made here"
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        yield from has_port(installation, container[kind]["grpc"]["port"])
    mounts = container.get("volumeMounts", [])
    if {mount["name"] for mount in mounts} != {volume["name"] for volume in spec.get("volumes", [])}:
        yield "volumes and mounts differ"
    if any("subPath" in mount for mount in mounts):
        yield "a subPath mount is never updated"


def secrets(installation):
    """Each Secret is made by an object here, or by a command of the documentation."""
    made = {one["spec"]["secretName"] for one in installation.all("Certificate")}
    made |= {one["spec"]["target"]["name"] for one in installation.all("ExternalSecret")}
    texts = [(ROOT / "docs/kubernetes.md").read_text()]
    texts += [path.read_text() for path in (ROOT / "deploy/kubernetes/components").rglob("kustomization.yaml")]
    used = {volume["secret"]["secretName"] for volume in installation.pod.get("volumes", [])}
    for variable in installation.container["env"]:
        if "secretKeyRef" in variable.get("valueFrom", {}):
            used.add(variable["valueFrom"]["secretKeyRef"]["name"])
    for name in used - made:
        if not any(f"create secret generic {name} " in text for text in texts):
            yield f"nothing makes the Secret {name}, and no documentation says how"


def image(installation):
    """The manifests, the Dockerfile and Cargo.toml agree."""
    version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    dockerfile = (ROOT / "Dockerfile").read_text().splitlines()
    if installation.container["image"] != f"onboardflow-gateway:{version}":
        yield f"the image is {installation.container['image']} and the version {version}"
    if installation.labels["app.kubernetes.io/version"] != version:
        yield f"the label app.kubernetes.io/version is not {version}"
    user = installation.pod["securityContext"]
    ports = " ".join(str(port["containerPort"]) for port in installation.container["ports"])
    for line in (f"ARG VERSION={version}", f"USER {user['runAsUser']}:{user['runAsGroup']}", f"EXPOSE {ports}"):
        if line not in dockerfile:
            yield f"the Dockerfile does not say {line}"


def grace(installation):
    settings = installation.settings
    delay, drain, longest, age = (seconds(settings[f"ONBOARDFLOW_{name}"]) for name in TIMES)
    period = installation.pod["terminationGracePeriodSeconds"]
    if period < delay + drain + SPARE:
        yield f"the grace period of {period} s is shorter than a drain of {delay} + {drain} + {SPARE} s"
    if min(drain, age) < longest:
        yield f"a drain of {drain} s or a connection's age of {age} s cuts off calls of {longest} s"


def flags(installation, binary):
    """Flags and variables are known to `--help` of the subcommand that the manifest names."""
    subcommand, *arguments = installation.container["args"]
    ran = subprocess.run([binary, subcommand, "--help"], capture_output=True, text=True, check=True)
    known = set(re.findall(r"^ +(?:-\w, )?--([a-z][a-z0-9-]*)", ran.stdout, re.M))
    for argument in arguments:
        if argument.removeprefix("--").partition("=")[0] not in known:
            yield f"the flag {argument} is unknown to `{subcommand}`"
    for name in installation.settings:
        flag = name.removeprefix("ONBOARDFLOW_").lower().replace("_", "-")
        if not OURS.fullmatch(name) or flag not in known:
            yield f"the variable {name} is unknown to `{subcommand}`"
