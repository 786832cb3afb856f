"""Certificates as cert-manager makes them for components/mtls: an authority, the gateway's and a caller's."""

import base64
import subprocess

NEW_KEY = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
FILES = ("ca.crt", "tls.crt", "tls.key")


class Authority:
    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.openssl(f"req -x509 {NEW_KEY} -days 2 -subj /CN=rehearsal -keyout ca.key -out ca.crt")

    def openssl(self, command):
        subprocess.run(["openssl", *command.split()], cwd=self.folder, check=True, capture_output=True)

    def secret(self, namespace, name, usage, names):
        (self.folder / "extensions").write_text(
            f"extendedKeyUsage={usage}\nsubjectAltName=critical,{','.join('DNS:' + one for one in names)}\n"
        )
        self.openssl(f"req -new {NEW_KEY} -subj / -keyout tls.key -out tls.csr")
        self.openssl("x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -days 2 -extfile extensions -out tls.crt")
        data = {file: base64.b64encode((self.folder / file).read_bytes()).decode() for file in FILES}
        metadata = {"name": name, "namespace": namespace}
        return {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": metadata, "data": data}
