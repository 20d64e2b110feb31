"""What `--storage-url` may say."""

from __future__ import annotations

import pytest

from scaler_protocol.service.storage_url import RedisUrl, S3Url, parse_endpoint, parse_storage_url


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis://h", RedisUrl("redis", "h", 6379, 0, "scaler", None, {})),
        ("redis://h:1/", RedisUrl("redis", "h", 1, 0, "scaler", None, {})),
        ("valkey://me@h:1/7", RedisUrl("valkey", "h", 1, 7, "scaler", "me", {})),
        ("redis://me%40home@[::1]:1/7/a/b", RedisUrl("redis", "::1", 1, 7, "a/b", "me@home", {})),
        (
            "rediss://h?ssl_ca_certs=/a.pem",
            RedisUrl("rediss", "h", 6379, 0, "scaler", None, {"ssl_ca_certs": "/a.pem"}),
        ),
        ("valkeys://h", RedisUrl("valkeys", "h", 6379, 0, "scaler", None, {})),
        ("s3://bucket", S3Url("bucket", "")),
        ("s3://bucket/a/b/", S3Url("bucket", "a/b")),
    ],
)
def test_a_url_says_where(text: str, expected: RedisUrl | S3Url) -> None:
    url = parse_storage_url(text)
    assert url == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "expected redis://"),
        ("bucket", "expected redis://"),
        ("http://h", "expected redis://"),
        ("redis://", "needs a host"),
        ("redis://h:x", "not a URL"),
        ("redis://h:99999", "not a URL"),
        ("redis://[h", "not a URL"),
        ("redis://h/x", "number of a database"),
        ("redis://h/-1", "number of a database"),
        ("redis://h/0/a*b", "a prefix consists of"),
        ("redis://h/0/a//b", "a prefix consists of"),
        ("redis://h/0/../b", "a prefix consists of"),
        ("redis://h?ssl_ca_certs=/a", "rediss:// takes"),
        ("rediss://h?db=3", "db cannot follow"),
        ("redis://:p@h", "a URL has no password"),
        ("s3://", "needs the name of a bucket"),
        ("s3://Bucket", "needs the name of a bucket"),
        ("s3://bucket/a b", "a prefix consists of"),
        ("s3://bucket?region=x", "consists of bucket and prefix"),
        ("s3://bucket:80/a", "consists of bucket and prefix"),
        ("s3://k:s@bucket", "has no credentials"),
    ],
)
def test_what_is_wrong_with_a_url_is_told(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_storage_url(text)


@pytest.mark.parametrize(
    ("endpoint", "trouble"),
    [
        ("http://", "names no host"),
        ("https://", "names no host"),
        ("http:///bucket", "names no host"),
        ("", "does not begin with http:// or https://"),
        ("s3.amazonaws.com", "does not begin with http:// or https://"),
        ("localhost:9000", "does not begin with http:// or https://"),
        ("ftp://store:9000", "does not begin with http:// or https://"),
        ("http:/store", "does not begin with http:// or https://"),
        ("http://st ore:9000", "has characters that no URL has"),
        (" http://store", "has characters that no URL has"),
        ("http://store\n", "has characters that no URL has"),
        ("http://störe:9000", "has characters that no URL has"),
        ("http://store:9000:9000", "has something else than HOST or HOST:PORT"),
        ("http://store:", "has something else than HOST or HOST:PORT"),
        ("http://store:+9", "has something else than HOST or HOST:PORT"),
        ("http://a^b", "has something else than HOST or HOST:PORT"),
        ("http://[::1", "has something else than HOST or HOST:PORT"),
        ("http://store?x=1", "has something else than HOST or HOST:PORT"),
        ("http://store:99999", "has the port 99999"),
        ("http://store:0", "has the port 0"),
        ("http://300.1.1.1", "has the host 300.1.1.1, which is not an address"),
        ("http://[v1.a]", "has the host [v1.a], which is not an address"),
        ("http://store/a?x=1", "has more behind its host and port than a path"),
        ("http://store/%zz", "has more behind its host and port than a path"),
    ],
)
def test_an_endpoint_that_is_no_url_is_refused_with_what_is_wrong(endpoint: str, trouble: str) -> None:
    with pytest.raises(ValueError, match="; expected http://HOST") as caught:
        parse_endpoint(endpoint)
    assert str(caught.value).startswith(f"{endpoint!r} {trouble}")


def test_an_endpoint_with_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="no credentials") as caught:
        parse_endpoint("http://me:hush-hush@store")
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://store",
        "https://store.example:9000",
        "http://127.0.0.1:9/",
        "http://[::1]:9000/below",
        "http://my_store-1.local",
    ],
)
def test_an_endpoint_is_taken_as_it_is(endpoint: str) -> None:
    assert parse_endpoint(endpoint) == endpoint
    assert parse_endpoint(endpoint.replace("http", "HTTP", 1)) == endpoint
