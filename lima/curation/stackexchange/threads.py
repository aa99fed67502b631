"""Questions and answers of Stack Exchange as candidates (section 2.1).

Every question is a candidate with its top answer, whatever the filters say of it; so are, without
text, answers whose question is gone and posts of other types. A post that is no candidate of its
own is an answer that another was preferred to, named there in `passed_over`.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b

from lima.curation.candidates.candidate import Candidate, Provenance
from lima.curation.reading.damage import Damage
from lima.curation.stackexchange.comment_dialogues import dialogue
from lima.curation.stackexchange.filters import (
    answer_measures,
    description_references,
    dialogue_objections,
    objections,
    references,
    title_references,
)
from lima.curation.stackexchange.on_disk import Names
from lima.curation.stackexchange.posts_by_question import (
    ANSWER,
    QUESTION,
    Post,
    SplitSite,
    identify,
    joined_rows,
)
from lima.curation.stackexchange.xml_rows import (
    Attributes,
    attribute,
    parse_rows,
    reason_of,
    split_tags,
)
from lima.curation.text.html import clean, clean_inline
from lima.spec.curate import CurateSpec

SOURCE = "stackexchange/{}"
MIN_DESCRIPTION = 40
"""Characters of a description that can stand as a prompt."""
CHANGES = "HTML to Markdown; links, images and other tags removed; {} as the prompt"
TITLE, DESCRIPTION = CHANGES.format("the title"), CHANGES.format("the description")
BATCH = 16
"""Questions that are parsed together: few enough for a cache of the CPU."""
LICENCES = (("2011-04-08", "CC BY-SA 2.5"), ("2018-05-02", "CC BY-SA 3.0"), ("9", "CC BY-SA 4.0"))
"""Of a post without ContentLicense, by the date it was written before."""
COMMENTS = "/comments"
"""End of the source id of a dialogue."""
ORPHAN, OTHER_TYPE, NO_ANSWER, DAMAGED = "orphan", "other_type", "no_answer", "damaged"
_WHOLE = re.compile("-?[0-9]{1,18}")
_SCORE = re.compile(rb' Score="(-?[0-9]{1,18})"')


@dataclass
class _Thread:
    """A question and its answers, as they lie in the partition."""

    question: Post | None = None
    answers: list[tuple[int, int, bytes]] = field(default_factory=list)
    """`(-score, id, row)`."""


def is_dialogue(candidate: Candidate) -> bool:
    """Whether a candidate is the talk below an answer."""
    return candidate.source_id.endswith(COMMENTS)


def read_partition(
    site: SplitSite, partition: int, spec: CurateSpec, licence: str = ""
) -> Iterator[Candidate]:
    """Yield the candidates of a partition of a site, by the ids of their posts.

    Dialogues follow their question. Damage is noted in `site.damage`. `licence` is that of posts
    that name none; empty: what the network's posts were under when they were written.

    Raises:
        DataError: a row is damaged and `spec` is strict.

    """
    reader = _Reader(site.site, spec, site.names, site.damage, licence)
    posts = joined_rows(site.posts.read(partition))
    yield from reader.read(posts, joined_rows(site.comments.read(partition)))


class _Reader:
    def __init__(
        self, site: str, spec: CurateSpec, names: Names, damage: Damage, licence: str
    ) -> None:
        self.site, self.spec, self.names, self.damage = site, spec, names, damage
        self.licence = licence
        self.source = SOURCE.format(site)
        self.known: dict[str, str] = {}

    def read(self, rows: Sequence[bytes], comments: Sequence[bytes]) -> Iterator[Candidate]:
        threads, others = self._threads(rows)
        chains: defaultdict[int, list[bytes]] = defaultdict(list)
        for row in comments:
            chains[int(attribute(row, b"PostId"))].append(row)
        asked = sorted(number for number, thread in threads.items() if thread.question)
        for start in range(0, len(asked), BATCH):
            yield from self._batch([threads[n] for n in asked[start : start + BATCH]], chains)
        for number in sorted(threads.keys() - set(asked)):
            for _, answer, _ in threads[number].answers:
                yield self._without_text(f"{number}/{answer}", f"a/{answer}", ORPHAN)
        for number, reason in others:
            yield self._without_text(f"{number}", f"posts/{number}", reason)

    def _threads(self, rows: Sequence[bytes]) -> tuple[dict[int, _Thread], list[tuple[int, str]]]:
        """Sort rows into threads; the same Id again, and a score that is no number, is damage."""
        threads: defaultdict[int, _Thread] = defaultdict(_Thread)
        others: dict[int, str] = {}
        seen: set[int] = set()
        for row in rows:
            post = identify(row)
            if isinstance(post, str):  # the first half has left these out
                continue
            if post.id in seen:
                self.damage.note(f"{self.site}: post {post.id}", "Id is there twice")
                continue
            seen.add(post.id)
            score = _score(row) if post.kind in (QUESTION, ANSWER) else None
            if post.kind not in (QUESTION, ANSWER):
                others[post.id] = OTHER_TYPE
            elif score is None:
                self.damage.note(f"{self.site}: post {post.id}", "Score is not a whole number")
                others[post.id] = DAMAGED
            elif post.kind == QUESTION:
                threads[post.id].question = post
            else:
                threads[post.question].answers.append((-score, post.id, row))
        for thread in threads.values():
            thread.answers.sort()
        return dict(threads), sorted(others.items())

    def _batch(
        self, threads: Sequence[_Thread], chains: dict[int, list[bytes]]
    ) -> Iterator[Candidate]:
        """Yield the candidates of some questions; their rows are parsed in one call."""
        rows: list[bytes] = []
        for thread in threads:
            rows += [thread.question.row] if thread.question else []
            rows += [row for _, _, row in thread.answers[:1]]
        parsed = iter(parse_rows(rows, self.damage, self.site))
        for thread in threads:
            question = next(parsed)
            answer = next(parsed) if thread.answers else {}
            yield self._candidate(thread, question, answer)
            for _, number, row in sorted(thread.answers, key=lambda a: a[1]):
                if number in chains and question is not None:
                    yield from self._dialogue(question, row, chains[number])

    def _candidate(
        self, thread: _Thread, question: Attributes | None, answer: Attributes | None
    ) -> Candidate:
        """Return a question with its top answer; `answer` is empty if there is none."""
        own = thread.question.id if thread.question else 0
        best = thread.answers[0][1] if thread.answers else None
        if question is None or answer is None:
            broken, row = self._broken(thread, question)
            self.damage.note(f"{self.site}: post {broken}", reason_of(row))
            return self._without_text(_source_id(own, best), f"questions/{own}", DAMAGED)
        prompt, is_description = self._prompt(question, own)
        measures = {
            "question_score": float(_int(question, "Score")),
            "title_references": float(title_references(question.get("Title", ""))),
            "answers": float(len(thread.answers)),
            "description": float(is_description),
        }
        conversation: tuple[str, ...] = (prompt,)
        reasons: tuple[str, ...] = (NO_ANSWER,)
        if answer:
            text = clean(answer.get("Body", ""))
            measures["answer_score"] = float(_int(answer, "Score"))
            measures.update(answer_measures(text))
            conversation = (prompt, text.text)
            reasons = objections(measures, self.spec.filters)
        return Candidate(
            source=self.source,
            source_id=_source_id(own, best),
            conversation=conversation if all(conversation) else conversation[:1],
            category=self.site,
            tags=split_tags(question.get("Tags", "")),
            score=_int(question, "Score"),
            provenance=self._provenance(
                f"a/{best}" if best else f"questions/{own}",
                (question, answer) if answer else (question,),
                DESCRIPTION if is_description else TITLE,
            ),
            measures=measures,
            reasons=reasons if all(conversation) else (*reasons, "no_text"),
            passed_over=tuple(f"{number}:{-score}" for score, number, _ in thread.answers[1:]),
        )

    def _broken(self, thread: _Thread, question: Attributes | None) -> tuple[int, bytes]:
        """Return id and row of the one of two posts that could not be parsed."""
        if question is None and thread.question:
            return thread.question.id, thread.question.row
        _, number, row = thread.answers[0]
        return number, row

    def _prompt(self, question: Attributes, number: int) -> tuple[str, bool]:
        """Return the title, or for a seeded share of questions the description.

        A description that is too short or too long, that shows an image or points elsewhere, is
        no prompt.
        """
        filters = self.spec.filters
        title, body = clean_inline(question.get("Title", "")), question.get("Body", "")
        if title and ("<img" in body or not self._draw(number) < filters.description_share):
            return title, False
        description = clean(body)
        fits = MIN_DESCRIPTION <= len(description.text) <= filters.max_description
        if title and (not fits or description.unclosed or description_references(description)):
            return title, False
        return description.text, True

    def _draw(self, number: int) -> float:
        """Return a random number from 0 to 1 that depends on the seed and the question only."""
        address = f"{self.spec.seed}/{self.site}/{number}".encode()
        return int.from_bytes(blake2b(address, digest_size=8).digest()) / 2**64

    def _dialogue(
        self, question: Attributes, row: bytes, comments: Sequence[bytes]
    ) -> Iterator[Candidate]:
        """Yield the talk below an answer, if it is one."""
        answer = parse_rows([row])[0]  # what is replaced in it is counted once, with its question
        if answer is None:
            return
        people = (question.get("OwnerUserId", ""), answer.get("OwnerUserId", ""))
        said = parse_rows(comments, self.damage, self.site)
        talk = dialogue([c for c in said if c], people, self._name)
        if len(talk.utterances) < self.spec.filters.min_dialogue_turns:
            return
        asked, answered = clean(question.get("Body", "")), clean(answer.get("Body", ""))
        title = clean_inline(question.get("Title", ""))
        own, best = question["Id"], answer["Id"]
        measures = {
            **answer_measures(answered),
            "answer_score": float(_int(answer, "Score")),
            "turns": float(len(talk.utterances)),
            "left_out": float(talk.left_out),
            "talk_references": float(references("\n".join(talk.utterances))),
            "unclosed_tags": float(asked.unclosed + answered.unclosed),
        }
        yield Candidate(
            source=self.source,
            source_id=f"{own}/{best}{COMMENTS}",
            conversation=(f"{title}\n\n{asked.text}".strip(), answered.text, *talk.utterances),
            category=self.site,
            tags=split_tags(question.get("Tags", "")),
            score=_int(answer, "Score"),
            provenance=self._provenance(
                f"a/{best}", (question, answer), CHANGES.format("title and description")
            ),
            measures=measures,
            reasons=dialogue_objections(measures, self.spec.filters),
        )

    def _without_text(self, source_id: str, page: str, reason: str) -> Candidate:
        return Candidate(
            source=self.source,
            source_id=source_id,
            conversation=(),
            category=self.site,
            provenance=Provenance(url=f"https://{self.site}/{page}"),
            reasons=(reason,),
        )

    def _provenance(self, page: str, posts: Sequence[Attributes], changes: str) -> Provenance:
        licences = dict.fromkeys(_licence(post, self.licence) for post in posts)
        return Provenance(
            url=f"https://{self.site}/{page}",
            authors=tuple(self._author(post) for post in posts),
            licence=" / ".join(licences),
            created=_date(posts[-1]),
            changes=changes,
        )

    def _author(self, post: Attributes) -> str:
        """Return an author's name and page; a deleted user has a name at most."""
        user = post.get("OwnerUserId", "")
        if not _WHOLE.fullmatch(user):
            return post.get("OwnerDisplayName") or "a deleted user"
        return f"{self._name(user)} <https://{self.site}/users/{user}>"

    def _name(self, user: str) -> str:
        if user not in self.known:
            self.known[user] = self.names.get(int(user)) or f"user {user}"
        return self.known[user]


def _source_id(question: int, answer: int | None) -> str:
    return f"{question}/{answer}" if answer else f"{question}"


def _int(post: Attributes, name: str) -> int:
    value = post.get(name, "")
    return int(value) if _WHOLE.fullmatch(value) else 0


def _date(post: Attributes) -> datetime | None:
    try:
        return datetime.fromisoformat(post.get("CreationDate", "") + "+00:00")
    except ValueError:
        return None


def _licence(post: Attributes, declared: str) -> str:
    written = post.get("CreationDate", "9")
    by_date = (name for end, name in LICENCES if written < end)
    return post.get("ContentLicense") or declared or next(by_date, "CC BY-SA")


def _score(row: bytes) -> int | None:
    """Return the score of a row that may not be XML; None: it has none that is a number."""
    usual = _SCORE.match(row, max(row.find(b' Score="'), 0))
    if usual:
        return int(usual[1])
    value = attribute(row, b"Score").decode("ascii", "replace")
    if not value:
        parsed = parse_rows([row])[0]
        if parsed is None:  # as is seen and told when its text is needed
            return 0
        value = parsed.get("Score", "")
    return int(value) if _WHOLE.fullmatch(value) else None
