"""The loss from hidden states: that of logits, with neither all logits nor needless products."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lima.training.crossentropy import linear_cross_entropy, predict_from_head
from tests.unit.training.test_packing import VOCABULARY, tiny_model

WIDTH = 16


class Watched(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's is untyped
    """Keeps the products that are made, and the elements of the largest tensor."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.products: list[str] = []
        self.largest = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = function(*args, **kwargs or {})
        if (name := function.overloadpacket.__name__) in ("mm", "addmm", "addmm_"):
            self.products.append(name)
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, Tensor):
                self.largest = max(self.largest, tensor.numel())
        return made


def inputs(tokens: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    hidden = torch.randn(tokens, WIDTH, dtype=dtype, requires_grad=True)
    weight = torch.randn(VOCABULARY, WIDTH, dtype=dtype, requires_grad=True)
    return hidden, weight, torch.randint(0, VOCABULARY, (tokens,))


@pytest.mark.parametrize("chunk", [VOCABULARY, 10 * VOCABULARY, 10**6])
@pytest.mark.parametrize("tokens", [0, 1, 23])
def test_it_is_cross_entropy(monkeypatch: pytest.MonkeyPatch, chunk: int, tokens: int) -> None:
    monkeypatch.setattr("lima.training.crossentropy.LOGITS", chunk)
    hidden, weight, targets = inputs(tokens, torch.float64)
    logits = (hidden @ weight.T).float()
    expected = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
    wanted = torch.autograd.grad(3 * expected, (hidden, weight))
    loss = linear_cross_entropy(hidden, weight, targets)
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(torch.autograd.grad(3 * loss, (hidden, weight)), wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_bf16_is_as_close_as_its_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lima.training.crossentropy.LOGITS", 5 * VOCABULARY)
    hidden, weight, targets = inputs(64, torch.bfloat16)
    exact = [x.detach().double().requires_grad_() for x in (hidden, weight)]
    expected = torch.nn.functional.cross_entropy(exact[0] @ exact[1].T, targets, reduction="sum")
    loss = linear_cross_entropy(hidden, weight, targets)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=2e-3)
    wanted = torch.autograd.grad(expected, exact)
    for ours, theirs in zip(torch.autograd.grad(loss, (hidden, weight)), wanted, strict=True):
        assert ours.dtype == torch.bfloat16
        assert (ours.double() - theirs).norm() < 0.01 * theirs.norm()


def test_where_no_gradients_are_recorded_none_are_computed() -> None:
    hidden, weight, targets = inputs(23, torch.float32)
    with Watched() as training:
        expected = linear_cross_entropy(hidden, weight, targets)
    assert len(training.products) == 3
    with torch.no_grad(), Watched() as evaluating:
        loss = linear_cross_entropy(hidden, weight, targets)
    assert len(evaluating.products) == 1
    assert torch.equal(loss, expected.detach())


def test_a_step_holds_no_tensor_of_tokens_by_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    chunk, tokens = 8, 60
    monkeypatch.setattr("lima.training.crossentropy.LOGITS", chunk * 10 * VOCABULARY)
    model = tiny_model("llama", vocab_size=10 * VOCABULARY)
    ids = torch.randint(1, VOCABULARY, (1, tokens))

    def largest() -> int:
        watched = Watched()
        with watched:
            given = {"positions": torch.arange(tokens - 1), "targets": ids[0, 1:]}
            loss = model(input_ids=ids, use_cache=False, **given)
            loss.backward()
        return watched.largest

    predict_from_head(model)
    weights = max(p.numel() for p in model.parameters())
    assert largest() <= weights < tokens * 10 * VOCABULARY
