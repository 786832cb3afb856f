"""The Helm chart with its default values makes what kustomize makes of the base."""

import difflib
import subprocess

import yaml

from installation import Installation
from manifests import KUBERNETES, ROOT, render
from schemas import title

CHART = ROOT / "deploy/helm/onboardflow-gateway"
# Values that do what a component does to the pods.
VALUES = {
    "mtls": "tls.secretName=onboardflow-gateway-tls",
    "ledger-postgres": "ledger.secretName=onboardflow-gateway-ledger",
}
# Labels that name the release, and how a change of settings rolls out: by the ConfigMap's name, or by an annotation.
OWN = {"app.kubernetes.io/instance", "app.kubernetes.io/managed-by", "helm.sh/chart", "checksum/settings"}


def template(*options):
    command = [ROOT / ".tools/bin/helm", "template", "onboardflow-gateway", CHART, *options]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    return [one for one in yaml.load_all(ran.stdout, yaml.CSafeLoader) if one]


def problems(folder):
    base = {title(one): one for one in map(comparable, render(folder / KUBERNETES / "base"))}
    chart = {title(one): one for one in map(comparable, template())}
    for name in sorted(base.keys() ^ chart.keys()):
        yield f"{name} is made by the {'base' if name in base else 'chart'} alone"
    for name in base.keys() & chart.keys():
        sides = [yaml.safe_dump(one).splitlines() for one in (base[name], chart[name])]
        if sides[0] != sides[1]:
            yield f"{name} differs:\n" + "\n".join(difflib.unified_diff(*sides, "base", "chart", n=1, lineterm=""))


    for component, value in VALUES.items():
        pods = [one["spec"]["template"]["spec"] for one in template("--set", value) if one["kind"] == "Deployment"]
        pods += [Installation(component, render(folder / component)).pod]
        sides = [(pod["volumes"], pod["containers"][0]["env"], pod["containers"][0]["volumeMounts"]) for pod in pods]
        if unordered(sides[0]) != unordered(sides[1]):
            yield f"{value} makes other pods than components/{component}"


def unordered(lists):
    return [sorted(map(yaml.safe_dump, one)) for one in lists]


def comparable(one):
    if one["kind"] == "ConfigMap":
        one["metadata"]["name"] = "onboardflow-gateway"
    if one["kind"] == "Deployment":
        container = one["spec"]["template"]["spec"]["containers"][0]
        container["envFrom"][0]["configMapRef"]["name"] = "onboardflow-gateway"
    return without_own(one)


def without_own(value):
    if isinstance(value, dict):
        return {key: without_own(inner) for key, inner in value.items() if key not in OWN}
    return [without_own(inner) for inner in value] if isinstance(value, list) else value
