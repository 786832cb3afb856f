"""The binary under test as a process of ours, and the certificates for it."""

import functools
import pathlib
import re
import signal
import subprocess
import tempfile
import time

START_SECONDS = 10
STOP_SECONDS = 10


class Gateway:
    """`onboardflow-gateway sandbox` on free ports, from the line that says where it listens to the end of its drain."""

    def __init__(self, binary: pathlib.Path, flags: tuple[str, ...] = (), listen: str = "127.0.0.1:0"):
        command = [str(binary), "sandbox", "--listen", listen, "--log-format", "json", *flags]
        known = flags_of(binary)
        for flag, value in {"--admin-listen": "127.0.0.1:0", "--drain-delay": "0s", "--drain-timeout": "2s"}.items():
            if flag in known:
                command += [flag, value]
        self.command = command

    def __enter__(self) -> "Gateway":
        self.printed = tempfile.NamedTemporaryFile()
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=self.printed, stderr=subprocess.STDOUT
        )
        try:
            self.address = self.wait_for_address()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        status = self.stop()
        if status != 0:
            raise RuntimeError(f"the gateway ended with {status} on SIGTERM:\n{self.output()}")

    def wait_for_address(self) -> str:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if found := re.search(r"gRPC on (127\.0\.0\.1:\d+)", self.output()):
                return found[1]
            if self.process.poll() is not None:
                raise RuntimeError(f"the gateway ended at once, with {self.process.returncode}:\n{self.output()}")
            time.sleep(0.005)
        raise RuntimeError(f"the gateway didn't say within {START_SECONDS} s where it listens:\n{self.output()}")

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


@functools.cache
def flags_of(binary: pathlib.Path) -> frozenset[str]:
    """The flags that this build of the binary knows."""
    shown = subprocess.run([binary, "sandbox", "--help"], capture_output=True, text=True, check=True, timeout=10)
    return frozenset(re.findall(r"--[a-z-]+", shown.stdout))


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
