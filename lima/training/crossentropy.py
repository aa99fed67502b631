"""The loss straight from hidden states: no tensor of tokens by vocabulary outlives its chunk."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lima.training.sizing.state_size import LOGITS


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Return the summed loss; see `LinearCrossEntropy.forward`.

    Where no gradients are recorded none are computed: autograd says only that the weight has one.
    """
    if not torch.is_grad_enabled():
        hidden, weight = hidden.detach(), weight.detach()
    loss: Tensor = LinearCrossEntropy.apply(hidden, weight, targets)
    return loss


class LinearCrossEntropy(torch.autograd.Function):
    """Summed cross-entropy of a linear layer's logits.

    Gradients are made beside the loss, chunk by chunk, while the logits are there. So nothing is
    computed twice, and the weight is needed in the forward pass only (ZeRO-3 has it then).
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        """Return the loss in nats, in fp32.

        Args:
            ctx: Of autograd.
            hidden: (tokens, width).
            weight: (vocabulary, width).
            targets: (tokens,), the token that each position is to predict.

        """
        with_gradient = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        loss = torch.zeros((), device=hidden.device)
        to_hidden = torch.zeros_like(hidden) if with_gradient else None
        to_weight = torch.zeros_like(weight, dtype=torch.float32) if with_gradient else None
        size = max(min(LOGITS // weight.shape[0], len(targets)), 1)
        # One of each for all chunks: a CPU waits longer for memory that is new to its process than
        # it computes with it.
        shape = (size, weight.shape[0])
        all_logits = torch.empty(shape, dtype=hidden.dtype, device=hidden.device)
        all_logs = torch.empty(shape, dtype=torch.float32, device=hidden.device)
        for start in range(0, len(targets), size):
            part, wanted = hidden[start : start + size], targets[start : start + size, None]
            logits = torch.mm(part, weight.T, out=all_logits[: len(part)])
            logs = torch.log_softmax(logits, 1, dtype=torch.float32, out=all_logs[: len(part)])
            loss -= logs.gather(1, wanted).sum()
            if to_hidden is None or to_weight is None:
                continue
            # The gradient of a logit is its probability, less 1 for the token that was wanted.
            logs.exp_().scatter_add_(1, wanted, -torch.ones_like(wanted, dtype=torch.float32))
            slopes = logs.to(weight.dtype)
            torch.mm(slopes, weight, out=to_hidden[start : start + size])
            _accumulate(to_weight, slopes, part)
        if to_hidden is not None and to_weight is not None:
            ctx.save_for_backward(to_hidden, to_weight.to(weight.dtype))
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outputs: Any) -> tuple[Tensor, Tensor, None]:
        """Return the gradients of hidden states and weight."""
        (by,) = outputs
        to_hidden, to_weight = ctx.saved_tensors
        return to_hidden * by, to_weight * by, None


def _accumulate(into: Tensor, slopes: Tensor, part: Tensor) -> None:
    if slopes.dtype == into.dtype:
        into.addmm_(slopes.T, part)
    else:
        into += slopes.T @ part


def predict_from_head(model: Any) -> None:
    """Let `model(..., positions=, targets=)` return the summed loss of its predictions.

    `positions` are those that predict, in the flattened (rows * tokens), `targets` what they are
    to predict. Without them the model returns logits as before.
    """
    head, backbone = model.get_output_embeddings(), model.base_model
    logits, whole = head.forward, model.forward
    head.forward = _head(head, logits)

    def forward(*, positions: Tensor | None = None, **inputs: Any) -> Any:
        if positions is None:
            return whole(**inputs)
        targets = inputs.pop("targets")
        hidden = backbone(**inputs).last_hidden_state.flatten(0, 1)
        return head(hidden[positions], targets)

    model.forward = forward


def _head(head: Any, logits: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    # Within the head's own call: only there ZeRO-3 has gathered its weight.
    def forward(hidden: Tensor, targets: Tensor | None = None) -> Tensor:
        if targets is None:
            return logits(hidden)
        return linear_cross_entropy(hidden, head.weight, targets)

    return forward
