"""What is said of certificates and keys that do not belong where they are given."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from scaler_protocol.service.errors import ConfigurationError
from scaler_protocol.service.tls_files import TlsFiles, checked_tls_files

OPENSSL = shutil.which("openssl")
pytestmark = pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed: no certificate is made")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two certificates with their keys, the second one with the password `secret`."""
    path = tmp_path_factory.mktemp("tls")
    for number, password in (("1", ["-nodes"]), ("2", ["-passout", "pass:secret"])):
        made = [str(OPENSSL), "req", "-x509", "-newkey", "rsa:2048", "-days", "2", "-subj", "/CN=localhost", *password]
        made += ["-keyout", str(path / f"key{number}.pem"), "-out", str(path / f"cert{number}.pem")]
        subprocess.run(made, check=True, capture_output=True, timeout=60)
        (path / f"key{number}.pem").chmod(0o600)
        (path / f"cert{number}.pem").chmod(0o644)
    (path / "both.pem").write_bytes((path / "key1.pem").read_bytes() + (path / "cert1.pem").read_bytes())
    (path / "both.pem").chmod(0o600)
    (path / "note.txt").write_text("nothing of this kind")
    return path


@pytest.mark.parametrize(
    ("certificate", "key", "password"),
    [("cert1", "key1", None), ("both", "both", None), ("cert2", "key2", "secret"), ("cert1", "both", None)],
)
def test_what_belongs_together_is_taken(folder: Path, certificate: str, key: str, password: str | None) -> None:
    paths = folder / f"{certificate}.pem", folder / f"{key}.pem"
    assert checked_tls_files(*paths, password) == TlsFiles(*paths, password)


@pytest.mark.parametrize(
    ("certificate", "key", "password", "told"),
    [
        (
            "key1.pem",
            "cert1.pem",
            None,
            r"--tls-cert-file, --tls-key-file: .*key1\.pem has the private key, and .*cert1\.pem .*: swap",
        ),
        ("cert1.pem", "cert1.pem", None, r"--tls-key-file: .*cert1\.pem has no private key"),
        ("key1.pem", "key1.pem", None, r"--tls-cert-file: .*key1\.pem has no certificate"),
        ("note.txt", "key1.pem", None, r"--tls-cert-file: .*note\.txt has no certificate"),
        ("cert1.pem", "none.pem", None, r"--tls-key-file: cannot read .*none\.pem: No such file or directory$"),
        (".", "key1.pem", None, r"--tls-cert-file: cannot read .*: Is a directory$"),
        ("cert2.pem", "key1.pem", None, r"key1\.pem is not the key of the first certificate in .*cert2\.pem$"),
        ("cert2.pem", "key2.pem", None, r"--tls-key-file: .*key2\.pem is encrypted; .* as --tls-key-password-file$"),
        ("cert2.pem", "key2.pem", "guess", r"--tls-key-password-file: the password does not open .*key2\.pem"),
    ],
)
def test_what_is_of_no_use_is_named_with_its_flag(
    folder: Path, certificate: str, key: str, password: str | None, told: str
) -> None:
    with pytest.raises(ConfigurationError, match=told) as caught:
        checked_tls_files(folder / certificate, folder / key, password)
    assert "\n" not in str(caught.value)
