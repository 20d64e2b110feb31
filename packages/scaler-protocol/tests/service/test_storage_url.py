"""What `--storage-url` may say."""

from __future__ import annotations

import pytest

from scaler_protocol.service.storage_url import RedisUrl, S3Url, parse_storage_url


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
