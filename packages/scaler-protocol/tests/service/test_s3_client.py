"""The client of a bucket of S3, without a bucket."""

from __future__ import annotations

import subprocess
import sys

import pytest

from scaler_protocol.service.s3_client import lacks_credentials, make_s3_client, text_of
from scaler_protocol.service.storage_url import S3Url


def test_an_endpoint_in_the_environment_is_named_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("obstore")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://")
    with pytest.raises(ValueError, match="the environment variable AWS_ENDPOINT_URL: 'http://' names no host"):
        make_s3_client(S3Url("bucket", ""), None, 1.0)


def test_the_library_is_not_imported_before_there_is_a_client() -> None:
    program = "import sys, scaler_protocol.service.s3_client; sys.exit('obstore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == 0


def test_errors_are_shortened_to_what_people_need() -> None:
    error = OSError(
        "Generic: <Code>NoSuchBucket</Code> <x/> <Message>It is not there</Message> Debug source: much more"
    )
    assert text_of(error) == "NoSuchBucket: It is not there"
    assert text_of(OSError("it is down Debug source: much more")) == "it is down"
    nobody = OSError("error sending request for url (http://169.254.169.254/latest)")
    assert lacks_credentials(nobody)
    assert "AWS_ACCESS_KEY_ID" in text_of(nobody)
