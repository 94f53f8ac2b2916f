"""Certificates for tests: an authority, and what it signs."""

import pathlib
import subprocess


class Authority:
    """A certificate authority in a folder: `ca`, and pairs of certificate and key for 127.0.0.1 and localhost."""

    def __init__(self, folder, name="ca"):
        self.folder = pathlib.Path(folder)
        self.name = name
        self.ca = self.folder / f"{name}.pem"
        self._openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN=test {name}",
                      "-keyout", f"{name}.key", "-out", self.ca.name)

    def _openssl(self, *arguments):
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)

    def sign(self, name, names="DNS:localhost,IP:127.0.0.1"):
        """(certificate, key) with these alternative names."""
        self._openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", f"{name}.key",
                      "-out", f"{name}.request")
        (self.folder / f"{name}.names").write_text(f"subjectAltName={names}\n")
        self._openssl("x509", "-req", "-in", f"{name}.request", "-CA", self.ca.name, "-CAkey", f"{self.name}.key",
                      "-CAcreateserial", "-days", "2", "-extfile", f"{name}.names", "-out", f"{name}.crt")
        return self.folder / f"{name}.crt", self.folder / f"{name}.key"
