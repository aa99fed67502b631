"""One training of the same model on the same examples: by us, by transformers' Trainer, by TRL.

    python -m tests.bench.contenders NAME FOLDER

FOLDER holds what `prepare` wrote. The last line printed is a JSON document. TRL and accelerate are
no dependencies of this project: `LIMA_PEERS` names a folder that they were installed to
(`pip install --target FOLDER --no-deps trl accelerate datasets ...`).
"""

import gzip
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lima.spec import CellSpec, CheckpointSpec, ComputeSpec, DataSpec, ModelSpec, TrainSpec

DATA = Path(__file__).parents[3] / "shared/data"
ROOT = Path(__file__).parents[2]
OURS = ("ours packed", "ours packed, dropout", "ours padded")
PEERS = ("Trainer padded", "TRL padded", "TRL packed")
SEED = 0


@dataclass(frozen=True)
class Setting:
    """What all contenders train."""

    device: str = "cpu"
    layers: int = 6
    hidden: int = 256
    intermediate: int = 688
    heads: int = 8
    batch: int = 32
    micro: int = 4
    """Examples at a time; packed, as many tokens as these may have."""
    length: int = 2048
    steps: int = 4
    skipped: int = 1
    """First steps that do not count: they allocate memory."""
    checkpointing: bool = False

    @property
    def precision(self) -> str:
        """Of the weights."""
        return "bf16" if self.device == "cuda" else "fp32"


@dataclass(frozen=True)
class Speed:
    """What a contender reached."""

    tokens_per_second: float
    """Useful ones: padding is none."""
    host_gib: float
    """Peak resident memory of the process."""
    device_gib: float
    """Peak memory on the GPU."""


def prepare(folder: Path, setting: Setting) -> int:
    """Save model, tokenizer and examples; return the number of weights."""
    (folder / "setting.json").write_text(json.dumps(asdict(setting)), "utf-8")
    tokenizer = _save_tokenizer(folder / "base")
    _save_examples(folder / "data.jsonl", setting, tokenizer)
    return _save_model(folder / "base", setting, len(tokenizer))


def _save_tokenizer(folder: Path) -> Any:
    """Save LLaMA's, or where it is not at hand one of the words of the authored examples."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    from lima.data.examples import load_examples
    from lima.model.end_of_turn import train_tokenizer

    folder.mkdir()
    llama = DATA / "tokenizer/llama-test-tokenizer.json.gz"
    if not llama.is_file():
        texts = [" ".join(e.conversation) for e in load_examples(DataSpec("authored:diverse"))]
        train_tokenizer(texts, 2000, folder)
        return AutoTokenizer.from_pretrained(folder)
    (folder / "tokenizer.json").write_bytes(gzip.decompress(llama.read_bytes()))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def _save_model(folder: Path, setting: Setting, vocabulary: int) -> int:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=max(vocabulary, 32_000),
        hidden_size=setting.hidden,
        intermediate_size=setting.intermediate,
        num_hidden_layers=setting.layers,
        num_attention_heads=setting.heads,
        max_position_embeddings=2 * setting.length,
    )
    with torch.device(setting.device):
        model = LlamaForCausalLM(config).to(_dtype(setting))
    model.save_pretrained(folder)
    return sum(weight.numel() for weight in model.parameters())


def _save_examples(path: Path, setting: Setting, tokenizer: Any) -> None:
    """Write the first examples of LIMA, or where it is not at hand texts as long as its."""
    count = setting.batch * setting.steps
    release = DATA / "lima/lima_llamafactory.json.gz"
    if release.is_file():
        rows = json.loads(gzip.decompress(release.read_bytes()))[:count]
        conversations = [[row["instruction"], row["output"]] for row in rows]
    else:
        conversations = [_drawn(n, tokenizer) for n in range(count)]
    lines = [json.dumps({"conversations": conversation}) for conversation in conversations]
    path.write_text("\n".join(lines), "utf-8")


def _drawn(number: int, tokenizer: Any) -> list[str]:
    """Return an example as long as one of LIMA: half above 513 tokens, 8 % above 2048."""
    chance = random.Random(number)
    words = (ROOT / "README.md").read_text("utf-8").split()
    chance.shuffle(words)
    wanted, text = chance.lognormvariate(6.24, 1.0), " ".join(words)
    times = wanted / len(tokenizer(text)["input_ids"])
    return [f"Say it, number {number}.", (text * (int(times) + 1))[: int(times * len(text)) + 8]]


def train_spec(folder: Path, setting: Setting, batching: Any) -> TrainSpec:
    """Return what all of them train, as we say it."""
    compute = ComputeSpec(
        device=setting.device,  # type: ignore[arg-type]
        precision=setting.precision,  # type: ignore[arg-type]
        gradient_checkpointing=setting.checkpointing,
        micro_batch_size=setting.micro,
        batching=batching,
    )
    # No checkpoint is due: it would measure the disk.
    checkpoints = CheckpointSpec(first_epoch=2, last_epoch=2, state_every_steps=10**6)
    return TrainSpec(
        ModelSpec(str(folder / "base")),
        DataSpec(str(folder / "data.jsonl")),
        epochs=1,
        batch_size=setting.batch,
        max_length=setting.length,
        loss_on="all",
        residual_dropout=0.0,
        compute=compute,
        checkpoints=checkpoints,
    )


def ours(folder: Path, setting: Setting, name: str) -> float:
    """Return useful tokens a second of our loop under DeepSpeed."""
    import torch
    import torch.distributed as dist

    from lima.store.storage import Storage
    from lima.training.engine import prepare_environment
    from lima.training.hooks import Hooks
    from lima.training.loop import Trainer
    from lima.training.step_rows import StepRecord
    from lima.training.world import World

    os.environ.update(LOCAL_RANK="0", RANK="0", WORLD_SIZE="1")
    prepare_environment(setting.device)
    cuda = setting.device == "cuda"
    store = dist.HashStore()  # type: ignore[attr-defined]
    dist.init_process_group("nccl" if cuda else "gloo", store=store, rank=0, world_size=1)
    spec = train_spec(folder, setting, "padded" if "padded" in name else "packed")
    if "dropout" in name:
        spec = replace(spec, residual_dropout=0.3)
    hooks, seen = Hooks(lambda r, _: seen.append(r), lambda: False), list[StepRecord]()
    with tempfile.TemporaryDirectory() as results:
        world = World(0, 1, torch.device(setting.device, *([0] if cuda else [])))
        trainer = Trainer(CellSpec("bench", "x", train=spec), spec, Storage(results), world, hooks)
        trainer.train()
    counted = seen[setting.skipped :]
    return sum(r.tokens for r in counted) / sum(r.seconds for r in counted)


def encoded_rows(folder: Path, setting: Setting) -> tuple[Any, Any, list[dict[str, list[int]]]]:
    """Return model, tokenizer and examples as the peers take them: our own token ids."""
    from transformers import AutoModelForCausalLM

    from lima.data.examples import training_examples
    from lima.model.loading import fit_vocabulary, load_tokenizer
    from lima.training.batches import encode_examples

    spec = train_spec(folder, setting, "padded")
    tokenizer, eot_id, _ = load_tokenizer(spec.model.path, spec.model)
    model = AutoModelForCausalLM.from_pretrained(spec.model.path, dtype=_dtype(setting))
    fit_vocabulary(model, tokenizer, eot_id, known=False)
    examples = encode_examples(training_examples(spec.data), spec, tokenizer, eot_id)
    return model, tokenizer, [{"input_ids": e.ids, "labels": e.ids} for e in examples]


def peer(folder: Path, setting: Setting, name: str) -> float:
    """Return useful tokens a second of transformers' Trainer, or of TRL's SFTTrainer."""
    from torch.utils.data import SequentialSampler

    model, tokenizer, rows = encoded_rows(folder, setting)
    callback, ends = _clock()
    make = _trainer if name == "Trainer padded" else _sft_trainer
    trainer = make(folder, setting, model, tokenizer, rows, packing="packed" in name)
    trainer.add_callback(callback)
    trainer._get_train_sampler = lambda *_: SequentialSampler(trainer.train_dataset)
    # What a batch held in fact: packed rows hold as many tokens as fit.
    sizes = [len(ids) for ids in trainer.train_dataset["input_ids"]]
    trainer.train()
    first, last = setting.skipped, max(ends)
    places = range(first * setting.batch, last * setting.batch)
    return sum(sizes[at % len(sizes)] for at in places) / (ends[last] - ends[first])


def _arguments(kind: Any, folder: Path, setting: Setting, **settings: Any) -> Any:
    """Return transformers' training arguments, or TRL's."""
    return kind(
        output_dir=str(folder / "peer"),
        per_device_train_batch_size=setting.micro,
        gradient_accumulation_steps=setting.batch // setting.micro,
        max_steps=setting.steps,
        use_cpu=setting.device == "cpu",
        bf16=setting.device == "cuda",
        fp16=False,
        gradient_checkpointing=setting.checkpointing,
        save_strategy="no",
        report_to=[],
        logging_steps=10**6,
        disable_tqdm=True,
        lr_scheduler_type="constant",
        **settings,
    )


def _trainer(
    folder: Path, setting: Setting, model: Any, tokenizer: Any, rows: Any, *, packing: bool
) -> Any:
    from datasets import Dataset
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

    assert not packing
    data = Dataset.from_list(rows)
    return Trainer(
        model,
        _arguments(TrainingArguments, folder, setting),
        train_dataset=data,
        data_collator=DataCollatorForSeq2Seq(tokenizer, padding=True),
    )


def _sft_trainer(
    folder: Path, setting: Setting, model: Any, tokenizer: Any, rows: Any, *, packing: bool
) -> Any:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    data = Dataset.from_list([{"input_ids": row["input_ids"]} for row in rows])
    options = {"packing": packing, "max_length": setting.length}
    return SFTTrainer(
        model,
        _arguments(SFTConfig, folder, setting, **options),
        train_dataset=data,
        processing_class=tokenizer,
    )


def _clock() -> tuple[Any, dict[int, float]]:
    """Return a callback that notes when each step ends."""
    from transformers import TrainerCallback

    ends: dict[int, float] = {}

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, _args: Any, state: Any, *_: Any, **__: Any) -> None:
            ends[state.global_step] = time.perf_counter()

    return Clock(), ends


def _dtype(setting: Setting) -> Any:
    import torch

    return torch.bfloat16 if setting.precision == "bf16" else torch.float32


def measure(name: str, folder: Path) -> Speed:
    """Return what one contender reaches, in a process of its own."""
    path = [str(ROOT), os.environ.get("LIMA_PEERS", "")]
    environment = {
        **os.environ,
        "DS_ACCELERATOR": json.loads((folder / "setting.json").read_text())["device"],
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "HF_HUB_OFFLINE": "1",
    }
    # Of the tests' process: here all cores are used, by everybody.
    environment.pop("OMP_NUM_THREADS", None)
    command = [sys.executable, "-m", "tests.bench.contenders", name, str(folder)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return Speed(**json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Let one contender train."""
    import torch

    name, folder = sys.argv[1], Path(sys.argv[2])
    setting = Setting(**json.loads((folder / "setting.json").read_text("utf-8")))
    speed = (ours if name in OURS else peer)(folder, setting, name)
    device = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps(asdict(Speed(speed, host, device))))


if __name__ == "__main__":
    main()
