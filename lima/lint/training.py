"""Checks of the training stages: what their steps will really be (section 3)."""

from collections.abc import Iterator

from lima.data.examples import loader
from lima.lint.facts import Facts, ModelFacts
from lima.lint.finding import Check, Finding
from lima.lint.stages import check_data
from lima.model.end_of_turn import lima_template
from lima.spec import CellSpec, ModelSpec, TrainSpec, training_compute
from lima.training.schedule import Plan, exported_epochs, learning_rate


def check_training(cell: CellSpec, facts: Facts) -> Iterator[Finding]:
    """Check the stages base and train."""
    for stage in ("base", "train"):
        spec: TrainSpec | None = getattr(cell, stage)
        if spec is None:
            continue
        load = loader(spec.text_format)
        yield from check_data(spec.data, f"{stage}.data", facts, load)
        if spec.heldout:
            yield from check_data(spec.heldout, f"{stage}.heldout", facts, load)
        examples = spec.data.count or facts.data(spec.data, load).available
        yield from _check_steps(spec, stage, examples)
        yield from _check_clipping(spec, stage)
        yield from _check_exports(spec, stage)
        yield from _check_world(spec, stage)
        yield from _check_model(cell, spec, stage, facts)


def _check_steps(spec: TrainSpec, stage: str, examples: int | None) -> Iterator[Finding]:
    """Check that the learning rate starts and ends where the spec says."""
    rates, path = spec.optimizer, f"{stage}.optimizer"
    if rates.lr_start < rates.lr_end:
        yield Finding(
            "warning",
            f"{path}.lr_end",
            f"the learning rate rises, from {rates.lr_start:g} to {rates.lr_end:g}",
            f"--set {path}.lr_end={rates.lr_start / 10:g}",
        )
    if examples is None:
        yield Finding("note", stage, "the steps are known once the data is; set data.count to plan")
        return
    plan = Plan(examples, spec.epochs, spec.batch_size, seed=0)
    steps = plan.total_steps
    if steps == 1:
        smaller = f", or a {stage}.batch_size below {examples}" if examples > 1 else ""
        yield Finding(
            "warning",
            f"{path}.lr_end",
            f"there is one step, at {rates.lr_start:g}: {rates.lr_end:g} is never reached",
            f"more {stage}.epochs{smaller}",
        )
        return
    first, last = (learning_rate(rates, step, steps) for step in (1, steps))
    yield Finding(
        "note",
        stage,
        f"{examples} examples in batches of {spec.batch_size}: {plan.steps_per_epoch:g} steps an "
        f"epoch, {steps} in all; learning rate {first:g} at step 1, {last:g} at step {steps}",
    )


def _check_clipping(spec: TrainSpec, stage: str) -> Iterator[Finding]:
    clip = spec.optimizer.gradient_clip
    yield Finding(
        "note",
        f"{stage}.optimizer.gradient_clip",
        f"gradients are clipped to a norm of {clip:g}" if clip else "gradients are not clipped",
    )


def _check_exports(spec: TrainSpec, stage: str) -> Iterator[Finding]:
    first, last = spec.checkpoints.first_epoch, spec.checkpoints.last_epoch
    path = f"{stage}.checkpoints"
    if first > last:
        yield Finding(
            "error",
            f"{path}.first_epoch",
            f"the first epoch to export, {first}, comes after the last one, {last}",
            f"--set {path}.first_epoch={last}",
        )
    elif last > spec.epochs:
        there = list(dict.fromkeys((exported_epochs(spec)[0], spec.epochs)))
        span = f"epoch{'s' * (len(there) - 1)} {' to '.join(map(str, there))}"
        late = f"--set {path}.first_epoch={spec.epochs} " if first > spec.epochs else ""
        yield Finding(
            "warning",
            f"{path}.last_epoch",
            f"weights of epochs {first} to {last} are asked for, but there are {spec.epochs}: "
            f"the weights that are exported are those of {span}",
            f"{late}--set {path}.last_epoch={spec.epochs}",
        )


def _check_world(spec: TrainSpec, stage: str) -> Iterator[Finding]:
    """Check that a batch gives every worker the same number of full parts."""
    workers, micro = training_compute(spec).workers, spec.compute.micro_batch_size
    path = f"{stage}.compute.workers" if spec.on_workers is None else f"{stage}.on_workers"
    if workers != spec.compute.workers:
        yield Finding(
            "note",
            path,
            f"the run is named by {spec.compute.workers} workers and goes on with {workers}: its "
            "losses differ in their last digits from then on, and its rows say so",
        )
    if (spec.fewest_workers or 1) > workers:
        yield Finding(
            "error",
            f"{stage}.fewest_workers",
            f"it is to go on with no fewer than {spec.fewest_workers} workers, and has {workers}",
            f"--set {stage}.fewest_workers={workers}",
        )
    if spec.batch_size < workers:
        yield Finding(
            "error",
            path,
            f"a batch of {spec.batch_size} leaves {workers - spec.batch_size} of {workers} workers "
            "without an example",
            f"--set {path}={spec.batch_size}",
        )
    elif spec.compute.batching == "padded" and spec.batch_size % (workers * micro):
        yield Finding(
            "warning",
            f"{stage}.batch_size",
            f"{spec.batch_size} is not a multiple of {workers} workers times {micro} examples: "
            "some steps are shorter than others",
            f"--set {stage}.batch_size={-(-spec.batch_size // (workers * micro)) * workers * micro}"
            f", or another {stage}.compute.micro_batch_size",
        )


def _check_model(cell: CellSpec, spec: TrainSpec, stage: str, facts: Facts) -> Iterator[Finding]:
    """Check trimming and special tokens against the model."""
    model = facts.model(spec.model, cell)
    if model is None:
        return
    yield from _check_template(spec, stage, model)
    if model.is_gguf:
        yield Finding(
            "note",
            f"{stage}.model",
            f"{model.name} is a GGUF file: the job unpacks it and checks its context length and "
            "its special tokens",
        )
    if not model.is_here:
        yield Finding(
            "note",
            f"{stage}.model",
            f"{model.name} is not on this machine: the job checks its context length, its pad "
            "token and its end-of-sequence token when it loads it",
            here_alone=True,
        )
    if model.context and spec.max_length > model.context:
        yield Finding(
            "error",
            f"{stage}.max_length",
            f"texts are trimmed to {spec.max_length} tokens, but the model reads {model.context}",
            f"--set {stage}.max_length={model.context}",
        )
    if spec.model.chat_template == "own":
        return
    # An earlier run of ours taught it as the end of a turn.
    taught = model.template == lima_template(spec.model.eot_token)
    for role, token in (("end-of-sequence", model.eos), ("pad", model.pad)):
        if token == spec.model.eot_token and not (taught and role == "end-of-sequence"):
            other = "<|turn|>" if token == ModelSpec.eot_token else ModelSpec.eot_token
            yield Finding(
                "error",
                f"{stage}.model.eot_token",
                f"{token!r} is the {role} token of {model.name}; EOT must be a token of its own",
                f"--set '{stage}.model.eot_token={other}'",
            )


def _check_template(spec: TrainSpec, stage: str, model: ModelFacts) -> Iterator[Finding]:
    """Say where the chat template of a chat-tuned model is replaced, or asked for in vain."""
    path, own = f"{stage}.model.chat_template", spec.model.chat_template == "own"
    if own and model.is_here and not model.is_gguf and not model.template:
        yield Finding(
            "error", path, f"{model.name} has no chat template of its own", f"--set {path}=lima"
        )
    ours = lima_template(model.eos) if model.eos else ""
    replaced = model.template not in ("", lima_template(spec.model.eot_token), ours)
    if not own and replaced and spec.text_format == "dialogue":
        # A base may end texts with one token and turns with another.
        writes_eos = model.eos and (model.eos in model.template or "eos_token" in model.template)
        token = model.eos if writes_eos else "TOKEN"
        ends = f" --set '{stage}.model.eot_token={token}'"
        yield Finding(
            "warning",
            path,
            f"{model.name} was tuned to chat by a template of its own, which is replaced: turns "
            f"end with {spec.model.eot_token!r}, and roles and system prompts go",
            f"keep it: --set {path}=own{ends} (the token with which its template ends turns), and "
            "the same for generate.model",
        )


TRAINING_CHECKS: tuple[Check, ...] = (check_training,)
