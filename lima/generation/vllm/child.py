"""vLLM's process: `python -m lima.generation.vllm.child`, by the Python of vLLM's environment.

Reads settings, then requests, from standard input; writes what came of them to standard output
(see `frames`). It ends with the worker that started it, however that ends.
"""

import queue
from collections.abc import Iterator
from typing import IO, Any

from lima.generation.frames import incoming, own_pipes, write_frame
from lima.generation.vllm import ADDRESS


def main() -> None:
    """Load a model, say so, and answer requests for as long as there are any to come."""
    asked, answers = own_pipes()
    arrived = incoming(asked)
    settings = arrived.get()
    try:
        engine = _engine(settings)
    except Exception as error:  # noqa: BLE001 - vLLM raises anything; the worker says what
        write_frame(answers, {"refused": f"{type(error).__name__}: {error}"})
        return
    write_frame(answers, {"ready": True})
    while True:
        for requests in _waiting(arrived, wait=not engine.has_unfinished_requests()):
            for request in requests:
                _add(engine, request, settings, answers)
        if not engine.has_unfinished_requests():
            continue  # there were none, or none that vLLM took
        for output in engine.step():
            if output.finished:
                write_frame(answers, _answer(output))


def _waiting(arrived: "queue.SimpleQueue[Any]", *, wait: bool) -> Iterator[list[dict[str, Any]]]:
    """Yield the requests that have arrived; with `wait` at least some."""
    if wait:
        yield arrived.get()
    while not arrived.empty():
        yield arrived.get()


def _engine(settings: dict[str, Any]) -> Any:
    """Return vLLM's engine for the settings that `lima.generation.vllm.process` sends.

    Raises:
        Exception: the model, or this machine, is none for this vLLM.

    """
    from vllm import EngineArgs
    from vllm.platforms import current_platform
    from vllm.v1.engine.llm_engine import LLMEngine

    # vLLM looks for it again with the first request, when the folder that has it may be gone.
    from lima.generation.vllm.processor import AddressedSampling

    here = "cpu" if current_platform.is_cpu() else "cuda"
    if here != settings["device"]:
        raise ValueError(
            f"this vLLM computes on {here}, and generate.compute.device is {settings['device']}"
        )
    arguments = EngineArgs(
        **settings["arguments"],
        skip_tokenizer_init=True,
        language_model_only=True,  # no part that reads images is loaded, nor its processor
        trust_remote_code=False,
        load_format="safetensors",
        generation_config="vllm",  # how others sample from the model is not ours to heed
        logits_processors=[f"{AddressedSampling.__module__}:{AddressedSampling.__name__}"],
        # What the processor leaves of the logits is the log-probability of the token.
        logprobs_mode="processed_logits",
        # The processor needs the last token when it makes the next one.
        async_scheduling=False,
        disable_log_stats=True,
        # Nothing is compiled for a CPU, where no compiler may be.
        enforce_eager=here == "cpu",
    )
    return LLMEngine.from_engine_args(arguments)


def _add(
    engine: Any, request: dict[str, Any], settings: dict[str, Any], answers: IO[bytes]
) -> None:
    """Hand a request to vLLM, or say why it takes none such."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    wanted = SamplingParams(
        temperature=0,
        max_tokens=request["limit"],
        stop_token_ids=[settings["eot_id"]],
        ignore_eos=True,
        logprobs=0,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
        extra_args={ADDRESS: request["address"]},
    )
    prompt = {"prompt_token_ids": request["token_ids"]}
    try:
        engine.add_request(str(request["id"]), prompt, wanted)
    except ValueError as error:
        write_frame(answers, {"id": request["id"], "refused": str(error)})


def _answer(output: Any) -> dict[str, Any]:
    """Return what came of a request: its tokens, EOT included, and their log-probabilities."""
    (sampled,) = output.outputs
    if sampled.finish_reason not in ("stop", "length"):
        return {"id": int(output.request_id), "refused": f"it ended by {sampled.finish_reason}"}
    tokens = list(sampled.token_ids)
    return {
        "id": int(output.request_id),
        "token_ids": tokens,
        "logprobs": [
            places[token].logprob for token, places in zip(tokens, sampled.logprobs, strict=True)
        ],
    }


if __name__ == "__main__":
    main()
