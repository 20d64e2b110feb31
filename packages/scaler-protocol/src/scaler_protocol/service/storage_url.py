"""URLs of remote stores, as `--storage-url` names them. No text that these classes make has a secret in it."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

REDIS_SCHEMES = ("redis", "valkey")
REDIS_TLS_SCHEMES = ("rediss", "valkeys")
REDIS_PORT = 6379
DEFAULT_PREFIX = "scaler"
TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
"""What may follow the question mark: paths of PEM files."""

ENDPOINT_FORM = "http://HOST[:PORT] or https://HOST[:PORT], as in http://store.example:9000"

_AUTHORITY = re.compile(r"(\[[^\[\]]*\]|[A-Za-z0-9._-]+)(?::([0-9]+))?")
_PATH = re.compile(r"[A-Za-z0-9._~/-]*")
_PREFIX = re.compile(r"[A-Za-z0-9._/-]*")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,62}")


@dataclass(slots=True, frozen=True)
class RedisUrl:
    """A database of a Redis or Valkey server: `redis://[USER@]HOST[:PORT][/DATABASE[/PREFIX]]`."""

    scheme: str
    host: str
    port: int
    database: int
    prefix: str
    username: str | None
    tls: dict[str, str]
    """Paths of certificates, by option."""
    password: str | None = field(default=None, repr=False)
    """Comes from elsewhere: everybody on the machine can see the command line."""

    @property
    def is_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.scheme in REDIS_TLS_SCHEMES

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}/{self.database}/{self.prefix}"


@dataclass(slots=True, frozen=True)
class S3Url:
    """A prefix in a bucket: `s3://BUCKET[/PREFIX]`. Credentials come from elsewhere."""

    bucket: str
    prefix: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"


StorageUrl = RedisUrl | S3Url


def parse_storage_url(text: str, password_flag: str = "--storage-password-file") -> StorageUrl:
    """Return what a URL means. Raises ValueError, with a text in which no secret is; `password_flag`: where one belongs."""
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise ValueError("it is not a URL") from None
    if url.scheme in REDIS_SCHEMES + REDIS_TLS_SCHEMES:
        return _redis_url(url, port, password_flag)
    if url.scheme == "s3":
        return _s3_url(url, port)
    raise ValueError("expected redis://, rediss://, valkey://, valkeys:// or s3:// at its beginning")


def parse_endpoint(text: str) -> str:
    """Return the URL of a store that speaks S3, its scheme in small letters. Raises ValueError, with no secret in its text.

    The library for S3 does not survive what is no URL, so all that it takes for none is found here.
    """
    scheme, mark, rest = text.partition("://")
    authority, slash, path = rest.partition("/")
    if "@" in authority:
        raise ValueError("a URL of a store has no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    trouble = ""
    if not text.isascii() or not text.isprintable() or " " in text:
        trouble = "has characters that no URL has (spaces, or others than ASCII)"
    elif not mark or scheme.lower() not in ("http", "https"):
        trouble = "does not begin with http:// or https://"
    elif not authority:
        trouble = "names no host"
    else:
        trouble = _trouble_of(authority)
        if not trouble and not _PATH.fullmatch(path):
            trouble = "has more behind its host and port than a path"
    if trouble:
        raise ValueError(f"{text!r} {trouble}; expected {ENDPOINT_FORM}")
    return f"{scheme.lower()}://{authority}{slash}{path}"


def _trouble_of(authority: str) -> str:
    """Return what is wrong with HOST[:PORT]; empty: nothing."""
    found = _AUTHORITY.fullmatch(authority)
    if found is None:
        return "has something else than HOST or HOST:PORT behind ://"
    host, port = found.groups()
    if port is not None and not 0 < int(port) < 65536:
        return f"has the port {port}, which is not between 1 and 65535"
    try:
        if host.startswith("["):
            ipaddress.IPv6Address(host[1:-1])
        elif host.rstrip(".").rpartition(".")[2].isdigit():
            ipaddress.IPv4Address(host)
    except ValueError:
        return f"has the host {host}, which is not an address"
    return ""


def _redis_url(url: SplitResult, port: int | None, password_flag: str) -> RedisUrl:
    if not url.hostname:
        raise ValueError(f"{url.scheme}:// needs a host, as in {url.scheme}://127.0.0.1:{REDIS_PORT}/0")
    if url.password is not None:
        raise ValueError(f"a URL has no password, which others could see: write it to a {password_flag}")
    options = dict(parse_qsl(url.query, keep_blank_values=True))
    unknown = [name for name in options if name not in TLS_OPTIONS]
    if unknown or (options and url.scheme not in REDIS_TLS_SCHEMES):
        raise ValueError(f"{', '.join(options)} cannot follow the ?; rediss:// takes {', '.join(TLS_OPTIONS)}")
    database, _, prefix = url.path.strip("/").partition("/")
    if database and not (database.isascii() and database.isdigit() and len(database) < 10):
        raise ValueError(f"the path begins with the number of a database, as in /0/{DEFAULT_PREFIX}")
    return RedisUrl(
        url.scheme,
        url.hostname,
        port if port is not None else REDIS_PORT,
        int(database or 0),
        _checked_prefix(prefix) or DEFAULT_PREFIX,
        unquote(url.username) if url.username else None,
        options,
    )


def _s3_url(url: SplitResult, port: int | None) -> S3Url:
    if url.username is not None or url.password is not None:
        raise ValueError("an s3:// URL has no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if url.query or url.fragment or port is not None:
        raise ValueError("an s3:// URL consists of bucket and prefix, as in s3://bucket/scaler")
    if not _BUCKET.fullmatch(url.netloc):
        raise ValueError("an s3:// URL needs the name of a bucket, as in s3://bucket/scaler")
    return S3Url(url.netloc, _checked_prefix(url.path.strip("/")))


def _checked_prefix(prefix: str) -> str:
    if not _PREFIX.fullmatch(prefix) or any(part in ("", ".", "..") for part in prefix.split("/") if prefix):
        raise ValueError("a prefix consists of letters, digits, dots, dashes, underscores and single slashes")
    return prefix
