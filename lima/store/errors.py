"""What goes wrong with a storage, in words that say what to do."""

import re

from lima.errors import BucketError, InputError, NoAnswerError, StorageError

_CREDENTIALS = "check the credentials in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_HINTS = {
    "SIGNATURE_DOES_NOT_MATCH": "check the secret in AWS_SECRET_ACCESS_KEY",
    "INVALID_ACCESS_KEY": "check the credentials in AWS_ACCESS_KEY_ID",
    "access key ID": "check the credentials in AWS_ACCESS_KEY_ID",
    "AuthorizationHeaderMalformed": "check AWS_REGION, the region of the bucket",
    "PermanentRedirect": "check AWS_REGION, the region of the bucket",
    "HTTP status 301": "check AWS_REGION, the region of the bucket",
    "(HTTP status 400) during Head": "check AWS_REGION, the region of the bucket",
    "NETWORK_CONNECTION": "check AWS_ENDPOINT_URL and the network",
    "SignatureDoesNotMatch": "check the secret in AWS_SECRET_ACCESS_KEY",
    "InvalidAccessKeyId": "check the credentials in AWS_ACCESS_KEY_ID",
    "AccessDenied": "this key may not do that there: ask for the right to, or name another storage",
    "Unable to locate credentials": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile",
    "Could not connect to the endpoint": "check AWS_ENDPOINT_URL and the network",
    "NoSuchBucket": "create the bucket first",
    "No space left": "free some space, then start the same command again",
    "NO_SUCH_BUCKET": "create the bucket first",
}
"""What to do about an error of a storage's library, by a part of its text; the first that fits."""
_AWAY = re.compile(
    r"NETWORK_CONNECTION|INTERNAL_FAILURE|SERVICE_UNAVAILABLE|SLOW_DOWN|THROTTLING|REQUEST_TIMEOUT"
    r"|HTTP status (429|5\d\d)|\bUNAVAILABLE\b|DEADLINE_EXCEEDED"
    r"|[Tt]imed out|Connection (refused|reset)|Input/output error|Stale file handle"
)
"""In what a storage's library says: storage gave no answer."""


def storage_error(error: BaseException, what: str, where: str) -> StorageError:
    """Return the error of ours for one of a storage's library; it tells its own kinds in words.

    Args:
        error: The library's.
        what: What was tried: `read`, `write`.
        where: URI of the object.

    """
    return kind_of(error)(f"cannot {what} {where}: {reason(error, what)}")


def kind_of(error: BaseException) -> type[StorageError]:
    """Return the kind of ours of an error of a storage's library."""
    if "NO_SUCH_BUCKET" in str(error):
        return BucketError
    return NoAnswerError if _AWAY.search(str(error)) else StorageError


def reason(error: BaseException, what: str = "") -> str:
    """Return what went wrong, with what to do where that is known."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    hint = next((h for key, h in _HINTS.items() if key in str(error)), None)
    if "ACCESS_DENIED" in str(error):
        hint = f"{_CREDENTIALS}, or ask for the right to {what or 'use it'} there"
        if what == "write":  # a wrong key is told from one that may only read
            hint = "this key may not write there: ask for the right to, or name another storage"
    return f"{text} ({hint})" if hint else text


def refuse_slips(uri: str) -> None:
    """Refuse what is almost the URI of an object store, and would be a folder of that name.

    Raises:
        InputError: it is; the message has what was probably meant.

    """
    found = re.match(r"(?i)(s3|gs|abfs|abfss|gcs)(:/*|//)(.*)", uri)
    if uri != uri.strip():
        raise InputError(f"{uri!r}: there is space around it; leave it out")
    if uri.startswith("//"):
        raise InputError(f"{uri}: name a folder by one slash, or an object store by its scheme")
    if found and not uri.startswith(f"{found[1].lower()}://"):
        meant = f"{found[1].lower()}://{found[3].strip('/') or 'BUCKET/PREFIX'}"
        raise InputError(f"{uri}: an object store is written {meant}; a folder, ./{uri}")
