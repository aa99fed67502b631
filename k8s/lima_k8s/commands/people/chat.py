"""`lima-k8s chat`."""

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from lima.errors import InputError
from lima_k8s.commands import completion
from lima_k8s.local.jobs_libraries import require_jobs
from lima_k8s.terminal.output import say

if TYPE_CHECKING:
    from lima.generation.chat import ChatSpec
    from lima.rating.conversations import Conversations
    from lima.spec import ModelSpec
    from lima.store.storage import Storage
    from lima_k8s.web.trained_models import Trained


@click.command("chat")
@click.argument("storage")
@click.option(
    "--run",
    help="Model that was trained there: as `status` takes runs, or its arm.  [default: the only "
    "one]",
    shell_complete=completion.stored_runs,
)
@click.option("--epoch", type=click.IntRange(1), help="Its epoch.  [default: the last one]")
@click.option("--base-url", help="Talk to an OpenAI-compatible endpoint instead, up to /v1.")
@click.option("--model", help="Name the endpoint knows; without it, a folder or a hub name.")
@click.option(
    "--api-key-env",
    default="OPENAI_API_KEY",
    show_default=True,
    metavar="NAME",
    help="Environment variable that holds the endpoint's key.",
)
@click.option(
    "--eot-token", help="What ends a turn of --model.  [default: <|eot|>; of a run: as taught]"
)
@click.option(
    "--own-template", is_flag=True, help="Talk to --model by its own chat template and --eot-token."
)
@click.option("--arm", help="What the model is called in the tables.  [default: the run's arm]")
@click.option("--experiment", default=None, help="Study it belongs to.  [default: the run's]")
@click.option(
    "--prompts",
    metavar="DATA",
    help="Begin with these examples' first utterances: a JSONL file or authored:NAME.",
)
@click.option("--count", type=click.IntRange(1), help="How many of them.  [default: all]")
@click.option("--rater", default="me", show_default=True, help="Pseudonym of who labels.")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the sampling."
)
@click.option("--temperature", type=click.FloatRange(0), help="0 is greedy.  [default: 0.7]")
@click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), help="[default: 0.9]")
@click.option(
    "--repetition-penalty",
    type=click.FloatRange(0, min_open=True),
    help="[default: 1.2; endpoints: 1, many lack it]",
)
@click.option("--max-new-tokens", type=click.IntRange(1), help="[default: 2048]")
@click.option(
    "--device", type=click.Choice(["cpu", "cuda"]), help="[default: cuda if there is a GPU]"
)
@click.option("--web", is_flag=True, help="Talk on a page in your browser.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0: a free one.")
@click.option("--browser/--no-browser", default=True, help="Open the page in a browser.")
def command(*, storage: str, web: bool, port: int, browser: bool, **options: Any) -> None:
    """Talk to a checkpoint or an endpoint, and label its answers.

    Every answer is a row of `generations`, every label a row of `annotations`. What was said is
    kept: the same command goes on with the last conversation, or with the next of --prompts.
    """
    from lima.store.storage import Storage

    conversations = _conversations(Storage(storage), options)
    if web:
        _serve(conversations, port, browser)
    else:
        from lima_k8s.web.chat import talk

        talk(
            conversations,
            lambda prompt: str(
                click.prompt(prompt, default="", show_default=False, prompt_suffix="", err=True)
            ),
        )
    turns = [label for c in conversations.all.values() for label in c.labels]
    said = [c for c in conversations.all.values() if c.utterances]
    say(
        f"{len(said)} conversations, {len(turns)} answers, {len(turns) - turns.count(None)} "
        f"labelled: run {conversations.run} in {storage}"
    )


def _conversations(storage: "Storage", options: dict[str, Any]) -> "Conversations":
    from lima.data.examples import load_examples
    from lima.endpoints.keys import allow_keys
    from lima.generation.chat import CheckpointResponder, EndpointResponder, best_device
    from lima.rating.conversations import Conversations
    from lima.spec import ComputeSpec, DataSpec

    spec = _spec(storage, options)
    openings: list[str] = []
    if options["prompts"]:
        selection = DataSpec(options["prompts"], count=options["count"])
        openings = [example.prompt[0] for example in load_examples(selection)]
    if spec.base_url:
        require_jobs("an endpoint", "aiohttp")
        allow_keys([options["api_key_env"]])  # no study file, but whoever talks has named it
        responder: Any = EndpointResponder(spec, options["api_key_env"])
    else:
        device = options["device"] or best_device()
        say(f"loading {spec.model_name} on {device} …")
        compute = ComputeSpec(device=device, precision="bf16" if device == "cuda" else "fp32")
        responder = CheckpointResponder(spec, storage, compute)
    return Conversations(storage, spec, responder, options["rater"], openings)


def _spec(storage: "Storage", options: dict[str, Any]) -> "ChatSpec":
    from lima.generation.chat import ChatSpec
    from lima.spec import DecodingSpec

    base_url, model, run = options["base_url"], options["model"], options["run"]
    if (run and (model or base_url)) or (base_url and not model):
        raise InputError(
            "say who to talk to: --run RUN for a model that was trained here, --model NAME for "
            "another, or --base-url URL --model NAME for an endpoint"
        )
    names = ("temperature", "top_p", "repetition_penalty", "max_new_tokens")
    given = {name: options[name] for name in names if options[name] is not None}
    if base_url:
        given.setdefault("repetition_penalty", 1.0)
    experiment, arm = "chat", model
    if model:
        named = _named(model, options)
    else:
        found = _which(storage, run, options["experiment"])
        experiment, arm, named = found.experiment, found.arm, found.model
    return ChatSpec(
        options["experiment"] or experiment,
        options["arm"] or arm,
        replace(named, epoch=options["epoch"]),
        DecodingSpec(**given),
        base_url,
        options["seed"],
    )


def _named(model: str, options: dict[str, Any]) -> "ModelSpec":
    """Return a model that was not trained here, as the options say that it talks."""
    from lima.spec import ModelSpec

    named = ModelSpec(model, chat_template="own" if options["own_template"] else "lima")
    return replace(named, eot_token=options["eot_token"]) if options["eot_token"] else named


def _which(storage: "Storage", name: str | None, experiment: str | None) -> "Trained":
    """Return the model that is meant; where several may be, whoever sits there is asked."""
    from lima_k8s.web.trained_models import listed, trained_runs

    found = trained_runs(storage, name, experiment)
    if len(found) == 1:
        return found[0]
    if not sys.stdin.isatty():
        raise InputError(
            "more than one model that was trained here fits; name one with --run, as ARM/SEED or "
            f"by its id:\n{listed(found)}"
        )
    for number, run in enumerate(found, 1):
        say(f"{number}: {run}")
    return found[click.prompt("Which", type=click.IntRange(1, len(found)), err=True) - 1]


def _serve(conversations: "Conversations", port: int, browser: bool) -> None:
    from lima_k8s.web.chat import ChatPage
    from lima_k8s.web.local_page import serve_page

    page = ChatPage(conversations).serve(port)
    say(f"talk at\n  {page.url}\nend with Ctrl-C")
    serve_page(page, browser=browser)
