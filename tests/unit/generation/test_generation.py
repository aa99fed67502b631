"""Sampling: the right distribution, and rows that depend on nothing but their address."""

import copy
import math
import random
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lima.data.examples import Example
from lima.errors import ModelError, SpecError
from lima.generation.cache import ROOM, RowLayer
from lima.generation.engine import Request, SampledResponse
from lima.generation.processors import NO_TOKEN, build_processors
from lima.generation.run import generate_shard, load_engine, pending_shards, plan_shards
from lima.generation.shared import SharedEngine
from lima.generation.transformers_engine import TransformersEngine
from lima.model.end_of_turn import encode_prompt, train_tokenizer
from lima.spec import CellSpec, ComputeSpec, DataSpec, DecodingSpec, GenerateSpec, ModelSpec
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import GENERATIONS
from tests.helpers.frequencies import chi_square, reference

VOCAB, CONTEXT, NO_EOT = 320, 64, -1
LIMA = DecodingSpec(max_new_tokens=24)
"""The paper's decoding, shorter."""


@pytest.fixture(scope="module")
def model() -> Any:
    """A random model whose distributions are neither flat nor certain."""
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(
        vocab_size=VOCAB,
        max_position_embeddings=CONTEXT,
        initializer_range=0.3,
        **shape,
        **heads,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    return LlamaForCausalLM(config).eval()


def engine(
    model: Any,
    decoding: DecodingSpec = LIMA,
    *,
    eot: int = NO_EOT,
    seed: int = 5,
    batch: int = 8,
    places: int | None = None,
) -> TransformersEngine:
    return TransformersEngine(model, eot, decoding, seed, batch, batch_tokens=places)


def requests(lengths: Sequence[int] = (3, 17, 1, 30, 8, 8), samples: int = 2) -> list[Request]:
    draw = random.Random(1)
    prompts = [[draw.randrange(VOCAB) for _ in range(length)] for length in lengths]
    return [Request(p, f"key{i}", s) for i, p in enumerate(prompts) for s in range(samples)]


def tokens(responses: Sequence[SampledResponse]) -> list[list[int]]:
    return [response.token_ids for response in responses]


@pytest.mark.parametrize(
    ("decoding", "wrong"),
    [
        (DecodingSpec(), {"temperature": 0.8}),
        (DecodingSpec(), {"repetition_penalty": 1.0}),
        (DecodingSpec(), {"top_p": 0.85}),
        (DecodingSpec(top_k=12, top_p=1.0), {"top_k": 0}),
        (DecodingSpec(top_p=1.0, temperature=1.0, repetition_penalty=1.0), {"top_p": 0.99}),
    ],
)
def test_sampled_frequencies_are_those_of_transformers(
    model: Any, decoding: DecodingSpec, wrong: dict[str, float]
) -> None:
    # The likely tokens are in the prompt, so that the penalty matters.
    likely = reference(model, [3, 1, 4], decoding).argsort()[-40:].tolist()
    prompt = [*likely, 3, 1, 4]
    sampler = engine(model, replace(decoding, max_new_tokens=1), batch=1000)
    responses = sampler.generate([Request(prompt, "key", sample) for sample in range(8000)])
    counts = Counter(response.token_ids[0] for response in responses)
    assert chi_square(counts, reference(model, prompt, decoding)) > 0.001
    assert chi_square(counts, reference(model, prompt, replace(decoding, **wrong))) < 1e-6  # type: ignore[arg-type]


def test_rows_are_independent_of_batch_size_and_order(model: Any) -> None:
    asked = requests()
    together = engine(model).generate(asked)
    shuffled = random.Random(2).sample(asked, len(asked))
    for batch in (1, 3, 100):
        again = engine(model, batch=batch).generate(shuffled)
        assert [again[shuffled.index(request)].token_ids for request in asked] == tokens(together)


def test_rows_are_independent_of_the_room_for_keys_and_values(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    longer = copy.deepcopy(model)
    longer.config.max_position_embeddings = 400
    decoding = replace(LIMA, max_new_tokens=200)
    asked = requests()
    expected = engine(longer, decoding).generate(asked)
    stored: list[int] = []
    put_back: list[int] = []
    lay, within = RowLayer._lay, TransformersEngine._within_places

    def laid(self: RowLayer, keys: Any, values: Any) -> None:
        lay(self, keys, values)
        stored.append(self._stored[0].shape[0] * self._stored[0].shape[2])

    def counted(self: TransformersEngine, batch: Any) -> Any:
        kept, others = within(self, batch)
        put_back.append(len(others))
        return kept, others

    monkeypatch.setattr(RowLayer, "_lay", laid)
    monkeypatch.setattr(TransformersEngine, "_within_places", counted)
    for places, often in ((1, 0), (600, 8), (1500, 8), (10**6, 0)):
        again = engine(longer, decoding, places=places).generate(asked)
        assert tokens(again) == tokens(expected)
        assert [r.logprob for r in again] == pytest.approx([r.logprob for r in expected], abs=1e-3)
        # A row alone takes what it needs.
        assert max(stored) <= max(places, 30 + 200 + ROOM)
        assert min(often, 1) <= sum(put_back) <= often
        stored.clear()
        put_back.clear()


def test_samples_of_a_prompt_have_it_read_once(model: Any) -> None:
    read: list[int] = []
    counted = copy.deepcopy(model)
    counted.register_forward_pre_hook(
        lambda _, __, given: read.append(given["input_ids"].shape[0]), with_kwargs=True
    )
    asked = requests([20, 30], samples=5)
    together = engine(counted, batch=10).generate(asked)
    assert read[:2] == [2, 10]
    for one, request in zip(together, asked, strict=True):
        (alone,) = engine(model).generate([request])
        assert one.token_ids == alone.token_ids
        assert one.logprob == pytest.approx(alone.logprob, abs=1e-3)


def test_padding_cannot_spread_what_is_not_a_number(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some CUDA kernels give NaN for a row of attention that sees nothing, as softmax does."""
    alone = [engine(model, batch=1).generate([asked])[0] for asked in requests()]

    def softmax_of_nothing_is_nan(
        query: Any, key: Any, value: Any, attn_mask: Any = None, is_causal: bool = False, **_: Any
    ) -> Any:
        if is_causal:
            attn_mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool).tril()
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        if attn_mask is not None:
            scores = scores.masked_fill(~attn_mask, -math.inf)
        return scores.softmax(-1) @ value

    monkeypatch.setattr(
        torch.nn.functional, "scaled_dot_product_attention", softmax_of_nothing_is_nan
    )
    together = engine(model).generate(requests())
    assert tokens(together) == tokens(alone)


def test_a_row_is_independent_of_the_length_of_its_batch_mates(model: Any) -> None:
    short = requests([3], samples=1)[0]
    alone = engine(model).generate([short])[0]
    for length in (4, 20, 39):
        beside = engine(model).generate([short, Request([9] * length, "other", 0)])[0]
        assert beside.token_ids == alone.token_ids
        assert beside.logprob == pytest.approx(alone.logprob, abs=1e-4)


def with_logits(model: Any, logits: dict[int, float]) -> Any:
    """Return a model that gives some tokens these logits at every place, and the others 0."""
    changed = copy.deepcopy(model)
    changed.lm_head = torch.nn.Linear(model.config.hidden_size, VOCAB)
    torch.nn.init.zeros_(changed.lm_head.weight)
    torch.nn.init.zeros_(changed.lm_head.bias)
    for token, logit in logits.items():
        changed.lm_head.bias.data[token] = logit
    return changed


def test_padding_is_not_penalised(model: Any) -> None:
    # Token 0 fills the padded places: were it penalised there, token 1 would win.
    likely = with_logits(model, {0: 5.0, 1: 4.8})
    greedy = replace(LIMA, temperature=0, max_new_tokens=2)
    padded, _ = engine(likely, greedy).generate([Request([7], "a", 0), Request([7] * 30, "b", 0)])
    assert padded.token_ids == [0, 1]


def test_an_address_replays_alone_and_samples_and_seeds_differ(model: Any) -> None:
    asked = requests()
    responses = tokens(engine(model).generate(asked))
    assert engine(model).generate([asked[7]])[0].token_ids == responses[7]
    assert len({tuple(response) for response in responses}) == len(asked)
    assert engine(model, seed=6).generate([asked[7]])[0].token_ids != responses[7]


def test_a_response_ends_before_eot(model: Any) -> None:
    asked = requests()
    free = tokens(engine(model).generate(asked))
    eot = free[0][10]
    responses = engine(model, eot=eot).generate(asked)
    for endless, response in zip(free, responses, strict=True):
        ends = eot in endless
        assert response.token_ids == (endless[: endless.index(eot)] if ends else endless)
        assert response.finish_reason == ("eot" if ends else "length")
    assert {response.finish_reason for response in responses} == {"eot", "length"}


def test_the_context_limits_responses_and_prompts(model: Any) -> None:
    lengths = [CONTEXT - 30, CONTEXT - 4, CONTEXT, CONTEXT + 9]
    responses = engine(model).generate(requests(lengths, samples=1))
    assert [len(response.token_ids) for response in responses] == [24, 4, 0, 0]
    reasons = [response.finish_reason for response in responses]
    assert reasons == ["length", "length", "prompt_too_long", "prompt_too_long"]
    assert responses[3].logprob == 0


def test_greedy_is_that_of_transformers(model: Any) -> None:
    greedy = replace(LIMA, temperature=0)
    for request in requests(samples=1):
        expected = model.generate(
            torch.tensor([request.token_ids]),
            do_sample=False,
            max_new_tokens=24,
            repetition_penalty=1.2,
        )
        response = engine(model, greedy).generate([request])[0]
        assert response.token_ids == expected[0, len(request.token_ids) :].tolist()


@pytest.mark.parametrize("decoding", [LIMA, replace(LIMA, temperature=0)])
def test_logprob_is_that_of_a_plain_forward_pass(model: Any, decoding: DecodingSpec) -> None:
    asked = requests()
    eot = engine(model).generate(asked)[0].token_ids[10]
    processors = build_processors(decoding)
    for request, response in zip(
        asked, engine(model, decoding, eot=eot).generate(asked), strict=True
    ):
        sampled = [*response.token_ids, *([eot] if response.finish_reason == "eot" else [])]
        text = torch.tensor([[*request.token_ids, *sampled]])
        with torch.inference_mode():
            logits = model(text).logits
        expected = 0.0
        for place in range(len(request.token_ids), text.shape[1]):
            scores = processors(text[:, :place], logits[:, place - 1])
            expected += float(scores.log_softmax(-1)[0, text[0, place]])
        assert response.logprob == pytest.approx(expected, abs=1e-3)


def test_a_model_without_numbers_is_refused(model: Any) -> None:
    with pytest.raises(ModelError, match="not numbers"):
        engine(with_logits(model, {4: math.nan})).generate(requests())


EXAMPLES = [
    Example(("How does rain form?", "Water cools."), "authored"),
    Example(("Name a river.",), "authored"),
    Example(("Hi.", "Hello!", "Who was Ada Lovelace?"), "dialogue"),
    Example(("Name a river.", "The Oder."), "again"),
    Example(("Why is the sky blue? " * 20,), "long"),
]


def test_shards_are_named_by_their_prompts() -> None:
    shards = plan_shards(EXAMPLES, 3)
    assert [[index for index, _ in shard.prompts] for shard in shards] == [[0, 1, 2], [4]]
    assert shards == plan_shards(EXAMPLES, 3)
    assert all(s.name.startswith(f"prompts-0000{i}-") for i, s in enumerate(shards))
    other = plan_shards([*EXAMPLES[1:], EXAMPLES[0]], 3)
    assert {shard.name for shard in other}.isdisjoint(shard.name for shard in shards)


@pytest.fixture
def cell(model: Any, tmp_path: Path) -> CellSpec:
    folder = tmp_path / "model"
    train_tokenizer([turn for e in EXAMPLES for turn in e.conversation], VOCAB - 1, folder)
    model.save_pretrained(folder)
    spec = GenerateSpec(
        DataSpec("authored:howto"),
        ModelSpec(str(folder), eot_token="</s>"),
        replace(LIMA, samples=2),
        compute=ComputeSpec(device="cpu", precision="fp32"),
    )
    return CellSpec("study", "arm", 3, generate=spec)


def test_rows_of_a_shard(cell: CellSpec, tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "storage"))
    loaded = load_engine(cell, storage)
    table = RunTable(storage, GENERATIONS, cell)
    shards = plan_shards(EXAMPLES, 3)
    for shard in pending_shards(shards, table):
        rows = generate_shard(loaded, cell, shard)
        assert table.write(shard.name, rows)
    assert pending_shards(shards, table) == []
    (tmp_path / "storage" / table.path(shards[0].name)).unlink()
    assert pending_shards(shards, table) == shards[:1]

    found = {(row["prompt_index"], row["sample"]): row for row in rows}
    assert set(found) == {(4, 0), (4, 1)}
    too_long = found[4, 0]
    assert too_long["finish_reason"] == "prompt_too_long"
    assert (too_long["response"], too_long["token_ids"], too_long["response_tokens"]) == ("", [], 0)
    assert too_long["seed_address"] == f"3/{EXAMPLES[4].prompt_key}/0"
    assert len({row["generation_key"] for row in rows}) == 2


def test_a_dialogue_is_asked_with_all_its_turns(cell: CellSpec, tmp_path: Path) -> None:
    loaded = load_engine(cell, Storage(str(tmp_path)))
    shard = plan_shards(EXAMPLES[2:3], 3)[0]
    row = generate_shard(loaded, cell, shard)[1]
    ids = encode_prompt(loaded.tokenizer, EXAMPLES[2].conversation, loaded.eot_id)
    assert ids.count(loaded.eot_id) == 3
    assert row["prompt"] == list(EXAMPLES[2].conversation)
    assert row["prompt_tokens"] == len(ids)
    alone = loaded.engine.generate([Request(ids, EXAMPLES[2].prompt_key, 1)])[0]
    assert row["token_ids"] == alone.token_ids
    assert row["response"] == loaded.tokenizer.decode(alone.token_ids)
    assert row["response_tokens"] == len(alone.token_ids) > 0


def test_shards_that_are_sampled_together_have_the_rows_of_each_alone(
    cell: CellSpec, tmp_path: Path
) -> None:
    shards = plan_shards(EXAMPLES, 1)
    alone = load_engine(cell, Storage(str(tmp_path)))
    assert isinstance(alone.engine, TransformersEngine)
    together = replace(alone, engine=SharedEngine(alone.engine))
    expected = [generate_shard(alone, cell, shard) for shard in shards]
    with ThreadPoolExecutor(len(shards)) as pool:
        found = list(pool.map(partial(generate_shard, together, cell), shards))
    for rows in [*expected, *found]:
        for row in rows:
            row["at"], row["logprob"] = None, pytest.approx(row["logprob"], abs=1e-4)
    assert found == expected


def test_a_cell_without_the_stage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no stage generate"):
        load_engine(CellSpec("study", "arm"), Storage(str(tmp_path)))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("flat", [0.01, 1.0, 3.0, 8.0])
def test_the_nucleus_is_that_of_transformers(p: float, flat: float) -> None:
    from transformers import TopPLogitsWarper

    from lima.generation.nucleus import QuickTopP

    torch.manual_seed(0)
    scores = torch.randn(40, 5000) * flat
    # Equal scores at the edge, one token alone, and none that is finite but few.
    scores[0] = 0.0
    scores[1, 7] = 100.0
    scores[2, 3:] = -math.inf
    scores[3] = scores[3].round()
    ids = torch.zeros(40, 1, dtype=torch.long)
    ours, theirs = QuickTopP(p)(ids, scores), TopPLogitsWarper(p)(ids, scores)
    assert torch.equal(ours.sort(-1).values, theirs.sort(-1).values)
    different = [row for row in range(40) if len(set(scores[row].tolist())) == 5000]
    assert len(different) > 20
    assert torch.equal(ours[different], theirs[different])


@pytest.mark.parametrize("p", [0.5, 0.9])
def test_of_equal_tokens_the_nucleus_has_those_of_the_lowest_ids(p: float) -> None:
    from lima.generation.nucleus import QuickTopP

    torch.manual_seed(0)
    scores = (torch.randn(40, 5000) * 3).bfloat16().float()  # as bf16 has them: many are equal
    ours = QuickTopP(p)(torch.zeros(40, 1, dtype=torch.long), scores)
    cut = 0
    for row, found in zip(scores, ours, strict=True):
        ordered = sorted(range(5000), key=lambda token: (-float(row[token]), token))
        mass = row.double().softmax(-1)[ordered]
        count = int((mass.cumsum(-1) - mass < p).sum())
        left = (found > -math.inf).nonzero().squeeze(-1).tolist()
        assert left == sorted(ordered[:count])
        cut += int(row[ordered[count]] == row[ordered[count - 1]])
    assert cut > 5, "equals at the edge are what is tested"


def test_the_penalty_is_that_of_transformers() -> None:
    from transformers import RepetitionPenaltyLogitsProcessor

    from lima.generation.penalty import QuickPenalty

    torch.manual_seed(0)
    scores = torch.randn(8, 3000) * 5
    history = torch.randint(0, 3000, (8, 60))
    history[:5, :20] = NO_TOKEN
    history[:, 30] = history[:, 31]
    before = scores.clone()
    expected = RepetitionPenaltyLogitsProcessor(1.2)(history, scores)
    assert torch.equal(QuickPenalty(1.2)(history, scores), expected)
    assert torch.equal(scores, before)


def test_the_mass_of_a_nucleus_is_that_of_torch() -> None:
    from lima.generation.sampling import _logsumexp

    torch.manual_seed(0)
    scores = torch.randn(16, 5000) * 4
    scores[scores < 6] = -math.inf
    scores[:, 0] = 5.0
    assert torch.equal(_logsumexp(scores), scores.logsumexp(-1))


def test_a_finished_row_makes_room_for_the_next_request(model: Any) -> None:
    calls: list[int] = []
    counted = copy.deepcopy(model)
    counted.register_forward_hook(lambda *_: calls.append(1))
    asked = requests([5] * 24, samples=1)
    eot = Counter(t for row in tokens(engine(model).generate(asked)) for t in row).most_common(1)
    responses = engine(counted, eot=eot[0][0], batch=4).generate(asked)
    steps = [len(r.token_ids) + (r.finish_reason == "eot") for r in responses]
    assert min(steps) < max(steps)
    ordered = [steps[i] for i in sorted(range(24), key=lambda i: asked[i].prompt_key)]
    waiting = sum(max(ordered[at : at + 4]) for at in range(0, 24, 4))
    assert len(calls) < waiting
