"""What a rehearsal does to the gateway while callers call it."""

import json
import subprocess
import time

from cluster import GATEWAY, NAMESPACE, SELECTOR, Failed, ready, until


def drain_nodes(cluster, patient):
    """Every node in turn. A patient drain waits for the pod's end, as a cluster's upgrade does; a hasty one goes on to the
    next node as soon as the PodDisruptionBudget lets it."""
    wanted, drains = len(cluster.gateways()), []
    for node in cluster.nodes():
        command = ["kubectl", "drain", node, f"--pod-selector={SELECTOR}", "--timeout=8m"]
        if patient:
            cluster.run(command)
        else:
            drains.append(cluster.start(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            until(lambda: moved(cluster, node, wanted), 240, f"the pods of {node} are replaced")
        cluster.kubectl("uncordon", node)
    for drain in drains:
        if drain.wait(timeout=300):
            raise Failed("kubectl drain failed")
    cluster.settle()


def moved(cluster, node, wanted):
    pods = [pod for pod in cluster.gateways() if ready(pod)]
    return len(pods) >= wanted and all(pod["spec"]["nodeName"] != node for pod in pods)


def kill_pod(cluster):
    """As a node's end or the kernel would: without the time that a drain takes."""
    name = cluster.gateways()[0]["metadata"]["name"]
    cluster.kubectl("-n", NAMESPACE, "delete", "pod", name, "--grace-period=0", "--force")


def node_to_cut(cluster, home):
    """One with a gateway, and without callers, OnboardFlow and DNS."""
    servers = cluster.get("pods", "-n", "kube-system", "-l", "k8s-app=kube-dns")["items"]
    dns = {pod["spec"].get("nodeName") for pod in servers}
    used = {pod["spec"]["nodeName"] for pod in cluster.gateways()} - dns - {home}
    return min(used, default=None)


def scale(cluster):
    """A lower target, which asks for more pods at the load that there is: few machines have the CPUs for more callers."""
    before = len(cluster.gateways())
    patch = [{"op": "replace", "path": "/spec/metrics/0/containerResource/target/averageUtilization", "value": 10}]
    cluster.kubectl("-n", NAMESPACE, "patch", "hpa", GATEWAY, "--type=json", "-p", json.dumps(patch))
    more = lambda: len([pod for pod in cluster.gateways() if ready(pod)]) > before
    took = until(more, 300, "pods are added")
    print(f"the autoscaler had a pod more than {before} ready after {took:.0f} s", flush=True)


def rotate_certificate(cluster, renew):
    """Renews the certificate as cert-manager does, and waits until every pod has taken it up."""
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    pods = len(cluster.gateways())
    renew()

    def taken_up():
        log = cluster.kubectl("-n", NAMESPACE, "logs", "-l", SELECTOR, f"--since-time={since}", "--tail=-1", "--prefix")
        lines = [line for line in log.splitlines() if "changed files were taken up" in line and '"certificate"' in line]
        return len({line.split()[0] for line in lines}) >= pods

    took = until(taken_up, 240, "every pod has taken up the certificate")
    print(f"the new certificate was in use after {took:.0f} s", flush=True)
