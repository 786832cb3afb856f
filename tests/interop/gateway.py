"""The binary under test as a process of ours, and the certificates for it."""

import functools
import itertools
import os
import pathlib
import re
import signal
import socket
import subprocess
import tempfile
import time

START_SECONDS = 10
STOP_SECONDS = 10

# Below those that Linux gives to outgoing connections, so that no call takes a port before the gateway does.
PORTS = itertools.count(20000 + os.getpid() % 5000)


class Gateway:
    """`onboardflow-gateway` on a port of its own, from when it accepts connections to the end of its drain.

    A `sandbox`, unless there is an upstream: then `serve`, which alone has TLS, in front of that one's REST API.
    """

    def __init__(
        self,
        binary: pathlib.Path,
        flags: tuple[str, ...] = (),
        upstream: "Gateway | None" = None,
        address: str | None = None,
    ):
        self.address = address or free_address()
        self.admin_address = free_address()
        self.rest_address = free_address()
        self.environment = dict(os.environ)
        if upstream:
            self.environment["ONBOARDFLOW_TOKEN"] = upstream.token
            self.command = [str(binary), "serve", "--upstream-url", f"http://{upstream.rest_address}"]
        else:
            self.command = [str(binary), "sandbox", "--rest-listen", self.rest_address]
        self.command += ["--listen", self.address, "--log-format", "json", *flags]
        known = flags_of(binary, self.command[1])
        for flag, value in {"--admin-listen": self.admin_address, "--drain-delay": "0s", "--drain-timeout": "2s"}.items():
            if flag in known:
                self.command += [flag, value]

    def __enter__(self) -> "Gateway":
        self.printed = tempfile.NamedTemporaryFile()
        self.process = subprocess.Popen(
            self.command,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=self.printed,
            stderr=subprocess.STDOUT,
        )
        try:
            self.wait_until_up()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        status = self.stop()
        if status != 0:
            raise RuntimeError(f"the gateway ended with {status} on SIGTERM:\n{self.output()}")

    def wait_until_up(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"the gateway ended at once, with {self.process.returncode}:\n{self.output()}")
            if is_taken(self.address):
                return
            time.sleep(0.005)
        raise RuntimeError(f"the gateway wasn't up within {START_SECONDS} s:\n{self.output()}")

    @property
    def token(self) -> str:
        """The API key that a sandbox made up, out of the curl command that it prints."""
        found = re.search(r"Authorization: Token ([0-9a-f]{40})", self.output())
        if not found:
            raise RuntimeError(f"the sandbox doesn't say its key:\n{self.output()}")
        return found[1]

    def output(self) -> str:
        return pathlib.Path(self.printed.name).read_text()  # opened anew: the gateway writes through the first

    def stop(self) -> int:
        """Ends the process as an operator would, and only this one. Its exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def free_address() -> str:
    return next(address for port in PORTS if not is_taken(address := f"127.0.0.1:{port}"))


def is_taken(address: str) -> bool:
    host, port = address.rsplit(":", 1)
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, int(port))) == 0


@functools.cache
def flags_of(binary: pathlib.Path, command: str) -> frozenset[str]:
    """The flags that this build of the binary knows."""
    shown = subprocess.run([binary, command, "--help"], capture_output=True, text=True, check=True, timeout=10)
    return frozenset(re.findall(r"--[a-z-]+", shown.stdout))


def has_tls(binary: pathlib.Path) -> bool:
    return {"--tls-cert", "--client-ca"} <= flags_of(binary, "serve")


class Certificates:
    """A CA, and certificates of it for the gateway and for a caller, in a folder that the caller of this removes."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.ca = self.make_ca()
        self.server = self.make("gateway", "subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth")
        self.client = self.make("caller", "subjectAltName=DNS:caller.example\nextendedKeyUsage=clientAuth")

    def gateway_flags(self, mutual: bool) -> tuple[str, ...]:
        flags = ("--tls-cert", f"{self.server}.pem", "--tls-key", f"{self.server}.key")
        return (*flags, "--client-ca", f"{self.ca}.pem") if mutual else flags

    def caller_flags(self, mutual: bool) -> tuple[str, ...]:
        flags = ("--tls-ca", f"{self.ca}.pem")
        return (*flags, "--tls-cert", f"{self.client}.pem", "--tls-key", f"{self.client}.key") if mutual else flags

    def make_ca(self) -> pathlib.Path:
        ca = self.folder / "ca"
        self.new_key(ca)
        openssl(
            "req", "-x509", "-new", "-key", f"{ca}.key", "-out", f"{ca}.pem", "-days", "2", "-subj", "/CN=interop CA"
        )
        return ca

    def make(self, name: str, extensions: str) -> pathlib.Path:
        made = self.folder / name
        self.new_key(made)
        extensions_file = made.with_suffix(".ext")
        extensions_file.write_text(f"basicConstraints=critical,CA:FALSE\n{extensions}\n")
        openssl("req", "-new", "-key", f"{made}.key", "-out", f"{made}.csr", "-subj", f"/CN={name}")
        openssl(
            *("x509", "-req", "-in", f"{made}.csr", "-out", f"{made}.pem", "-days", "2"),
            *("-CA", f"{self.ca}.pem", "-CAkey", f"{self.ca}.key", "-CAcreateserial", "-extfile", str(extensions_file)),
        )
        return made

    @staticmethod
    def new_key(path: pathlib.Path) -> None:
        openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", f"{path}.key")


def openssl(*arguments: str) -> None:
    ran = subprocess.run(["openssl", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    if ran.returncode != 0:
        raise RuntimeError(f"openssl {' '.join(arguments)}:\n{ran.stderr}")
