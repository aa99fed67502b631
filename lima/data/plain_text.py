"""Text of people to text of an assistant: links, images and entities out, spaces in order."""

import html
import re

# No pattern looks further than the next bracket or stop of its own kind: text that begins it
# again and again, and never ends it, is still read in one pass.
_IMAGE = re.compile(r"[ \t]?!\[[^\[\]]*\]\((?:[^()\s]|\([^()\s]*\))*\)")
_MARKDOWN_LINK = re.compile(
    r"\[([^\]\[]+)\]\(\s*<?(?:https?://|www\.|/)(?:[^()\s]|\([^()\s]*\))*(?:\s[^()]*)?\)"
)
_WIKI_FILE = re.compile(r"[ \t]?\[\[(?:Image|File):[^\[\]]*\]\]", re.IGNORECASE)
_WIKI_LINK = re.compile(r"\[\[(?:[^\[\]|]*\|)?([^\[\]|]+)\]\]")
_URL = r"<?\b(?:https?://|www\.)[^\s<>\"')\]]*[^\s<>\"')\].,;:!?]>?"
_ADDRESS = re.compile(rf"[ \t]?(?:\(\s*{_URL}\s*\)|{_URL})")
_TAG = re.compile(r"</?(?:a|img|b|i|em|strong|span|div|br|p|u|sup|sub|ref)\b[^<>]*>", re.IGNORECASE)
_INVISIBLE = re.compile("[\u200b\u2060\ufeff\x00-\x08\x0b\x0c\x0e-\x1f]")


def without_links(text: str) -> str:
    """Return `text` with the words of links but without their addresses, images or tags."""
    for pattern, replacement in (
        (_IMAGE, ""),
        (_WIKI_FILE, ""),
        (_TAG, ""),
        (_MARKDOWN_LINK, r"\1"),
        (_WIKI_LINK, r"\1"),
        (_ADDRESS, ""),
    ):
        text = pattern.sub(replacement, text)
    return text


def tidy(text: str) -> str:
    """Return `text` with entities resolved, invisible characters out and spaces in order.

    Line breaks and indentation stay; spaces at the ends of lines and blank lines after the
    first go.
    """
    text = _INVISIBLE.sub("", html.unescape(text)).replace("\r\n", "\n").replace("\r", "\n")
    text = text.replace("\u00a0", " ")
    lines = [line.rstrip() for line in text.split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def one_line(text: str) -> str:
    """Return `text` as one line with single spaces."""
    return " ".join(tidy(text).split())
