"""Whether sampled tokens are as frequent as their distribution says."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy import stats

from lima.spec import DecodingSpec


def reference(model: Any, prompt: Sequence[int], decoding: DecodingSpec) -> np.ndarray:
    """Return the distribution of the first token by transformers' own `generate`."""
    output = model.generate(
        torch.tensor([prompt]),
        do_sample=True,
        max_new_tokens=1,
        top_k=decoding.top_k,
        top_p=decoding.top_p,
        temperature=decoding.temperature,
        repetition_penalty=decoding.repetition_penalty,
        output_scores=True,
        return_dict_in_generate=True,
    )
    return np.asarray(output.scores[0][0].double().softmax(-1).numpy())


def chi_square(counts: Counter[int], expected: np.ndarray) -> float:
    """Return the p-value of the counts; rare tokens are taken together."""
    total = sum(counts.values())
    observed = np.array([counts[token] for token in range(len(expected))])
    if observed[expected == 0].any():
        return 0.0
    rare = expected * total < 8
    merged = [np.append(a[~rare], a[rare].sum()) for a in (observed, expected * total)]
    kept = merged[1] > 0
    return float(stats.chisquare(merged[0][kept], merged[1][kept]).pvalue)
