"""Addresses of random draws: what a draw is for decides it, not what came before."""

from hashlib import sha256


def address_seed(address: str) -> int:
    """Return the seed of one draw, below 2**63."""
    return int.from_bytes(sha256(address.encode()).digest()[:8], "big") >> 1


def dropout_address(seed: int, step: int, example: int) -> str:
    """Return the address of what is dropped of an example in a step."""
    return f"{seed}/dropout/{step}/{example}"


def draws(seed: int, step: int, examples: list[int]) -> int:
    """Return one number for what a step reads and draws, whatever workers share it.

    It is a sum over the examples, each of which adds the first 32 bits of its own address: so
    the sum of what several workers read is that of all, exactly, also in double precision.
    """
    return sum(address_seed(dropout_address(seed, step, e)) >> 31 for e in examples)
