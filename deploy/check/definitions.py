"""CustomResourceDefinitions, from where their projects publish them: their Go modules."""

import json
import pathlib
import subprocess
import tempfile

import yaml

MODULES = {  # group: module@version, and the folder within it
    "cert-manager.io": ("github.com/cert-manager/cert-manager@v1.21.2", "deploy/crds"),
    "monitoring.coreos.com": (
        "github.com/prometheus-operator/prometheus-operator@v0.85.0",
        "example/prometheus-operator-crd",
    ),
    "gateway.networking.k8s.io": ("sigs.k8s.io/gateway-api@v1.6.3", "config/crd/standard"),
    "networking.istio.io": ("istio.io/api@v1.32.0", "kubernetes"),
    "external-secrets.io": ("github.com/external-secrets/external-secrets@v1.3.2", "config/crds/bases"),
}


class Loader(yaml.CSafeLoader):
    """Takes a plain `=`, which YAML 1.1 has another use for, as the string that it is."""


Loader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: node.value)


def is_custom(one):
    """Kubernetes' own groups have no dot or end in k8s.io; Gateway API's ends so and comes by a definition all the same."""
    group = one["apiVersion"].rpartition("/")[0]
    return group == "gateway.networking.k8s.io" or "." in group and not group.endswith(".k8s.io")


def definitions(objects):
    """Those of the custom resources among objects, by group and kind."""
    kinds = {(one["apiVersion"].partition("/")[0], one["kind"]) for one in objects if is_custom(one)}
    found = {}
    for group in sorted({group for group, _ in kinds}):
        for path in sorted(folder(*MODULES[group]).glob("*.yaml")):
            for document in yaml.load_all(path.read_text(), Loader):
                if document and document["kind"] == "CustomResourceDefinition":
                    found[document["spec"]["group"], document["spec"]["names"]["kind"]] = document
    return {kind: found[kind] for kind in kinds}


def folder(module, inside):
    # Outside of any module: nothing is built with these.
    ran = subprocess.run(
        ["go", "mod", "download", "-json", module], cwd=tempfile.gettempdir(), capture_output=True, text=True
    )
    answer = json.loads(ran.stdout or "{}")
    if ran.returncode or "Dir" not in answer:
        raise SystemExit(f"go mod download {module}: {answer.get('Error', ran.stderr)}")
    return pathlib.Path(answer["Dir"]) / inside
