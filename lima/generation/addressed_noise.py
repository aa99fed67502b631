"""Addressed noise: a function of where a token is sampled, not of when or beside what.

A generator with state would tie a response to its batch, its worker and every restart.
Philox4x32-10 (Salmon et al., SC 2011) has none: the counter names the token and the step, and
the address of the response fills the key and the rest of the counter.
"""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Words = tuple["Tensor", ...]
"""32-bit words in int64 tensors of shapes that broadcast, each in [0, 2**32)."""

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
MASK = 0xFFFFFFFF


def seed_address(seed: int, prompt_key: str, sample: int) -> str:
    """Return the address of a response, recorded in its row: it replays the sampling."""
    return f"{seed}/{prompt_key}/{sample}"


def address_words(addresses: Sequence[str]) -> "Tensor":
    """Return the first 128 bits of the sha256 of each address: int64 (rows, 4), 32-bit words."""
    import torch

    digests = [hashlib.sha256(address.encode()).digest() for address in addresses]
    words = [[int.from_bytes(d[i : i + 4], "big") for i in range(0, 16, 4)] for d in digests]
    return torch.tensor(words, dtype=torch.int64).view(-1, 4)


def philox4x32(counter: Words, key: Words) -> Words:
    """Return the four random words of each four-word counter under its two-word key."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        # The signed product wraps, but its 64 bits are those of the unsigned one.
        product0, product1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1 = ((product1 >> 32) & MASK) ^ c1 ^ k0, product1 & MASK
        c2, c3 = ((product0 >> 32) & MASK) ^ c3 ^ k1, product0 & MASK
        k0, k1 = (k0 + KEY_STEPS[0]) & MASK, (k1 + KEY_STEPS[1]) & MASK
    return c0, c1, c2, c3


def gumbel_noise(addresses: "Tensor", steps: "Tensor", vocab: int) -> "Tensor":
    """Return standard Gumbel noise for every token of the vocabulary, on the addresses' device.

    The argmax of log-probabilities plus this noise is a sample of their distribution.

    Args:
        addresses: int64 (rows, 4), see `address_words`.
        steps: int64 (rows,), tokens of the response so far.
        vocab: Tokens of the vocabulary; does not change the noise of a token.

    Returns:
        float32 (rows, vocab), finite.

    """
    import torch

    blocks = torch.arange((vocab + 3) // 4, device=addresses.device)
    words = _block(blocks, steps.unsqueeze(-1), addresses.unsqueeze(-2))
    return _gumbel(words.flatten(1)[:, :vocab])


def gumbel_noise_of(addresses: "Tensor", steps: "Tensor", tokens: "Tensor") -> "Tensor":
    """Return the noise that `gumbel_noise` has for some tokens, each at an address of its own.

    Args:
        addresses: int64 (tokens, 4).
        steps: int64 (tokens,).
        tokens: int64 (tokens,), their ids.

    Returns:
        float32 (tokens,).

    """
    words = _block(tokens // 4, steps, addresses)
    return _gumbel(words.gather(-1, (tokens % 4).unsqueeze(-1)).squeeze(-1))


def _block(numbers: "Tensor", steps: "Tensor", addresses: "Tensor") -> "Tensor":
    """Return the four words of each block of tokens, in the last dimension."""
    import torch

    a0, a1, a2, a3 = addresses.unbind(-1)
    return torch.stack(philox4x32((numbers, steps, a0, a1), (a2, a3)), -1)


def _gumbel(words: "Tensor") -> "Tensor":
    import torch

    # In double precision no word rounds to 0 or 1, where the logarithms end.
    return -torch.log(-torch.log((words.double() + 0.5) / 2**32)).float()
