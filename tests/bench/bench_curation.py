"""Curation of a Stack Exchange dump of 1 GB or more against lxml.iterparse and BeautifulSoup.

pytest tests/bench/bench_curation.py -s
python tests/bench/bench_curation.py [MEGABYTES]

The dump is quantumcomputing.stackexchange.com, repeated under new ids. The peer does the same:
it joins each question with its top answer, cleans that and the same share of descriptions, and
judges length and words. Every measurement is a process of its own. Rates are by CPU time, so that
whatever else the machine does weighs little; the gain of a second process is by the clock.
"""

import gzip
import json
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
SITE = "quantumcomputing.stackexchange.com"
DUMP = ROOT.parent / "shared" / "data" / "stackexchange" / SITE / "Posts.xml.gz"
MEGABYTES, PEER_MEGABYTES = 1024, 96
GOAL, GOAL_MB, GOAL_TWO = 5.0, 500.0, 1.7
"""Times the peer's rate; peak memory of a process; gain of a second process."""
STEP = 10_000
"""Ids of one copy of the dump."""
BLOCKS = {
    "p",
    "ul",
    "ol",
    "blockquote",
    *(f"h{n}" for n in range(1, 7)),
    "div",
    "table",
    "tr",
    "hr",
}
_IDS = re.compile(rb' (Id|ParentId|AcceptedAnswerId)="(\d+)"')


def write_dump(folder: Path, megabytes: float) -> Path:
    """Write a folder with a Posts.xml of that size; return the folder."""
    lines = gzip.decompress(DUMP.read_bytes()).splitlines(keepends=True)
    head, rows, tail = lines[:2], [x for x in lines if b"<row " in x], lines[-1]
    site = folder / SITE
    site.mkdir(parents=True)
    written, copy = 0, 0
    with (site / "Posts.xml").open("wb") as stream:
        stream.writelines(head)
        while written < megabytes * 1e6:
            written += sum(stream.write(_moved(row, copy)) for row in rows)
            copy += 1
        stream.write(tail)
    return folder


def _moved(row: bytes, copy: int) -> bytes:
    """Return a row with the ids of a copy of the dump."""
    return _IDS.sub(lambda m: b' %s="%d"' % (m[1], int(m[2]) + copy * STEP), row)


# Ours: the stage's own two halves, without Ray.


def own(dumps: str, out: str, processes: int) -> dict[str, Any]:
    """Put the rows aside, then write the candidates, in as many processes."""
    from lima.curation.reading.damage import Damage
    from lima.curation.stage import Curation
    from lima.store.storage import Storage
    from tests.helpers.curation.curating import cell

    curation = Curation(cell(_spec(dumps)), Storage(out))
    (unit,) = curation.units()
    folder = Path(out) / "aside"
    site = curation.split(unit, folder)
    if processes == 1:
        records = [curation.write_partition(unit, folder, p) for p in site.partitions]
    else:
        with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
            tasks = [pool.submit(_partition, dumps, out, p) for p in site.partitions]
            records = [task.result() for task in tasks]
    curation.finish(unit, [record.shard for record in records], Damage())
    return {"seen": sum(r.seen for r in records), "kept": sum(r.kept for r in records)}


def _partition(dumps: str, out: str, partition: int) -> Any:
    from lima.curation.stage import Curation
    from lima.store.storage import Storage
    from tests.helpers.curation.curating import cell

    curation = Curation(cell(_spec(dumps)), Storage(out))
    (unit,) = curation.units()
    return curation.write_partition(unit, Path(out) / "aside", partition)


def _spec(dumps: str) -> Any:
    from lima.spec.curate import ArmSpec, CurateSpec, PartSpec, SourceSpec

    return CurateSpec(
        sources=(SourceSpec("stackexchange", (dumps,)),),
        arms=(ArmSpec("stem", (PartSpec("stackexchange-stem", 1),)),),
    )


# The peer: what one writes in an afternoon.


def peer(dumps: str, out: str) -> dict[str, Any]:
    """Do the same with lxml.iterparse and BeautifulSoup; write the answers as JSON lines."""
    from lxml import etree

    questions: dict[str, dict[str, str]] = {}
    best: dict[str, dict[str, str]] = {}
    for _, row in etree.iterparse(f"{dumps}/{SITE}/Posts.xml", tag="row", huge_tree=True):
        post = dict(row.attrib)
        row.clear()
        while row.getprevious() is not None:
            del row.getparent()[0]
        if post["PostTypeId"] == "1":
            questions[post["Id"]] = post
        elif post["PostTypeId"] == "2":
            known = best.get(post["ParentId"])
            if known is None or int(post["Score"]) > int(known["Score"]):
                best[post["ParentId"]] = post
    judge = _judge()
    seen = kept = 0
    with Path(out, "answers.jsonl").open("w") as stream:
        for number, question in questions.items():
            seen += 1
            if number not in best:
                continue
            answer = best[number]
            text = Soup(answer["Body"])
            # Half of the prompts are descriptions.
            prompt = Soup(question["Body"]).text if seen % 2 else question["Title"]
            keep = int(answer["Score"]) >= 10 and 1200 <= len(text.text) <= 4096
            keep = keep and not judge(text.prose) and not text.dangling
            kept += keep
            line = {"id": answer["Id"], "prompt": prompt, "response": text.text, "keep": keep}
            stream.write(json.dumps(line) + "\n")
    return {"seen": seen, "kept": kept}


class Soup:
    """A post as text with code blocks and lists, and its prose, by BeautifulSoup."""

    def __init__(self, html: str) -> None:
        from bs4 import BeautifulSoup

        soup = BeautifulSoup(html, "lxml")
        self.codes: list[str] = []
        self.dangling = 0
        for element in soup.find_all(["img", "script", "style", "s", "strike", "del", "iframe"]):
            element.decompose()
        for link in soup.find_all("a"):
            self._link(link)
        for code in soup.find_all("pre"):
            code.replace_with(self._held("```\n" + code.get_text().strip("\n").rstrip() + "\n```"))
        for code in soup.find_all("code"):
            code.replace_with(self._held(f"`{' '.join(code.get_text().split())}`"))
        for line_break in soup.find_all("br"):
            line_break.replace_with("\2")
        flat = "\n\n".join(self._blocks(soup.body)) if soup.body else ""
        self.text = re.sub(r"\0(\d+)\0", lambda m: self.codes[int(m[1])], flat)
        self.prose = re.sub(r"\0\d+\0", " ", flat)

    def _held(self, code: str) -> str:
        self.codes.append(code)
        return f"\0{len(self.codes) - 1}\0"

    def _link(self, link: Any) -> None:
        words = link.get_text().strip()
        if re.match("https?://", words) or words.lower() in ("here", "this", "link", "source"):
            self.dangling += 1
        if re.match("https?://", words):
            link.decompose()
        else:
            link.unwrap()

    def _blocks(self, element: Any) -> list[str]:
        blocks: list[str] = []
        inline: list[str] = []
        for child in element.children:
            if getattr(child, "name", None) in BLOCKS:
                blocks += [self._tidy("".join(inline)), *self._block(child)]
                inline = []
            else:
                inline.append(child.get_text())
        return [block for block in [*blocks, self._tidy("".join(inline))] if block]

    def _block(self, element: Any) -> list[str]:
        inner = self._blocks(element)
        if element.name == "blockquote":
            text = "\n\n".join(inner)
            return ["\n".join(f"> {line}".rstrip() for line in text.split("\n"))]
        if element.name not in ("ul", "ol"):
            return inner
        items = []
        for number, item in enumerate(element.find_all("li", recursive=False), 1):
            mark = "* " if element.name == "ul" else f"{number}. "
            lines = "\n\n".join(self._blocks(item)).split("\n")
            items.append(mark + ("\n" + " " * len(mark)).join(lines))
        return ["\n".join(items)]

    def _tidy(self, text: str) -> str:
        text = re.sub(r"\s+", " ", re.sub(r"https?://\S+", "", text))
        return re.sub(" ?\2 ?", "\n", text).strip()


def _judge() -> Callable[[str], bool]:
    """Return whether prose holds a word of the first person or a phrase of a reference."""
    import yaml

    words = yaml.safe_load(
        (ROOT / "lima" / "curation" / "stackexchange" / "words.yaml").read_text()
    )
    phrases = [phrase for kind in words["references"].values() for phrase in kind]
    anyone = re.compile(r"\b(?:I|[Mm]e|[Mm]y|[Mm]yself)\b")
    others = re.compile("|".join(rf"(?<!\w){re.escape(p)}(?!\w)" for p in phrases), re.IGNORECASE)
    return lambda prose: bool(anyone.search(prose) or others.search(prose))


# Measuring


def measured(kind: str, dumps: Path, processes: int = 1) -> dict[str, float]:
    """Run one side in a process of its own; return seconds, CPU seconds, peak MB and counts."""
    with tempfile.TemporaryDirectory(dir=dumps.parent) as out:
        command = [sys.executable, __file__, kind, str(dumps), out, str(processes)]
        start = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            peak = max(_memory(process), default=0.0)
            assert process.stdout is not None
            result: dict[str, float] = json.loads(process.stdout.read())
    return {**result, "seconds": time.perf_counter() - start, "peak_mb": peak}


def _memory(process: "subprocess.Popen[str]") -> Iterator[float]:
    """Yield the resident memory of the largest process until the end, in MB."""
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            alive = [watched, *watched.children(recursive=True)]
            yield max(p.memory_info().rss for p in alive) / 1e6
        except psutil.NoSuchProcess:
            continue
        time.sleep(0.05)


def measure(megabytes: float, peer_megabytes: float) -> dict[str, float]:
    """Print and return the rates of both sides, the gain of a second process, and peaks."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        small = write_dump(folder / "small", peer_megabytes)
        theirs, mine = measured("peer", small), measured("own", small)
        shutil.rmtree(small)
        print(
            f"\n{peer_megabytes} MB, iterparse and BeautifulSoup: {_said(theirs, peer_megabytes)}"
        )
        print(f"{peer_megabytes} MB, one process: {_said(mine, peer_megabytes)}", flush=True)
        large = write_dump(folder / "large", megabytes)
        one = measured("own", large)
        print(f"{megabytes} MB, one process: {_said(one, megabytes)}", flush=True)
        two = measured("own", large, 2)
        print(f"{megabytes} MB, two processes: {_said(two, megabytes)}", flush=True)
    figures = {
        "ratio": (megabytes / one["cpu"]) / (peer_megabytes / theirs["cpu"]),
        "two": one["seconds"] / two["seconds"],
        "peak_mb": max(one["peak_mb"], two["peak_mb"]),
    }
    print(
        f"ratio {figures['ratio']:.1f} (goal {GOAL:g}), gain of a second process "
        f"{figures['two']:.2f} (goal {GOAL_TWO:g}), peak {figures['peak_mb']:.0f} MB "
        f"(goal {GOAL_MB:g})"
    )
    return figures


def _said(found: dict[str, float], megabytes: float) -> str:
    return (
        f"{megabytes / found['cpu']:.1f} MB a CPU second, {megabytes / found['seconds']:.1f} MB/s, "
        f"peak {found['peak_mb']:.0f} MB, {found['kept']:.0f} of {found['seen']:.0f} kept"
    )


@pytest.mark.bench
@pytest.mark.skipif(not DUMP.exists(), reason="needs the real dump of ../shared/data")
def test_curation(capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        figures = measure(MEGABYTES, PEER_MEGABYTES)
    assert figures["ratio"] >= GOAL
    assert figures["peak_mb"] < GOAL_MB
    if (psutil.cpu_count() or 1) > 1:
        assert figures["two"] >= GOAL_TWO


def main() -> None:
    if len(sys.argv) < 3:
        size = float(sys.argv[1]) if len(sys.argv) > 1 else MEGABYTES
        measure(size, min(size, PEER_MEGABYTES))
        return
    kind, dumps, out, processes = sys.argv[1:]
    result = own(dumps, out, int(processes)) if kind == "own" else peer(dumps, out)
    used = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(json.dumps({**result, "cpu": sum(u.ru_utime + u.ru_stime for u in used)}))


if __name__ == "__main__":
    main()
