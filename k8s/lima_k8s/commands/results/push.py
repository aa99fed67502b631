"""`lima-k8s push`."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from lima.errors import HubError, InputError, LimaError
from lima.inputs.example_names import HUB
from lima_k8s.commands import completion
from lima_k8s.local.jobs_libraries import require_jobs
from lima_k8s.terminal.output import say

if TYPE_CHECKING:
    from lima.evaluation.sharing import Shared
    from lima.store.storage import Storage

REFUSED = (401, 403, 404)
"""What a hub answers to whom it does not let write."""


@click.command("push")
@click.argument("run", shell_complete=completion.stored_runs)
@click.argument("target", metavar="hub:OWNER/NAME")
@click.option("--storage", required=True, help="Folder or URI of the study.")
@click.option("--epoch", type=click.IntRange(1), help="Its epoch.  [default: the last one]")
@click.option("--experiment", help="Only this experiment.")
@click.option("--public", is_flag=True, help="Let everybody read it; a new one is private else.")
@click.option(
    "--licence", metavar="ID", help="Of the model, as the hub names it.  [default: none is claimed]"
)
@click.option("--dry-run", is_flag=True, help="Write the model card, and send nothing.")
def command(
    *,
    run: str,
    target: str,
    storage: str,
    epoch: int | None,
    experiment: str | None,
    public: bool,
    licence: str | None,
    dry_run: bool,
) -> None:
    """Put a trained model on the Hugging Face hub, with its card.

    RUN is named as for `chat`. Weights, tokenizer and chat template go as they were exported; the
    card has the run's settings, data and results, and the attribution of curated data goes along.
    The key is HF_TOKEN, or that of `hf auth login`; HF_ENDPOINT names another hub. Prints the
    address of the commit.
    """
    from lima.store.storage import Storage

    if not target.startswith(HUB) or target.count("/") != 1:
        raise InputError(f"{target}: not a place to push to; write hub:OWNER/NAME")
    opened = Storage(storage)
    shared = _shared(opened, run, epoch, experiment)
    ledgers = shared.ledgers()
    card = shared.card(licence, tuple(ledgers))
    if dry_run:
        click.echo(card)
        return
    require_jobs("push", "huggingface_hub")
    with _local(shared) as folder:
        texts = {"README.md": card.encode(), **ledgers}
        click.echo(_send(target.removeprefix(HUB), folder, texts, shared.run, private=not public))


def _shared(storage: "Storage", name: str, epoch: int | None, experiment: str | None) -> "Shared":
    from lima.evaluation.sharing import Shared
    from lima.model.checkpoint_manifest import weights_epochs
    from lima_k8s.web.trained_models import one_trained

    found = one_trained(storage, name, experiment)
    exported = weights_epochs(storage, found.run)
    if not exported:
        raise InputError(f"{found} has no exported weights yet")
    if epoch is not None and epoch not in exported:
        there = ", ".join(map(str, exported))
        raise InputError(f"{found} has no weights of epoch {epoch}; there are those of {there}")
    return Shared(storage, found.run, epoch or exported[-1])


@contextlib.contextmanager
def _local(shared: "Shared") -> Iterator[dict[str, Path]]:
    """Yield the exported files as files of this machine, by their names."""
    files = shared.files()
    here = {name: shared.storage.local_path(entry.path) for name, entry in files.items()}
    if all(here.values()):
        yield {name: path for name, path in here.items() if path}
        return
    with TemporaryDirectory(prefix="lima-push-") as folder:
        for name, entry in files.items():
            say(f"fetching {name} ({entry.size / 1e6:,.0f} MB)")
            shared.storage.download(entry.path, Path(folder) / name)
        yield {name: Path(folder) / name for name in files}


def _send(
    name: str, files: dict[str, Path], texts: dict[str, bytes], run: str, *, private: bool
) -> str:
    """Make the repository if it is not there, and put all in as one commit; return its address."""
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    api = HfApi(library_name="lima-k8s")
    sent = [CommitOperationAdd(path, file) for path, file in files.items()]
    sent += [CommitOperationAdd(path, text) for path, text in texts.items()]
    try:
        api.create_repo(name, private=private, exist_ok=True)
        done = api.create_commit(name, sent, commit_message=f"Run {run} of lima-k8s")
    except HfHubHTTPError as error:
        raise _refused(name, error) from error
    except OfflineModeIsEnabled:
        raise InputError("HF_HUB_OFFLINE keeps the hub from being asked; unset it") from None
    except ValueError as error:  # a name that no repository can have, a card that is not valid
        raise InputError(f"{HUB}{name}: {error}") from error
    except Exception as error:  # its client has errors of its own, by version
        raise HubError(f"{HUB}{name}: the hub does not answer ({error}); try again") from error
    return str(done.commit_url)


def _refused(name: str, error: Exception) -> LimaError:
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", 0)
    if status in REFUSED:
        return InputError(
            f"{HUB}{name}: the hub refuses ({status}); set HF_TOKEN to a token that may write there"
        )
    return HubError(f"{HUB}{name}: the hub fails ({status}): {str(error).strip().splitlines()[0]}")
