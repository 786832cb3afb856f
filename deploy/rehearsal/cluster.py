"""A Kubernetes cluster, by kubectl: that of KUBECONFIG, or the one behind a prefix command."""

import json
import pathlib
import shlex
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TIMEOUT = 600  # seconds, for one command
NAMESPACE, GATEWAY = "onboardflow", "onboardflow-gateway"
SELECTOR = f"app.kubernetes.io/name={GATEWAY}"


class Failed(Exception):
    """Something that the cluster, or a command, should have done and didn't."""


class Cluster:
    def __init__(self, prefix):
        self.prefix = shlex.split(prefix)

    def run(self, command, stdin=None, cwd=None, accept=(0,)):
        """Runs a command where the cluster can be reached, and returns what it printed, errors included."""
        ran = subprocess.run(
            [*self.prefix, *map(str, command)],
            input=stdin,
            stdin=None if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=cwd,
            timeout=TIMEOUT,
        )
        if ran.returncode not in accept:
            raise Failed(f"{shlex.join(map(str, command))}: exit code {ran.returncode}\n{ran.stdout.strip()}")
        return ran.stdout

    def start(self, command, cwd=None, **more):
        return subprocess.Popen([*self.prefix, *map(str, command)], cwd=cwd, stdin=subprocess.DEVNULL, **more)

    def kubectl(self, *arguments, **more):
        return self.run(["kubectl", *arguments], **more)

    def get(self, *arguments):
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def apply(self, *objects):
        stdin = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        return self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=stdin)

    def has(self, *arguments):
        return bool(self.kubectl("get", "--ignore-not-found", "-o", "name", *arguments).strip())

    def nodes(self):
        return sorted(node["metadata"]["name"] for node in self.get("nodes")["items"])

    def gateways(self, ending=False):
        """The gateway's pods, and with `ending` those as well that were told to end."""
        pods = self.get("pods", "-n", NAMESPACE, "-l", SELECTOR)["items"]
        return [pod for pod in pods if ending or "deletionTimestamp" not in pod["metadata"]]

    def settle(self):
        """Waits until the gateway is rolled out, and the pods that were replaced are gone."""
        self.kubectl("-n", NAMESPACE, "rollout", "status", f"deployment/{GATEWAY}", "--timeout=9m")
        until(lambda: len(self.gateways(ending=True)) == len(self.gateways()), 180, "the old pods are gone")


def ready(pod):
    conditions = pod["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def until(holds, seconds, what):
    """Waits for a condition, and returns the seconds that it took."""
    begun = time.monotonic()
    while not holds():
        if time.monotonic() - begun > seconds:
            raise Failed(f"not within {seconds} s: {what}")
        time.sleep(1)
    return time.monotonic() - begun
