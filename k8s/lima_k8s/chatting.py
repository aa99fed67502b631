"""Talking: the same conversations in a terminal and on a page."""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import datetime
from typing import Any

import click

from lima.clock import now
from lima.errors import LimaError
from lima.evaluation.conversations import KIND, Conversation, Conversations
from lima.judging.instructions import INSTRUCTIONS
from lima_k8s.localpage import LocalPage
from lima_k8s.output import say, visible
from lima_k8s.webpage import read_page

TITLE = 80
COMMANDS = "/new: another conversation   /label TURN: label again   /quit"
CHOICES = {choice.key: choice for choice in INSTRUCTIONS[KIND].choices}


class ChatPage:
    """The conversations as a page calls them."""

    def __init__(self, conversations: Conversations) -> None:
        """Serve these conversations."""
        self.conversations = conversations

    def serve(self, port: int) -> LocalPage:
        """Return the page, bound but not yet serving."""
        actions = {"state": self.state, "open": self.open, "new": self.new, "say": self.say,
                   "label": self.label}  # fmt: skip
        return LocalPage(read_page("chat"), actions, port)

    def state(self, _: dict[str, Any]) -> dict[str, Any]:
        """Return the list of conversations, and what labels there are."""
        asked = INSTRUCTIONS[KIND]
        return {
            "conversations": [_title(c) for c in self.conversations.all.values()],
            "model": self.conversations.spec.model_name,
            "instructions": asked.text,
            "question": asked.question,
            "choices": [asdict(choice) for choice in asked.choices],
        }

    def open(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return what was said in a conversation."""
        return _whole(self.conversations.named(request["id"]))

    def new(self, _: dict[str, Any]) -> dict[str, Any]:
        """Return a conversation in which nothing was said yet."""
        return _whole(self.conversations.new())

    def say(self, request: dict[str, Any]) -> dict[str, Any]:
        """Say something, and return the conversation with the answer."""
        conversation = self.conversations.named(request["id"])
        if not isinstance(request["text"], str):
            raise ValueError("text is not text")
        self.conversations.say(conversation, request["text"])
        return _whole(conversation)

    def label(self, request: dict[str, Any]) -> dict[str, Any]:
        """Label an answer."""
        conversation = self.conversations.named(request["id"])
        self.conversations.label(conversation, int(request["turn"]), str(request["label"]))
        return _whole(conversation)


def talk(conversations: Conversations, read: Callable[[str], str]) -> None:
    """Talk in a terminal until the end of the input.

    Args:
        conversations: What is talked about, and with whom.
        read: Shows a prompt and returns a line; `EOFError` or `KeyboardInterrupt` end it.

    """
    say(f"{conversations.spec.model_name}   {COMMANDS}")
    try:
        _talk(conversations, read)
    except (EOFError, KeyboardInterrupt, click.Abort):
        say("")


def _talk(conversations: Conversations, read: Callable[[str], str]) -> None:
    current = _begin(conversations)
    while True:
        given = current.opening if not current.utterances else None
        if given:
            say(f"you> {given}")
        line = given or read("you> ").strip()
        word, _, rest = line.partition(" ")
        if word == "/quit":
            return
        if word == "/new":
            current = _begin(conversations)
        elif word == "/label" and not given:
            _label(conversations, current, rest, read)
        elif line:
            _answer(conversations, current, line, read)


def _begin(conversations: Conversations) -> Conversation:
    current = conversations.new()
    say(f"-- conversation {current.id}")
    return current


def _answer(
    conversations: Conversations, current: Conversation, line: str, read: Callable[[str], str]
) -> None:
    try:
        click.echo(visible(conversations.say(current, line)))
    except LimaError as error:
        if not current.utterances and current.opening:
            raise  # the words are given: they would be said again and again
        say(f"error: {error}")
        return
    _label(conversations, current, str(len(current.keys)), read, now())


def _label(
    conversations: Conversations,
    current: Conversation,
    turn: str,
    read: Callable[[str], str],
    shown: datetime | None = None,
) -> None:
    offered = " ".join(f"[{key}]{choice.label[1:]}" for key, choice in CHOICES.items())
    while True:
        answer = read(f"{offered}, Enter: no label> ").strip().lower()
        known = CHOICES.get(answer[:1])
        if not answer:
            return
        if known and answer in (known.key, known.label):
            break
        say("this is no label")
    try:
        number = int(turn) if turn.isdecimal() else 0
        conversations.label(current, number, known.label, shown)
    except LimaError as error:
        say(f"error: {error}")


def _title(conversation: Conversation) -> dict[str, Any]:
    said = next(iter(conversation.utterances), conversation.opening)
    return {
        "id": conversation.id,
        "title": (said or "(new)")[:TITLE],
        "turns": len(conversation.keys),
        "labelled": _labelled(conversation.labels),
    }


def _whole(conversation: Conversation) -> dict[str, Any]:
    return {
        **_title(conversation),
        "utterances": conversation.utterances,
        "labels": [label and label[0] for label in conversation.labels],
        "opening": None if conversation.utterances else conversation.opening,
    }


def _labelled(labels: Iterable[object]) -> int:
    return sum(label is not None for label in labels)
