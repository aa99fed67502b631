"""From logits to a token of each row: the one definition that all engines share.

It is imported by vLLM's process too, which has its own torch and transformers and nothing of ours
but `lima.spec` and the modules that this one imports.
"""

import math
from typing import TYPE_CHECKING

from lima.generation.addressed_noise import gumbel_noise, gumbel_noise_of
from lima.generation.processors import build_processors
from lima.spec import DecodingSpec

if TYPE_CHECKING:
    from torch import Tensor


NOTHING = -80.0
"""A log-probability that adds nothing to that of the likeliest token in float32."""


class Sampler:
    """Samples by the settings of a decoding, with addressed noise."""

    def __init__(self, decoding: DecodingSpec) -> None:
        """Prepare the processors of `decoding`."""
        self.decoding, self.processors = decoding, build_processors(decoding)

    def sample(
        self, history: "Tensor", logits: "Tensor", addresses: "Tensor", steps: "Tensor"
    ) -> "tuple[Tensor, Tensor]":
        """Return a token of each row, and its log-probability under the processed distribution.

        Args:
            history: int64 (rows, places), tokens of prompt and response; `NO_TOKEN` pads.
            logits: float32 (rows, vocabulary).
            addresses: int64 (rows, 4), see `address_words`.
            steps: int64 (rows,), tokens of the response so far.

        Returns:
            int64 and float32 (nats), both (rows,).

        """
        scores = self.processors(history, logits)
        noisy = scores
        if self.decoding.temperature > 0:
            noisy = self._noisy(scores, addresses, steps)
        sampled = noisy.argmax(-1)
        chosen = scores.gather(-1, sampled.unsqueeze(-1)).squeeze(-1)
        return sampled, chosen - _logsumexp(scores)

    def _noisy(self, scores: "Tensor", addresses: "Tensor", steps: "Tensor") -> "Tensor":
        import torch

        if self.decoding.top_p == 1 and not self.decoding.top_k:
            return scores + gumbel_noise(addresses, steps, scores.shape[-1])
        # What is out of the nucleus needs no noise, and that is most of the vocabulary.
        rows, tokens = (scores > -math.inf).nonzero(as_tuple=True)
        noise = gumbel_noise_of(addresses[rows], steps[rows], tokens)
        noisy = torch.full_like(scores, -math.inf)
        noisy[rows, tokens] = scores[rows, tokens] + noise
        return noisy


def _logsumexp(scores: "Tensor") -> "Tensor":
    """Return what torch's has, bit for bit, where most scores of a row are minus infinity.

    CPUs take ten times as long for the exponential of that as for any other.
    """
    most = scores.amax(-1, keepdim=True)
    mass = (scores - most).clamp_(min=NOTHING).exp_().sum(-1)
    return mass.log() + most.squeeze(-1)
