"""Another model behind an OpenAI-compatible endpoint, asked for responses as ours are sampled."""

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, replace

from lima.codec import canonical_json, sha256_key
from lima.errors import SpecError
from lima.generation.address import endpoint_address
from lima.judging.attempt import Attempt, Status
from lima.judging.client import Judge
from lima.judging.rubrics import Reading, Rubric
from lima.spec import CellSpec, DecodingSpec, JudgeSpec

EXTENSIONS = ("repetition_penalty", "top_k")
"""Settings that the protocol lacks; some servers take them all the same."""
SETTINGS = ("temperature", "top_p", *EXTENSIONS)
LEFT_OUT = "not applied: "
_OBJECTIONS = (400, 422)
_ROLES = ("user", "assistant")


def request_text(prompt: Sequence[str], seed: int, prompt_key: str, sample: int) -> str:
    """Return what identifies a request: its utterances, and a seed of its own."""
    own = int(sha256_key([seed, prompt_key, sample])[:8], 16) % 2**31
    return canonical_json([list(prompt), own])


class Responder(Judge):
    """Asks an endpoint for responses, with the judge's patience and limits.

    A setting that the endpoint refuses is left out from then on (see `not_applied`).
    """

    settled: tuple[Status, ...] = ("ok", "truncated")

    def __init__(self, cell: CellSpec) -> None:
        """Prepare to ask; nothing is sent yet.

        Raises:
            InputError: the key is missing, or the address is not one.

        """
        generate = cell.generate
        if generate is None:
            raise SpecError(f"arm {cell.arm!r} of {cell.experiment!r} has no stage generate")
        url, model = endpoint_address(generate.model.path)
        super().__init__(
            JudgeSpec(
                base_url=url,
                model=model,
                temperature=generate.decoding.temperature,
                max_tokens=generate.decoding.max_new_tokens,
                **asdict(generate.endpoint),
            )
        )
        self.rubric = Rubric("response", "", lambda _: Reading(), "a response")
        self.decoding = generate.decoding
        self.refused: set[str] = set()

    async def _send(self, text: str) -> Attempt:
        while True:
            sent = self._body(text).keys()
            attempt = await super()._send(text)
            if attempt.http_status not in _OBJECTIONS:
                break
            new = _objected(sent, attempt.error or "")
            # Another request may have learnt meanwhile what this one was sent with.
            if not (new or self.refused & sent):
                break
            self.refused.update(new)
        left_out = [name for name in _settings(self.decoding) if name in self.refused]
        if left_out and attempt.status in self.settled:
            # Beside the answer, so that it is known of every answer that was kept.
            return replace(attempt, error=LEFT_OUT + " ".join(left_out))
        return attempt

    def _body(self, text: str) -> dict[str, object]:
        prompt, seed = json.loads(text)
        messages = [{"role": _ROLES[i % 2], "content": turn} for i, turn in enumerate(prompt)]
        longest = "max_completion_tokens" if "max_tokens" in self.refused else "max_tokens"
        body = {
            "model": self.spec.model,
            "messages": messages,
            longest: self.spec.max_tokens,
            "seed": seed,
            **_settings(self.decoding),
        }
        return {name: value for name, value in body.items() if name not in self.refused}


def _objected(sent: Collection[str], error: str) -> list[str]:
    """Return the settings that an error is about; if it names none, those of extensions."""
    known = [name for name in (*SETTINGS, "seed", "max_tokens") if name in sent]
    return [n for n in known if n in error] or [n for n in known if n in EXTENSIONS]


def not_applied(attempt: Attempt) -> list[str]:
    """Return the decoding settings that were asked for and that the endpoint does not have."""
    said = attempt.error or ""
    return said.removeprefix(LEFT_OUT).split() if said.startswith(LEFT_OUT) else []


def _settings(decoding: DecodingSpec) -> dict[str, float]:
    """Return the settings that differ from what a protocol without them does."""
    chosen: dict[str, float] = {"temperature": decoding.temperature, "top_p": decoding.top_p}
    if decoding.repetition_penalty != 1:
        chosen["repetition_penalty"] = decoding.repetition_penalty
    if decoding.top_k:
        chosen["top_k"] = decoding.top_k
    return chosen
