"""Manifests of exported weights: what others put beside them, or in their place."""

from pathlib import Path

import pytest

from lima.errors import ModelError
from lima.model.checkpoint_manifest import (
    check_weights,
    commit_weights,
    weights_epochs,
    weights_path,
)
from lima.store.storage import Storage


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """Return a storage with the weights of epoch 2."""
    found = Storage(str(tmp_path))
    found.write(f"{weights_path('run', 2)}/config.json", b"{}")
    commit_weights(found, "run", 2, {"config.json": 2})
    return found


def test_other_names_are_no_manifests(storage: Storage) -> None:
    for name in ("x", "epoch=", "epoch=x", "epoch=002", "epoch=-2", "epoch=٣٤", "epoch=02/03"):
        storage.write(f"checkpoints/run_id=run/weights/{name}.json", b"{}")
    commit_weights(storage, "run", 100, {"config.json": 2})
    assert weights_epochs(storage, "run") == [2, 100]


@pytest.mark.parametrize(
    "told",
    ["[" * 100_000, '{"files": {}}', '{"files": {"config.json": NaN}}'],
)
def test_a_manifest_that_is_none_is_told(storage: Storage, told: str) -> None:
    check_weights(storage, "run", 2)
    storage.write(f"{weights_path('run', 2)}.json", told.encode(), replace=True)
    with pytest.raises(ModelError, match=r"epoch=02: damaged weights \(its manifest"):
        check_weights(storage, "run", 2)
