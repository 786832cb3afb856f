"""Every overlay and component: applied, no diff, applied again unchanged, deleted."""

import json

from cluster import Failed, until
from definitions import definitions
from manifests import render, variants

KNOWN = (
    # Kubernetes 1.34 warns of a default that it sets itself.
    "Warning: spec.SessionAffinity is ignored for headless services",
    # kubectl sends a budget's selector whole each time; the generation stays.
    "poddisruptionbudget.policy/onboardflow-gateway configured",
)


def define(cluster, objects):
    """Brings the definitions into a cluster that has none. The operators are not there: nobody acts on the objects."""
    missing = [one for one in definitions(objects).values() if not cluster.has("crd", one["metadata"]["name"])]
    if missing:
        cluster.apply(*missing)
        names = [f"crd/{one['metadata']['name']}" for one in missing]
        wait = ["wait", "--for=condition=Established", "--timeout=5s", *names]
        established = lambda: cluster.kubectl(*wait, accept=(0, 1)).count("condition met") == len(names)
        until(established, 60, f"{', '.join(names)} are established")


def check(cluster, folder):
    for name, overlay in variants(folder).items():
        objects = render(overlay)
        define(cluster, objects)
        # Server-side validation of each field, and warnings such as Pod Security's, which are printed among the rest.
        said = cluster.kubectl("apply", "--validate=strict", "-k", overlay)
        expect(name, said, "created")
        differences = cluster.kubectl("diff", "-k", overlay, accept=(0, 1))
        if differences.strip():
            raise Failed(f"{name}: kubectl diff is not empty after an apply:\n{differences}")
        before = budgets(cluster, overlay)
        expect(name, cluster.kubectl("apply", "-k", overlay), "unchanged")
        if budgets(cluster, overlay) != before:
            raise Failed(f"{name}: a second apply changed the PodDisruptionBudget")
        expect(name, cluster.kubectl("delete", "-k", overlay, "--timeout=4m"), "deleted")
        print(f"{name}: {len(objects)} objects applied, no diff, unchanged, deleted", flush=True)


def budgets(cluster, overlay):
    listed = json.loads(cluster.kubectl("get", "-k", overlay, "-o", "json"))["items"]
    return [one["metadata"]["generation"] for one in listed if one["kind"] == "PodDisruptionBudget"]


def expect(name, said, word):
    odd = [line for line in said.splitlines() if word not in line and line not in KNOWN]
    if odd:
        raise Failed(f"{name}: '{word}' was expected:\n" + "\n".join(odd))
