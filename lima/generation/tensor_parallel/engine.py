"""Our own engine on several GPUs: transformers' tensor parallelism, not one GPU after another."""

import selectors
import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from lima.common.secret_names import engine_environment
from lima.common.temporary import temporary_folder
from lima.errors import LimaError, ModelError
from lima.generation.engine import LoadedEngine, Request, SampledResponse
from lima.generation.engine_process import EngineProcess
from lima.model.loading import taught_tokenizer
from lima.spec import GenerateSpec, ModelSpec
from lima.store.storage import Storage

RANK = "lima.generation.tensor_parallel.rank"


class TensorParallelEngine:
    """Has all ranks decode the same; see `lima.generation.engine.Engine`."""

    def __init__(self, ranks: Sequence[EngineProcess]) -> None:
        """Sample by processes of which each has a part of the model."""
        self.ranks = ranks

    def generate(self, requests: Sequence[Request]) -> list[SampledResponse]:
        """See `Engine.generate`.

        Raises:
            ModelError: the model's logits are not numbers.
            LimaError: the batch does not fit into the memory of a GPU.
            EngineDiedError: a rank has ended.

        """
        asked = msgspec.to_builtins(list(requests))
        answers = self.told([asked] * len(self.ranks))
        return msgspec.convert(answers[0]["responses"], list[SampledResponse])

    def told(self, messages: Sequence[Any]) -> list[dict[str, Any]]:
        """Send each rank a message, and return what each answers.

        Raises:
            LimaError: a rank refuses; all of them end, since the others wait for it.

        """
        try:
            for rank, message in zip(self.ranks, messages, strict=True):
                rank.send(message)
            return self._answers()
        except LimaError:
            self.end()
            raise

    def end(self) -> None:
        """End all ranks."""
        for rank in self.ranks:
            rank.end()

    def _answers(self) -> list[dict[str, Any]]:
        """Wait for all ranks; the first that has a complaint is heard at once."""
        answers: dict[int, dict[str, Any]] = {}
        with selectors.DefaultSelector() as waiting:
            for number, rank in enumerate(self.ranks):
                waiting.register(rank.output, selectors.EVENT_READ, number)
            while len(answers) < len(self.ranks):
                for key, _ in waiting.select():
                    answer = self.ranks[key.data].receive()
                    if "refused" in answer:
                        raise (ModelError if answer["input"] else LimaError)(answer["refused"])
                    answers[key.data] = answer
                    waiting.unregister(key.fileobj)
        return [answers[number] for number in range(len(self.ranks))]


def load_tensor_parallel(
    spec: GenerateSpec, model: ModelSpec, seed: int, storage: Storage, ranks: int
) -> LoadedEngine:
    """Load a model that is cut into as many parts as there are ranks.

    Raises:
        ModelError: it cannot be loaded, or not be cut.
        EngineDiedError: a rank ended while it loaded its part.

    """
    path, (tokenizer, eot_id, _) = taught_tokenizer(model, storage)
    environment = engine_environment()
    with temporary_folder("lima-ranks-") as folder:
        common = {
            "generate": msgspec.to_builtins(spec),
            "model": msgspec.to_builtins(model),
            "path": path,
            "eot_id": eot_id,
            "seed": seed,
            "ranks": ranks,
            "meeting": str(folder / "meeting"),
        }
        processes = [
            EngineProcess([sys.executable, "-m", RANK], {**environment, "LOCAL_RANK": str(rank)})
            for rank in range(ranks)
        ]
        engine = TensorParallelEngine(processes)
        engine.told([{**common, "rank": rank} for rank in range(ranks)])
    return LoadedEngine(engine, tokenizer, eot_id)
