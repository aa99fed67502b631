"""The repetition penalty (Keskar et al. 2019), as transformers has it but sooner."""

import torch
from torch import Tensor
from transformers import RepetitionPenaltyLogitsProcessor


class QuickPenalty(RepetitionPenaltyLogitsProcessor):  # type: ignore[misc]
    """Gives the same scores as transformers', without copies of the vocabulary for padding."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return the scores, (rows, vocabulary), of which those of `input_ids` are penalised.

        Ids beyond the vocabulary stand for nothing.
        """
        rows, places = (input_ids < scores.shape[-1]).nonzero(as_tuple=True)
        tokens = input_ids[rows, places]
        found = scores[rows, tokens]
        penalised = scores.clone()
        penalised[rows, tokens] = torch.where(found < 0, found * self.penalty, found / self.penalty)
        return penalised
