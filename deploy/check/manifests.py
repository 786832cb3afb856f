"""What deploy/kubernetes puts into a cluster: its overlays, and production with each component and with several."""

import pathlib
import shutil
import subprocess

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
COMPONENTS = ("mtls", "prometheus", "gateway-api", "istio", "external-secrets", "ledger-postgres")
KUBERNETES = "onboardflow-gateway/deploy/kubernetes"  # beside an overlay, where docs/kubernetes.md has it


def variants(folder):
    """Writes an overlay for each variant into a folder, beside a checkout: name → folder of the overlay."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "deploy/kubernetes", folder / KUBERNETES)
    made = {name: folder / KUBERNETES / "overlays" / name for name in ("development", "production")}
    for component in COMPONENTS:
        made[f"production+{component}"] = overlay(folder, component, [component])
    made["production+all"] = overlay(folder, "all", COMPONENTS)
    return made


def overlay(folder, name, components, resource=f"../{KUBERNETES}/overlays/production"):
    """One as docs/kubernetes.md tells readers to write it."""
    content = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "onboardflow",
        "resources": [resource],
        "components": [f"../{KUBERNETES}/components/{component}" for component in components],
    }
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "kustomization.yaml").write_text(yaml.safe_dump(content))
    return folder / name


def render(folder):
    """The objects of an overlay, as `kubectl kustomize` makes them."""
    command = [ROOT / ".tools/bin/kustomize", "build", folder]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        raise SystemExit(f"kustomize build {folder}:\n{ran.stderr}")
    return list(yaml.load_all(ran.stdout, yaml.CSafeLoader))
