"""What one overlay puts into a cluster, and the container's environment as the kubelet would make it."""

import math
import re

MILLI = {"": 1000, "m": 1, "Ki": 1024 * 1000, "Mi": 1024**2 * 1000, "Gi": 1024**3 * 1000}
SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}


class Installation:
    def __init__(self, name, objects):
        self.name, self.objects = name, objects
        self.deployment = self.only("Deployment")
        self.pod = self.deployment["spec"]["template"]["spec"]
        (self.container,) = self.pod["containers"]
        self.labels = self.deployment["spec"]["template"]["metadata"]["labels"]

    def all(self, kind):
        return [one for one in self.objects if one["kind"] == kind]

    def only(self, kind):
        (one,) = self.all(kind)
        return one

    def named(self, kind, name):
        return next((one for one in self.all(kind) if one["metadata"]["name"] == name), None)

    @property
    def settings(self):
        """The container's environment, but for what comes out of Secrets."""
        settings = {}
        for source in self.container.get("envFrom", []):
            settings |= self.named("ConfigMap", source["configMapRef"]["name"])["data"]
        for variable in self.container.get("env", []):
            reference = variable.get("valueFrom", {}).get("resourceFieldRef")
            if reference:
                group, _, resource = reference["resource"].partition(".")
                share = milli(self.container["resources"][group][resource]) / milli(reference["divisor"])
                settings[variable["name"]] = str(math.ceil(share))
            else:
                settings[variable["name"]] = variable.get("value", "")
        return settings


def milli(quantity):
    number, unit = re.fullmatch(r"([\d.]+)([a-zA-Z]*)", str(quantity)).groups()
    return float(number) * MILLI[unit]


def bytes_of(quantity):
    """Of Kubernetes' 64Mi or the program's 256KiB."""
    return int(milli(quantity.removesuffix("B")) / 1000)


def seconds(duration):
    number, unit = re.fullmatch(r"([\d.]+)([a-z]+)", duration).groups()
    return float(number) * SECONDS[unit]
