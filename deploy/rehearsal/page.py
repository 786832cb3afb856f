"""docs/kubernetes.md and the chart's README, as a newcomer follows them: each command block, in order."""

import re
import shutil
import subprocess
import time

from cluster import ROOT, Failed, until

IMAGE = "registry.example.com/onboardflow-gateway"
UPSTREAM = "ONBOARDFLOW_UPSTREAM_URL=http://upstream.onboardflow-upstream.svc.cluster.local:8080"
ELSEWHERE = ("docker ", "kind ")  # commands that bring the image to the cluster, which --load does here
KEY = "0123456789abcdef0123456789abcdef01234567"  # made up
COMPONENT = "  - ../onboardflow-gateway/deploy/kubernetes/components/gateway-api\n"  # which the page's patches are for
SETTINGS = f"""configMapGenerator:
  - name: onboardflow-gateway
    namespace: onboardflow
    behavior: merge
    literals: [{UPSTREAM}]
"""


class Page:
    """The page at work: `folder` holds a checkout and, beside it, the reader's own overlay."""

    def __init__(self, cluster, folder):
        self.cluster, self.checkout, self.own = cluster, folder / "onboardflow-gateway", folder / "own"
        self.sections = {}  # of the reader's kustomization.yaml

    def blocks(self):
        text = (ROOT / "docs/kubernetes.md").read_text()
        return [block for block in re.findall(r"^```(yaml|sh)\n(.*?)^```$", text, re.M | re.S)]

    def prepare(self):
        shutil.rmtree(self.checkout, ignore_errors=True)
        shutil.copytree(ROOT / "deploy", self.checkout / "deploy", ignore=shutil.ignore_patterns("target"))
        self.own.mkdir(parents=True, exist_ok=True)
        (self.own / "token").write_text(KEY)
        (self.own / "new-token").write_text(KEY[::-1])

    def install(self):
        """The page up to the point where callers can call."""
        rest = self.blocks()
        while rest:
            kind, text = rest.pop(0)
            self.follow(kind, text)
            if "kubectl label namespace shop" in text:
                return rest
        raise Failed("docs/kubernetes.md doesn't say how to install")

    def follow(self, kind, text):
        first = text.splitlines()[0]
        print(f"docs/kubernetes.md: {first[:90]}", flush=True)
        if kind == "sh":
            self.commands(text)
        elif first == "# kustomization.yaml":
            self.sections = {"start": text, "configMapGenerator": SETTINGS}
            self.write()
        elif match := re.search(r"^(components|configMapGenerator|patches):", text, re.M):
            self.sections[match[1]] = text
            self.write()
        else:
            self.cluster.kubectl("apply", "-f", "-", stdin=text)

    def write(self):
        """What is the reader's own is filled in: the image, and here an OnboardFlow that isn't the real one."""
        whole = dict(self.sections)
        if "patches" in whole:
            whole["components"] += COMPONENT
        text = "".join(whole.values()).replace(IMAGE, "onboardflow-gateway").replace("digest: sha256:…", "newTag: 0.1.0")
        text = text.replace("=bearer]", f"=bearer, {UPSTREAM}]")
        (self.own / "kustomization.yaml").write_text(text)

    def commands(self, text):
        lines = [line for line in text.splitlines() if not line.startswith(ELSEWHERE)]
        forward = next((line for line in lines if "port-forward" in line), None)
        lines = [line for line in lines if line != forward]
        if forward:
            last = lines.pop()
            self.shell("\n".join(lines), self.checkout)
            self.forwarded(forward, last)
        elif "kubectl -n onboardflow logs" in text:
            pods = len(self.cluster.gateways())
            until(lambda: len(self.shell(text, self.own, accept=(0, 1)).splitlines()) >= pods, 240, "every pod has logged")
        elif lines:
            self.shell("\n".join(lines), self.own)

    def forwarded(self, forward, command):
        # It ends by itself: a signal would not pass a prefix command that runs it in another process namespace.
        self.cluster.start(["timeout", "15", "bash", "-c", forward], stdout=subprocess.DEVNULL)
        time.sleep(5)
        if "CustomerService" not in self.shell(command, self.own):
            raise Failed(f"{command}: no CustomerService in what it printed")

    def shell(self, script, folder, accept=(0,)):
        return self.cluster.run(["bash", "-euc", script], cwd=folder, accept=accept)

    def apply(self, version):
        """`kubectl apply -k .` with the image of a version."""
        file = self.own / "kustomization.yaml"
        file.write_text(re.sub(r"newTag: .*", f"newTag: {version}", file.read_text()))
        self.cluster.kubectl("apply", "-k", self.own)


def title(text):
    """A block's own words, for the table: its last command."""
    return "page: " + text.splitlines()[0].strip()[:40]
