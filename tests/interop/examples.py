"""The callers of examples/: what each needs, and how it is built and run, which its own README says."""

import dataclasses
import json
import os
import pathlib
import re
import shutil
import subprocess
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD_SECONDS = 900  # with nothing downloaded yet
RUN_SECONDS = 30
SAYS_WHAT_CAME_OF_IT = r'(Customer|Subscription|Event)( failed)?: |"call":'


@dataclasses.dataclass(frozen=True)
class Example:
    name: str
    programs: tuple[str, ...]  # its toolchain
    command: tuple[str, ...]  # faster than the README's where that one builds first

    @property
    def folder(self) -> pathlib.Path:
        return ROOT / "examples" / self.name

    @property
    def missing(self) -> list[str]:
        return [program for program in self.programs if shutil.which(program) is None]

    def blocks(self) -> list[str]:
        """The README's shell blocks: how to build, and what to try."""
        return re.findall(r"^```sh\n(.*?)^```", (self.folder / "README.md").read_text(), re.M | re.S)

    def build(self) -> str | None:
        """Runs the README's first block. What it printed, where that failed."""
        ran = self.shell(self.blocks()[0], BUILD_SECONDS)
        return None if ran.returncode == 0 else ran.stdout

    def try_readme(self) -> list[str]:
        """Runs the README's second block, as it is printed, a line at a time."""
        problems = []
        for line in self.blocks()[1].splitlines():
            ran = self.shell(line, RUN_SECONDS)
            fails = "--email" in line or "sandbox-" in line
            if ran.returncode != (1 if fails else 0) or not re.search(SAYS_WHAT_CAME_OF_IT, ran.stdout):
                problems.append(f"{line}\n    exit code {ran.returncode}, printed:\n{ran.stdout}")
        return problems

    def shell(self, script: str, seconds: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euc", script],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
        )

    def call(self, target: str, arguments: tuple[str, ...], rpcs: tuple[str, ...]) -> dict[str, dict[str, Any]]:
        """Makes the calls, and returns what the program says came of each."""
        ran = subprocess.run(
            [*self.command, "--json", "--target", target, *arguments, *rpcs],
            cwd=self.folder,
            env=os.environ | {"LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
        )
        try:
            outcomes = {outcome["call"]: outcome for outcome in map(json.loads, ran.stdout.splitlines())}
        except (ValueError, KeyError, TypeError):
            outcomes = {}
        ok = all(outcome["code"] == "OK" for outcome in outcomes.values())
        if set(outcomes) != set(rpcs) or ran.returncode != (0 if ok else 1):
            raise RuntimeError(f"exit code {ran.returncode}, printed:\n{ran.stdout}{ran.stderr}")
        return outcomes


EXAMPLES = [
    Example("go", ("go",), ("./customer",)),
    Example(
        "java", ("javac", "mvn"), ("java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-jar", "target/customer.jar")
    ),
    Example("node", ("node", "npm"), ("node", "customer.js")),
    Example("python", ("python3",), (".venv/bin/python", "customer.py")),
    Example("rust", ("cargo",), ("target/debug/customer",)),
]
