"""Brute force: what curation should say of a Stack Exchange dump, by the rules of docs/curation.md.

Written separately from `lima.curation` and sharing no code with it: a whole file in memory, lxml
for both XML and HTML, plain Python for the rest. Slow and simple on purpose.
"""

import gzip
import re
from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from lxml import etree
from lxml import html as lxml_html

WORDS = Path(__file__).parents[2] / "lima" / "curation" / "stackexchange" / "words.yaml"
BLOCKS = set(
    """
    address article aside blockquote body center dd details div dl dt figcaption figure
    footer form h1 h2 h3 h4 h5 h6 header hr html li main nav ol p pre section summary
    table tbody td tfoot th thead tr ul
    """.split()
)
GONE = {"img", "script", "style", "s", "strike", "del", "iframe", "object", "svg"}
PICTURES = {"img", "iframe", "object", "svg"}
POINTERS = {"there", "source", "more", "read more", "image", "picture", "video"}
POINTERS |= {"paper", "article", "pdf", "post", "answer"}
DEICTIC = {"this", "that", "these", "those", "here"}  # first words of links
LINKISH = {"here", "this", "link"}  # last words of links
SOURCE_WORDS = set(
    """
    citation cited credit credits from link links ref reference references see source sourced
    sources taken via
    """.split()
)
HOLE, LOST = "\ue000", "\ue001"  # something taken out; and something that words led to
URL = re.compile(
    r"\b(?:https?://|www\.)(?:[^\s<>()\ue000\ue001]|\([^\s<>()\ue000\ue001]*\))+(?<![.,;:!?'\"])"
)
NOTE = re.compile(r"[\[(]?(?:\d{1,3}|[*†‡]+)[\])]?")


def read_posts(folder: Path) -> list[dict[str, str]]:
    """Return the rows of Posts.xml or Posts.xml.gz."""
    path = folder / "Posts.xml"
    data = path.read_bytes() if path.exists() else gzip.decompress(Path(f"{path}.gz").read_bytes())
    return [dict(row.attrib) for row in etree.fromstring(data).iter("row")]


class Text:
    """A post as paragraphs; each is a list of pieces: ("prose", …) or ("code", …)."""

    def __init__(self, html: str) -> None:
        self.links = self.images = self.pointers = self.unlisted = 0
        self.led_on: set = set()
        root = lxml_html.document_fromstring(html) if html.strip() else None
        blocks = self.blocks(root) if root is not None else []
        whole, led, self.lost = [], [], 0
        last_is_gone = False
        for block in blocks:
            if kept := self.trimmed(block):
                whole.append(kept)
                last_is_gone = False
                continue
            raw = URL.sub(LOST, "".join(text for _, text in block["pieces"]))
            before = "".join(text for _, text in whole[-1]["pieces"]) if whole else ""
            if HOLE not in raw and LOST not in raw:
                continue
            last_is_gone = True
            if before.endswith(":"):
                led.append(len(whole) - 1)
            else:
                self.lost += raw.count(LOST)
        blocks = whole
        while len(blocks) > 1 and self.is_loose(blocks[-1], last_is_gone):
            blocks.pop()
            last_is_gone = True
        self.lost += sum(index < len(blocks) for index in set(led)) + self.unlisted
        joined = self.closed([p for b in blocks for p in [*b["pieces"], ("prose", "\n\n")]][:-1])
        self.text = "".join(text for _, text in joined)
        self.prose = "".join(text if kind == "prose" else " " for kind, text in joined)

    def blocks(self, node) -> list[dict]:
        """Return the blocks within an element."""
        found, inline = [], []

        def flush() -> None:
            if inline:
                found.append({"kind": "p", "pieces": list(inline)})
                inline.clear()

        if node.text:
            inline.append(("prose", node.text))
        for child in node:
            if not isinstance(child.tag, str):
                pass
            elif child.tag in BLOCKS or (
                child.tag not in GONE and any(x.tag in BLOCKS for x in child.iterdescendants())
            ):
                flush()
                found += self.block(child)
            else:
                inline += self.inline(child)
            if child.tail:
                inline.append(("prose", child.tail))
        flush()
        return found

    def block(self, node) -> list[dict]:
        """Return one block element as blocks."""
        if node.tag == "pre":
            for br in node.iter("br"):
                br.tail = "\n" + (br.tail or "")
            code = node.text_content().replace("\r", "").strip("\n").rstrip()
            fence = "```"
            while fence in code:
                fence += "`"
            return [{"kind": "code", "pieces": [("code", f"{fence}\n{code}\n{fence}")]}] * bool(
                code
            )
        if node.tag == "blockquote":
            inner = self.kept(node)
            if not inner:
                return self.hole(node)
            lines = self.lines([p for b in inner for p in [*b["pieces"], ("hard", "\n\n")]][:-1])
            return [{"kind": "quote", "pieces": self.prefixed(lines, "> ")}]
        if node.tag in ("ul", "ol"):
            return self.listing(node)
        if node.tag == "table":
            rows = []
            for row in node.xpath("./tr | ./thead/tr | ./tbody/tr | ./tfoot/tr"):
                cells = []
                for cell in row:
                    words = [p for b in self.kept(cell) for p in [*b["pieces"], ("prose", " ")]][
                        :-1
                    ]
                    cells.append(
                        [(k, t.replace("|", "\\|") if k != "code" else t) for k, t in words]
                    )
                if any(cells):
                    pieces = [("prose", "| ")]
                    for cell in cells:
                        pieces += [*cell, ("prose", " | ")]
                    first = not rows
                    rows += [*pieces[:-1], ("prose", " |"), ("hard", "\n")]
                    if first:
                        rows += [("prose", "|" + "---|" * len(cells)), ("hard", "\n")]
            return [{"kind": "table", "pieces": rows[:-1]}] if rows else self.hole(node)
        blocks = self.blocks(node)
        if re.fullmatch("h[1-6]", node.tag):
            for block in blocks:
                block["kind"] = "heading"
        return blocks

    def listing(self, node) -> list[dict]:
        number = node.get("start", "") if node.tag == "ol" else None
        if number is not None:
            number = int(number) if number.isdecimal() else 1
        items, loose = [], False
        for child in node:
            if child.tag in ("ul", "ol"):
                for block in self.listing(child):
                    if block["kind"] == "p":
                        continue
                    items.append(self.prefixed(self.lines(block["pieces"]), "  "))
                continue
            inner = self.kept(child)
            if not inner:
                continue
            tight = len(inner) == 1 or (len(inner) == 2 and inner[1]["kind"] == "list")
            loose = loose or not tight
            mark = "* " if number is None else f"{number}. "
            between = ("hard", "\n" if tight else "\n\n")
            lines = self.lines([p for b in inner for p in [*b["pieces"], between]][:-1])
            item = self.prefixed(lines, " " * len(mark))
            items.append([("hard", mark), *item[1:]])
            number = None if number is None else number + 1
        pieces = [p for item in items for p in [*item, ("hard", "\n\n" if loose else "\n")]][:-1]
        return [{"kind": "list", "pieces": pieces}] if pieces else self.hole(node)

    def hole(self, node) -> list[dict]:
        """Return what stands for a list, quote or table of which nothing is left."""
        took = any(x.tag in GONE or x.tag == "a" for x in node.iterdescendants())
        return [{"kind": "p", "pieces": [("prose", HOLE)]}] * took

    def kept(self, node) -> list[dict]:
        found = []
        for block in self.blocks(node):
            raw = URL.sub(LOST, "".join(text for _, text in block["pieces"]))
            if kept := self.trimmed(block):
                found.append(kept)
            elif found and not found[-1].get("led") and found[-1]["pieces"][-1][1].endswith(":"):
                found[-1]["led"] = HOLE in raw or LOST in raw
                self.unlisted += found[-1]["led"]
            else:
                self.unlisted += raw.count(LOST)
        return found

    def is_led_to(self, picture) -> bool:
        """Whether the words before a picture, in its block, end with a colon that leads to it."""
        words = next((t for t in reversed(picture.xpath("preceding::text()")) if t.strip()), None)
        if words is None or not words.rstrip().endswith(":"):
            return False
        place = (words.getparent(), words.is_tail)
        within = place[0].getparent() if words.is_tail else place[0]
        blocks = [
            next(x for x in (e, *e.iterancestors()) if x.tag in BLOCKS)
            for e in (within, picture.getparent())
        ]
        if blocks[0] is not blocks[1] or place in self.led_on:
            return False
        self.led_on.add(place)
        return True

    def lines(self, pieces) -> list[list]:
        """Cut pieces into lines, at hard ends and at the ends of lines of code."""
        lines = [[]]
        for kind, text in pieces:
            if kind == "prose":
                lines[-1].append((kind, text))
                continue
            first, *rest = text.split("\n")
            lines[-1].append((kind, first))
            lines += [[(kind, line)] for line in rest]
        return lines

    def prefixed(self, lines, prefix: str) -> list:
        found = []
        for line in lines:
            empty = not any(text for _, text in line)
            found += [("hard", prefix.rstrip() if empty else prefix), *line, ("hard", "\n")]
        return found[:-1]

    def inline(self, node) -> list:
        """Return an inline element as pieces."""
        if node.tag == "code":
            code = " ".join(node.text_content().split())
            if "`" in code:
                return [("code", f"`` {code} ``")]
            return [("code", f"`{code}`")] if code else []
        if node.tag == "br":
            return [("hard", "\n")]
        if node.tag in GONE:
            self.images += node.tag == "img"
            return [("prose", LOST if node.tag in PICTURES and self.is_led_to(node) else HOLE)]
        if node.tag in ("sup", "sub"):
            if node.tag == "sup" and node.findall(".//a"):
                return [("prose", HOLE)]
            before = node.getprevious().tail if node.getprevious() is not None else None
            parent = node.getparent()
            before = before or (parent.text if node.getprevious() is None else None) or ""
            if not before and node.getprevious() is not None:
                before = node.getprevious().text_content() or ""
                before = before and (")" if node.getprevious().tag == "code" else before)
            inner = (node.text or "") + "".join(
                text + (child.tail or "")
                for child in node
                for text in ["".join(t for _, t in self.inline(child))]
            )
            return [("prose", script(node.tag, inner.strip(), before[-1:]))]
        pieces = [("prose", node.text)] if node.text else []
        for child in node:
            pieces += self.inline(child)
            pieces += [("prose", child.tail)] if child.tail else []
        if node.tag != "a":
            return pieces
        self.links += 1
        words = "".join(text for _, text in pieces).strip(f" \n{HOLE}{LOST}")
        if not words:
            return [("prose", LOST if any(LOST in text for _, text in pieces) else HOLE)]
        if all(kind == "prose" for kind, _ in pieces):
            if NOTE.fullmatch(words) or URL.fullmatch(words):
                return [("prose", LOST)]
            found = re.findall(r"\w+", words.casefold())
            at_start = bool(found) and words.casefold().startswith(found[0])
            self.pointers += (
                words.casefold() in POINTERS
                or (at_start and found[0] in DEICTIC)
                or (bool(found) and found[-1] in LINKISH)
                or re.sub(r"\W*$", "", words.casefold()).endswith("this one")
            )
        return pieces

    def trimmed(self, block: dict) -> dict | None:
        """Return a block with its spaces in order, addresses out; None if nothing is left."""
        if block["kind"] in ("code", "quote", "list", "table"):
            return block
        merged = []
        for kind, text in block["pieces"]:
            if kind == "prose" and merged and merged[-1][0] == "prose":
                merged[-1] = ("prose", merged[-1][1] + text)
            else:
                merged.append((kind, text))
        tidy = []
        for kind, text in merged:
            if kind == "prose":
                text = re.sub("[\u200b\u2060\ufeff]", "", text)
                text = re.sub(r"[ \t\r\n\u00a0\u2003\u2009\u200a\u202f\u3000]+", " ", text)
                text = URL.sub(LOST, text)
            tidy.append((kind, text))
        # No spaces around hard ends of lines, nor at the ends of the block; no empty lines.
        pieces = []
        for index, (kind, text) in enumerate(tidy):
            if kind == "prose":
                if index == 0:
                    text = text.lstrip(f" {HOLE}")
                elif tidy[index - 1][0] == "hard":
                    text = text.lstrip(" ")
                if index == len(tidy) - 1:
                    text = text.rstrip(f" {HOLE}")
                elif tidy[index + 1][0] == "hard":
                    text = text.rstrip(" ")
            if text:
                pieces.append((kind, text))
        while pieces and pieces[0][0] == "hard":
            pieces.pop(0)
        while pieces and pieces[-1][0] == "hard":
            pieces.pop()
        single = []
        for piece in pieces:
            if not (piece[0] == "hard" and single and single[-1][0] == "hard"):
                single.append(piece)
        if not "".join(text for _, text in single).strip(f" {HOLE}{LOST}"):
            return None
        return {**block, "pieces": single}

    def is_loose(self, block: dict, next_is_gone: bool) -> bool:
        """Whether a last block led to what is gone, and says nothing else."""
        if block["kind"] in ("code", "quote", "list", "table"):
            return False
        whole = "".join(text for _, text in block["pieces"]).strip(" \n")
        text = whole.strip(f" \n{HOLE}{LOST}")
        if not next_is_gone and text == whole:
            return False
        names_a_source = text.split()[0].lower().rstrip(":.,") in SOURCE_WORDS
        return (
            block["kind"] == "heading"
            or text.endswith(":")
            or (names_a_source and len(text.split(" ")) <= 5)
        )

    def closed(self, pieces) -> list:
        """Close the gaps where something was taken out, with lines and brackets left empty."""
        codes = [text for kind, text in pieces if kind == "code"]
        flat = "".join("\ue002" if kind == "code" else text for kind, text in pieces)
        lines = []
        for line in flat.split("\n"):
            if line.strip(" ") and not line.strip(f" {HOLE}{LOST}"):
                self.lost += line.count(LOST)
            else:
                lines.append(line)
        flat = "\n".join(lines)
        while found := re.search(f"[{HOLE}{LOST}]", flat):
            before, after = flat[: found.start()], flat[found.end() :]
            if before.rstrip(" ,;")[-1:] in ("(", "[") and after.lstrip(" ,;")[:1] in (")", "]"):
                flat = before.rstrip(" ,;")[:-1].rstrip(" ") + after.lstrip(" ,;")[1:]
                continue
            self.lost += found[0] == LOST
            if before.endswith(" ") and after[:1] in ("", " ", ".", ",", ";", "!", "?", ")", "\n"):
                before = before[:-1]
            flat = before + after
        parts = re.split("\ue002", flat)
        found_pieces = [("prose", parts[0])]
        for code, part in zip(codes, parts[1:], strict=True):
            found_pieces += [("code", code), ("prose", part)]
        return found_pieces


def script(tag: str, text: str, before: str) -> str:
    """Return raised or lowered text."""
    raised = dict(zip("0123456789+-−=()ni", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿⁱ", strict=True))
    lowered = dict(zip("0123456789+-−=()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎", strict=True))
    known = raised if tag == "sup" else lowered
    if text and all(c in known for c in text):
        return "".join(known[c] for c in text)
    follows = before.isalnum() or before in tuple(")]}|'’∂∇")
    if not text or not follows or len(text) > 40 or text[0] in ("[", HOLE, LOST):
        return text
    if tag == "sup" and text.casefold() in (
        "st",
        "nd",
        "rd",
        "th",
        "tm",
        "sm",
        "™",
        "®",
        "©",
        "′",
        "″",
    ):
        return text
    bracketed = text[0] == "(" and text.index(")") == len(text) - 1 if ")" in text else False
    sign = "^" if tag == "sup" else "_"
    return sign + (text if len(text) == 1 or bracketed else f"({text})")


def count_first_person(prose: str, words: dict) -> int:
    """Count the words of the first person."""
    count = 0
    for found in re.finditer(r"(?<!\w)(I|[Mm]e|[Mm]y|[Mm]yself)(?!\w)", prose):
        before, after = prose[: found.start()], prose[found.end() :]
        if found[1] == "I":
            if before[-1:] in tuple("/.&%+-") or after[:1] in tuple("/&²-"):
                continue
            if re.match(r"\.\w", after) or any(before.endswith(f"{w} ") for w in words["numbered"]):
                continue
        count += 1
    return count


def count_phrases(text: str, phrases: list[str]) -> int:
    """Count phrases as whole words; an end that is no letter bounds nothing."""
    text = text.lower().replace("’", "'")
    count = 0
    for phrase in phrases:
        before = r"(?<!\w)" if re.match(r"\w", phrase[0]) else ""
        after = r"(?!\w)" if re.match(r"\w", phrase[-1]) else ""
        count += len(re.findall(before + f"(?={re.escape(phrase)}{after})", text))
    return count


def count_references(prose: str, words: dict) -> int:
    """Count what points to other texts; where nothing does, lines that begin a later edit."""
    phrases = [p for kind in words["references"].values() for p in kind]
    found = count_phrases(prose, phrases) + len(re.findall(r"(?<![\w.])@[a-z]", prose.lower()))
    if found:
        return found
    later = 0
    for line in prose.lower().replace("’", "'").split("\n"):
        plain = line.lstrip(" >*_#=~([–—-")
        starts = [w for w in words["post_editing"] if plain.startswith(w)]
        for word in sorted(starts, key=len, reverse=True):
            rest = plain[len(word) :]
            if rest[:1].isalpha() or rest[:1] == "_":
                continue
            tails = [rest]
            for _ in range(2):
                number = re.match(r"[ *_]*([#№]? ?\d[\d./-]*|\([^()]*\)|\[[^\[\]]*\])", tails[-1])
                tails += [tails[-1][number.end() :]] if number else []
            if any(re.match(r"[ *_]*([:=~)\]]|[–—-]([\s–—-]|$)|$)", t) for t in tails) or (
                word.endswith("s.")
            ):
                later += 1
                break
    return later


def without_formulas(prose: str) -> str:
    """Take out what stands between the signs of TeX."""
    prose = re.sub(r"\$\$[^$]+\$\$|\$(?=\S)[^$]+(?<=\S)\$(?!\d)", " ", prose)
    return re.sub(r"\\\(.*?\\\)|\\\[.*?\\\]", " ", prose, flags=re.DOTALL)


def judge(folder: Path) -> tuple[Counter[str], dict[str, dict[str, Any]]]:
    """Return how often each filter objects, and the measures of each question by `Q/A`."""
    words = yaml.safe_load(WORDS.read_text("utf-8"))
    posts = read_posts(folder)
    questions = {p["Id"]: p for p in posts if p["PostTypeId"] == "1"}
    answers: dict[str, list[dict[str, str]]] = {}
    reasons: Counter[str] = Counter()
    for post in posts:
        if post["PostTypeId"] == "2":
            answers.setdefault(post["ParentId"], []).append(post)
        elif post["PostTypeId"] != "1":
            reasons["other_type"] += 1
    reasons["orphan"] = sum(len(a) for q, a in answers.items() if q not in questions)
    measured = {}
    for number, question in questions.items():
        if number not in answers:
            reasons["no_answer"] += 1
            continue
        best = min(answers[number], key=lambda a: (-int(a["Score"]), int(a["Id"])))
        answer = Text(best["Body"])
        prose = without_formulas(answer.prose)
        title = " ".join(question["Title"].split())
        found = {
            "answer_score": int(best["Score"]),
            "characters": len(answer.text),
            "first_person": count_first_person(prose, words),
            "references": count_references(prose, words),
            "dangling": answer.pointers + answer.lost,
            "title_references": count_phrases(title, words["title"]) + (len(title.split()) < 3),
        }
        measured[f"{number}/{best['Id']}"] = {**found, "text": answer.text}
        objects = {
            "score": found["answer_score"] < 10,
            "too_short": found["characters"] < 1200,
            "too_long": found["characters"] > 4096,
            "first_person": found["first_person"] > 0,
            "references": found["references"] > 0,
            "dangling": found["dangling"] > 0,
            "title": found["title_references"] > 0,
        }
        reasons.update(name for name, value in objects.items() if value)
        reasons["kept"] += not any(objects.values())
    return +reasons, measured
