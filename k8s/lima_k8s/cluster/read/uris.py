"""URIs of storages as people and charts write them."""


def plain(uri: str) -> str:
    """Return a storage's URI as it is stored and compared: without a slash at its end."""
    return uri.rstrip("/")


def is_for_pods(uri: str) -> bool:
    """Say whether pods can reach a storage, which is no folder of this machine."""
    return "://" in uri and not uri.startswith("file://")
