"""Another model behind an OpenAI-compatible endpoint, asked for responses as ours are sampled."""

import json
from collections.abc import Callable, Mapping, Sequence

from lima.endpoints.address import endpoint_address
from lima.endpoints.attempt import Attempt
from lima.endpoints.client import Client, Patience
from lima.endpoints.dialect import SETTINGS
from lima.endpoints.keys import baseline_key
from lima.endpoints.peer import Peer
from lima.endpoints.reading import Reading
from lima.errors import SpecError
from lima.runs.stop import stop_requested
from lima.spec import CellSpec, DecodingSpec
from lima.spec.codec import canonical_json, sha256_key

_ROLES = ("user", "assistant")
_NEUTRAL = {"repetition_penalty": 1.0, "top_k": 0}
"""What a protocol without these settings does."""


def request_text(prompt: Sequence[str], seed: int, prompt_key: str, sample: int) -> str:
    """Return what identifies a request: its utterances, and a seed of its own."""
    own = int(sha256_key([seed, prompt_key, sample])[:8], 16) % 2**31
    return with_seed(prompt, own)


def with_seed(prompt: Sequence[str], seed: int) -> str:
    """Return what a `ResponseClient` is asked with: utterances, and the seed that is sent."""
    return canonical_json([list(prompt), seed])


class AnyWords:
    """Reads any words as a response."""

    wanted = "a response"

    def read(self, words: str) -> Reading:  # noqa: ARG002 - whatever they are
        """See `lima.endpoints.reading.Reader`."""
        return Reading()


class ResponseClient(Client):
    """Asks an endpoint for responses."""

    def __init__(
        self,
        peer: Peer,
        patience: Patience,
        decoding: DecodingSpec,
        stopped: Callable[[], bool] = stop_requested,
    ) -> None:
        """Prepare to ask; nothing is sent yet.

        Raises:
            InputError: the key is missing, or the address is not one.

        """
        super().__init__(peer, patience, AnyWords(), stopped=stopped)
        self.decoding = decoding

    @staticmethod
    def is_good(attempt: Attempt) -> bool:
        """Say whether an attempt is a response, be it cut; thoughts alone are none."""
        cut = attempt.status == "truncated" and (attempt.verdict or "").strip()
        return attempt.status == "ok" or bool(cut)

    def body(self, text: str) -> Mapping[str, object]:
        """See `Client.body`."""
        prompt, seed = json.loads(text)
        return {
            "model": self.peer.model,
            "messages": [{"role": _ROLES[i % 2], "content": turn} for i, turn in enumerate(prompt)],
            "max_tokens": self.decoding.max_new_tokens,
            "seed": seed,
            **_settings(self.decoding),
        }


def baseline_responder(cell: CellSpec) -> ResponseClient:
    """Return who is asked for the responses of a baseline.

    Raises:
        InputError: the key is missing, or the address is not one.

    """
    generate = cell.generate
    if generate is None:
        raise SpecError(f"arm {cell.arm!r} of {cell.experiment!r} has no stage generate")
    peer = Peer(
        name="the endpoint",
        key=baseline_key(generate),
        model=endpoint_address(generate.model.path)[1],
        model_setting="generate.model.path",
        limits="generate.endpoint",
        length_setting="generate.decoding.max_new_tokens",
        kept="what was answered is kept",
    )
    return ResponseClient(peer, generate.endpoint, generate.decoding)


def not_applied(decoding: DecodingSpec, attempt: Attempt) -> list[str]:
    """Return the decoding settings that were asked for and that the endpoint does not have."""
    sent = json.loads(attempt.settings or "{}")
    return [name for name in _settings(decoding) if attempt.settings and name not in sent]


def _settings(decoding: DecodingSpec) -> dict[str, float]:
    """Return the settings that differ from what a protocol without them does."""
    chosen = {name: getattr(decoding, name) for name in SETTINGS}
    return {name: value for name, value in chosen.items() if value != _NEUTRAL.get(name)}
