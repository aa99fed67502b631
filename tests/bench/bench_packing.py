"""Useful training tokens a second on real LIMA lengths: ours against what people would use instead.

All train the same random LLaMA (6 layers, 256 wide, LLaMA's vocabulary) in fp32 on the same first
examples of LIMA, in batches of 32 of up to 2048 tokens, four a micro-batch, each in a process of
its own. What is compared is the time of the steps after the first. `tests.bench.contenders` says
where the peers come from; without them ours are compared with each other alone.
"""

import os
from pathlib import Path

import pytest

from tests.bench.contenders import DATA, OURS, PEERS, Setting, measure, prepare

pytestmark = pytest.mark.bench


@pytest.mark.skipif(not DATA.is_dir(), reason="the lengths are those of LIMA in ../shared/data")
def test_packing_beats_padding(tmp_path: Path) -> None:
    prepare(tmp_path, Setting())
    names = [*OURS, *(PEERS if os.environ.get("LIMA_PEERS") else ())]
    speeds: dict[str, float] = {}
    for name in names:
        found = measure(name, tmp_path)
        speeds[name] = found.tokens_per_second
        ratio = speeds[OURS[0]] / found.tokens_per_second
        print(
            f"\n{name:<22} {found.tokens_per_second:6.0f} useful tokens/s, "
            f"{found.host_gib:4.1f} GiB; ours packed / it {ratio:.2f}",
            flush=True,
        )
    assert speeds[OURS[0]] > speeds["ours padded"]
