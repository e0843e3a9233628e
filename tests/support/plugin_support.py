"""Existing applications: real folders in tests/applications, and schemas in unusual styles."""

import hashlib
import json
import shutil
from pathlib import Path

from engine_support import tokenizer_json, write_model

from ranker.artifacts.bundle import Bundle, write_hashes
from ranker.contract.encode import spec_of_tokenizer
from ranker.files import write_json, write_text

APPLICATIONS = Path(__file__).parents[1] / "applications"


def application(name: str, folder: Path) -> Path:
    """A copy of one of the application packages, in a new folder."""
    return Path(shutil.copytree(APPLICATIONS / name, folder / name))


def digest(root: Path) -> dict[str, str]:
    """Every file with its hash, and every folder."""
    return {
        path.relative_to(root).as_posix(): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        )
        for path in sorted(root.rglob("*"))
    }


def bert_bundle(folder: Path) -> Bundle:
    """The tiny model with BERT's own special ids, for which Vespa has token functions."""
    content = json.loads(tokenizer_json())

    def moved(id_: int) -> int:
        return id_ and id_ + 99  # 1, 2, 3 become 100, 101, 102

    model, post = content["model"], content["post_processor"]
    model["vocab"] = {word: moved(id_) for word, id_ in model["vocab"].items()}
    for token in content["added_tokens"]:
        token["id"] = moved(token["id"])
    for token in post["special_tokens"].values():
        token["ids"] = [moved(id_) for id_ in token["ids"]]
    tokenizer = json.dumps(content)
    spec = spec_of_tokenizer(tokenizer, vocabulary_size=150, max_positions=512, segments=True)
    folder.mkdir(parents=True)
    write_model(folder / "model.onnx", spec)
    write_text(folder / "tokenizer.json", tokenizer)
    write_json(folder / "spec.json", spec.to_dict())
    write_json(folder / "parity.json", {})
    about = {"blend_weight": 2.0, "recommended_profile": "blend", "training": {}}
    write_json(folder / "bundle.json", about)
    write_hashes(folder)
    return Bundle.open(folder)


PLAIN = """\
schema NAME {
    document NAME {
        field title type string {
            indexing: index | summary
            index: enable-bm25
        }
        field body type string {
            indexing: index | summary
            index: enable-bm25
        }
    }
}
"""

ODD = {
    "plain": PLAIN,
    "crlf": PLAIN.replace("\n", "\r\n"),
    "mixed_ends": PLAIN.replace("summary\n", "summary\r\n").replace("    }\n}", "    }\r\n}"),
    "no_last_line_end": PLAIN.rstrip(),
    "one_line": (
        "schema NAME { document NAME { field title type string { index: enable-bm25 indexing: "
        "index | summary } field body type string { index { enable-bm25 } indexing: index } } }"
    ),
    "old_words": PLAIN.replace("schema NAME", "search NAME").replace("document NAME", "document"),
    "tabs": PLAIN.replace("    ", "\t").replace("{\n", "{ \t\n"),
    "two_spaces": PLAIN.replace("    ", "  "),
    "brace_below": PLAIN.replace("document NAME {", "document NAME\n    # {\n\n    {"),
    "braces_together": PLAIN.replace("        }\n    }\n}", "        } } }"),
    "comments": (
        "# document NAME { field title type string {} }\n"
        + PLAIN.replace("{\n", "{ # } document {\n")
        .replace("        }\n", "        } # {{ 'a\" \\\n")
        .replace("    }\n}", "        # the end: }\n    }# }\n} # { ")
    ),
    "strings": PLAIN.replace(
        "        field body",
        """        field mark type string {
            indexing: summary | attribute
            match { exact exact-terminator: "} # {" }
        }
        field body""",
    ),
    "other_blocks": PLAIN.replace(
        "    document NAME {",
        """    field made type string {
        indexing: input title . " {\\" } document x {" . '} #' | summary
    }
    document NAME {
        struct pair { field a type string {} field b type int {} }
        field pairs type map<string, pair> {
            indexing: summary
            struct-field key { indexing: attribute }
        }
        field cells type tensor<float>(x{}, y[2]) { indexing: attribute }""",
    ).replace(
        "    }\n}",
        """    }
    rank-profile document {
        inputs { query(q) tensor<float>(x{}): { {x:a}: 1.5 } }
        function weight() { expression: if (sum(attribute(cells){y:0}) > 1, 2, 3) }
        first-phase { expression { weight
            + bm25(title) } }
        rank-properties {
            fieldMatch(title).maxOccurrences: "}"
        }
        summary-features: weight bm25(title)
    }
}""",
    ),
    "inherits_below": PLAIN.replace("document NAME {", "document NAME\n  inherits plain\n  {")
    .replace("title type", "heading type")
    .replace("body type", "rest type")
    .replace("schema NAME {", "schema NAME inherits\n  plain {".replace("\n  ", " ")),
}
"""Schemas in odd writing; NAME is the schema's name."""


def odd_application(folder: Path) -> tuple[Path, list[str]]:
    """An application with every schema of `ODD`; its folder and the names of the schemas."""
    app = folder / "odd"
    (app / "schemas").mkdir(parents=True)
    names = []
    for name, text in ODD.items():
        (app / "schemas" / f"{name}.sd").write_bytes(text.replace("NAME", name).encode())
        names.append(name)
    documents = "".join(f'<document type="{name}" mode="index"/>' for name in names)
    services = (APPLICATIONS / "news" / "services.xml").read_text(encoding="utf-8")
    old = '<document type="article" mode="index"/>'
    assert old in services
    (app / "services.xml").write_text(services.replace(old, documents), encoding="utf-8")
    return app, names
