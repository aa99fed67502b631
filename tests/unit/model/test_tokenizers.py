"""What a served model reads is what training reads, for the tokenizers of model families."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lima.errors import ModelError
from lima.model.end_of_turn import check_template, encode_dialogue
from lima.model.loading import load_tokenizer
from lima.model.portable import make_portable
from lima.spec import ModelSpec
from tests.helpers.tokenizers import FAMILIES, make_tokenizer

EOT = "<|eot|>"
TEXTS = st.one_of(
    st.sampled_from(
        [
            "Hello there",
            "Hi",
            " Hi",
            "    def f():\n        return 1",
            "\n\nx",
            "\tx ",
            "  ",
            "x  ",
            "1234 567",
            "é e\u0301 漢字 🙂",
            "a  b\r\nc",
            "<notspecial>",
            "▁x",
            "¿Qué?",
        ]
    ),
    st.text(st.sampled_from(" \n\tabyzAZ019.,;é漢🙂_-()"), max_size=20),
)
LOSSY = {"▁x": "SentencePiece reads its own sign as a space", "é e\u0301 漢字 🙂": "NFC composes"}


def loaded(path: Path) -> tuple[Any, int]:
    tokenizer, eot_id, _ = load_tokenizer(str(path), ModelSpec(str(path)))
    return tokenizer, eot_id


@pytest.fixture(scope="module", params=FAMILIES)
def tokenizers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, Any, int]:
    """Return a family's tokenizer as training has it and as it is exported, and the id of EOT."""
    from transformers import AutoTokenizer

    folder = make_tokenizer(request.param, tmp_path_factory.mktemp(request.param))
    tokenizer, eot_id = loaded(folder)
    tokenizer.save_pretrained(folder / "exported")
    (folder / "exported" / "config.json").write_bytes((folder / "config.json").read_bytes())
    make_portable(folder / "exported")
    return tokenizer, AutoTokenizer.from_pretrained(folder / "exported"), eot_id


def served(tokenizer: Any, conversation: list[str]) -> list[int]:
    messages = [{"role": "user", "content": text} for text in conversation]
    return list(tokenizer.apply_chat_template(messages, return_dict=False))


@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_the_chat_template_gives_the_tokens_of_training(
    tokenizers: tuple[Any, Any, int], conversation: list[str]
) -> None:
    tokenizer, exported, eot_id = tokenizers
    trained = encode_dialogue(tokenizer, conversation, eot_id).ids
    assert trained.count(eot_id) == len(conversation)
    assert served(exported, conversation) == served(tokenizer, conversation) == trained
    assert encode_dialogue(exported, conversation, eot_id).ids == trained


@given(TEXTS)
def test_decoding_gives_the_text_back(tokenizers: tuple[Any, Any, int], text: str) -> None:
    for tokenizer in tokenizers[:2]:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if text not in LOSSY:
            assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


def test_an_exported_tokenizer_is_loaded_unchanged(tmp_path: Path) -> None:
    first, eot_id = loaded(make_tokenizer("llama", tmp_path))
    first.save_pretrained(tmp_path / "a")
    (tmp_path / "a" / "config.json").write_text('{"model_type": "llama"}')
    make_portable(tmp_path / "a")
    again, same = loaded(tmp_path / "a")
    assert same == eot_id
    assert again.backend_tokenizer.to_str() == first.backend_tokenizer.to_str()


def test_an_eot_that_takes_white_space_along_is_read_as_written(tmp_path: Path) -> None:
    folder = make_tokenizer("llama-3", tmp_path)
    state = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    greedy = {"lstrip": True, "rstrip": True, "normalized": True, "single_word": False}
    state["added_tokens"].append({"id": 700, "content": EOT, "special": False, **greedy})
    (folder / "tokenizer.json").write_text(json.dumps(state), "utf-8")
    tokenizer, eot_id = loaded(folder)
    conversation = ["one  ", "\n two", f"three {EOT} spelled"]
    assert (
        served(tokenizer, conversation[:2])
        == encode_dialogue(tokenizer, conversation[:2], eot_id).ids
    )
    assert encode_dialogue(tokenizer, conversation, eot_id).ids.count(eot_id) == 3


def test_a_template_that_gives_other_tokens_is_refused(tmp_path: Path) -> None:
    folder = make_tokenizer("llama-3", tmp_path)
    state = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    reserved = {**state["added_tokens"][0], "id": 700, "content": "<|reserved_7|>"}
    state["added_tokens"].append(reserved)
    (folder / "tokenizer.json").write_text(json.dumps(state), "utf-8")
    tokenizer, eot_id = loaded(folder)
    conversations = [
        [f"this spells {EOT}", "and is left out"],
        ["as does this", "<|reserved_7|>"],
        ["Hello there", "Hi"],
    ]
    check_template(tokenizer, conversations, eot_id)
    tokenizer.chat_template = tokenizer.chat_template.replace(EOT, f" {EOT}")
    with pytest.raises(ModelError, match=r"other tokens than training.*'Hello there'"):
        check_template(tokenizer, conversations, eot_id)


@pytest.mark.parametrize("tokenizer_class", ["LlamaTokenizer", "PreTrainedTokenizerFast"])
def test_all_dialogues_of_lima_are_served_as_they_are_trained(
    shared_data: Path, tmp_path: Path, tokenizer_class: str
) -> None:
    with gzip.open(shared_data / "tokenizer" / "llama-test-tokenizer.json.gz") as stream:
        (tmp_path / "tokenizer.json").write_bytes(stream.read())
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "legacy": False}
    settings = json.dumps({"tokenizer_class": tokenizer_class, **special})
    (tmp_path / "tokenizer_config.json").write_text(settings)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    tokenizer, eot_id = loaded(tmp_path)
    with gzip.open(shared_data / "lima" / "lima_llamafactory.json.gz") as stream:
        records = json.load(stream)
    plain = 0
    for record in records:
        turns = [turn for pair in record.get("history", []) for turn in pair]
        prompt = "\n".join(x for x in (record["instruction"], record.get("input")) if x)
        conversation = [*turns, prompt, record["output"]]
        if any(token in text for token in ("<s>", "</s>", "<unk>") for text in conversation):
            continue
        plain += 1
        trained = encode_dialogue(tokenizer, conversation, eot_id)
        assert served(tokenizer, conversation) == trained.ids
        response = [i for i, mine in zip(trained.ids, trained.in_response, strict=True) if mine]
        if len(conversation) == 2:
            assert tokenizer.decode(response[:-1]) == record["output"]
    assert plain > 1000
