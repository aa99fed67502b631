"""Loading models: from a folder, a hub, object storage, an earlier run, or from scratch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lima.common.paths import PACKAGE, expanded
from lima.common.temporary import temporary_folder
from lima.errors import ModelError
from lima.inputs.check import check
from lima.inputs.fingerprint import COMMIT, OBJECTS, digits
from lima.inputs.model_files import is_gguf
from lima.model.checkpoint_manifest import check_weights, weights_epochs, weights_path
from lima.model.context import context_length
from lima.model.end_of_turn import (
    add_special_tokens,
    keep_special_tokens,
    refuse_end_of_sequence,
    train_tokenizer,
)
from lima.model.foreign import refuse_code
from lima.model.local import cached_folder, fetched, unpacked
from lima.model.saved_config import require_plan
from lima.model.segments import read_segments_alike
from lima.model.unusable import not_installed, unusable
from lima.spec import CellSpec, ComputeSpec, ModelSpec, ShapeSpec
from lima.spec.codec import run_id

if TYPE_CHECKING:
    import torch

    from lima.store.storage import Storage

SCRATCH = "scratch"
RUN = "run:"
EARLIER_STAGES = ("base", "train")
NAMED = 3
"""Weights that a message names before it only counts."""


@dataclass(frozen=True)
class LoadedModel:
    """A model with its tokenizer, the EOT token added to both."""

    model: Any
    tokenizer: Any
    eot_id: int
    pad_id: int


def resolve_run(spec: ModelSpec, cell: CellSpec) -> ModelSpec:
    """Return `spec` with `run:base` and `run:train` replaced by the run id of that stage.

    A hub's model is named by the commit that the run was promised, wherever its branch is now.
    """
    if (spec.fingerprint or "").startswith(COMMIT):
        return replace(spec, revision=digits(spec.fingerprint or ""))
    name = spec.path.removeprefix(RUN)
    if not spec.path.startswith(RUN) or name not in EARLIER_STAGES:
        return spec
    if getattr(cell, name) is None:
        raise ModelError(f"model.path is {spec.path!r}, but this run has no stage {name!r}")
    return replace(spec, path=f"{RUN}{run_id(cell, 'base' if name == 'base' else 'train')}")


def local_model(spec: ModelSpec, storage: "Storage") -> str:
    """Return a folder on this machine, or a hub name, that transformers can load.

    What lies on an object store is copied to the cache first. `spec` is resolved (see
    `resolve_run`).

    Raises:
        ModelError: there is no such run, epoch or folder.

    """
    if spec.path.startswith(RUN):
        return str(_exported(spec, storage))
    if "://" in spec.path:
        from lima.store.storage import Storage

        if is_gguf(spec.path):
            return str(unpacked(_checked(fetched(spec.path), spec), spec))
        return str(_checked(cached_folder(Storage(spec.path), "", spec.path), spec))
    here = expanded(spec.path)
    if here.is_dir():
        return str(_checked(here, spec))
    if here.is_file():
        return str(unpacked(_checked(here, spec), spec))
    if spec.path.startswith(PACKAGE):
        raise ModelError(not_installed(spec.path))
    if spec.path.startswith((".", "/", "~")):
        raise ModelError(f"{spec.path}: no such folder; model.path must name a saved model")
    return spec.path


def _checked(folder: Path, spec: ModelSpec) -> Path:
    """Return a folder or a file, if it holds what the run was promised."""
    if spec.fingerprint:
        from lima.inputs.places import Place
        from lima.inputs.promise import look

        # What is too large is named by the store; its copy here was just made, or is the same.
        where = spec.path if spec.fingerprint.startswith(OBJECTS) else str(folder)
        found = look(Place("train", "model", "model", (where,), None))
        check(found.fingerprint, spec.fingerprint, spec.path)
    return folder


def _exported(spec: ModelSpec, storage: "Storage") -> Path:
    run = spec.path.removeprefix(RUN)
    epochs = weights_epochs(storage, run)
    if not epochs:
        raise ModelError(f"{spec.path}: {storage.uri} holds no exported weights of this run")
    epoch = spec.epoch or epochs[-1]
    if epoch not in epochs:
        raise ModelError(f"{spec.path}: epoch {epoch} was not exported; epochs: {epochs}")
    check_weights(storage, run, epoch)
    path = weights_path(run, epoch)
    return storage.local_path(path) or cached_folder(storage, path, f"{storage.uri}/{path}")


def scratch_tokenizer(
    texts: Sequence[str], shape: ShapeSpec, spec: ModelSpec
) -> tuple[Any, int, int]:
    """Train the tokenizer of a scratch model; return it as `load_tokenizer` does.

    The same texts give the same.
    """
    with temporary_folder("lima-tokenizer-") as folder:
        # One place of the vocabulary is kept for EOT.
        train_tokenizer(texts, shape.vocab_size - 1, folder)
        return load_tokenizer(str(folder), spec)


def load_tokenizer(path: str, spec: ModelSpec) -> tuple[Any, int, int]:
    """Return (tokenizer, EOT id, pad id), EOT added if it is new.

    Raises:
        ModelError: there is none, or not the one that the spec asks for.

    """
    tokenizer = _saved_tokenizer(path, spec)
    if spec.chat_template == "own":
        return tokenizer, *keep_special_tokens(tokenizer, spec.eot_token)
    ids = add_special_tokens(tokenizer, spec.eot_token)
    read_segments_alike(tokenizer, [tokenizer.bos_token, spec.eot_token])
    return tokenizer, *ids


def tokenizer_to_train(path: str, spec: ModelSpec) -> tuple[Any, int, int]:
    """Return what `load_tokenizer` does, if its EOT may be taught (section 3).

    Raises:
        ModelError: it has a meaning from pretraining.

    """
    if spec.chat_template == "lima":
        refuse_end_of_sequence(_saved_tokenizer(path, spec), spec.eot_token)
    return load_tokenizer(path, spec)


def _saved_tokenizer(path: str, spec: ModelSpec) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(path, revision=spec.revision, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises nothing narrower
        refuse_code(path, spec.revision)
        raise unusable(path, "tokenizer", error) from error


def scratch_model(shape: ShapeSpec, vocabulary: int) -> Any:
    """Return a LLaMA-architecture model with weights from torch's current random state.

    Its EOT is marked as unknown, since pretraining on plain text will not teach it.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    if shape.hidden_size % shape.heads:
        raise ModelError(
            f"shape: hidden_size {shape.hidden_size} is not divisible by {shape.heads} heads"
        )
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=shape.hidden_size,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.heads,
            intermediate_size=shape.intermediate_size,
            max_position_embeddings=shape.context_length,
            bos_token_id=None,
            eos_token_id=None,
            lima_eot_unknown=True,
        )
    )


def pretrained_model(path: str, spec: ModelSpec, dtype: "torch.dtype", ranks: int = 1) -> Any:
    """Return a causal language model by transformers.

    Args:
        path: A folder, or a hub's name.
        spec: The model.
        dtype: Of its weights.
        ranks: Processes of torch's group, each of which gets its part of every weight (tensor
            parallelism); 1: the whole model, on the CPU.

    Raises:
        ModelError: nothing can be loaded from `path`, or it cannot be cut.
        HubError: it is on a hub that does not answer.

    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, GenerationConfig

    # How others sample from it is not ours to heed, nor to trip over: many settings contradict
    # each other.
    settings = {"dtype": dtype, "generation_config": GenerationConfig()}
    if ranks > 1:
        from transformers.distributed import DistributedConfig

        require_plan(path, spec, ranks)
        settings["distributed_config"] = DistributedConfig(tp_size=ranks)
    safe = {"trust_remote_code": False, "use_safetensors": True}
    try:
        model, told = AutoModelForCausalLM.from_pretrained(
            path, revision=spec.revision, output_loading_info=True, **settings, **safe
        )
    except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
        refuse_code(path, spec.revision)
        raise unusable(path, "model", error) from error
    _require_whole(path, sorted(told["missing_keys"]))
    return model


def _require_whole(path: str, missing: Sequence[str]) -> None:
    """Refuse a checkpoint that lacks weights: transformers fills them with random numbers.

    Raises:
        ModelError: it does.

    """
    if missing:
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        raise ModelError(
            f"{path}: {len(missing)} weights of the model are in none of its files "
            f"({', '.join(missing[:NAMED])}{more}); fetch it again, or mend its config.json, which "
            "says what weights there are"
        )


def check_context(model: Any, length: int) -> None:
    """Refuse a model that has fewer positions than the texts that it shall read."""
    positions = context_length(model.config.to_dict())
    if positions is not None and length > positions:
        raise ModelError(
            f"max_length is {length} tokens, but the model has {positions} positions; "
            f"set train.max_length={positions} or choose another model"
        )


def fit_vocabulary(model: Any, tokenizer: Any, eot_id: int, *, known: bool) -> None:
    """Give every token of the tokenizer a row, and a new EOT the mean of the rows before it.

    A new row starts where the other tokens are on average, so that EOT neither stands out nor
    is out of reach. The row of an EOT that was `known` to the saved tokenizer is left as it is.
    """
    weight = model.get_input_embeddings().weight
    # ZeRO-3 leaves an empty tensor where a partitioned weight was, and its shape beside it.
    rows = int(getattr(weight, "ds_shape", weight.shape)[0])
    if len(tokenizer) > rows:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    if known and not getattr(model.config, "lima_eot_unknown", False):
        return
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        _set_to_mean(layer.weight, eot_id, rows)
    model.config.lima_eot_unknown = False


def knows_eot(path: str, spec: ModelSpec) -> bool:
    """Say whether the tokenizer that is saved at `path` has the EOT token already."""
    return spec.eot_token in _saved_tokenizer(path, spec).get_vocab()


def _set_to_mean(weight: Any, row: int, known: int) -> None:
    import torch

    def assign() -> None:
        others = weight.data[:known].float().sum(dim=0)
        if row < known:
            others -= weight.data[row].float()
        weight.data[row] = (others / (known - (row < known))).to(weight.dtype)

    with torch.no_grad():
        if not hasattr(weight, "ds_id"):
            return assign()
        import deepspeed

        with deepspeed.zero.GatheredParameters([weight], modifier_rank=0):
            if torch.distributed.get_rank() == 0:
                assign()
    return None


def taught_tokenizer(spec: ModelSpec, storage: "Storage") -> tuple[str, tuple[Any, int, int]]:
    """Return where a model to sample from can be loaded, and what `load_tokenizer` returns.

    Args:
        spec: The model, resolved (see `resolve_run`).
        storage: Where exported weights lie.

    Raises:
        ModelError: there is none, or it was never taught to end a turn.

    """
    path = local_model(spec, storage)
    if not knows_eot(path, spec):
        raise ModelError(
            f"{path}: its tokenizer has no {spec.eot_token!r}, so it was not taught to end a turn; "
            "train it first, or set generate.model.eot_token to the token that ends its turns"
        )
    return path, load_tokenizer(path, spec)


def load_for_inference(spec: ModelSpec, storage: "Storage", compute: ComputeSpec) -> LoadedModel:
    """Load a model to sample from, in evaluation mode on its device; its weights stay as saved.

    Args:
        spec: The model, resolved (see `resolve_run`).
        storage: Where exported weights lie.
        compute: Device and precision.

    Raises:
        ModelError: it cannot be loaded, or was never taught to end a turn.

    """
    path, (tokenizer, eot_id, pad_id) = taught_tokenizer(spec, storage)
    model = pretrained_model(path, spec, torch_dtype(compute)).to(compute.device)
    return LoadedModel(model.eval(), tokenizer, eot_id, pad_id)


def torch_dtype(compute: ComputeSpec) -> "torch.dtype":
    """Return torch's type of the weights."""
    import torch

    return torch.bfloat16 if compute.precision == "bf16" else torch.float32
