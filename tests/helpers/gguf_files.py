"""Small models as GGUF files: made with llama.cpp's own library, not downloaded."""

from pathlib import Path
from typing import Any

import numpy as np

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""As SmolLM2 and Qwen write a conversation."""
NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "model.layers.": "blk.",
}


def make_gguf(file: Path, tokenizer: Path) -> dict[str, Any]:
    """Write a LLaMA of random weights; return them as transformers names them, as the file has
    them: those of the feed-forward layers are quantised."""
    import torch
    from gguf import GGMLQuantizationType, GGUFWriter, dequantize, quantize
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokens = AutoTokenizer.from_pretrained(tokenizer)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokens),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        max_position_embeddings=256,
    )
    state = LlamaForCausalLM(config).state_dict()
    writer = GGUFWriter(file, "llama")
    _describe(writer, config, tokens)
    expected = {}
    for name, weight in state.items():
        values = weight.numpy()
        ours = name
        for theirs, short in NAMES.items():
            ours = ours.replace(theirs, short)
        if "mlp" in name:
            kind = GGMLQuantizationType.Q8_0
            values = quantize(values, kind)
            expected[name] = torch.from_numpy(dequantize(values, kind).copy())
            writer.add_tensor(ours, values, raw_dtype=kind)
            continue
        expected[name] = weight
        heads = {"q_proj": 4, "k_proj": 2}.get(name.split(".")[-2], 0)
        writer.add_tensor(ours, _interleaved(values, heads) if heads else values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected


def _interleaved(values: Any, heads: int) -> Any:
    """Return query or key weights in llama.cpp's order of a head's dimensions."""
    rows, columns = values.shape
    pairs = values.reshape(heads, 2, rows // heads // 2, columns)
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(rows, columns))


def _describe(writer: Any, config: Any, tokens: Any) -> None:
    import json

    from gguf import TokenType

    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    names = tokens.convert_ids_to_tokens(range(len(tokens)))
    special = {str(token) for token in tokens.added_tokens_decoder.values()}
    writer.add_token_list(names)
    writer.add_token_types(
        [TokenType.CONTROL if name in special else TokenType.NORMAL for name in names]
    )
    merges = json.loads(tokens.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(tokens.bos_token_id)
    writer.add_eos_token_id(tokens.eos_token_id)
    writer.add_pad_token_id(tokens.eos_token_id)
    writer.add_unk_token_id(tokens.unk_token_id)
    writer.add_chat_template(CHATML)
