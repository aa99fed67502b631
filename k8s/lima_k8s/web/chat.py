"""Talking: the same conversations in a terminal and on a page."""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import datetime
from typing import Any

import click

from lima.common.clock import now
from lima.errors import LimaError
from lima.rating.conversations import KIND, Conversation, Conversations
from lima.rating.instructions import INSTRUCTIONS
from lima_k8s.terminal.output import say, visible
from lima_k8s.web.local_page import LocalPage
from lima_k8s.web.page import read_page

TITLE = 80
COMMANDS = ("/new", "/label", "/quit")
HELP = "/new: another conversation   /label TURN: label again   /quit"
SHOWN = 4
"""Utterances of a conversation that goes on which are shown again."""
CHOICES = {choice.key: choice for choice in INSTRUCTIONS[KIND].choices}


class ChatPage:
    """The conversations as a page calls them."""

    def __init__(self, conversations: Conversations) -> None:
        """Serve these conversations."""
        self.conversations = conversations

    def serve(self, port: int) -> LocalPage:
        """Return the page, bound but not yet serving."""
        actions = {
            "state": self.state,
            "open": self.open,
            "new": self.new,
            "say": self.say,
            "label": self.label,
        }
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
    say(f"{conversations.spec.model_name}   {HELP}")
    try:
        terminal = _Terminal(conversations, read)
        while terminal.goes_on:
            terminal.turn()
    except (EOFError, KeyboardInterrupt, click.Abort):
        say("")


class _Terminal:
    """One conversation at a time; commands are heard at every prompt."""

    def __init__(self, conversations: Conversations, read: Callable[[str], str]) -> None:
        self.conversations, self.read = conversations, read
        self.goes_on = True
        self.current = conversations.last()
        self._show()

    def turn(self) -> None:
        """Say one thing, the words that are given first, or obey one command."""
        if not self.current.utterances and self.current.opening:
            say(f"you> {self.current.opening}")
            self._answer(self.current.opening)
            return
        line = self.read("you> ").strip()
        if line and not self._obeys(line):
            # Two slashes are one that is meant.
            self._answer(line.removeprefix("/") if line.startswith("//") else line)

    def _obeys(self, line: str) -> bool:
        """Do what a line asks for, and say whether it was a command, known or not."""
        word, _, rest = line.partition(" ")
        if not line.startswith("/") or line.startswith("//"):
            return False
        if word not in COMMANDS:
            say(f"{word} is no command; {HELP}   //…: say what begins with a slash")
        elif word == "/quit":
            self.goes_on = False
        elif word == "/new":
            self.current = self.conversations.new()
            self._show()
        else:
            self._label(rest)
        return True

    def _show(self) -> None:
        """Say which conversation goes on, and what was said last in it."""
        said = self.current.utterances
        more = f" goes on; {len(said) // 2} answers so far" if said else ""
        say(f"-- conversation {self.current.id}{more}")
        for number, text in enumerate(said[-SHOWN:]):
            say(visible(text if number % 2 else f"you> {text}"))

    def _answer(self, line: str) -> None:
        try:
            click.echo(visible(self.conversations.say(self.current, line)))
        except LimaError as error:
            if not self.current.utterances and self.current.opening:
                raise  # the words are given: they would be said again and again
            say(f"error: {error}")
            return
        self._label(str(len(self.current.keys)), now())

    def _label(self, turn: str, shown: datetime | None = None) -> None:
        """Ask for a label of an answer; a command in its place is obeyed, and no label given."""
        offered = " ".join(f"[{key}]{choice.label[1:]}" for key, choice in CHOICES.items())
        while True:
            answer = self.read(f"{offered}, Enter: no label> ").strip().lower()
            known = CHOICES.get(answer[:1])
            if not answer or (answer.partition(" ")[0] in COMMANDS and self._obeys(answer)):
                return
            if known and answer in (known.key, known.label):
                break
            if not self._obeys(answer):
                say("this is no label")
        try:
            number = int(turn) if turn.isdecimal() else 0
            self.conversations.label(self.current, number, known.label, shown)
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
