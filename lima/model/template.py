"""Conversations by a model's own chat template, for models that were tuned to chat before.

The template is rendered and encoded as a whole, as a server does it, so that training reads the
very tokens that the model is served. Special tokens that an utterance spells out are the one
exception: they are plain text here, so that data cannot end a turn.
"""

import re
from collections.abc import Sequence
from typing import Any

from lima.errors import ModelError

ROLES = ("user", "assistant")
MARK = "\ue000{}\ue001"
"""Stands for a special token that an utterance spells: of characters that no text uses."""
_KEPT = "lima_keeps_template"
_MARKED = re.compile("\ue000([0-9]+)\ue001")


def keep_template(tokenizer: Any) -> None:
    """Have conversations be written by the chat template that the tokenizer has."""
    setattr(tokenizer, _KEPT, True)


def has_own_template(tokenizer: Any) -> bool:
    """Say whether conversations are written by the tokenizer's own chat template."""
    return getattr(tokenizer, _KEPT, False)


def messages_of(conversation: Sequence[str]) -> list[dict[str, str]]:
    """Return utterances that take turns, the user's first, as chat templates read them."""
    return [{"role": ROLES[i % 2], "content": text} for i, text in enumerate(conversation)]


def special_tokens(tokenizer: Any) -> set[str]:
    """Return the tokens that a text may spell and that mean something else then."""
    return {str(t) for t in tokenizer.added_tokens_decoder.values() if t.special}


def prompt_ids(tokenizer: Any, conversation: Sequence[str]) -> list[int]:
    """Return the token ids after which the assistant speaks."""
    return _ids(tokenizer, conversation, assistant_next=True)


def dialogue_ids(
    tokenizer: Any, conversation: Sequence[str], eot_id: int
) -> tuple[list[int], list[bool]]:
    """Return token ids up to the last EOT, and for each whether it belongs to a response.

    Args:
        tokenizer: With a chat template of its own.
        conversation: Utterances that take turns; the assistant has the last one, or the user.
        eot_id: The token that ends the assistant's turns in that template.

    Raises:
        ModelError: the template ends turns with another token, or writes a turn otherwise once
            others follow it.

    """
    if len(conversation) % 2:
        ids = prompt_ids(tokenizer, conversation)
    else:
        ids = _ids(tokenizer, conversation, assistant_next=False)
    in_response, end = [False] * len(ids), len(ids)
    for turn in range(1, len(conversation), 2):
        before = prompt_ids(tokenizer, conversation[:turn])
        if ids[: len(before)] != before:
            raise ModelError(
                "this model's chat template writes a turn otherwise once others follow it, so that "
                "a dialogue cannot be trained as one text; set model.chat_template=lima, or leave "
                f"dialogues out (data.max_turns=1); {named(conversation)}"
            )
        end = _end(ids, len(before), eot_id, conversation)
        in_response[len(before) : end] = [True] * (end - len(before))
    if len(conversation) % 2:
        end = len(ids)
    return ids[:end], in_response[:end]


def _end(ids: Sequence[int], start: int, eot_id: int, conversation: Sequence[str]) -> int:
    """Return the place after the EOT of the response that begins at `start`."""
    try:
        return list(ids).index(eot_id, start) + 1
    except ValueError:
        raise ModelError(
            "this model's chat template does not end a response with model.eot_token; name the "
            f"token that it does end it with; {named(conversation)}"
        ) from None


def _ids(tokenizer: Any, conversation: Sequence[str], *, assistant_next: bool) -> list[int]:
    marks = sorted(special_tokens(tokenizer), key=len, reverse=True)
    texts = [_marked(text, marks) for text in conversation]
    rendered = tokenizer.apply_chat_template(
        messages_of(texts), tokenize=False, add_generation_prompt=assistant_next
    )
    ids: list[int] = []
    # Odd pieces are the numbers of special tokens that an utterance spells.
    for place, piece in enumerate(_MARKED.split(rendered)):
        text = marks[int(piece)] if place % 2 else piece
        options = {"add_special_tokens": False, "split_special_tokens": bool(place % 2)}
        ids += tokenizer(text, **options)["input_ids"]
    return ids


def _marked(text: str, special: Sequence[str]) -> str:
    for number, token in enumerate(special):
        text = text.replace(token, MARK.format(number))
    return text


def named(conversation: Sequence[str]) -> str:
    """Return which example a message is about."""
    return f"as in the dialogue that begins with {conversation[0][:40]!r}"
