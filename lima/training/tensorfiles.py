"""Writes tensors as safetensors, piece by piece and without a copy of them.

The library's own writer copies what it writes and lets no other thread run meanwhile (it never
gives Python's lock away), and training goes on beside these files. The format is a length, a JSON
header and the bytes: https://huggingface.co/docs/safetensors#format
"""

import json
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from lima.store.storage import CHUNK

ALIGNMENT = 8
DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.int64: "I64"}
"""What the format calls the types that weights and states have here."""


def pieces(tensors: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    """Yield the bytes of a file that holds `tensors`, which lie in the memory of the host."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    contents = [(name, _bytes(tensors[name])) for name in sorted(tensors)]
    end = 0
    for name, content in contents:
        start, end = end, end + len(content)
        shape = list(tensors[name].shape)
        header[name] = {
            "dtype": DTYPES[tensors[name].dtype],
            "shape": shape,
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    yield struct.pack("<Q", len(text)) + text
    for _, content in contents:
        for start in range(0, len(content), CHUNK):
            yield content[start : start + CHUNK]


def _bytes(tensor: Tensor) -> memoryview:
    content: Any = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
    return memoryview(content)
