"""Cleaning of posts: what stays, what goes, and what never breaks it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lima.curation.stackexchange.filters import answer_measures
from lima.curation.text.html import clean, clean_inline, without_formulas

CASES = {
    "paragraphs": (
        "<p>One\ntwo  three.</p>\n\n<p>Four&nbsp;five.</p>\n",
        "One two three.\n\nFour five.",
    ),
    "entities": ("<p>a &lt; b &amp;&amp; c &#39;d&#39; &quot;e&quot;</p>", "a < b && c 'd' \"e\""),
    "control characters": ("<p>a&#1;b&#x1f;c&#31;d&#311;</p>", "abcdķ"),
    "emphasis": ("<p>a <em>b</em> <strong>c</strong><kbd>D</kbd></p>", "a b cD"),
    "link": (
        '<p>See <a href="http://x.y/z" rel="nofollow">the <em>manual</em></a>.</p>',
        "See the manual.",
    ),
    "address in brackets": ('<p>It is so (<a href="u">https://x.y/z?a=b</a>).</p>', "It is so."),
    "number of a note": (
        '<p>It is so<sup><a href="#1">1</a></sup> [<a href="#2">2</a>].</p>',
        "It is so.",
    ),
    "plain address": ("<p>It is at https://x.y/a_b(c), they say.</p>", "It is at, they say."),
    "image": (
        '<p>Before.</p><p><img src="x" alt="enter image description"></p><p>After.</p>',
        "Before.\n\nAfter.",
    ),
    "struck out": ("<p>It is <s>not</s> so.</p>", "It is so."),
    "line break": ("<p>one <br>\n two<br/>three</p>", "one\ntwo\nthree"),
    "powers": (
        "<p>e<sup>-x</sup>, 10<sup>10.5</sup>, x<sup>a+b</sup>, (a)<sup>k</sup>, e<sup>x<sup>2</sup></sup>, 2<sup>(k+1)</sup></p>",
        "e^(-x), 10^(10.5), x^(a+b), (a)^k, e^(x²), 2^(k+1)",
    ),
    "indices": (
        "<p>x<sub>i</sub>, V<sub>max</sub>, a<sub>i,j</sub>, <code>t</code><sub>n</sub></p>",
        "x_i, V_(max), a_(i,j), `t`_n",
    ),
    "small print": (
        "<p>So. <sub>Taken in May.</sub> <sup>Not in June.</sup> A<sup>TM</sup></p>",
        "So. Taken in May. Not in June. ATM",
    ),
    "bars in a table": (
        "<table><tr><td>a|b</td></tr><tr><td>c</td></tr></table>",
        "| a\\|b |\n|---|\n| c |",
    ),
    "raised": (
        "<p>10<sup>-9</sup> m<sup>2</sup>, H<sub>2</sub>O, 1<sup>st</sup>, x<sup>k</sup></p>",
        "10⁻⁹ m², H₂O, 1st, x^k",
    ),
    "inline code": (
        "<p>use <code>a  b</code> or <code>x`y</code>, <code></code>now</p>",
        "use `a b` or `` x`y ``, now",
    ),
    "code block": (
        "<pre class='lang-py'><code>if a &lt; b:\n    pass\n</code></pre>",
        "```\nif a < b:\n    pass\n```",
    ),
    "code with fences": ("<pre><code>```\nx\n```</code></pre>", "````\n```\nx\n```\n````"),
    "code keeps addresses": ("<p><code>curl http://x.y</code></p>", "`curl http://x.y`"),
    "list": ("<ul>\n<li>a</li>\n<li>b <em>c</em></li>\n</ul>", "* a\n* b c"),
    "numbered list": ('<ol start="9"><li>a</li><li>b</li></ol>', "9. a\n10. b"),
    "loose list": ("<ul><li><p>a</p><p>b</p></li><li><p>c</p></li></ul>", "* a\n\n  b\n\n* c"),
    "nested list": (
        "<ul><li>a<ol><li>b</li><li>c</li></ol></li><li>d</li></ul>",
        "* a\n  1. b\n  2. c\n* d",
    ),
    "list in a list": ("<ul><li>a</li><ul><li>b</li></ul></ul>", "* a\n  * b"),
    "code in a list": (
        "<ol><li><p>do</p><pre><code>x\n\n  y</code></pre></li></ol>",
        "1. do\n\n   ```\n   x\n\n     y\n   ```",
    ),
    "empty item": ("<ul><li><img src='x'></li><li>a</li></ul>", "* a"),
    "break in a list": ("<ul><li>a<br>b</li></ul>", "* a\n  b"),
    "quote": ("<blockquote><p>a</p><ul><li>b</li></ul></blockquote>", "> a\n>\n> * b"),
    "quote in a quote": (
        "<blockquote><p>a</p><blockquote><p>b</p></blockquote></blockquote>",
        "> a\n>\n> > b",
    ),
    "table": (
        "<table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td><code>2</code></td></tr></table>",
        "| a | b |\n|---|---|\n| 1 | `2` |",
    ),
    "heading": ("<h2>Why</h2><p>So.</p>", "Why\n\nSo."),
    "heading of what is gone": (
        "<p>So.</p><h2>Further reading</h2><ul><li><a href='u'>http://x.y</a></li></ul>",
        "So.",
    ),
    "heading at the end": ("<p>So.</p><h2>Prussian blue</h2>", "So.\n\nPrussian blue"),
    "source of nothing": (
        '<p>So it is.</p><p>Sourced from <a href="u">http://x.y</a></p>',
        "So it is.",
    ),
    "colon to nothing": ("<p>So it is.</p><p>This yields:</p><p><img src='x'></p>", "So it is."),
    "result at the end": (
        "<p>The right colour is therefore</p><p>Prussian blue</p>",
        "The right colour is therefore\n\nPrussian blue",
    ),
    "result before a picture": (
        "<p>The right colour is</p><p>Prussian blue</p><p><img src='x'></p>",
        "The right colour is\n\nPrussian blue",
    ),
    "result with a link": (
        '<p>So.</p><p>Prussian blue, <a href="u">http://x.y</a></p>',
        "So.\n\nPrussian blue,",
    ),
    "definition at the end": (
        "<p>So.</p><dl><dt>Result</dt><dd>42</dd></dl>",
        "So.\n\nResult\n\n42",
    ),
    "colon at the end": ("<p>So.</p><p>And then:</p>", "So.\n\nAnd then:"),
    "list of addresses": ("<p>a.</p><ul><li>http://x.y</li><li>b</li></ul>", "a.\n\n* b"),
    "list that ends with a colon": ("<p>So.</p><ul><li>a:</li></ul>", "So.\n\n* a:"),
    "formula at the end": ("<p>So.</p><p>$$x = y$$</p>", "So.\n\n$$x = y$$"),
    "text without tags": ("a\nb", "a b"),
    "block in an inline tag": ("<b><p>a.</p><p>b.</p></b>", "a.\n\nb."),
    "comment": ("<!-- no --><p>a<!-- no --></p>", "a"),
    "script": ("<p>a</p><script>alert(1)</script><style>p{}</style>", "a"),
    "nothing": ("", ""),
    "spaces": (" \n ", ""),
}


@pytest.mark.parametrize("name", CASES)
def test_clean_text(name: str) -> None:
    html, text = CASES[name]
    assert clean(html).text == text


def test_prose_is_text_without_code_and_its_formulas_can_go() -> None:
    post = clean(
        "<p>I use <code>I</code> and $I$, for $5 and $6.</p><pre><code>my = 1</code></pre>"
    )
    assert post.prose.split() == ["I", "use", "and", "$I$,", "for", "$5", "and", "$6."]
    assert without_formulas(post.prose).split() == [
        "I",
        "use",
        "and",
        ",",
        "for",
        "$5",
        "and",
        "$6.",
    ]
    assert without_formulas(r"a \(x I y\) b \[I\] c").split() == ["a", "b", "c"]


def test_images_links_and_places_that_point_nowhere_are_counted() -> None:
    post = clean(
        '<p><a href="u">Here</a> is <a href="v">a long story</a>, see <a href="w">[3]</a> and '
        'http://x.y, or (<a href="z">http://x.y</a>).</p><p><img src="i"></p>'
    )
    assert (post.links, post.images) == (4, 1)
    assert post.dangling == 3, "the word here, the note, the address that is not in brackets"


@pytest.mark.parametrize(
    ("words", "points"),
    [
        ("here", True),
        ("Here's a review", True),
        ("this source", True),
        ("this is one of the earlier papers", True),
        ("a very large table here", True),
        ("arXiv link.", True),
        ("read more", True),
        ("papers like this one", True),
        ("there are two ways", False),
        ("thesis", False),
        ("hyperlink", False),
        ("the article of 1998", False),
    ],
)
def test_links_that_only_point(words: str, points: bool) -> None:
    assert clean(f'<p>So <a href="u">{words}</a> it is.</p>').dangling == points


@pytest.mark.parametrize(
    ("html", "dangling"),
    [
        ("<p>As in Kenya:</p><p><img src='x'></p><p>It is so.</p>", 1),
        ("<p>As in Kenya:</p><p>http://x.y</p><p><img src='x'></p><p>It is so.</p>", 1),
        ("<ul><li>a:</li></ul><p><img src='x'></p><p>It is so.</p>", 1),
        ("<p>As in Kenya:</p><p>\n</p><pre>x</pre><p>It is so.</p>", 0),
        ("<p>It is so.</p><p>As in Kenya:</p><p><img src='x'></p>", 0),
        ("<p>As in Kenya.</p><p><img src='x'></p><p>It is so.</p>", 0),
        ("<p>As in Kenya:<br><img src='x'></p><p>It is so.</p>", 1),
        ("<p><b>As in Kenya:</b>\n<a href='u'><img src='x'></a><img src='y'></p><p>So.</p>", 1),
        ("<p>As in Kenya: <a href='u'><img src='x'></a> (of old)</p><p>It is so.</p>", 1),
        ("<p>As in Kenya:<br>http://x.y<br><img src='x'></p><p>It is so.</p>", 1),
        ("<blockquote><p>a:</p><p><img src='x'></p><p><img src='y'></p></blockquote><p>b</p>", 1),
        ("<blockquote><p>a:</p><p>http://x.y</p><p><img src='x'></p></blockquote><p>b</p>", 1),
        ("<ul><li>a:<br><img src='x'></li><li>b</li></ul>", 1),
        ("<table><tr><td>a: <img src='x'></td><td>b</td></tr></table>", 1),
        ("<p>It is so.</p><p>As in Kenya:<br><img src='x'></p>", 0),
        ("<blockquote><p>a:</p><p> </p><p>b</p></blockquote><p>As in Kenya.<img src='x'></p>", 0),
        ("<p>He says:<sup><a href='u'>1</a></sup></p><p>Here: <s>no</s> yes. It is so.</p>", 0),
    ],
)
def test_a_colon_before_what_is_gone_leads_nowhere(html: str, dangling: int) -> None:
    assert clean(html).dangling == dangling


def test_tags_that_do_not_close_are_counted() -> None:
    assert clean("<p>a <b>b</p>").unclosed == 1
    assert clean("<p>a</b></p>").unclosed == 1
    assert clean("<p>a<br>b<hr/>c<img src='x'></p>").unclosed == 0


@pytest.mark.parametrize(
    "html",
    [
        "<b>" * 100_000 + "deep",
        "<ul><li>" * 20_000 + "deep",
        "<blockquote>" * 20_000 + "deep",
        "<pre><code>never closes <p>and goes on",
        "<p" * 10_000,
        "</p>" * 10_000 + "<p>a</p>",
        "<table><tr><td>" * 5_000,
    ],
    ids=["bold", "lists", "quotes", "code", "half tags", "ends", "tables"],
)
def test_html_that_never_closes_ends(html: str) -> None:
    post = clean(html)
    assert post.unclosed > 0
    assert len(post.text) <= len(html)


TAGS = st.sampled_from(
    ["p", "a", "b", "ul", "ol", "li", "pre", "code", "blockquote", "br", "img", "sup", "h2", "s"]
)
PIECES = st.one_of(
    TAGS.map("<{}>".format),
    TAGS.map("</{}>".format),
    st.sampled_from(["http://x.y", "&lt;", "&#3;", " ", "\n", "I", "(", ")", "`", "$"]),
    st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=8),  # as XML has it
)


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>one<br>http://x.y</p><p>So it is.</p>", "one\n\nSo it is."),
        ("<p>http://x.y<br>two</p>", "two"),
        ("<p>one<br>http://x.y</p>", "one"),
        ("<p>one<br>http://x.y http://x.z <br> http://x.w</p>", "one"),
        ("<p>one<br>http://x.y<br><a href='x'>http://x.y</a><br>two</p>", "one\ntwo"),
        ("<h2><br>Title</h2><p>So it is.</p>", "Title\n\nSo it is."),
        ("<h2><br>http://x.y</h2><p>So it is.</p>", "So it is."),
        ("<ul><li><p>one</p></li><li><p>two</p></li></ul>", "* one\n* two"),
        ("<ul><li>one<br>http://x.y</li><li>two</li></ul>", "* one\n* two"),
        ("<blockquote>one<br>http://x.y<br>two</blockquote>", "> one\n>\n> two"),
        ("<p>one:<br><img><br>two: <img></p><p>three</p>", "one:\ntwo:\n\nthree"),
        ("<blockquote><p>one:</p><p><img></p><p>two</p></blockquote>", "> one:\n>\n> two"),
        ("<ul><li>one:<br><img></li><li>two</li></ul>", "* one:\n* two"),
        ("<p>one</p><p>two: <img></p>", "one"),
    ],
)
def test_lines_of_addresses_leave_no_empty_ones(html: str, text: str) -> None:
    assert clean(html).text == text


@given(st.lists(PIECES, max_size=40))
def test_any_html_becomes_text_without_marks(pieces: list[str]) -> None:
    post = clean("".join(pieces))
    assert not set(post.text + post.prose) & {chr(code) for code in range(1, 9)}
    assert post.text == post.text.strip("\n"), "no empty lines at the ends"


def test_titles_are_one_line() -> None:
    assert clean_inline("  What\nis\u00a0this\u200b? ") == "What is this?"


@pytest.mark.parametrize(
    ("html", "dangling", "cut"),
    [
        ("<p>The best tools are:</p><ul><li><a href='u'>http://a.b</a></li></ul><p>So.</p>", 2, {}),
        ("<p>The best tools are:</p><ul><li>http://a.b</li></ul><p>So.</p>", 2, {}),
        ("<p>So.</p><p><a href='u'>http://a.b</a></p><p>So.</p>", 1, {}),
        ("<p>So.</p><p>www.a.b/c</p><p>So.</p>", 1, {}),
        ("<p>It is:</p><blockquote><p><img src='x'></p></blockquote><p>So.</p>", 1, {}),
        ("<p>It is:</p><table><tr><td><img src='x'></td></tr></table><p>So.</p>", 1, {}),
        ("<ul><li>a</li><li><a href='u'>http://a.b</a></li></ul>", 1, {}),
        ("<p>So.</p><p>It is:</p><blockquote><img src='x'></blockquote>", 0, {"colon": 1}),
        ("<p>So.</p><h2>More</h2><p><a href='u'>http://a.b</a></p>", 1, {"heading": 1}),
        ("<p>So.</p><p>Source: <a href='u'>http://a.b</a></p>", 0, {"colon": 1}),
        ("<p>So.</p><p>Taken from <a href='u'>http://a.b</a></p>", 0, {"source": 1}),
        ("<p>So.</p><p>Prussian blue <a href='u'>http://a.b</a></p>", 1, {}),
        ("<p>So.</p><h2>Prussian blue</h2>", 0, {}),
        ("<p>It is:</p><ul></ul><p>So.</p>", 0, {}),
    ],
)
def test_what_is_gone_is_measured(html: str, dangling: int, cut: dict[str, int]) -> None:
    post = clean(html)
    assert (post.dangling, post.cut) == (dangling, cut), post.text
    assert {f"cut_{k}": v for k, v in cut.items()}.items() <= answer_measures(post).items()


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>So.</p><h2>Use <code>foo</code></h2><p><img src='q'></p>", "So."),
        ("<p>A <code>a</code> b.</p><p>Source of <code>bar</code>: http://x.y</p>", "A `a` b."),
        (
            "<pre>a</pre><h2>By <code>b</code></h2><p>See <code>c</code>: http://x.y</p>",
            "```\na\n```",
        ),
    ],
)
def test_code_of_an_ending_that_is_cut_goes_with_it(html: str, text: str) -> None:
    assert clean(html).text == text
