"""Nucleus sampling's set of tokens (Holtzman et al. 2020), as transformers has it but sooner."""

import torch
from torch import Tensor
from transformers import TopPLogitsWarper

CANDIDATES = 512
"""Tokens that are looked at first; the nucleus of a trained model is smaller as a rule."""
MARGIN = 1e-4
"""How near to `top_p` the rounding of transformers' sum over the vocabulary may decide."""


class QuickTopP(TopPLogitsWarper):  # type: ignore[misc]
    """Leaves the same tokens as transformers', without sorting the vocabulary of most rows.

    A token is left if those above it have less than `top_p` of the mass. Where that is a close
    call, or the nucleus is large, the row is sorted as transformers does.
    """

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return the scores, (rows, vocabulary), minus infinity outside the nucleus."""
        if scores.shape[-1] <= 2 * CANDIDATES:
            whole: Tensor = super().__call__(input_ids, scores)
            return whole
        top, tokens = scores.topk(CANDIDATES)
        mass = (top.double() - scores.double().logsumexp(-1, keepdim=True)).exp()
        above = mass.cumsum(-1) - mass
        left = above < self.top_p
        left[:, 0] = True
        processed = torch.full_like(scores, self.filter_value)
        processed.scatter_(1, tokens, top.masked_fill(~left, self.filter_value))
        unsure = self._unsure(top, above, left)
        if unsure.any():
            processed[unsure] = super().__call__(input_ids[unsure], scores[unsure])
        return processed

    def _unsure(self, top: Tensor, above: Tensor, left: Tensor) -> Tensor:
        """Say of each row whether transformers might leave other tokens."""
        last = left.sum(-1, keepdim=True) - 1
        at_the_end = (last == CANDIDATES - 1).squeeze(-1)
        following = top.gather(-1, (last + 1).clamp(max=CANDIDATES - 1))
        tied = (following == top.gather(-1, last)).squeeze(-1)
        close = ((above[:, 1:] - self.top_p).abs() < MARGIN).any(-1)
        unsure: Tensor = at_the_end | tied | close
        return unsure
