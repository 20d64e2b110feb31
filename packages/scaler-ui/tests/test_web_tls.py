"""`scaler_ui` over https, with a certificate that openssl made, and a key with a password."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from synthetic_cluster import SyntheticScheduler

from scaler_protocol.service.child import ChildService


@pytest.fixture
def base(scheduler: SyntheticScheduler, tmp_path: Path) -> Iterator[str]:
    """The address of a service whose certificate is `cert.pem`, with the token `s3cret`."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed: no certificate is made")
    for name, text in (("password", "key password"), ("token", "s3cret")):
        (tmp_path / name).write_text(text + "\n")
        (tmp_path / name).chmod(0o600)
    made = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-days", "2", "-subj", "/CN=localhost"]
    made += ["-addext", "subjectAltName=IP:127.0.0.1", "-passout", f"file:{tmp_path / 'password'}"]
    made += ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")]
    subprocess.run(made, check=True, capture_output=True, timeout=60)
    (tmp_path / "key.pem").chmod(0o600)
    flags = [
        f"--token-file={tmp_path / 'token'}",
        f"--tls-cert-file={tmp_path / 'cert.pem'}",
        f"--tls-key-file={tmp_path / 'key.pem'}",
        f"--tls-key-password-file={tmp_path / 'password'}",
    ]
    child = ChildService.start("scaler_ui.web", [scheduler.address, "--port=0", *flags])
    yield str(child.wait_ready(30)["webui"]).replace("tcp", "https")
    assert child.terminate(40) == 0


def test_pages_come_over_https_with_secure_cookies(base: str, tmp_path: Path) -> None:
    trusted = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    with httpx.Client(base_url=base, verify=trusted, timeout=10) as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        signed_in = client.post("/sign-in", data={"token": "s3cret"})
        assert signed_in.status_code == 303
        assert "Secure" in signed_in.headers["set-cookie"]
        assert client.get("/api/overview").status_code == 200
        client.cookies.clear()
        guesses = [
            client.post("/sign-in", data={"token": f"{n}"}, headers={"x-forwarded-for": f"192.0.2.{n}"}).status_code
            for n in range(12)
        ]
        # Whoever guesses cannot claim to be somebody else each time.
        assert guesses == [401] * 10 + [429] * 2
    with pytest.raises(httpx.ConnectError), httpx.Client(base_url=base, timeout=10) as stranger:
        stranger.get("/healthz")
    with pytest.raises(httpx.HTTPError):
        httpx.get(base.replace("https", "http") + "/healthz", timeout=10)
