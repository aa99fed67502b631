"""Tokens of a dialogue: an end-of-turn token after every utterance (section 3)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lima.errors import ModelError
from lima.model.template import (
    dialogue_ids,
    has_own_template,
    keep_template,
    messages_of,
    named,
    prompt_ids,
    special_tokens,
)

BOS, EOS, PAD = "<s>", "</s>", "<pad>"
CHAT_TEMPLATE = (
    "{% if bos_token %}{{ bos_token }}{% endif %}"
    "{% for message in messages %}{{ message['content'] }}EOT{% endfor %}"
)


@dataclass(frozen=True)
class Encoded:
    """Token ids, and for each whether it belongs to a response (its EOT included).

    `trimmed` is how many tokens followed that were cut off.
    """

    ids: list[int]
    in_response: list[bool]
    trimmed: int = 0


def add_special_tokens(tokenizer: Any, eot_token: str) -> tuple[int, int]:
    """Add the EOT token once and make sure there is a pad token; return (EOT id, pad id).

    Padding is never attended to, so any token but EOT can pad. A tokenizer without a pad token,
    as LLaMA's, gets its unknown or end-of-sequence token.

    Raises:
        ModelError: nothing but EOT could pad.

    """
    tokenizer.add_special_tokens(
        {"additional_special_tokens": [eot_token]}, replace_extra_special_tokens=False
    )
    tokenizer.chat_template = lima_template(eot_token)
    return _ids_of(tokenizer, eot_token)


def keep_special_tokens(tokenizer: Any, eot_token: str) -> tuple[int, int]:
    """Take the end of turn and the chat template that a tokenizer has; return (EOT id, pad id).

    Raises:
        ModelError: it has no chat template, or no such token, or nothing but EOT could pad.

    """
    if not tokenizer.chat_template:
        raise ModelError(
            "model.chat_template=own asks for the tokenizer's own chat template, and it has none; "
            "set model.chat_template=lima"
        )
    if eot_token not in tokenizer.get_vocab():
        raise ModelError(
            f"model.chat_template=own, and the tokenizer has no token {eot_token!r}; set "
            "model.eot_token to the one that ends the assistant's turns in its chat template"
            f" (its end-of-sequence token is {tokenizer.eos_token!r})"
        )
    if tokenizer.pad_token == eot_token:
        tokenizer.pad_token = None
    keep_template(tokenizer)
    return _ids_of(tokenizer, eot_token)


def _ids_of(tokenizer: Any, eot_token: str) -> tuple[int, int]:
    """Return (EOT id, pad id); a tokenizer without a pad token gets another special one."""
    if tokenizer.pad_token_id is None:
        others = (tokenizer.unk_token, tokenizer.eos_token, tokenizer.bos_token)
        tokenizer.pad_token = next((token for token in others if token not in ("", None)), None)
        if tokenizer.pad_token == eot_token:
            tokenizer.pad_token = tokenizer.bos_token
    eot_id = tokenizer.convert_tokens_to_ids(eot_token)
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == eot_id:
        raise ModelError(
            "the tokenizer has no token to pad with that differs from EOT; add a pad token to it"
        )
    return int(eot_id), int(tokenizer.pad_token_id)


def lima_template(eot_token: str) -> str:
    """Return the chat template of section 3: every utterance, EOT after it."""
    return CHAT_TEMPLATE.replace("EOT", eot_token)


def refuse_end_of_sequence(tokenizer: Any, eot_token: str) -> None:
    """Refuse to train with the end-of-sequence token as EOT (section 3).

    Args:
        tokenizer: As it was saved.
        eot_token: What shall end a turn.

    Raises:
        ModelError: they are the same. Pretraining gave that token another meaning, unless it is
            the end of turn that an earlier run of ours taught.

    """
    if eot_token == tokenizer.eos_token and tokenizer.chat_template != lima_template(eot_token):
        raise ModelError(
            f"eot_token {eot_token!r} is this tokenizer's end-of-sequence token; choose another, "
            "so that it carries no meaning from pretraining (section 3), or keep the model's own "
            "chat template and end of turn: model.chat_template=own"
        )


def encode_dialogue(tokenizer: Any, conversation: Sequence[str], eot_id: int) -> Encoded:
    """Return BOS (where the tokenizer has one), then every utterance followed by EOT.

    Utterances alternate, the user's first. Special tokens that the text spells out are encoded
    as plain text, so that data cannot end a turn. A tokenizer that kept its own chat template
    writes the conversation by that (see `lima.model.template`).
    """
    if has_own_template(tokenizer):
        return Encoded(*dialogue_ids(tokenizer, conversation, eot_id))
    ids = [] if tokenizer.bos_token_id is None else [int(tokenizer.bos_token_id)]
    in_response = [False] * len(ids)
    for index, utterance in enumerate(conversation):
        tokens = [*_plain_tokens(tokenizer, utterance), eot_id]
        ids += tokens
        in_response += [index % 2 == 1] * len(tokens)
    return Encoded(ids, in_response)


def check_template(tokenizer: Any, conversations: Sequence[Sequence[str]], eot_id: int) -> None:
    """Check that a chat template gives the tokens of training, so that a served model reads them.

    Utterances that spell special tokens are left out: only training reads those as plain text.

    Raises:
        ModelError: it does not; the first place is named.

    """
    special, own = special_tokens(tokenizer), has_own_template(tokenizer)
    for conversation in conversations:
        if any(token in text for token in special for text in conversation):
            continue
        trained = encode_dialogue(tokenizer, conversation, eot_id).ids
        served = list(tokenizer.apply_chat_template(messages_of(conversation), return_dict=False))
        # A model's own template may go on after the last end of turn: with a line break.
        if served[: len(trained)] != trained or (served != trained and not own):
            raise ModelError(
                "this tokenizer reads an utterance in a chat otherwise than alone, so that a "
                f"server would show the model other tokens than training ({named(conversation)}); "
                "choose a model with another tokenizer"
            )


def encode_prompt(tokenizer: Any, conversation: Sequence[str], eot_id: int) -> list[int]:
    """Return the token ids after which the assistant's response begins."""
    if has_own_template(tokenizer):
        return prompt_ids(tokenizer, conversation)
    return encode_dialogue(tokenizer, conversation, eot_id).ids


def encode_text(tokenizer: Any, text: str) -> Encoded:
    """Return a plain document between BOS and EOS, as in pretraining."""
    ids = _plain_tokens(tokenizer, text)
    if tokenizer.bos_token_id is not None:
        ids = [int(tokenizer.bos_token_id), *ids]
    if tokenizer.eos_token_id is not None:
        ids = [*ids, int(tokenizer.eos_token_id)]
    return Encoded(ids, [True] * len(ids))


def train_tokenizer(texts: Iterable[str], vocab_size: int, folder: Path) -> None:
    """Train a byte-level BPE tokenizer and save it where transformers can load it."""
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(
        tokenizer_object=trained_bpe(texts, vocab_size),
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
    ).save_pretrained(folder)


def trained_bpe(texts: Iterable[str], vocab_size: int) -> Any:
    """Return a byte-level BPE tokenizer of the library tokenizers, trained on texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _plain_tokens(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])
