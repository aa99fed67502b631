"""Why a model cannot be used, in words that say what to do."""

from lima.common.paths import PACKAGE
from lima.errors import HubError, LimaError, ModelError


def not_installed(path: str) -> str:
    """Return what is wrong with the path of a file of a package that is not there."""
    package = path.removeprefix(PACKAGE).partition("/")[0]
    return f"{path}: the Python package {package} is not installed here, or has no such file"


def unusable(path: str, what: str, error: BaseException) -> LimaError:
    """Return the error for what cannot be loaded; a hub that is away is no bad input."""
    from huggingface_hub import is_offline_mode

    # transformers says the same whether the hub was asked in vain or not asked at all.
    if "couldn't connect to" in str(error):
        if is_offline_mode():
            return ModelError(
                f"{path}: no {what} can be loaded: it is not in the cache, and HF_HUB_OFFLINE "
                "keeps the hub from being asked; name a folder that holds the model"
            )
        return HubError(
            f"{path}: the hub does not answer ({_first_line(error)}); name a folder that holds the "
            "model"
        )
    return ModelError(f"{path}: no {what} can be loaded ({_first_line(error)})")


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0]
