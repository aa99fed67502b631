"""What all pages have in common: one file without anything from elsewhere, and what guards it.

A page takes the shared style and script in where it names them, and a nonce with every answer:
only what we wrote runs, whatever the texts hold that it shows.
"""

import secrets
from importlib import resources

NONCE = "{{nonce}}"
"""Stands in a page where a style or a script names the nonce of its answer."""
SHARED = ("base.css", "base.js")
HTML = "text/html; charset=utf-8"
JSON = "application/json; charset=utf-8"
_POLICY = (
    "default-src 'none'; script-src 'nonce-{0}'; style-src 'nonce-{0}'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
NO_PAGE = "default-src 'none'; frame-ancestors 'none'"
"""The policy of an answer that is data."""


def read_page(name: str) -> str:
    """Return a page of the package, the shared style and script taken in."""
    folder = resources.files("lima_k8s.web").joinpath("pages")
    html = folder.joinpath(f"{name}.html").read_text("utf-8")
    for shared in SHARED:
        html = html.replace(f"/* {{{{{shared}}}}} */", folder.joinpath(shared).read_text("utf-8"))
    return html


def sealed(html: str) -> tuple[bytes, str]:
    """Return the bytes of a page with a nonce of its own, and the policy that goes with it."""
    nonce = secrets.token_urlsafe(16)
    return html.replace(NONCE, nonce).encode(), _POLICY.format(nonce)


def guards(policy: str = NO_PAGE) -> dict[str, str]:
    """Return the headers of an answer that keep it from being stored, framed or guessed at."""
    return {
        "Content-Security-Policy": policy,
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
    }
