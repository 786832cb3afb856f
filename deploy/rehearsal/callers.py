"""The callers of a rehearsal: one pod for each language and each of the gateway's two Services, and what they saw."""

import base64
import collections
import json
import subprocess

from cluster import ROOT, Failed, ready, until
from images import CALLERS

NAMESPACE = "shop"  # as in docs/kubernetes.md
LABEL = "onboardflow-rehearsal"
PROGRAMS = {
    "Go": ["/callers/go"],
    "Java": ["/callers/jre/bin/java", "-XX:+UseSerialGC", "-Xmx96m", "-cp", "/callers/java/*:/callers/java/lib/*", "Caller"],
    "Python": ["/usr/bin/python3", "/callers/caller.py"],
}
SERVICES = {"headless": "dns:///onboardflow-gateway-headless", "plain": "dns:///onboardflow-gateway"}
CHANNELS, PAUSE_MS = 4, 150  # of a caller: some 25 calls a second
PYTHON = {"PYTHONHOME": "/usr", "PYTHONPATH": "/callers/packages"}

CUSTOMER = {"id": "cus_123XYZ", "userId": "user_123XYZ", "email": "test@onboardflow.com", "hasPaymentMethod": True}
REQUEST = {"siteKey": "f37F2PPh", "eventDate": "2020-03-01T00:00:00Z", "customer": CUSTOMER}

Count = collections.namedtuple("Count", "calls failures")  # failures: message → how often


def requests():
    """A create and an update, each as a path and its encoded request."""
    calls = []
    for method in ("CreateCustomer", "UpdateCustomer"):
        command = [ROOT / ".tools/bin/buf", "convert", ROOT / "proto", "--from=-#format=json", "--to=-#format=binpb"]
        command.append(f"--type=onboardflow.customer.v1.{method}Request")
        ran = subprocess.run(command, input=json.dumps(REQUEST).encode(), capture_output=True, check=True)
        calls.append([f"/onboardflow.customer.v1.CustomerService/{method}", base64.b64encode(ran.stdout).decode()])
    return json.dumps(calls)


def service_config():
    """That of examples/, with retries for the update only: these calls have no request_id, and the gateway no ledger."""
    config = json.loads((ROOT / "examples/service-config.json").read_text())
    update = {"service": "onboardflow.customer.v1.CustomerService", "method": "UpdateCustomer"}
    config["methodConfig"][0]["name"] = [update]
    return json.dumps(config)


class Callers:
    def __init__(self, cluster, node, secret=None):
        """node is where the callers run: one that is never cut off. secret holds their certificate."""
        self.cluster, self.node, self.secret = cluster, node, secret
        self.calls = requests()
        self.config = service_config()
        self.names = {f"{language.lower()}-{service}": (language, service) for language in PROGRAMS for service in SERVICES}

    def start(self):
        self.stop()
        self.cluster.apply(*(self.pod(name, language, service) for name, (language, service) in self.names.items()))
        until(lambda: all(count.calls for count in self.counts().values()), 120, "every caller calls")

    def stop(self):
        self.cluster.kubectl("-n", NAMESPACE, "delete", "pod", "-l", LABEL, "--grace-period=1", "--ignore-not-found")

    def pod(self, name, language, service):
        environment = {
            "TARGET": f"{SERVICES[service]}.onboardflow.svc.cluster.local:50051",
            "SERVICE_CONFIG": self.config,
            "CALLS": self.calls,
            "CHANNELS": str(CHANNELS),
            "PAUSE_MS": str(PAUSE_MS),
            **PYTHON,
            **({"TLS_DIR": "/tls"} if self.secret else {}),
        }
        container = {
            "name": "caller",
            "image": CALLERS,
            "imagePullPolicy": "Never",
            "command": PROGRAMS[language],
            "env": [{"name": key, "value": value} for key, value in environment.items()],
        }
        spec = {"containers": [container], "nodeName": self.node, "terminationGracePeriodSeconds": 1}
        if self.secret:
            container["volumeMounts"] = [{"name": "tls", "mountPath": "/tls"}]
            spec["volumes"] = [{"name": "tls", "secret": {"secretName": self.secret}}]
        metadata = {"name": name, "namespace": NAMESPACE, "labels": {LABEL: "caller"}}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}

    def counts(self):
        """What each caller has counted since it started."""
        counts = {}
        for pod in self.cluster.get("pods", "-n", NAMESPACE, "-l", f"{LABEL}=caller")["items"]:
            name = pod["metadata"]["name"]
            if any(status["restartCount"] for status in pod["status"].get("containerStatuses", [])):
                raise Failed(f"the caller {name} ended:\n" + self.log(name, "--previous"))
            lines = [line for line in self.log(name).splitlines() if line.startswith("{")] if ready(pod) else []
            seen = json.loads(lines[-1]) if lines else {"calls": 0, "failures": {}}
            counts[name] = Count(seen["calls"], collections.Counter(seen["failures"]))
        return counts

    def log(self, name, *more):
        return self.cluster.kubectl("-n", NAMESPACE, "logs", "--tail=20", name, *more)

    def since(self, before):
        now = self.counts()
        return {name: Count(now[name].calls - old.calls, now[name].failures - old.failures) for name, old in before.items()}
