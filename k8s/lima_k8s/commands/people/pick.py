"""`lima-k8s curate pick`."""

import click

from lima_k8s.terminal.output import say


@click.command("pick")
@click.argument("storage")
@click.option("--source", required=True, help="Pool to pick from, as writingprompts.")
@click.option(
    "-n", "target", type=click.IntRange(min=1), required=True, help="How many are wanted."
)
@click.option(
    "--picks",
    metavar="FILE",
    help="Where decisions are kept.  [default: STORAGE/picks/SOURCE.jsonl]",
)
@click.option("--run", help="Id of the curation run, if the storage holds several.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0: a free one.")
@click.option("--browser/--no-browser", default=True, help="Open the page in a browser.")
def command(
    *,
    storage: str,
    source: str,
    target: int,
    picks: str | None,
    run: str | None,
    port: int,
    browser: bool,
) -> None:
    """Choose by hand from a ranked shortlist, on a page in your browser.

    Every decision is saved at once; end with Ctrl-C and go on later. A source that names the
    file in `picks` keeps what was picked, and nothing else.
    """
    from lima.store.storage import Storage
    from lima_k8s.web.local_page import serve_page
    from lima_k8s.web.pick import PickFile, PickSession, read_shortlist, serve

    file = PickFile(picks or f"{storage.rstrip('/')}/picks/{source}.jsonl")
    shortlist = read_shortlist(Storage(storage), source, run)
    with file.alone():
        session = PickSession(shortlist, file, target)
        page = serve(session, port)
        say(f"{len(shortlist)} candidates of {source}; pick {target} at\n  {page.url}")
        serve_page(page, browser=browser)
    say(f"\n{session.count('keep')} kept, {session.count('drop')} dropped: {file.path}")
