"""Which variables of the environment hold secrets, by their names."""

import os
import re

from lima.common.variables import KEY_NAMES

PLATFORM = ("AWS_", "AZURE_STORAGE_", "RAY_", "KUBE")
"""Starts of names of what opens storage or clusters, whose form says nothing."""
HUB = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
"""What opens the hub that models come from."""
SERVICES = ("WANDB_", "MLFLOW_", "GITHUB_", "GH_", "GITLAB_", "CI_JOB_", "VAULT_", "SLACK_")
"""Starts of names of what opens a service that is no endpoint of a model."""
_SECRET = re.compile(r"(\w+_)?(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS)", re.IGNORECASE)


def allowed_keys() -> list[str]:
    """Return the names of other forms that whoever started this gave to keys of endpoints."""
    return [name for name in os.environ.get(KEY_NAMES, "").split(",") if name]


def opens_platform(name: str) -> bool:
    """Say whether a variable of this name opens storage or a cluster."""
    return name.upper().startswith(PLATFORM)


def opens_service(name: str) -> bool:
    """Say whether a variable of this name opens another service than an endpoint: a hub, say."""
    return name.upper() in HUB or name.upper().startswith(SERVICES)


def engine_environment() -> dict[str, str]:
    """Return the environment for a process that loads a model and samples from it.

    It lacks what such a process has no use for and packages of others could read: credentials of
    storage and clusters, keys of endpoints and trackers. What opens the hub stays.
    """
    keys = allowed_keys()
    return {name: value for name, value in os.environ.items() if not _is_kept_back(name, keys)}


def _is_kept_back(name: str, keys: list[str]) -> bool:
    if name in HUB:
        return False
    return opens_platform(name) or bool(_SECRET.fullmatch(name)) or name in keys
