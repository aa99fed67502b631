"""A tokenizer that reads every utterance alike, wherever it stands.

Training encodes utterance by utterance. A server renders the chat template and encodes the whole
text, which the tokenizer cuts at its special tokens. Both give the same tokens if a piece between
two special tokens has the tokens that it has alone. Two habits of tokenizers stand against that:

* SentencePiece's space before the first word of a text (`Metaspace`), which transformers leaves
  out after a special token, and before a text that begins with a space, whose space is then lost
  in decoding. SentencePiece itself puts it before every text (add_dummy_prefix), as done here.
* GPT-2's space before a text (`ByteLevel`), where that is asked for: the same; decoding leaves it.
* Special tokens that take the white space beside them along, or that are found only after the
  text was normalized, so that they swallow that space.
"""

import json
from collections.abc import Collection, Iterator
from typing import Any

STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}


def read_segments_alike(tokenizer: Any, special: Collection[str]) -> None:
    """Change `tokenizer` so that a text has the same tokens alone and between `special` tokens.

    One without these habits is left as it is. What is changed is saved with the tokenizer.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # written in Python: `check_template` says whether it will do
        return
    state = json.loads(backend.to_str())
    if _find_as_written(state, special) | _prefix_everywhere(state):
        tokenizer._tokenizer = type(backend).from_str(json.dumps(state))


def _find_as_written(state: dict[str, Any], special: Collection[str]) -> bool:
    """Let special tokens be found before normalization, and take nothing along."""
    wanted = {
        "special": True,
        "normalized": False,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
    }
    changed = False
    for token in state["added_tokens"]:
        if token["content"] in special and not wanted.items() <= token.items():
            token.update(wanted)
            changed = True
    return changed


def _prefix_everywhere(state: dict[str, Any]) -> bool:
    """Put the space before every text, not only before some; decoding takes one away."""
    changed = False
    for part in _parts(state["pre_tokenizer"], "pretokenizers"):
        if part["type"] == "Metaspace" and part["prepend_scheme"] != "never":
            part["prepend_scheme"] = "never"
            _prepend(state, part["replacement"])
            changed = True
    whole = state["pre_tokenizer"] or {}
    if whole.get("type") == "ByteLevel" and whole["add_prefix_space"]:
        whole["add_prefix_space"] = False
        _prepend(state, " ")
        decoders = [*_parts(state["decoder"], "decoders"), STRIP]
        state["decoder"] = {"type": "Sequence", "decoders": decoders}
        changed = True
    return changed


def _prepend(state: dict[str, Any], prefix: str) -> None:
    before = list(_parts(state["normalizer"], "normalizers"))
    if not any(other["type"] == "Prepend" for other in before):
        before.append({"type": "Prepend", "prepend": prefix})
    state["normalizer"] = {"type": "Sequence", "normalizers": before}


def _parts(component: dict[str, Any] | None, name: str) -> Iterator[dict[str, Any]]:
    """Return the parts of a component, which may be a sequence of some."""
    if component is None:
        return
    if component["type"] != "Sequence":
        yield component
        return
    for part in component[name]:
        yield from _parts(part, name)
