"""Holds the files under deploy/ to what no cluster would say of them. scripts/check-deploy has the usage.

manifests.py   the overlays, with each component, as kustomize builds them
schemas.py     their objects against published schemas; definitions.py fetches those of custom resources
references.py  what objects say of each other, of the program and of the documentation; installation.py reads them
chart.py       the Helm chart against the kustomize base
memory.py      the program's memory under load, against the manifests
rules.py       the PrometheusRule against the rules that promtool tests
"""

import pathlib
import sys
import tempfile

import yaml

import chart
import memory
import references
import rules
import schemas
from installation import Installation
from manifests import ROOT, render, variants

RENDERED = ROOT / ".tools/deploy/manifests"  # for scripts/check-conformance


def main(task, binary=None):
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        installations = [Installation(name, render(overlay)) for name, overlay in variants(folder).items()]
        if task == "measure":
            found += memory.problems(installations[1], binary)
            return verdict(found)
        if task == "write":
            rules.write()
        found += rules.problems()
        found += [f"chart: {problem}" for problem in chart.problems(folder)]
        for one in installations:
            found += [f"{one.name}: {problem}" for problem in schemas.problems(one.objects)]
            found += [f"{one.name}: {problem}" for problem in references.problems(one)]
            if binary:
                found += [f"{one.name}: {problem}" for problem in references.flags(one, binary)]
            RENDERED.mkdir(parents=True, exist_ok=True)
            (RENDERED / f"{one.name}.yaml").write_text(yaml.safe_dump_all(one.objects))
            print(f"{one.name:32} {len(one.objects)} objects", flush=True)
    if binary:
        found += memory.problems(installations[1], binary)
    return verdict(found)


def verdict(found):
    for problem in found:
        print("WRONG ", problem)
    return 1 if found else 0


sys.exit(main(*sys.argv[1:]))
