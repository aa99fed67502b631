"""A process for one GPU of a model that is cut: `python -m lima.generation.tensor_parallel.rank`.

Every rank decodes the same requests with its part of each weight; the first one says what it
sampled. See `frames` for how they are told.
"""

from datetime import timedelta
from typing import IO, TYPE_CHECKING, Any

import msgspec
import torch
import torch.distributed as dist

from lima.errors import LimaError, ModelError
from lima.generation.engine import Request
from lima.generation.frames import incoming, own_pipes, write_frame
from lima.generation.sampling import Sampler
from lima.generation.transformers_engine import TransformersEngine
from lima.model.loading import pretrained_model, torch_dtype
from lima.spec import GenerateSpec, ModelSpec

if TYPE_CHECKING:
    from torch import Tensor

LOADING = timedelta(hours=2)
"""How long a rank may wait for another one; weights come from a storage that may be slow."""


class AgreedSampler(Sampler):
    """Lets all ranks go on with what the first one sampled, should their sums ever differ."""

    def sample(
        self, history: "Tensor", logits: "Tensor", addresses: "Tensor", steps: "Tensor"
    ) -> "tuple[Tensor, Tensor]":
        """See `Sampler.sample`."""
        sampled, logprobs = super().sample(history, logits, addresses, steps)
        for tensor in (sampled, logprobs):
            dist.broadcast(tensor, src=0)
        return sampled, logprobs


def main() -> None:
    """Load a part of a model, say so, and decode for as long as there are requests to come."""
    asked, answers = own_pipes()
    arrived = incoming(asked)
    try:
        engine = _engine(arrived.get())
        write_frame(answers, {"ready": True})
        while True:
            write_frame(answers, _decoded(engine, arrived.get()))
    except LimaError as error:
        _refuse(answers, error)


def _engine(settings: dict[str, Any]) -> TransformersEngine:
    """Return an engine with this rank's part of a model.

    Raises:
        ModelError: the model cannot be loaded, or not be cut.

    """
    spec = msgspec.convert(settings["generate"], GenerateSpec)
    model = msgspec.convert(settings["model"], ModelSpec)
    rank, ranks, cuda = settings["rank"], settings["ranks"], spec.compute.device == "cuda"
    if cuda:
        torch.cuda.set_device(rank)
    dist.init_process_group(
        "nccl" if cuda else "gloo",
        init_method=f"file://{settings['meeting']}",
        rank=rank,
        world_size=ranks,
        timeout=LOADING,
        device_id=torch.device("cuda", rank) if cuda else None,
    )
    part = pretrained_model(settings["path"], model, torch_dtype(spec.compute), ranks).eval()
    engine = TransformersEngine(
        part,
        settings["eot_id"],
        spec.decoding,
        settings["seed"],
        spec.batch_size,
        batch_tokens=spec.batch_tokens,
    )
    engine.sampler = AgreedSampler(spec.decoding)
    return engine


def _decoded(engine: TransformersEngine, requests: list[dict[str, Any]]) -> dict[str, Any]:
    responses = engine.generate(msgspec.convert(requests, list[Request]))
    return {"responses": msgspec.to_builtins(responses) if dist.get_rank() == 0 else []}


def _refuse(answers: IO[bytes], error: LimaError) -> None:
    write_frame(answers, {"refused": str(error), "input": isinstance(error, ModelError)})


if __name__ == "__main__":
    main()
