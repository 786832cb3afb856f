"""The PrometheusRule of components/prometheus: deploy/prometheus/rules.yaml, which promtool tests, in an object."""

import yaml

from manifests import ROOT

SOURCE = ROOT / "deploy/prometheus/rules.yaml"
TARGET = ROOT / "deploy/kubernetes/components/prometheus/prometheusrule.yaml"


def wanted():
    head = TARGET.read_text().partition("spec:\n")[0]
    indented = "".join(f"  {line}" if line.strip() else line for line in SOURCE.read_text().splitlines(keepends=True))
    return f"{head}spec:\n{indented}"


def write():
    TARGET.write_text(wanted())


def problems():
    if yaml.safe_load(TARGET.read_text())["spec"] != yaml.safe_load(SOURCE.read_text()):
        yield "the PrometheusRule differs from deploy/prometheus/rules.yaml: scripts/check-deploy --write"
