"""The web app: a page a link, and two actions. It says nothing of models, runs or other people.

A link holds its annotator's secret, so another site cannot know where to send what; beside that
only our own page may send (origin, JSON). Where other machines can reach the app, a link alone
is not enough: the access token is asked for once in a browser.
"""

import asyncio
import hmac
import sqlite3
from datetime import timedelta
from http import HTTPStatus
from typing import Annotated, Any, Literal

import msgspec
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from msgspec import Meta
from starlette.concurrency import run_in_threadpool

from lima.common.clock import now
from lima.errors import InputError
from lima.rating.instructions import instructions
from lima_k8s.terminal.output import say
from lima_k8s.web.annotate.database import Answer, Conflict, Store
from lima_k8s.web.annotate.invitations import Annotator, access_token, holder, is_access
from lima_k8s.web.annotate.questions import check_answers, for_page, questions
from lima_k8s.web.guarded import NOTHING, as_json, guarded_app, page_answer, read_as, refusal
from lima_k8s.web.page import read_page

MAX_TURN = (1 << 63) - 1
"""The largest number that the store can hold."""
COOKIE = "lima_access"
WRONG_TOKEN_S = 1.0
"""Seconds that an answer to a wrong access token takes: guessing stays pointless."""
DAY_S = 86_400.0


class Act(msgspec.Struct, forbid_unknown_fields=True):
    """What the page sends about a task."""

    event_id: Annotated[str, Meta(pattern=r"^[0-9a-f-]{32,36}\Z")]
    turn: Annotated[int, Meta(ge=1, le=MAX_TURN)]
    event: Literal["labelled", "skipped", "undone"]
    answers: dict[str, str] = {}
    comment: Annotated[str, Meta(max_length=4000)] = ""
    seconds: Annotated[float, Meta(ge=0)] = 0.0


class Entrance(msgspec.Struct, forbid_unknown_fields=True):
    """What the page sends to be let in."""

    token: str


class App:
    """The actions of a round of labelling."""

    def __init__(self, store: Store, guarded: bool) -> None:
        """Serve a store.

        Args:
            store: Holds the round; its settings are there.
            guarded: Whether the access token is asked for.

        """
        self.store, self.guarded = store, guarded
        settings = store.settings()
        kind, pair = settings["kind"], settings["pair"]
        self.instructions = instructions(kind, pair=pair).text
        self.questions = questions(kind, pair=pair)
        # In the cookie stands what only a holder of the token could have got, not the token.
        key = access_token(store).encode()
        self.pass_ = hmac.digest(key, b"lima-k8s annotate", "sha256").hex()
        self.pages = {name: read_page(name) for name in ("annotate", "enter")}

    def is_in(self, request: Request) -> bool:
        """Say whether a browser may see what a link leads to."""
        return not self.guarded or hmac.compare_digest(
            request.cookies.get(COOKIE, "").encode(), self.pass_.encode()
        )

    def state(self, annotator: Annotator) -> dict[str, Any]:
        """Return what an annotator does next, and how far they are."""
        task = self.store.task(annotator.name)
        standing = self.store.standing(annotator.name)
        return {
            "task": task and {"turn": task.turn, **task.shown},
            "done": standing.done,
            "left": standing.left,
            "undo": standing.undo,
        }

    def opening(self, annotator: Annotator) -> dict[str, Any]:
        """Return what a page needs when it is opened."""
        return {
            "name": annotator.name,
            "instructions": self.instructions,
            "questions": for_page(self.questions),
            **self.state(annotator),
        }

    def act(self, annotator: Annotator, act: Act) -> dict[str, Any]:
        """Keep what an annotator did; return the state after it."""
        if act.event == "labelled":
            check_answers(self.questions, act.answers)
        elif act.answers:
            raise InputError(f"{act.event} has no answers")
        started = now() - timedelta(seconds=min(act.seconds, DAY_S))
        self.store.add(
            annotator.name,
            Answer(act.event_id, act.turn, act.event, act.answers, act.comment.strip(), started),
        )
        return {"saved": act.event_id, **self.state(annotator)}


def make_app(store: Store, origin: str, *, guarded: bool) -> FastAPI:
    """Return the app as uvicorn serves it.

    Args:
        store: Holds the round.
        origin: Scheme, host and port under which browsers reach the app.
        guarded: Whether the access token is asked for.

    """
    own = App(store, guarded)
    app = guarded_app(origin)

    @app.exception_handler(sqlite3.Error)
    async def not_kept(_: Request, error: sqlite3.Error) -> Response:
        say(f"warning: {store.path}: nothing can be saved ({error}); the pages try again")
        return refusal(HTTPStatus.SERVICE_UNAVAILABLE, f"the server cannot save it ({error})")

    async def invited(secret: str) -> Annotator:
        found = await run_in_threadpool(holder, store, secret)
        if found is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, NOTHING)
        return found

    async def admitted(
        request: Request, annotator: Annotated[Annotator, Depends(invited)]
    ) -> Annotator:
        if not own.is_in(request):
            raise HTTPException(HTTPStatus.FORBIDDEN, "the access token is needed")
        return annotator

    @app.get("/a/{secret}/", dependencies=[Depends(invited)])
    async def page(request: Request) -> Response:
        return page_answer(own.pages["annotate" if own.is_in(request) else "enter"])

    @app.post("/a/{secret}/enter", dependencies=[Depends(invited)])
    async def enter(request: Request) -> Response:
        if not is_access(store, (await read_as(request, Entrance)).token):
            await asyncio.sleep(WRONG_TOKEN_S)
            return refusal(HTTPStatus.FORBIDDEN, "this is not the access token")
        answer = as_json({})
        secure = origin.startswith("https:")
        answer.set_cookie(COOKIE, own.pass_, httponly=True, samesite="strict", secure=secure)
        return answer

    @app.post("/a/{secret}/open")
    async def opened(annotator: Annotated[Annotator, Depends(admitted)]) -> Response:
        return as_json(await run_in_threadpool(own.opening, annotator))

    @app.post("/a/{secret}/act")
    async def acted(
        request: Request, annotator: Annotated[Annotator, Depends(admitted)]
    ) -> Response:
        body = await read_as(request, Act)
        try:
            return as_json(await run_in_threadpool(own.act, annotator, body))
        except Conflict as error:
            return refusal(HTTPStatus.CONFLICT, str(error))
        except InputError as error:
            return refusal(HTTPStatus.BAD_REQUEST, str(error))

    return app
