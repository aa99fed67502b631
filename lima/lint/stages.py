"""Checks of a cell as a whole: its stages, prompts, decoding and judge."""

import os
from collections.abc import Iterator

from lima.common.paths import is_here
from lima.data.examples import Loader, load_examples
from lima.endpoints.address import address_problem
from lima.endpoints.keys import KeyOf, baseline_key, host_of, judge_key
from lima.errors import SpecError
from lima.judging.rubrics import RUBRICS
from lima.lint.facts import Facts, earlier_stage, is_remote
from lima.lint.finding import Check, Finding
from lima.lint.models import cell_models, check_model
from lima.model.loading import RUN
from lima.runs.devices import has_bf16
from lima.spec import RESPONSES, CellSpec, DataSpec, JudgeSpec, cell_stages, computes, is_baseline


def check_stages(cell: CellSpec, facts: Facts) -> Iterator[Finding]:  # noqa: ARG001
    """Check that there is something to do, and that every stage has what it starts from."""
    stages = cell_stages(cell)
    if not stages:
        yield Finding("error", "train", "the run has no stage", "give it train or generate")
    if "judge" in stages and "generate" not in stages:
        yield Finding(
            "error",
            "judge",
            "there are no responses to judge",
            "add generate, or remove the stage: --set judge=null",
        )
    models = cell_models(cell)
    if cell.base and not any(earlier_stage(m) == "base" for s, m in models if s != "base"):
        yield Finding(
            "warning",
            "base",
            "a base model is made, but no stage uses it",
            f"--set train.model.path={RUN}base, or --set base=null",
        )
    for stage, model in models:
        yield from check_model(cell, stage, model)


def check_generation(cell: CellSpec, facts: Facts) -> Iterator[Finding]:
    """Check prompts and decoding (section 4.1)."""
    spec = cell.generate
    if spec is None:
        return
    yield from check_data(spec.prompts, "generate.prompts", facts, load_examples)
    decoding, path = spec.decoding, "generate.decoding"
    if decoding.top_k:
        yield Finding(
            "warning",
            f"{path}.top_k",
            f"only the {decoding.top_k} likeliest tokens are sampled; the paper has no such limit",
            f"--set {path}.top_k=0",
        )
    if decoding.temperature == 0 and decoding.samples > 1:
        yield Finding(
            "warning",
            f"{path}.samples",
            f"at temperature 0 the {decoding.samples} responses to a prompt are all the same",
            f"--set {path}.samples=1, or a temperature above 0",
        )
    model = facts.model(spec.model, cell)
    if model and model.context and decoding.max_new_tokens > model.context:
        yield Finding(
            "warning",
            f"{path}.max_new_tokens",
            f"responses end at the model's context of {model.context} tokens, before "
            f"{decoding.max_new_tokens}",
            f"--set {path}.max_new_tokens={model.context}",
        )
    train = cell.train
    if train and earlier_stage(spec.model) == "train":
        for name, taught, expected in (
            ("eot_token", train.model.eot_token, spec.model.eot_token),
            ("chat_template", train.model.chat_template, spec.model.chat_template),
        ):
            if taught != expected:
                yield Finding(
                    "error",
                    f"generate.model.{name}",
                    f"generation expects {expected!r}, but training teaches {taught!r}",
                    f"--set 'generate.model.{name}={taught}'",
                )


def check_compute(cell: CellSpec, facts: Facts) -> Iterator[Finding]:  # noqa: ARG001
    """Check that a CPU is not asked for what only a GPU does well."""
    for stage, compute in computes(cell).items():
        if compute.device != "cpu":
            continue
        path = f"{stage}.compute"
        if compute.precision == "bf16" and not has_bf16():
            yield Finding(
                "warning",
                f"{path}.precision",
                "bf16 is slow on this machine's CPU, which does not compute in it",
                f"--set {path}.precision=fp32",
            )
        if compute.offload != "none":
            yield Finding(
                "warning",
                f"{path}.offload",
                "there is nothing to offload from a CPU",
                f"--set {path}.offload=none",
            )


def check_judge(cell: CellSpec, facts: Facts) -> Iterator[Finding]:  # noqa: ARG001
    """Check what would end the judge after all the other stages, and say what it needs."""
    spec = cell.judge
    if spec is None:
        return
    try:
        host_of(spec.base_url, "judge.base_url")
    except SpecError:
        yield Finding(
            "error",
            "judge.base_url",
            f"{spec.base_url!r} is not an address",
            "--set judge.base_url=http://HOST:PORT/v1",
        )
    if spec.budget is not None and not (spec.input_price or spec.output_price):
        yield Finding(
            "error",
            "judge.budget",
            "without prices nothing is known to cost anything",
            "--set judge.input_price=… --set judge.output_price=…, US dollars a million tokens",
        )
    yield from _check_prices(spec)
    yield from _check_comparisons(cell, spec)
    yield from _check_key(judge_key(spec), "the judge")


def _check_comparisons(cell: CellSpec, spec: JudgeSpec) -> Iterator[Finding]:
    """Check what responses are compared with."""
    pairs = RUBRICS[spec.rubric].pairs
    if pairs and not spec.baselines:
        yield Finding(
            "error",
            "judge.baselines",
            "a preference needs something to compare with",
            "--set 'judge.baselines=[\"ARM\"]', arms or run ids of the same storage",
        )
    if pairs and cell.arm in spec.baselines:
        alone = set(spec.baselines) == {cell.arm}
        yield Finding(
            "note",
            "judge.baselines",
            f"arm {cell.arm} is one of its own baselines: it is not compared with itself"
            f"{', and so with nothing' if alone else ''}",
        )


def _check_prices(spec: JudgeSpec) -> Iterator[Finding]:
    """Check that a budget counts both what is asked and what is answered."""
    prices = {"judge.input_price": spec.input_price, "judge.output_price": spec.output_price}
    free = [name for name, price in prices.items() if not price]
    if spec.budget is not None and len(free) == 1:
        tokens = "prompts" if free == ["judge.input_price"] else "answers"
        yield Finding(
            "warning",
            free[0],
            f"judge.budget counts the tokens of {tokens} as free",
            f"--set {free[0]}=…, US dollars a million tokens, if they cost something",
        )


def _check_key(key: KeyOf, who: str) -> Iterator[Finding]:
    """Check the name of the variable that holds a key, and say whether it is set."""
    if key.bad_name:
        yield Finding("error", key.setting, key.bad_name, key.better_name)
    elif key.variable and key.variable not in os.environ:
        yield Finding(
            "note",
            key.setting,
            f"{who} at {key.url} takes its key from {key.variable}, which is not set here",
        )


def check_baseline(cell: CellSpec, facts: Facts) -> Iterator[Finding]:  # noqa: ARG001
    """Check where responses come from that are not sampled here, and what they make needless."""
    spec, path = cell.generate, "generate.model.path"
    if spec is None or not is_baseline(spec.model):
        return
    source = spec.model.path
    if cell.train:
        yield Finding(
            "warning",
            "train",
            f"a model is trained, but the responses come from {source}",
            "--set train=null",
        )
    if source.startswith(RESPONSES):
        file = source.removeprefix(RESPONSES).partition("#")[0]
        if not (is_remote(file) or is_here(file)):
            fix = f"put the file there, or name yours: --set {path}={RESPONSES}FILE"
            yield Finding("error", path, f"{file} is not on this machine", fix, here_alone=True)
        return
    if problem := address_problem(source):
        yield Finding("error", path, *problem)
        return
    yield from _check_key(baseline_key(spec), "the endpoint")


def check_data(spec: DataSpec, path: str, facts: Facts, load: Loader) -> Iterator[Finding]:
    """Check a selection of examples, as far as it can be read here."""
    data = facts.data(spec, load)
    optional = f", or leave it out: --set {path}=null" if path.endswith("heldout") else ""
    if is_remote(spec.path):
        yield Finding(
            "note", path, f"{spec.path} is on object storage: its examples are not read here"
        )
    if data.missing:
        yield Finding(
            "error",
            f"{path}.path",
            f"{spec.path} is not on this machine",
            f"put the file there, or name yours: --set {path}.path=FILE{optional}",
            here_alone=True,
        )
    if data.away:
        yield Finding("error", f"{path}.path", data.away, here_alone=True)
    if data.problem:
        yield Finding("error", path, data.problem, f"mend it, or --set {path}.path=FILE{optional}")
    if data.available is None or spec.count is None:
        return
    if spec.count > data.available:
        yield Finding(
            "error",
            f"{path}.count",
            f"{spec.count} examples are asked for, {data.available} match in {spec.path}",
            f"--set {path}.count={data.available}",
        )
    elif spec.count < data.available:
        yield Finding("note", path, f"a sample of {spec.count} of {data.available} examples")


STAGE_CHECKS: tuple[Check, ...] = (
    check_stages,
    check_generation,
    check_baseline,
    check_compute,
    check_judge,
)
