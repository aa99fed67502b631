"""Addressed noise: published vectors, and what it may and may not depend on."""

import pytest
import torch
from scipy import stats

from lima.generation.addressed_noise import (
    address_words,
    gumbel_noise_of,
    philox4x32,
    seed_address,
)
from lima.generation.addressed_noise import gumbel_noise as noise_at

ONES = (0xFFFFFFFF,) * 4
PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0,) * 4, (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        (ONES, ONES[:2], "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (PI, (0xA4093822, 0x299F31D0), "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_known_answers(counter: tuple[int, ...], key: tuple[int, ...], expected: str) -> None:
    words = philox4x32(
        tuple(torch.tensor([w]) for w in counter), tuple(torch.tensor([w]) for w in key)
    )
    assert " ".join(f"{int(w):08x}" for w in words) == expected


def addresses(count: int) -> torch.Tensor:
    return address_words([seed_address(7, "prompt", sample) for sample in range(count)])


def gumbel_noise(words: torch.Tensor, step: int, vocab: int) -> torch.Tensor:
    """Return the noise of the same step in every row."""
    return noise_at(words, torch.full((len(words),), step), vocab)


def test_noise_of_single_tokens_is_that_of_the_vocabulary() -> None:
    steps = torch.arange(6)
    whole = noise_at(addresses(6), steps, 50)
    rows, tokens = torch.tensor([0, 5, 5, 2]), torch.tensor([49, 0, 3, 17])
    single = gumbel_noise_of(addresses(6)[rows], steps[rows], tokens)
    assert torch.equal(single, whole[rows, tokens])


@pytest.mark.parametrize("vocab", [1, 9, 64])
def test_noise_of_a_token_is_independent_of_the_vocabulary_and_of_other_rows(vocab: int) -> None:
    noise = gumbel_noise(addresses(6), 3, 100)
    assert noise.shape == (6, 100)
    assert noise.dtype == torch.float32
    assert torch.equal(gumbel_noise(addresses(6)[[4, 1]], 3, vocab), noise[[4, 1], :vocab])


def test_every_part_of_the_address_changes_the_noise() -> None:
    parts = [(1, "a", 0), (2, "a", 0), (1, "b", 0), (1, "a", 1)]
    words = address_words([seed_address(*part) for part in parts])
    noise = torch.cat([gumbel_noise(words, 0, 8), gumbel_noise(words, 1, 8)])
    assert len(set(noise.flatten().tolist())) == noise.numel()


def test_noise_is_gumbel_along_tokens_addresses_and_steps() -> None:
    along = {
        "tokens": gumbel_noise(addresses(1), 0, 5000)[0],
        "addresses": gumbel_noise(addresses(5000), 0, 2)[:, 1],
        "steps": torch.cat([gumbel_noise(addresses(1), s, 2)[0, :1] for s in range(2000)]),
    }
    for name, sample in along.items():
        assert stats.kstest(sample.double().numpy(), "gumbel_r").pvalue > 0.001, name
    assert torch.isfinite(gumbel_noise(addresses(100), 0, 32000)).all()
