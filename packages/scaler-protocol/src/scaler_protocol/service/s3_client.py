"""The client of a bucket of S3, as all services make it. `obstore` is imported when one is made: most services need none."""

from __future__ import annotations

import os
import re
from datetime import timedelta
from typing import TYPE_CHECKING

from scaler_protocol.service.storage_url import S3Url, parse_endpoint

if TYPE_CHECKING:
    from obstore.store import S3Config, S3Store

CONNECT_SECONDS = 5.0
NO_CREDENTIALS_TEXT = "no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"

ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
"""Environment variables from which the library takes an endpoint where no setting has one."""

_METADATA_SERVICE = "169.254.169.254"
_DETAILS = re.compile(r"<Code>(.*?)</Code>.*?<Message>(.*?)</Message>", re.DOTALL)
_TEXT_CHARACTERS = 300


def make_s3_client(url: S3Url, endpoint: str | None, request_seconds: float) -> S3Store:
    """Return the client of what is below a prefix of a bucket. Nothing is asked yet.

    `endpoint`: the URL of a store other than AWS, as `parse_endpoint` returns it. `request_seconds`: what the store may take to
    answer; nothing is tried again. Credentials come from the environment, as AWS names them. Raises ValueError for a malformed
    endpoint in the environment, and what the library raises. It is a package's optional dependency: ImportError without it.
    """
    from obstore.store import S3Store

    if endpoint is None:
        for name in ENDPOINT_VARIABLES:
            if os.environ.get(name):
                try:
                    parse_endpoint(os.environ[name])
                except ValueError as error:
                    raise ValueError(f"the environment variable {name}: {error}") from None
    config: S3Config = {}
    if endpoint is not None:
        config["endpoint"] = endpoint
    return S3Store(
        url.bucket,
        prefix=url.prefix or None,
        config=config,
        client_options={
            "timeout": timedelta(seconds=request_seconds),
            "connect_timeout": timedelta(seconds=min(CONNECT_SECONDS, request_seconds)),
            "allow_http": endpoint is not None and endpoint.startswith("http://"),
        },
        # Whoever asks repeats its requests itself, up to a deadline.
        retry_config={"max_retries": 0},
    )


def lacks_credentials(error: Exception) -> bool:
    """Whether the library found no credentials: the last place where it looks means nothing to people on other machines."""
    return _METADATA_SERVICE in str(error)


def text_of(error: Exception) -> str:
    """Return what the store or the library says, for people; empty if that is nothing."""
    if lacks_credentials(error):
        return NO_CREDENTIALS_TEXT
    text = " ".join(str(error).split())
    details = _DETAILS.search(text)
    said = f"{details[1]}: {details[2]}" if details is not None else text.partition(" Debug source:")[0]
    return said[:_TEXT_CHARACTERS]
