"""The aggregate of tables in which files lie that are none of their shards."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lima.errors import DataError
from lima.evaluation.aggregate.table import aggregate, aggregate_rows
from lima.store.storage import Storage
from lima.store.tables import TABLES
from tests.helpers.recomputed import notes, rows_of
from tests.helpers.synthetic import Study, write_study


class TestBadFiles:
    """Files in a table that are not its shards."""

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        storage = Storage(str(tmp_path))
        write_study(storage, Study(seeds=1))
        return storage

    def spoil(self, storage: Storage) -> dict[str, str]:
        """Damage a study in all ways; return the paths and a part of the reason for each."""
        judgments = Path(storage.full_path("judgments"))
        shards = sorted(judgments.glob("*/*/*.parquet"))
        folder = shards[0].parent
        other = next(s.parent for s in shards if s.parent != folder)
        cut = shards[0].read_bytes()
        (folder / "cut.parquet").write_bytes(cut[: len(cut) // 2])
        (folder / "empty.parquet").write_bytes(b"")
        (folder / "text.parquet").write_text("not Parquet at all")
        broken = bytearray(cut)
        broken[60:3000] = bytes(2940)
        (folder / "broken.parquet").write_bytes(bytes(broken))
        pq.write_table(pa.table({"a": [1]}), folder / "foreign.parquet")
        whole = pq.ParquetFile(shards[0]).read()
        typed = whole.set_column(
            whole.column_names.index("score"), "score", pa.array(["high"] * len(whole))
        )
        pq.write_table(typed, folder / "typed.parquet")
        pq.write_table(whole, other / "moved.parquet")
        pq.write_table(whole, judgments / "stray.parquet")
        metrics = next(Path(storage.full_path("metrics")).glob("*/*/*.parquet"))
        metrics.write_bytes(b"PAR1 no more")
        return {
            str(folder / "cut.parquet"): "",
            str(folder / "empty.parquet"): "",
            str(folder / "text.parquet"): "",
            str(folder / "broken.parquet"): "",
            str(folder / "foreign.parquet"): "no column",
            str(folder / "typed.parquet"): "",
            str(other / "moved.parquet"): f"rows of run {folder.name}",
            str(judgments / "stray.parquet"): "not in a run's folder",
            str(metrics): "",
        }

    def test_one_error_names_them_all(self, storage: Storage) -> None:
        bad = self.spoil(storage)
        with pytest.raises(DataError) as caught:
            aggregate(storage)
        lines = str(caught.value).splitlines()
        assert lines[0].startswith(f"{len(bad)} files cannot be read")
        assert "--skip-unreadable" in lines[-1]
        assert len(lines) == len(bad) + 2
        for path, reason in bad.items():
            line = next(line for line in lines if path in line)
            assert reason in line.split(path)[1]

    def test_skipping_leaves_out_only_them_and_says_so(self, storage: Storage) -> None:
        before = aggregate_rows(storage)
        bad = self.spoil(storage)
        said, note = notes()
        after = aggregate_rows(storage, skip_unreadable=True, note=note)
        scores = ("judged", "scored", "score", "ci_low", "cost", "responses", "loss")
        assert [[r[n] for n in scores] for r in after] == [[r[n] for n in scores] for r in before]
        assert len(said) == 1
        assert all(path in said[0] for path in bad)

    def test_rows_of_a_run_whose_row_is_unreadable(self, storage: Storage) -> None:
        runs = {row["run_id"]: row for row in rows_of(storage, TABLES["runs"])}
        judged = next(r for r in runs.values() if r["stage"] == "judge")["run_id"]
        lost = next(Path(storage.full_path("runs")).glob(f"*/{judged}/*.parquet"))
        lost.write_bytes(b"")
        said, note = notes()
        rows = aggregate_rows(storage, skip_unreadable=True, note=note)
        assert judged not in {row["run_id"] for row in rows}
        assert any(judged in text and "table `runs`" in text for text in said)

    def test_judgments_whose_responses_are_unreadable(self, storage: Storage) -> None:
        for shard in Path(storage.full_path("generations")).glob("*/*/*.parquet"):
            shard.write_bytes(b"")
        for by in (["arm"], ["arm", "source"]):
            rows = aggregate_rows(storage, by, skip_unreadable=True, note=lambda _: None)
            assert all(row["scored"] > 0 and row["not_judged"] is None for row in rows)

    def test_other_files_are_left_alone(self, storage: Storage) -> None:
        before = aggregate_rows(storage)
        folder = next(Path(storage.full_path("judgments")).glob("*/*"))
        (folder / "README.txt").write_text("notes")
        (folder / ".00000.parquet.half").write_bytes(b"half")
        assert aggregate_rows(storage) == before

    def test_a_shard_that_disappears_meanwhile_is_no_error(
        self, storage: Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A run that resumes deletes the rows of work that was lost."""
        listed = storage.entries

        def then_deleted(path: str) -> Any:
            found = listed(path)
            for entry in found if path.startswith("steps") else ():
                storage.delete(entry.path)
            return found

        monkeypatch.setattr(storage, "entries", then_deleted)
        rows = aggregate_rows(storage)
        assert [row["loss"] for row in rows] == [None, None]
        assert all(row["score"] for row in rows)
