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
    speeds = {name: measure(name, tmp_path) for name in names}
    best = speeds[OURS[0]].tokens_per_second
    for name, speed in speeds.items():
        print(
            f"\n{name:<22} {speed.tokens_per_second:6.0f} useful tokens/s, "
            f"{speed.host_gib:4.1f} GiB; ours packed / it {best / speed.tokens_per_second:.2f}"
        )
    assert best > speeds["ours padded"].tokens_per_second
