"""Nucleus sampling's set of tokens (Holtzman et al. 2020), as transformers has it but sooner."""

import torch
from torch import Tensor
from transformers import TopPLogitsWarper

CANDIDATES = 512
"""Tokens that are looked at first; the nucleus of a trained model is smaller as a rule."""
MARGIN = 1e-5
"""How near to `top_p` the rounding of either sum may decide: some times their float32's."""


class QuickTopP(TopPLogitsWarper):  # type: ignore[misc]
    """Leaves the same tokens as transformers', without sorting the vocabulary of most rows.

    A token is left if those above it have less than `top_p` of the mass. Where that is a close
    call, or the nucleus is large, the row is sorted as transformers does. Of tokens that are
    equally likely, as rounded logits often are, those with the lowest ids are left: which ones
    transformers leaves, depends on how the machine sorts.
    """

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return the scores, (rows, vocabulary), minus infinity outside the nucleus."""
        if scores.shape[-1] <= 2 * CANDIDATES:
            whole: Tensor = super().__call__(input_ids, scores)
            return whole
        top, tokens = scores.topk(CANDIDATES)
        most = top[:, :1]
        whole_mass = (scores - most).exp().sum(-1, keepdim=True).double()
        mass = (top - most).double().exp() / whole_mass
        above = mass.cumsum(-1) - mass
        left = above < self.top_p
        left[:, 0] = True
        left = _lowest_of_equals(top, tokens, left)
        processed = torch.full_like(scores, self.filter_value)
        processed.scatter_(1, tokens, top.masked_fill(~left, self.filter_value))
        unsure = self._unsure(top, above, left)
        if unsure.any():
            processed[unsure] = super().__call__(input_ids[unsure], scores[unsure])
        return processed

    def _unsure(self, top: Tensor, above: Tensor, left: Tensor) -> Tensor:
        """Say of each row whether transformers might leave other tokens."""
        least = top.gather(-1, left.sum(-1, keepdim=True) - 1)
        at_the_end = (least == top[:, -1:]).squeeze(-1)
        close = ((above[:, 1:] - self.top_p).abs() < MARGIN).any(-1)
        unsure: Tensor = at_the_end | close
        return unsure


def _lowest_of_equals(top: Tensor, tokens: Tensor, left: Tensor) -> Tensor:
    """Return `left` with the lowest ids of those that are as likely as the last one left.

    All are (rows, candidates), most likely first; what is left comes first.
    """
    count = left.sum(-1, keepdim=True)
    edge = top == top.gather(-1, count - 1)
    more = (edge.sum(-1) > (edge & left).sum(-1)).nonzero().squeeze(-1)
    if not len(more):
        return left
    edge, wanted = edge[more], (edge & left)[more].sum(-1, keepdim=True)
    ids = tokens[more].masked_fill(~edge, torch.iinfo(tokens.dtype).max)
    highest = ids.sort(-1).values.gather(-1, wanted - 1)
    chosen = left.clone()
    chosen[more] = (left[more] & ~edge) | (edge & (ids <= highest))
    return chosen
