"""Opens the remote tier that settings name, and tries it: what is wrong is told at the start, in one message."""

from __future__ import annotations

import logging

from scaler_objstore.tiers.lease import Lease, LeasedValues, LeaseStore
from scaler_objstore.tiers.patience import Patience
from scaler_objstore.tiers.port import TierError, TierFullError
from scaler_objstore.tiers.remote import RETRY_SECONDS, RemoteTier
from scaler_objstore.tiers.values import RejectedError
from scaler_protocol.service.errors import ConfigurationError, ServiceError
from scaler_protocol.service.storage_url import RedisUrl, S3Url

logger = logging.getLogger(__name__)

LEASE_PATIENCE_SECONDS = 5.0
"""For how long the prefix is asked for, if a request fails."""


def open_remote_tier(url: RedisUrl | S3Url, endpoint: str | None, request_seconds: float) -> RemoteTier:
    """Return the tier. Blocks for as long as the store does not answer, within its time limits.

    Raises ConfigurationError if the store refuses us, and ServiceError if it does not answer or another server uses the prefix.
    """
    values = _values(url, endpoint, request_seconds)
    lease = Lease(values)
    tier = RemoteTier(LeasedValues(values, lease), RETRY_SECONDS)
    patience = Patience(LEASE_PATIENCE_SECONDS)
    try:
        _check(tier, url)
        patience.ask(lambda: lease.take(f"--storage-url {url}"), patience.deadline())
    except BaseException as error:
        tier.close()
        if isinstance(error, RejectedError):
            raise ConfigurationError(f"--storage-url {url}: {error}") from None
        if isinstance(error, TierError):
            raise ServiceError(f"--storage-url {url} does not answer: {error}") from None
        raise
    return tier


def _check(tier: RemoteTier, url: RedisUrl | S3Url) -> None:
    try:
        warning = tier.check()
    except TierFullError as error:
        # What it holds can be read all the same.
        logger.error("--storage-url %s: %s", url, error)
    else:
        if warning:
            logger.warning("--storage-url %s: %s", url, warning)


def _values(url: RedisUrl | S3Url, endpoint: str | None, request_seconds: float) -> LeaseStore:
    # Imported late: each needs a library that is installed only where it is used.
    try:
        if isinstance(url, RedisUrl):
            from scaler_objstore.tiers.redis_values import RedisValues

            return RedisValues(url, request_seconds)
        from scaler_objstore.tiers.s3_values import S3Values

        return S3Values(url, endpoint, request_seconds)
    except ModuleNotFoundError as error:
        extra = "redis" if isinstance(url, RedisUrl) else "s3"
        raise ConfigurationError(
            f"--storage-url {url} needs the package {error.name}: pip install 'scaler-objstore[{extra}]'"
        ) from None
