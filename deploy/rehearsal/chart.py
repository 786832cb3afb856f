"""The Helm chart, by the commands of its README."""

import re

from cluster import ROOT, Failed
from page import IMAGE, UPSTREAM

KINDS = "all,configmap,secret,networkpolicy,hpa,pdb,sa"
FOLDER = "deploy/helm/onboardflow-gateway"


class Chart:
    def __init__(self, page):
        self.page = page

    def blocks(self):
        return re.findall(r"^```sh\n(.*?)^```", (ROOT / FOLDER / "README.md").read_text(), re.M | re.S)

    def install(self):
        self.follow(self.blocks()[0])

    def upgrade(self):
        self.follow(self.blocks()[1])

    def uninstall(self):
        self.follow(self.blocks()[2])
        left = self.page.cluster.kubectl("-n", "onboardflow", "get", KINDS, "-o", "name")
        ours = [line for line in left.splitlines() if line.endswith("/onboardflow-gateway")]
        if ours or "secret/onboardflow-gateway-credentials" not in left:
            raise Failed(f"helm uninstall should leave the Secret, and nothing else:\n{left}")

    def follow(self, text):
        name, _, url = UPSTREAM.partition("=")
        text = text.replace(IMAGE, "onboardflow-gateway").replace("./token", str(self.page.own / "token"))
        text = text.replace(" --set ", f" --set settings.{name}={url} --set ", 1)
        self.page.shell(text, self.page.checkout)
