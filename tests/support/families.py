"""Small cross-encoders of five families: random weights, real tokenizer classes, own vocabulary."""

from pathlib import Path
from typing import Any

import torch
import transformers
from small_data import WORDS
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

FAMILIES = ("bert", "roberta", "xlm-roberta", "deberta-v2", "modernbert")

_BERT_SIZES = {"hidden_size": 32, "num_attention_heads": 4, "max_position_embeddings": 160}
_HEADS: dict[str, tuple[str, dict[str, Any]]] = {
    "electra": ("bert", {**_BERT_SIZES, "embedding_size": 16, "intermediate_size": 48}),
    "distilbert": ("bert", {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48}),
    "albert": ("deberta-v2", {**_BERT_SIZES, "embedding_size": 16, "intermediate_size": 48}),
    "longformer": (
        "roberta",
        {
            "hidden_size": 32,
            "num_attention_heads": 4,
            "num_hidden_layers": 2,
            "intermediate_size": 48,
            "max_position_embeddings": 162,
            "attention_window": [16, 16],
        },
    ),
    "mpnet": (
        "roberta",
        {
            "hidden_size": 32,
            "num_attention_heads": 4,
            "num_hidden_layers": 2,
            "intermediate_size": 48,
            "max_position_embeddings": 162,
        },
    ),
}
"""Of each family: the one whose tokenizer it has here, and the sizes of its configuration."""

TEXTS = [
    "The quick brown fox jumps over the lazy dog and runs away.",
    "Wing flutter at high speed was measured in the tunnel, as in 1956.",
    "Zebras, cafés and naïve questions: what is a covid-19 vaccine?",
    "Reading a file line by line without loading it; sorted, unique, fast!",
    "東京は日本の首都です。 Привет, мир. مرحبا بالعالم",
] * 4


def make_family(family: str, folder: Path) -> Path:
    """Write a two-layer model with its tokenizer and return its folder."""
    tokenizer, names = _TOKENIZERS[family]()
    drawn(_config(family, tokenizer), folder)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    fast.save_pretrained(folder)
    return folder


def drawn(config: transformers.PretrainedConfig, folder: Path) -> Path:
    """Write a sequence-classification model of this configuration and return its folder."""
    torch.manual_seed(7)
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():  # larger weights, so that a wrong token shows in the logit
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
    model.save_pretrained(folder)
    return folder


def headed(head: str, tmp_path: Path) -> Path:
    """A cross-encoder with a head of this family."""
    family, settings = _HEADS[head]
    folder = make_family(family, tmp_path / head)
    before = transformers.AutoConfig.from_pretrained(folder)
    config = transformers.AutoConfig.for_model(
        head,
        vocab_size=before.vocab_size,
        pad_token_id=before.pad_token_id,
        num_labels=1,
        **settings,
    )
    return drawn(config, folder)


def _config(family: str, tokenizer: Tokenizer) -> transformers.PretrainedConfig:
    sizes = {
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "num_labels": 1,
        "pad_token_id": tokenizer.token_to_id("<pad>" if "roberta" in family else "[PAD]"),
    }
    extra = {
        "bert": {"max_position_embeddings": 160},
        "roberta": {"max_position_embeddings": 162, "type_vocab_size": 1},
        "xlm-roberta": {"max_position_embeddings": 162, "type_vocab_size": 1},
        "deberta-v2": {
            "max_position_embeddings": 160,
            "type_vocab_size": 0,
            "relative_attention": True,
            "position_buckets": 32,
            "pos_att_type": ["p2c", "c2p"],
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "position_biased_input": False,
            "pooler_hidden_size": 32,
        },
        "modernbert": {
            "max_position_embeddings": 160,
            "global_attn_every_n_layers": 2,
            "local_attention": 16,
            "cls_token_id": tokenizer.token_to_id("[CLS]"),
            "sep_token_id": tokenizer.token_to_id("[SEP]"),
            "bos_token_id": tokenizer.token_to_id("[CLS]"),
            "eos_token_id": tokenizer.token_to_id("[SEP]"),
        },
    }[family]
    return transformers.AutoConfig.for_model(family, **{**sizes, **extra})


def _wordpiece() -> tuple[Tokenizer, dict[str, str]]:
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    # BERT's own ids, so that Vespa's built-in token functions apply: fill up to 100.
    unused = [f"[unused{number}]" for number in range(99)]
    words = sorted({word for text in TEXTS for word in text.lower().split()} | set(WORDS))
    signs = sorted({sign for word in words for sign in word})
    pieces = [names[0], *unused, *names[1:], *signs, *[f"##{sign}" for sign in signs], *words]
    # Written out, not trained: a trainer breaks ties differently in each process.
    vocabulary = {piece: row for row, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.add_special_tokens(names)
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = _template(tokenizer, "[CLS]", "[SEP]", segments=True)
    return tokenizer, _names(names)


def _byte_bpe(cls: str, sep: str, names: list[str], *, double: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=450,
        special_tokens=names,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    if double:
        tokenizer.post_processor = processors.RobertaProcessing(
            (sep, tokenizer.token_to_id(sep)),
            (cls, tokenizer.token_to_id(cls)),
            add_prefix_space=False,
        )
    else:
        tokenizer.post_processor = _template(tokenizer, cls, sep, segments=False)
    return tokenizer


def _roberta() -> tuple[Tokenizer, dict[str, str]]:
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    return _byte_bpe("<s>", "</s>", names, double=True), _names(
        ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]
    )


def _modernbert() -> tuple[Tokenizer, dict[str, str]]:
    # As in the published tokenizer, id 0 is an ordinary added token that a text may contain.
    names = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    tokenizer = _byte_bpe("[CLS]", "[SEP]", ["|||IP_ADDRESS|||", *names], double=False)
    return tokenizer, _names(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])


def _unigram(names: list[str], cls: str, sep: str, *, double: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    unk = "<unk>" if "<unk>" in names else "[UNK]"
    trainer = trainers.UnigramTrainer(vocab_size=300, special_tokens=names, unk_token=unk)
    tokenizer.train_from_iterator(TEXTS, trainer)
    pair = f"{cls} $A {sep} {sep} $B {sep}" if double else f"{cls} $A {sep} $B:1 {sep}:1"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=pair,
        special_tokens=[(cls, tokenizer.token_to_id(cls)), (sep, tokenizer.token_to_id(sep))],
    )
    return tokenizer


def _xlm_roberta() -> tuple[Tokenizer, dict[str, str]]:
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    return _unigram(names, "<s>", "</s>", double=True), _names(
        ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]
    )


def _deberta() -> tuple[Tokenizer, dict[str, str]]:
    names = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
    return _unigram(names, "[CLS]", "[SEP]", double=False), _names(
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    )


def _template(
    tokenizer: Tokenizer, cls: str, sep: str, *, segments: bool
) -> processors.TemplateProcessing:
    second = ":1" if segments else ""
    return processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B{second} {sep}{second}",
        special_tokens=[(cls, tokenizer.token_to_id(cls)), (sep, tokenizer.token_to_id(sep))],
    )


def _names(tokens: list[str]) -> dict[str, str]:
    kinds = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return dict(zip(kinds, tokens, strict=True))


_TOKENIZERS = {
    "bert": _wordpiece,
    "roberta": _roberta,
    "xlm-roberta": _xlm_roberta,
    "deberta-v2": _deberta,
    "modernbert": _modernbert,
}
