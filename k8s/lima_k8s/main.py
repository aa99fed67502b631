"""The entry of `lima-k8s`, also installed as the plugin `kubectl lima`."""

import os
import sys
from importlib import import_module
from pathlib import Path

import click

from lima import __version__
from lima.common.variables import DEBUG
from lima.errors import LimaError
from lima_k8s.terminal.output import say

COMMANDS = {
    "recipes": "List the recipes: the paper's studies and two small ones.",
    "show": "Show the full specs of a recipe, a file or a run.",
    "init": "Write a study of your own data and model, in a few lines.",
    "lint": "Judge a recipe or a file before anything is started.",
    "submit": "Run a study: all stages up to KIND.",
    "status": "Show where runs are.",
    "watch": "Follow runs until they end.",
    "logs": "Show the log of a run.",
    "explain": "Say why a run is not running, and what would have to change.",
    "cancel": "Take runs off a cluster and free their GPUs.",
    "plan": "Estimate the memory and the time of a recipe on GPUs.",
    "curate": "Look at curated data: what is in it, why, and choose by hand.",
    "chat": "Talk to a checkpoint or an endpoint, and label its answers.",
    "annotate": "Have people label responses, on a page in their browsers.",
    "aggregate": "Means and intervals over all runs of a storage.",
    "responses": "Show the arms' responses to the same prompts, side by side.",
    "push": "Put a trained model on the Hugging Face hub, with its card.",
    "export": "Write responses as other evaluators read them, a file an arm.",
    "import-labels": "Bring labels of people or models into a storage.",
    "agreement": "How far people and models agree, and what each rater favours.",
    "compare-paper": "Every number of the paper beside ours, with exact intervals.",
    "report": "Write a study's figures as one self-contained page.",
    "verify": "Certify that a training went as if undisturbed.",
    "prune": "Free what nothing in a storage needs any more.",
}
"""Kept here, so that --help imports no command; a test compares it with the commands' own."""

FOLDERS = {
    "study": ("recipes", "show", "init", "lint", "submit", "plan"),
    "runs": ("status", "watch", "logs", "explain", "cancel", "verify", "prune"),
    "people": ("curate", "chat", "annotate", "import-labels"),
    "results": ("aggregate", "responses", "report", "agreement", "compare-paper", "export", "push"),
}
"""Folder of `lima_k8s.commands` to the commands in it."""

EXIT_CODES = """\b
Exit codes:
  0  ok
  1  the run failed, or was interrupted
  2  bad usage or bad input
  3  the cluster, the storage or a model's hub could not be reached"""
FAILED, BAD_INPUT = 1, 2
UNUSABLE = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)
"""What is wrong with a path that the user gave."""


class LazyGroup(click.Group):
    """A group that imports a command's module when that command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names, in the order of a study."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        """Import a command.

        Raises:
            NoSuchCommand: there is none of this name; the message names a close one.

        """
        if cmd_name not in COMMANDS:
            raise click.exceptions.NoSuchCommand(cmd_name, possibilities=COMMANDS, ctx=ctx)
        return command_named(cmd_name)

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002
        formatter: click.HelpFormatter,
    ) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def command_named(name: str) -> click.Command:
    """Import a command; `compare-paper` is in the module `compare_paper`."""
    folder = next(folder for folder, names in FOLDERS.items() if name in names)
    module = import_module(f"lima_k8s.commands.{folder}.{name.replace('-', '_')}")
    command: click.Command = module.command
    return command


@click.group(
    cls=LazyGroup,
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help=f"Show the traceback of an error (also: {DEBUG}=1).")
def cli(debug: bool) -> None:
    """Run the LIMA study (Less Is More for Alignment) on a laptop or a GPU cluster."""
    if debug:
        os.environ[DEBUG] = "1"  # the processes that a command starts read it too


def main() -> None:
    """Run the command line and leave with its exit code."""
    program = "kubectl lima" if Path(sys.argv[0]).name.startswith("kubectl-") else "lima-k8s"
    sys.exit(run(sys.argv[1:], program))


def run(arguments: list[str], program: str = "lima-k8s") -> int:
    """Run one command line and return its exit code; messages go to standard error.

    A reader of standard output that leaves early (`| head`) ends the process without a word:
    click sees to that.
    """
    try:
        result = cli.main(arguments, program, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return FAILED
    except LimaError as error:
        _show_traceback()
        say(f"error: {error}")
        return error.exit_code
    except OSError as error:
        _show_traceback()
        unusable = isinstance(error, UNUSABLE)
        path = f": {error.filename}" if error.filename else ""
        fix = "; name another path, or make this one usable" if unusable else ""
        say(f"error: {error.strerror or error}{path}{fix}")
        return BAD_INPUT if unusable else FAILED
    except Exception as error:  # noqa: BLE001 - the last resort: a bug, told without its traceback
        _show_traceback()
        return _unforeseen(error, program)
    return result if isinstance(result, int) else 0


def _unforeseen(error: Exception, program: str) -> int:
    """Say what went wrong: a library that is not installed, which no command asks for, or a bug."""
    if isinstance(error, ModuleNotFoundError):
        from lima_k8s.local.jobs_libraries import lacking

        if lack := lacking(error):
            say(f"error: {lack}")
            return lack.exit_code
    say(f"internal error: {type(error).__name__}: {error}\n{program} --debug … shows where")
    return FAILED


def _show_traceback() -> None:
    if os.environ.get(DEBUG, "0") not in ("", "0"):
        import traceback

        traceback.print_exc()
