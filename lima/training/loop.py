"""The training loop of one worker (section 3): the only one, for any size of model."""

import logging
import math
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from lima.common.addresses import address_seed, draws, dropout_address
from lima.common.clock import now
from lima.data.examples import Example, loader
from lima.data.trimming import Lengths
from lima.errors import Interrupted, ModelError, StorageError
from lima.model.attention import attend_within_examples
from lima.model.checkpoint_manifest import mark_complete
from lima.model.end_of_turn import Encoded
from lima.model.families import is_packable
from lima.model.loading import (
    SCRATCH,
    check_context,
    fit_vocabulary,
    knows_eot,
    local_model,
    pretrained_model,
    resolve_run,
    scratch_model,
    scratch_tokenizer,
    tokenizer_to_train,
    torch_dtype,
)
from lima.model.residual_dropout import Place, ResidualDropout
from lima.runs.ledger import record_lengths
from lima.spec import CellSpec, TrainSpec
from lima.spec.codec import run_id
from lima.store.storage import Storage
from lima.training.batches import (
    BATCH_BUILDERS,
    Batch,
    BatchBuilder,
    MicroBatch,
    PaddedBatches,
    encode_examples,
    lengths_of,
    packed_inputs,
    total_loss,
)
from lima.training.crossentropy import predict_from_head
from lima.training.engine import (
    deepspeed_config,
    partitioned_loading,
    set_learning_rate,
    start_engine,
)
from lima.training.export import Trained
from lima.training.hooks import Hooks
from lima.training.saver import Saver
from lima.training.schedule import Plan, exports_after, learning_rate, state_is_due
from lima.training.step_rows import Records, StepRecord
from lima.training.world import World

log = logging.getLogger(__name__)
TRIED_DIALOGUES = 50
"""On which the exported chat template is tried before the first step."""


class Trainer:
    """One worker of one training run."""

    def __init__(
        self, cell: CellSpec, spec: TrainSpec, storage: Storage, world: World, hooks: Hooks
    ) -> None:
        """Load the model and the data of `cell`, whose last stage is `spec`."""
        self.cell, self.spec, self.storage = cell, spec, storage
        self.world, self.hooks = world, hooks
        self.run = run_id(cell)
        self.records = Records(storage, cell)
        keep = spec.checkpoints.keep_states
        self.saver = Saver(self.records, world, hooks, run=self.run, keep=keep)
        self._load()

    def _load(self) -> None:
        spec, cell = self.spec, self.cell
        examples = self.world.each(lambda: loader(spec.text_format)(spec.data))
        self.plan = Plan(len(examples), spec.epochs, spec.batch_size, cell.seed)
        self.config = deepspeed_config(spec, self.world.size)
        model, self.tokenizer, eot_id, pad_id = self._model([e.conversation[0] for e in examples])
        check_context(model, spec.max_length)
        name = spec.model.path
        dialogue = spec.text_format == "dialogue"
        self.trained = Trained(model, self.tokenizer, eot_id, pad_id, name, ends_turns=dialogue)
        self.eot_id, self.pad_id = eot_id, pad_id
        self.world.led(lambda: self.trained.try_out(self._dialogues(examples)))
        self._equip(model)
        self.engine = start_engine(model, spec, self.config)
        self.saver.equip(self.engine, self.trained)
        encoded = encode_examples(examples, spec, self.tokenizer, eot_id)
        self.batches, self.heldout = self._batches(encoded), self._heldout()
        self.world.led(lambda: self._tell_lengths(lengths_of(encoded, spec)))

    def _equip(self, model: Any) -> None:
        """Add to a model what only training needs of it."""
        rate, compute = self.spec.residual_dropout, self.spec.compute
        self.dropout = ResidualDropout(model, rate) if rate > 0 else None
        chosen = BATCH_BUILDERS[compute.batching]
        self.builder = chosen if is_packable(model) or not chosen.packs else PaddedBatches
        if self.builder.packs:
            attend_within_examples(model)
            predict_from_head(model)
        if compute.gradient_checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False})

    def _dialogues(self, examples: Sequence[Example]) -> list[tuple[str, ...]]:
        """Return some conversations of the data, if those are what is trained on."""
        if self.spec.text_format != "dialogue":
            return []
        return [example.conversation for example in examples[:TRIED_DIALOGUES]]

    def _tell_lengths(self, lengths: Lengths) -> None:
        record_lengths(self.storage, self.cell, lengths)
        if lengths.trimmed:
            log.warning("%s: %s: %s", self.run, self.spec.data.path, lengths)

    def _model(self, texts: Sequence[str]) -> tuple[Any, Any, int, int]:
        """Return (model, tokenizer, EOT id, pad id)."""
        spec = resolve_run(self.spec.model, self.cell)
        torch.manual_seed(self._address("weights"))
        if spec.path == SCRATCH:
            if spec.shape is None:
                raise ModelError("model.path is 'scratch'; model.shape must say its shape")
            tokenizer, eot_id, pad_id = scratch_tokenizer(texts, spec.shape, spec)
            return scratch_model(spec.shape, len(tokenizer)), tokenizer, eot_id, pad_id
        path = self.world.each(lambda: local_model(spec, self.storage))
        known = knows_eot(path, spec)
        tokenizer, eot_id, pad_id = tokenizer_to_train(path, spec)
        with partitioned_loading(self.config):
            model = pretrained_model(path, spec, torch_dtype(self.spec.compute))
            if self.spec.text_format == "dialogue":
                fit_vocabulary(model, tokenizer, eot_id, known=known)
        return model, tokenizer, eot_id, pad_id

    def _batches(self, encoded: Sequence[Encoded]) -> BatchBuilder:
        return self.builder(encoded, self.spec, self.pad_id, batch_size=self.spec.batch_size)

    def _heldout(self) -> list[Batch]:
        """Return this worker's part of the held-out examples, the same count on each."""
        data = self.spec.heldout
        if data is None:
            return []
        examples = self.world.each(lambda: loader(self.spec.text_format)(data))
        encoded = encode_examples(examples, self.spec, self.tokenizer, self.eot_id, path=data.path)
        size, builder = self.spec.batch_size, self._batches(encoded)
        chunks = [range(i, min(i + size, len(encoded))) for i in range(0, len(encoded), size)]
        return [builder.build(list(c), self.world.rank, self.world.size) for c in chunks]

    def train(self) -> None:
        """Train from the last saved state to the last step.

        Raises:
            Interrupted: it was asked to stop; the state after the last step is saved.
            LimaError: it cannot go on, or what it saves cannot be written.

        """
        step = None
        try:
            step = self._train(self.saver.restore())
        finally:
            self.saver.close()
            self.records.close(complete=step is not None)
        self.world.led(lambda: mark_complete(self.storage, self.run, step))
        self.world.led(self._drop_states)

    def _train(self, step: int) -> int:
        """Train from after `step` to the last step; return it."""
        # What an earlier attempt saved the state of, and no more.
        epochs = exports_after(self.spec, self.plan, step)
        self.saver.save(step, epochs, due=False, must=False, busy=False)
        while step < self.plan.total_steps:
            step += 1
            self._step(step)
            for epoch in self.plan.epochs_ending_at(step):
                self._measure(epoch, step)
            self._save(step)
        self.saver.finish()
        return step

    def _save(self, step: int) -> None:
        """Save what is due after `step`, beside the steps that follow.

        Raises:
            Interrupted: a stop was requested; all that was begun is saved, and the state.
            LimaError: what was to be saved before cannot be written.

        """
        stop, failed, busy = self.world.any(
            self.hooks.should_stop(), self.saver.background.failed, self.saver.background.busy
        )
        if failed:
            self.saver.check()
        epochs, last = exports_after(self.spec, self.plan, step), step == self.plan.total_steps
        due = state_is_due(self.spec, self.plan, step)
        must = stop or last or (due and self.spec.checkpoints.keep_states is not None)
        self.saver.save(step, [] if stop else epochs, due=due, must=must, busy=busy)
        if stop and (not last or epochs):
            self.saver.finish()
            raise Interrupted(f"stopped on request after step {step}; the state is saved")

    def _drop_states(self) -> None:
        """Delete what was kept to resume from, as far as it was not asked for."""
        try:
            self.saver.states.keep_last(self.spec.checkpoints.keep_states or 0)
        except StorageError as error:  # everything that matters is there
            log.warning("states of a complete run stay; `lima-k8s prune` frees them: %s", error)

    def _step(self, step: int) -> None:
        started = time.perf_counter()
        rate = learning_rate(self.spec.optimizer, step, self.plan.total_steps)
        batch = self.batches.build(self.plan.batch(step), self.world.rank, self.world.size)
        set_learning_rate(self.engine, rate)
        summed = self._accumulate(batch, step)
        # Read after the step: it makes the host wait for the device once, not once a part.
        total, drawn = self.world.sum(float(summed), self._drawn(batch, step))
        loss = total / max(batch.target_tokens, 1)
        # DeepSpeed passes over a step whose gradients overflow; that must not go unnoticed.
        if not math.isfinite(loss) or not self.engine.was_step_applied():
            raise ModelError(
                f"training diverges: step {step} has loss {loss:g} and no usable gradients; lower "
                f"optimizer.lr_start (now {self.spec.optimizer.lr_start}) or use precision fp32"
            )
        if self.world.leads:
            seconds = time.perf_counter() - started
            self._record(step, batch, loss=loss, rate=rate, drawn=int(drawn), seconds=seconds)

    def _drawn(self, batch: Batch, step: int) -> int:
        """Return the number that stands for what this worker reads and draws."""
        read = [span.example for micro in batch.micro_batches for span in micro.spans]
        return draws(self.cell.seed, step, read)

    def _accumulate(self, batch: Batch, step: int) -> torch.Tensor:
        """Run all parts of a step and update the weights; return this worker's summed loss."""
        self.engine.train()
        # DeepSpeed divides by workers; the mean is over the target tokens of the batch.
        scale = self.world.size / max(batch.target_tokens, 1)
        summed = torch.zeros((), device=self.world.device)
        for part, micro in enumerate(batch.micro_batches, start=1):
            self.engine.set_gradient_accumulation_boundary(part == len(batch.micro_batches))
            self._address_dropout(micro, step)
            loss = self._loss(micro)
            self.engine.backward(loss * scale)
            self.engine.step()
            summed += loss.detach()
        return summed

    def _address_dropout(self, micro: MicroBatch, step: int) -> None:
        if self.dropout:
            address = partial(dropout_address, self.cell.seed, step)
            self.dropout.place([Place(*s[:3], address(s.example)) for s in micro.spans])

    def _loss(self, micro: MicroBatch) -> torch.Tensor:
        """Return the summed loss in nats of the tokens that carry it."""
        device = self.world.device
        if not self.builder.packs:
            logits = self.engine(input_ids=micro.input_ids.to(device), use_cache=False).logits
            return total_loss(logits, micro.labels.to(device))
        loss: torch.Tensor = self.engine(**packed_inputs(micro, device))
        return loss

    def _record(
        self, step: int, batch: Batch, *, loss: float, rate: float, drawn: int, seconds: float
    ) -> None:
        norm = self.engine.get_global_grad_norm()
        record = StepRecord(
            step=step,
            epoch=self.plan.epoch_after(step),
            loss=loss,
            learning_rate=rate,
            gradient_norm=None if norm is None else float(norm),
            examples=batch.examples,
            tokens=batch.tokens,
            target_tokens=batch.target_tokens,
            seconds=seconds,
            at=now(),
            workers=self.world.size,
            draws=drawn,
        )
        self.records.add(record)
        self.hooks.on_step(record, self.plan.total_steps)

    def _measure(self, epoch: int, step: int) -> None:
        """Write held-out loss and perplexity (section 3: perplexity is looked at, not trusted)."""
        if not self.heldout:
            return
        self.engine.eval()
        summed = 0.0
        with torch.no_grad():
            for batch in self.heldout:
                for micro in batch.micro_batches:
                    summed += float(self._loss(micro))
        tokens = sum(batch.target_tokens for batch in self.heldout)
        loss = self.world.sum(summed)[0] / tokens
        values = {"heldout_loss": loss, "heldout_perplexity": math.exp(min(loss, 700.0))}
        self.world.led(lambda: self.records.measured(epoch, step, values, tokens))

    def _address(self, *parts: object) -> int:
        """Return the seed of one draw: a function of what it is for, not of what came before."""
        return address_seed("/".join(map(str, (self.cell.seed, *parts))))
