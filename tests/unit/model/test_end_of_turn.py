"""End-of-turn tokens, masks and special tokens (section 3)."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from lima.errors import ModelError
from lima.model.end_of_turn import (
    add_special_tokens,
    encode_dialogue,
    encode_prompt,
    encode_text,
    refuse_end_of_sequence,
    train_tokenizer,
)

EOT = "<|eot|>"


@pytest.fixture
def tokenizer(tmp_path: Path) -> Any:
    from transformers import AutoTokenizer

    train_tokenizer(["to be or not to be", "that is the question"] * 20, 300, tmp_path)
    return AutoTokenizer.from_pretrained(tmp_path)


@pytest.fixture
def llama_tokenizer(shared_data: Path, tmp_path: Path) -> Any:
    from transformers import AutoTokenizer

    with gzip.open(shared_data / "tokenizer" / "llama-test-tokenizer.json.gz") as stream:
        (tmp_path / "tokenizer.json").write_bytes(stream.read())
    # As users get it: by the class that its settings name, which builds it anew.
    settings = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "LlamaTokenizer", **settings})
    )
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    return AutoTokenizer.from_pretrained(tmp_path)


def test_eot_is_added_once(tokenizer: Any) -> None:
    size = len(tokenizer)
    first = add_special_tokens(tokenizer, EOT)
    assert len(tokenizer) == size + 1
    assert add_special_tokens(tokenizer, EOT) == first
    assert len(tokenizer) == size + 1


def test_every_utterance_ends_with_eot_and_responses_are_marked(tokenizer: Any) -> None:
    eot, _ = add_special_tokens(tokenizer, EOT)
    encoded = encode_dialogue(tokenizer, ["to be?", "not to be", "or?", "that"], eot)
    assert encoded.ids[0] == tokenizer.bos_token_id
    assert encoded.ids.count(eot) == 4
    assert encoded.ids[-1] == eot
    marked = [i for i, m in zip(encoded.ids, encoded.in_response, strict=True) if m]
    assert tokenizer.decode(marked) == f"not to be{EOT}that{EOT}"


def test_a_prompt_is_the_beginning_of_its_dialogue(tokenizer: Any) -> None:
    eot, _ = add_special_tokens(tokenizer, EOT)
    prompt = encode_prompt(tokenizer, ["to be?"], eot)
    assert encode_dialogue(tokenizer, ["to be?", "that"], eot).ids[: len(prompt)] == prompt


def test_text_that_spells_a_special_token_cannot_end_a_turn(tokenizer: Any) -> None:
    eot, _ = add_special_tokens(tokenizer, EOT)
    encoded = encode_dialogue(tokenizer, [f"say {EOT} and </s>", "to be"], eot)
    assert encoded.ids.count(eot) == 2
    assert tokenizer.eos_token_id not in encoded.ids


def test_a_document_carries_no_eot(tokenizer: Any) -> None:
    eot, _ = add_special_tokens(tokenizer, EOT)
    ids = encode_text(tokenizer, "to be").ids
    assert eot not in ids
    assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)


def test_the_end_of_sequence_token_is_refused_as_eot(tokenizer: Any) -> None:
    with pytest.raises(ModelError, match="choose another"):
        refuse_end_of_sequence(tokenizer, "</s>")


def test_a_tokenizer_without_pad_gets_one_that_is_not_eot(llama_tokenizer: Any) -> None:
    assert llama_tokenizer.pad_token_id is None
    eot, pad = add_special_tokens(llama_tokenizer, EOT)
    assert pad == llama_tokenizer.unk_token_id != eot


def test_chat_template_gives_the_same_tokens(tokenizer: Any) -> None:
    eot, _ = add_special_tokens(tokenizer, EOT)
    messages = [{"role": "user", "content": "to be?"}, {"role": "assistant", "content": "or not"}]
    ids = tokenizer.apply_chat_template(messages, return_dict=False)
    assert ids == encode_dialogue(tokenizer, ["to be?", "or not"], eot).ids


def test_lima_has_one_eot_an_utterance(shared_data: Path, llama_tokenizer: Any) -> None:
    eot, _ = add_special_tokens(llama_tokenizer, EOT)
    with gzip.open(shared_data / "lima" / "lima_llamafactory.json.gz") as stream:
        records = json.load(stream)
    assert len(records) > 1000
    for record in records:
        turns = [t for pair in record.get("history", []) for t in pair]
        prompt = "\n".join(x for x in (record["instruction"], record.get("input")) if x)
        conversation = [*turns, prompt, record["output"]]
        assert encode_dialogue(llama_tokenizer, conversation, eot).ids.count(eot) == len(
            conversation
        )
