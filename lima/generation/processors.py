"""From logits to the distribution that is sampled, by transformers' own processors (4.1)."""

from typing import Any

from lima.spec import DecodingSpec

NO_TOKEN = 2**31 - 1
"""Stands for padding in the ids given to the processors.

The repetition penalty passes over ids beyond the vocabulary. The pad token's own id would be
penalised in padded rows only, which ties a row to the longest prompt beside it.
"""


def build_processors(decoding: DecodingSpec) -> Any:
    """Return the `LogitsProcessorList` of `decoding`, in the order of transformers' `generate`.

    Called with token ids (rows, length) and float32 logits (rows, vocabulary), it returns the
    processed logits, minus infinity for tokens outside the nucleus.

    The repetition penalty covers the prompt, its EOT tokens included, and the response so far,
    as in transformers; the paper says "previously generated tokens". Temperature 0 is greedy:
    only the penalty is applied, since the most likely token is in every nucleus.
    """
    from transformers import (
        LogitsProcessorList,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
    )

    from lima.generation.nucleus import QuickTopP
    from lima.generation.penalty import QuickPenalty

    processors = LogitsProcessorList()
    if decoding.repetition_penalty != 1:
        processors.append(QuickPenalty(float(decoding.repetition_penalty)))
    if decoding.temperature == 0:
        return processors
    if decoding.temperature != 1:
        processors.append(TemperatureLogitsWarper(float(decoding.temperature)))
    if decoding.top_k:
        processors.append(TopKLogitsWarper(decoding.top_k))
    if decoding.top_p < 1:
        processors.append(QuickTopP(decoding.top_p))
    return processors
