"""Exported weights: a folder as transformers opens it, and a trial of it before the first step."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lima.common.temporary import temporary_folder
from lima.errors import LimaError, ModelError, whole_reason
from lima.model.checkpoint_manifest import local_files
from lima.model.end_of_turn import check_template
from lima.model.portable import OLDEST, make_portable
from lima.model.template import has_own_template, keep_template


@dataclass(frozen=True)
class Trained:
    """A model with what belongs to it, ready to be saved."""

    model: Any
    tokenizer: Any
    eot_id: int
    pad_id: int
    name: str
    """What it was made from, for people."""
    ends_turns: bool = True
    """Whether a text ends with EOT; plain documents end as they did in pretraining."""

    def save(self, folder: Path) -> None:
        """Write everything but the weights into `folder`: settings, tokenizer and model card.

        Raises:
            ModelError: transformers refuses to save the model.
            StorageError: the files could not be written.

        """
        with _explained(self.name), local_files(folder):
            self._settle_generation()
            self.model.save_pretrained(folder, state_dict={})
            self._save_tokenizer(folder)
            (folder / "README.md").write_text(self._card(portable=make_portable(folder)), "utf-8")

    def try_out(self, conversations: Sequence[Sequence[str]]) -> None:
        """Save everything but the weights, and open it: what fails now would fail after an epoch.

        Args:
            conversations: Some that the model is trained on; the chat template must give the
                tokens that training reads.

        Raises:
            ModelError: it cannot be saved, or opened again as it is.

        """
        from transformers import AutoConfig, AutoTokenizer

        with temporary_folder("lima-weights-") as folder:
            self.save(folder)
            with _explained(self.name):
                self._compare(AutoConfig.from_pretrained(folder, trust_remote_code=False))
                tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
                if has_own_template(self.tokenizer):
                    keep_template(tokenizer)
                check_template(tokenizer, conversations, self.eot_id)

    def _settle_generation(self) -> None:
        """Say which tokens begin, end and pad; how to sample is nothing that training decides.

        The settings of the model that training started from are not passed on: transformers saves
        none that it finds inconsistent, and many published ones are.
        """
        from transformers import GenerationConfig

        ends = {
            "bos_token_id": self.tokenizer.bos_token_id,
            "eos_token_id": self._end,
            "pad_token_id": self.pad_id,
        }
        self.model.generation_config = GenerationConfig(**ends)
        for name in self.model.config._get_generation_parameters():
            delattr(self.model.config, name)
        for name, value in ends.items():
            setattr(self.model.config, name, value)

    @property
    def _end(self) -> int:
        """The token after which nothing follows: of config.json, tokenizer and generation alike."""
        own: int | None = self.tokenizer.eos_token_id
        return self.eot_id if self.ends_turns or own is None else own

    def _save_tokenizer(self, folder: Path) -> None:
        """Write the tokenizer, whose end of sequence is where a response ends."""
        before = self.tokenizer.eos_token
        self.tokenizer.eos_token = self.tokenizer.convert_ids_to_tokens(self._end)
        try:
            self.tokenizer.save_pretrained(folder)
        finally:
            self.tokenizer.eos_token = before

    def _compare(self, config: Any) -> None:
        """Build the saved model without memory for it, and compare the shapes of its weights."""
        import torch
        from transformers import AutoModelForCausalLM

        with torch.device("meta"):
            opened = _shapes(AutoModelForCausalLM.from_config(config))
        saved = _shapes(self.model)
        if saved != opened:
            other = sorted(dict(saved.items() ^ opened.items()))
            raise ModelError(
                f"{self.name}: its config.json describes another model than its weights make up "
                f"(they differ in {', '.join(other[:3])}); mend config.json, or choose another "
                "model"
            )

    def _card(self, *, portable: bool) -> str:
        import transformers

        opens = f"{OLDEST} and later" if portable else "5 and later: its positions need that"
        return (
            "---\nlibrary_name: transformers\npipeline_tag: text-generation\n---\n"
            f"Trained by lima-k8s from {self.name}.\n\n"
            f"* Written by transformers {transformers.__version__}; opens with transformers "
            f"{opens}, as far as they know this kind of model.\n"
            f"* Every turn ends with `{self.tokenizer.convert_ids_to_tokens(self.eot_id)}`. The "
            "chat template of the tokenizer gives the tokens that the model was trained on"
            f"{_roles(self.tokenizer)}.\n"
        )


def _roles(tokenizer: Any) -> str:
    if has_own_template(tokenizer):
        return ": it is that of the model before"
    return "; there are no roles and no system prompt"


def _shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight; ZeRO-3 keeps those of partitioned ones beside them."""
    return {
        name: tuple(getattr(weight, "ds_shape", weight.shape))
        for name, weight in model.named_parameters()
    }


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except (LimaError, OSError):
        raise
    except Exception as error:  # of any class, as transformers validates
        raise ModelError(
            f"{name}: a model trained from it cannot be saved: {whole_reason(error)}; mend its "
            "configuration, or choose another model"
        ) from error
