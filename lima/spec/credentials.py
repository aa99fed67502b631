"""Addresses must not hold passwords: specs, manifests, logs and tables would show them."""

import re

from lima.errors import SpecError

_WITHIN = re.compile(r"https?://[^/?#\s]*@|://[^/?#\s@:]*:[^/?#\s]*@")


def refuse_credentials(text: str, where: str) -> None:
    """Refuse an address like `https://NAME:PASSWORD@HOST`; the message does not repeat it.

    A container of Azure is no credential: `abfs://CONTAINER@ACCOUNT…`.

    Raises:
        SpecError: `text`, which stands at `where`, holds one.

    """
    if _WITHIN.search(text):
        raise SpecError(
            f"{where}: an address with a name or a password before its @, which specs, logs and "
            "tables would show; leave them out and give them by the environment, as "
            "AWS_SECRET_ACCESS_KEY or the variable that api_key_env names"
        )
