"""A tiny model of each family of language models, with random weights and a byte-level tokenizer; no network."""

from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SENTENCES = (
    "The cat sat on the mat and looked at the rain.",
    "A function returns the value of its argument, or raises an error.",
    "Interest rates rose in March; the bank said little about why.",
    "She was waiting for her friend, but the road was empty.",
    "Label: positive. Label: negative. Label: neutral. Review: the soup was cold.",
    "Read the file line by line, and count the words in every line.",
)
SPECIAL = {"bos_token": "<bos>", "pad_token": "<pad>", "eos_token": "<eos>", "mask_token": "<mask>"}
SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
}
GROUPED = SHAPE | {"num_key_value_heads": 2, "head_dim": 8}
# Attention over the last 8 tokens only: in every layer of mistral, in some layers of gemma2 and gemma3.
SLIDING = GROUPED | {"sliding_window": 8}
FAMILIES = {
    "llama": (transformers.LlamaForCausalLM, GROUPED),
    "gpt2": (transformers.GPT2LMHeadModel, {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256}),
    "gpt_neox": (transformers.GPTNeoXForCausalLM, SHAPE),
    "qwen3": (transformers.Qwen3ForCausalLM, GROUPED),
    "gemma": (transformers.GemmaForCausalLM, GROUPED),
    "mistral": (transformers.MistralForCausalLM, SLIDING),
    "gemma2": (transformers.Gemma2ForCausalLM, SLIDING | {"query_pre_attn_scalar": 8}),
    "gemma3": (transformers.Gemma3ForCausalLM, SLIDING | {"query_pre_attn_scalar": 8}),
    "bloom": (transformers.BloomForCausalLM, {"hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "t5": (
        transformers.T5ForConditionalGeneration,
        {"d_model": 32, "d_ff": 64, "d_kv": 8, "num_layers": 2, "num_heads": 4},
    ),
    "bert": (transformers.BertForMaskedLM, SHAPE),
}


def tokenizer() -> transformers.PreTrainedTokenizerFast:
    """Byte-level BPE of 400 tokens: four special ones, every byte, and what merges in SENTENCES."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(SPECIAL.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(SENTENCES * 20, trainer)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=core, **SPECIAL)


def build(family: str, **more: object) -> tuple[transformers.PreTrainedModel, transformers.PreTrainedTokenizerFast]:
    """A model of the family, always the same, in evaluation mode, and its tokenizer; `more` goes to its configuration.

    The weights are larger than a fresh model's: its predictions must depend on what stands before.
    """
    words = tokenizer()
    ids = {"bos_token_id": words.bos_token_id, "pad_token_id": words.pad_token_id, "eos_token_id": words.eos_token_id}
    kind, shape = FAMILIES[family]
    if family == "t5":
        ids["decoder_start_token_id"] = words.pad_token_id
    config = kind.config_class(vocab_size=len(words), **ids, **shape, **more)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = kind(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=0.2)
    return model, words


def tiny(family: str, folder: Path) -> Path:
    """The folder, with a model of the family and its tokenizer saved in it."""
    model, words = build(family)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return Path(folder)
