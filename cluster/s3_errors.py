"""What goes wrong with S3, in plain words."""

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
    """Return a failed call as the error that callers know.

    Args:
        error: what boto3 raised.
        location: of the store.
        name: of the object.

    Returns:
        FileNotFoundError where the object is missing, FileExistsError where it is another one than
        was said, else a `cluster.storage.StorageError`.
    """
    if isinstance(error, ClientError):
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in _MISSING:
            return FileNotFoundError(f"there is no {name} in {location}")
        if code in _CHANGED:
            return FileExistsError(f"{name} in {location} is another one by now")
        problem, remedy, passing = _answered(error, code)
    else:
        problem, remedy, passing = _failed(error)
    return StorageError(location, problem, remedy, passing=passing)


def is_denial(error: StorageError) -> bool:
    """Tell whether access was denied."""
    return error.problem.startswith(_DENIAL)


def _answered(error: ClientError, code: str) -> tuple[str, str, bool]:
    """Return problem, remedy and whether it may pass, of what the server says.

    Of its own words only the code is shown: its messages name accounts and keys.
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
        return "the clock of this machine is wrong", "set it", True
    if code in _DENIED or status == 403:
        return (
            f"{_DENIAL} ({error.operation_name})",
            "let these credentials list, read, write and remove there: cluster/iam-policy.json",
            False,
        )
    if code in _THROTTLED or status in (429, 503):
        return f"the server asks to slow down ({code})", "try again later", True
    if status >= 500:
        return f"the server fails ({code or status})", "try again later", True
    return f"the server refuses {error.operation_name} ({code or status})", "see its log", False


def _failed(error: Exception) -> tuple[str, str, bool]:
    """Return problem, remedy and whether it may pass, of a call that came to no answer."""
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
            "see that AWS_ENDPOINT_URL, if set, is right and that the network lets it through",
            True,
        )
    if isinstance(error, ValueError):
        return _first(error), "correct AWS_ENDPOINT_URL and the like", False
    return _first(error), "see that the settings of AWS are right", False


def _first(error: Exception) -> str:
    """Return what an error says in short, without what an address may hold of a password."""
    line = " ".join(str(error).split()) or type(error).__name__
    line = re.sub(r"://[^/@\s]*@", "://***@", line)
    return line if len(line) <= 200 else f"{line[:197]}..."
