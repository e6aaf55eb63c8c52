"""Converts errors of S3 to one-line messages with a remedy."""

from __future__ import annotations

import re

from botocore import exceptions as failures
from botocore.exceptions import ClientError

from cluster.storage import StorageError

_REGION = frozenset(
    {
        "301",
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
        "IncorrectEndpoint",
        "MovedPermanently",
        "PermanentRedirect",
        "TemporaryRedirect",
    }
)
_REFUSED = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    }
)
_DENIED = frozenset({"403", "AccessDenied", "AllAccessDisabled", "Forbidden"})
_THROTTLED = frozenset(
    {
        "429",
        "503",
        "RequestLimitExceeded",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
_DENIAL = "access is denied"
_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
_CHANGED = frozenset({"409", "412", "ConditionalRequestConflict", "PreconditionFailed"})
_NO_CREDENTIALS = (
    failures.CredentialRetrievalError,
    failures.NoCredentialsError,
    failures.PartialCredentialsError,
    failures.ProfileNotFound,
    failures.SSOError,
    failures.TokenRetrievalError,
)
_UNREACHABLE = (
    failures.ConnectionError,
    failures.HTTPClientError,
    failures.IncompleteReadError,
    failures.ResponseStreamingError,
)


def explain(error: Exception, location: str, name: str) -> OSError:
    """Convert an error of boto3.

    Args:
        error: error raised by boto3.
        location: location of the store.
        name: name of the object.

    Returns:
        FileNotFoundError for a missing object, FileExistsError for an unexpected version, else a
        `cluster.storage.StorageError`.
    """
    if isinstance(error, ClientError):
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in _MISSING:
            return FileNotFoundError(f"there is no {name} in {location}")
        if code in _CHANGED:
            return FileExistsError(f"{name} in {location} has changed")
        problem, remedy, passing = _answered(error, code)
    else:
        problem, remedy, passing = _failed(error)
    return StorageError(location, problem, remedy, passing=passing)


def is_denial(error: StorageError) -> bool:
    """Tell whether access was denied."""
    return error.problem.startswith(_DENIAL)


def _answered(error: ClientError, code: str) -> tuple[str, str, bool]:
    """Return problem, remedy and whether it may pass, for an error response.

    Only the code is shown, because messages contain accounts and keys.
    """
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code == "NoSuchBucket":
        return "there is no such bucket", "create it, or name another", False
    if code in _REGION:
        return (
            f"the bucket lies in another region ({code})",
            "set AWS_REGION to the region of the bucket",
            False,
        )
    if code in _REFUSED:
        return f"the credentials are refused ({code})", "renew or correct them", False
    if code == "RequestTimeTooSkewed":
        return "the clock of this machine is wrong", "set the clock", True
    if code in _DENIED or status == 403:
        return (
            f"{_DENIAL} ({error.operation_name})",
            "allow these credentials to list, read, write and delete: cluster/iam-policy.json",
            False,
        )
    if code in _THROTTLED or status in (429, 503):
        return f"the server asks to slow down ({code})", "try again later", True
    if status >= 500:
        return f"the server fails ({code or status})", "try again later", True
    return (
        f"the server refuses {error.operation_name} ({code or status})",
        "check the server's log",
        False,
    )


def _failed(error: Exception) -> tuple[str, str, bool]:
    """Return problem, remedy and whether it may pass, for a call without response."""
    if isinstance(error, _NO_CREDENTIALS):
        return (
            f"there are no credentials ({_first(error)})",
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the machine "
            "an instance profile",
            False,
        )
    if isinstance(error, failures.NoRegionError | failures.InvalidRegionError):
        return "the region is unknown", "set AWS_REGION to the region of the bucket", False
    if isinstance(error, _UNREACHABLE):
        return (
            f"its server does not answer ({_first(error)})",
            "check AWS_ENDPOINT_URL, if set, and the network",
            True,
        )
    if isinstance(error, ValueError):
        return _first(error), "correct AWS_ENDPOINT_URL and similar variables", False
    return _first(error), "check the AWS settings", False


def _first(error: Exception) -> str:
    """Return an error's message as one short line without passwords of URLs."""
    line = " ".join(str(error).split()) or type(error).__name__
    line = re.sub(r"://[^/@\s]*@", "://***@", line)
    return line if len(line) <= 200 else f"{line[:197]}..."
