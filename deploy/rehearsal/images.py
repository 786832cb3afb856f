"""Images as OCI archives, without a builder: the gateway under two versions, and the three callers in one."""

import gzip
import hashlib
import io
import json
import os
import pathlib
import platform
import subprocess
import sys
import tarfile

HERE = pathlib.Path(__file__).resolve().parent
GRPCIO = "grpcio==1.85.1"
JAVA_MODULES = "java.base,jdk.crypto.ec,java.logging,java.management,java.naming,jdk.unsupported"
UNUSED_PYTHON = {"test", "tests", "idlelib", "ensurepip", "lib2to3", "site-packages", "__pycache__", "tkinter"}
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
GATEWAY, CALLERS = "docker.io/library/onboardflow-gateway", "docker.io/library/onboardflow-callers:1"
USER, VERSIONS = "65532:65532", ("0.1.0", "0.1.1")


def gateway(binary, out):
    """The gateway with this machine's libraries. Its two versions differ in a label alone: enough to roll out."""
    out.mkdir(parents=True, exist_ok=True)
    roots = pathlib.Path("/etc/ssl/certs/ca-certificates.crt")
    files = {"usr/local/bin/onboardflow-gateway": binary, "etc/ssl/certs/ca-certificates.crt": roots, **libraries(binary)}
    for version in VERSIONS:
        labels = {"org.opencontainers.image.version": version}
        config = {"Entrypoint": ["/usr/local/bin/onboardflow-gateway"], "Cmd": ["serve"], "User": USER, "Labels": labels}
        yield write(f"{GATEWAY}:{version}", files, config, out)


def renamed(archive, out):
    """The Dockerfile's image, under the names of the manifests."""
    out.mkdir(parents=True, exist_ok=True)
    for version in VERSIONS:
        target = out / f"onboardflow-gateway-{version}.tar"
        with tarfile.open(archive) as source, tarfile.open(target, "w") as copy:
            for member in source:
                content = source.extractfile(member).read() if member.isfile() else b""
                if member.name == "index.json":
                    index = json.loads(content)
                    index["manifests"][0]["annotations"] = named(f"{GATEWAY}:{version}")
                    content = json.dumps(index).encode()
                    member.size = len(content)
                copy.addfile(member, io.BytesIO(content))
        yield target


def callers(out):
    """The three callers with all that they need to run, as they are on this machine."""
    work = out.parent / "callers"
    work.mkdir(parents=True, exist_ok=True)
    run("go", "build", "-C", HERE / "callers", "-trimpath", "-o", work / "go", ".", CGO_ENABLED="0")
    run("mvn", "-q", "-B", "-f", HERE / "callers/java/pom.xml", f"-Dout={work / 'java'}", "package")
    jre, packages = work / "jre", work / GRPCIO
    if not jre.exists():
        run("jlink", "--strip-debug", "--no-man-pages", "--add-modules", JAVA_MODULES, "--output", jre)
    if not packages.exists():
        run(sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--target", packages, GRPCIO)
    python, standard = pathlib.Path(sys.executable).resolve(), pathlib.Path(os.__file__).parent
    files = {"callers/go": work / "go", "callers/caller.py": HERE / "callers/caller.py", "usr/bin/python3": python}
    files |= tree(work / "java", "callers/java", "*.jar") | tree(jre, "callers/jre")
    files |= tree(packages, "callers/packages") | tree(standard, f"usr/lib/{standard.name}")
    for program in [python, jre / "bin/java", *(path for path in files.values() if path.suffix == ".so")]:
        files |= libraries(program, outside=jre)
    return write(CALLERS, files, {"User": USER}, out)


def run(*command, **environment):
    subprocess.run(list(map(str, command)), check=True, stdin=subprocess.DEVNULL, env={**os.environ, **environment})


def tree(folder, under, pattern="*"):
    found = {}
    for path in folder.rglob(pattern):
        inside = path.relative_to(folder)
        if path.is_file() and not UNUSED_PYTHON.intersection(inside.parts):
            found[f"{under}/{inside}"] = path
    return found


def libraries(program, outside=pathlib.Path("/none")):
    """The shared libraries that a program loads from outside of its own folder, where its loader looks for them."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True)
    words = [word for line in listed.stdout.splitlines() for word in line.split() if word.startswith("/")]
    return {word.lstrip("/"): pathlib.Path(word) for word in words if not word.startswith(str(outside))}


def named(name):
    return {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rpartition(":")[2]}


def write(name, files, config, out):
    layer = layer_of(files)
    blobs = {}

    def blob(content, kind):
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(content)}

    diff = "sha256:" + hashlib.sha256(layer).hexdigest()
    described = {
        "architecture": ARCHITECTURES[platform.machine()],
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [diff]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(json.dumps(described).encode(), "config.v1+json"),
        "layers": [blob(gzip.compress(layer, 1), "layer.v1.tar+gzip")],
    }
    entry = {**blob(json.dumps(manifest).encode(), "manifest.v1+json"), "annotations": named(name)}
    index = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    archive = out / (name.rpartition("/")[2].replace(":", "-") + ".tar")
    with tarfile.open(archive, "w") as tar:
        for path, content in {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": index, **blobs}.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return archive


def layer_of(files):
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for folder in sorted({str(parent) for path in files for parent in pathlib.PurePath(path).parents} - {"."}):
            member = tarfile.TarInfo(folder)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(member)
        for path, source in sorted(files.items()):
            content = source if isinstance(source, bytes) else source.read_bytes()
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(content), 0o755
            tar.addfile(member, io.BytesIO(content))
    return layer.getvalue()
