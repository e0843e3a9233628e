"""Learning from a teacher: its scores are its own logits, given once, and kept."""

import json
import sqlite3
from pathlib import Path

import pytest
import torch
import transformers
from families import make_family
from small_data import small_dataset, write_csv

from ranker.artifacts.bundle import Checkpoint
from ranker.dataset import Dataset, load
from ranker.dataset.groups import Negatives, judged_groups, scored_groups
from ranker.errors import ArtifactError, DataError, TrainError, UsageError
from ranker.lexical.bm25 import BM25Index, FirstPhase
from ranker.model.base import load_weights
from ranker.model.provenance import DataProvenance
from ranker.records import Document
from ranker.report.facts import training_view
from ranker.train import TrainArguments, reproduce, train
from ranker.train import teacher as module
from ranker.train.teacher import Teacher, with_scores

SMALL = {"batch_size": 2, "negatives": 3, "epochs": 1, "held_out": 0.3, "precision": "fp32"}
SLOTS = {"query_slots": 16, "document_slots": 48}
PAIRS = [
    ("red fox", Document("a", "the red fox", "It runs over the river.")),
    ("red fox", Document("b", "", "A slow brown dog.")),
    ("blue house", Document("a", "the red fox", "It runs over the river.")),
]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of its own, so that no test finds another's scores."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "ranker" / "teachers"


@pytest.fixture(scope="module")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher with another tokenizer than its pupil."""
    return make_family("roberta", tmp_path_factory.mktemp("teacher") / "roberta")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small_dataset(tmp_path_factory.mktemp("data"))


def rows(cache: Path) -> int:
    (file,) = cache.glob("*.sqlite")
    return int(sqlite3.connect(file).execute("SELECT count(*) FROM scores").fetchone()[0])


def test_scores_are_the_teachers_own_logits(roberta: Path) -> None:
    """Those that transformers computes from its own pair encoding, in the order asked."""
    found = Teacher(str(roberta), **SLOTS).scores([*PAIRS, PAIRS[0]])
    model = transformers.AutoModelForSequenceClassification.from_pretrained(roberta).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(roberta)
    with torch.inference_mode():
        expected = [
            model(
                **tokenizer(query, f"{d.title} {d.text}".strip(), return_tensors="pt")
            ).logits.item()
            for query, d in [*PAIRS, PAIRS[0]]
        ]
    assert found == pytest.approx(expected, abs=1e-4)
    assert len(set(found)) == 3


def test_a_sentence_encoder_teaches_its_own_similarity(minilm: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    found = Teacher(str(minilm), **SLOTS).scores(PAIRS)
    model = library.SentenceTransformer(str(minilm), device="cpu")
    texts = [text for query, d in PAIRS for text in (query, f"{d.title} {d.text}".strip())]
    vectors = model.encode(texts, normalize_embeddings=True)
    cosines = [float(vectors[n] @ vectors[n + 1]) for n in range(0, len(texts), 2)]
    assert found == pytest.approx([20 * cosine for cosine in cosines], abs=0.5)
    assert sorted(range(3), key=found.__getitem__) == sorted(range(3), key=cosines.__getitem__)


def test_what_was_scored_once_is_not_scored_again(roberta: Path, cache: Path) -> None:
    told: list[tuple[int, int]] = []
    first = Teacher(str(roberta), **SLOTS).scores(PAIRS, report=lambda *done: told.append(done))
    assert told == [(3, 3)] and rows(cache) == 3
    again = Teacher(str(roberta), **SLOTS)
    more = [*PAIRS, ("slow dog", PAIRS[1][1])]
    assert again.scores(more, report=lambda *done: told.append(done))[:3] == first
    assert told == [(3, 3), (1, 1)] and rows(cache) == 4


def test_a_cache_belongs_to_weights_and_contract(
    roberta: Path, cache: Path, tmp_path: Path
) -> None:
    """What is in the file is what comes back; another contract or other weights have their own."""
    teacher = Teacher(str(roberta), **SLOTS)
    teacher.scores(PAIRS)
    (file,) = cache.glob("*.sqlite")
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE scores SET score = 7.5")
    assert teacher.scores(PAIRS) == [7.5] * 3
    assert 7.5 not in Teacher(str(roberta), query_slots=16, document_slots=64).scores(PAIRS)
    other = make_family("roberta", tmp_path / "other")
    weights = load_weights(other)
    with torch.no_grad():
        weights.classifier.out_proj.bias += 1
    weights.save_pretrained(other)
    assert 7.5 not in Teacher(str(other), **SLOTS).scores(PAIRS)
    assert len(list(cache.glob("*.sqlite"))) == 3


def test_a_kill_costs_a_chunk_only(
    roberta: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 1)

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    teacher = Teacher(str(roberta), **SLOTS)
    with pytest.raises(KeyboardInterrupt):
        teacher.scores(PAIRS, report=stop)
    assert rows(cache) == 2
    told: list[tuple[int, int]] = []
    teacher.scores(PAIRS, report=lambda *done: told.append(done))
    assert told == [(1, 1)]


def test_a_damaged_cache_is_named(roberta: Path, cache: Path) -> None:
    teacher = Teacher(str(roberta), **SLOTS)
    teacher.scores(PAIRS)
    (file,) = cache.glob("*.sqlite")
    file.write_bytes(b"not a database" * 100)
    with pytest.raises(TrainError, match=r"sqlite cannot be used: .*delete the file"):
        teacher.scores(PAIRS)


def test_without_a_place_for_the_cache_it_scores_all_the_same(
    roberta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(Teacher(str(roberta), **SLOTS).scores(PAIRS)) == 3
    assert "the teacher's scores are not kept" in caplog.text


def test_models_that_cannot_be_teachers(roberta: Path, tmp_path: Path) -> None:
    plain, classes = tmp_path / "plain", tmp_path / "classes"
    for folder in (plain, classes):
        transformers.AutoTokenizer.from_pretrained(roberta).save_pretrained(folder)
    transformers.AutoModel.from_pretrained(roberta).save_pretrained(plain)
    config = transformers.AutoConfig.from_pretrained(roberta, num_labels=3)
    transformers.AutoModelForSequenceClassification.from_config(config).save_pretrained(classes)
    with pytest.raises(
        ArtifactError, match=r"not a single-logit cross-encoder: classifier\.\S+ is "
    ):
        Teacher(str(plain), **SLOTS).scores(PAIRS)
    with pytest.raises(ArtifactError, match=r"classifier\.out_proj\.bias is \(3,\) in its weights"):
        Teacher(str(classes), **SLOTS).scores(PAIRS)
    with pytest.raises(TrainError, match="^teacher '.*nothing': expected a folder"):
        Teacher(str(tmp_path / "nothing"), **SLOTS)


def test_every_document_of_a_group_has_its_score(roberta: Path, data: Dataset) -> None:
    teacher = Teacher(str(roberta), **SLOTS)
    index = FirstPhase(BM25Index(data.documents.values()))
    groups = with_scores(
        list(judged_groups(data, index, negatives=Negatives(count=3), seed=1))[:4], teacher
    )
    for group in groups:
        pairs = [(group.query, document) for document in group.documents]
        assert group.teacher_scores == tuple(teacher.scores(pairs))


@pytest.fixture(scope="module")
def taught(
    data: Dataset,
    tiny_bert: Path,
    roberta: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Checkpoint:
    """A pupil of a teacher, with a stage on the corpus before."""
    folder = tmp_path_factory.mktemp("taught")
    csv = write_csv(folder / "judged.csv")
    arguments = TrainArguments(
        base=str(tiny_bert), teacher=str(roberta), loss="margin-mse",
        pretrain=True, pretrain_steps=2, **SMALL,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        return train(
            load(csv), folder / "out", arguments=arguments, source=DataProvenance.of(str(csv))
        )


def test_a_pupil_learns_from_a_teacher(taught: Checkpoint, roberta: Path) -> None:
    report = taught.training
    assert report["arguments"]["teacher"] == str(roberta)
    assert report["teacher"]["files"]["model.safetensors"]
    assert {row["stage"] for row in report["history"]} == {"pretrain", "judged"}
    assert all(row["loss"] > 0 for row in report["history"])
    card = (taught.path / "README.md").read_text()
    assert "- Teacher: roberta" in card and str(roberta) not in card
    facts = dict(training_view(taught.path, report, ident="t")["facts"])
    assert facts["Teacher"] == "roberta, loss margin-mse"


def test_a_checkpoint_teaches_by_its_own_contract(taught: Checkpoint) -> None:
    teacher = Teacher(str(taught.path), **SLOTS)
    assert teacher.spec == taught.spec and teacher.spec.query_slots == 32 != SLOTS["query_slots"]
    assert len(teacher.scores(PAIRS)) == 3


def test_the_target_is_the_teacher_and_not_the_grade(
    data: Dataset, tiny_bert: Path, tmp_path: Path
) -> None:
    """A pupil that is its own teacher has nothing to learn: the first step's loss is 0."""
    arguments = TrainArguments(
        base=str(tiny_bert), teacher=str(tiny_bert), loss="margin-mse", dropout=0.0,
        learning_rate=1e-12, **SMALL,
    )  # fmt: skip
    history = train(data, tmp_path / "out", arguments=arguments).training["history"]
    assert len(history) > 2 and max(row["loss"] for row in history) < 1e-6


def test_a_training_is_reproduced_only_with_the_same_teacher(
    taught: Checkpoint, roberta: Path, tmp_path: Path
) -> None:
    again = reproduce(taught.path, tmp_path / "again")
    weights = [load_weights(checkpoint.path).state_dict() for checkpoint in (taught, again)]
    for name, expected in weights[0].items():
        assert torch.allclose(weights[1][name], expected, atol=1e-6), name
    report = json.loads((taught.path / "training.json").read_text())
    report["teacher"]["files"]["model.safetensors"] = "0" * 64
    (tmp_path / "training.json").write_text(json.dumps(report))
    with pytest.raises(ArtifactError, match="is not what the training began with"):
        reproduce(tmp_path / "training.json", tmp_path / "other")


def with_column(path: Path, *, holes: bool = False) -> Path:
    """The small collection with a teacher_score: minus the label, so that it is to be unlearned."""
    head, *lines = write_csv(path).read_text().splitlines()
    scored = [
        f"{line},{'' if holes and n == 3 else -int(line[-1])}" for n, line in enumerate(lines)
    ]
    path.write_text("\n".join([f"{head},teacher_score", *scored]) + "\n")
    return path


def test_scores_of_the_data_are_used(tiny_bert: Path, tmp_path: Path) -> None:
    data = load(with_column(tmp_path / "judged.csv"))
    groups = list(scored_groups(data, count=2, seed=0))
    assert all(group.teacher_scores == (-1.0, 0.0, 0.0) for group in groups)
    assert {source for group in groups for source in group.sources} == {"positive", "judged"}
    arguments = TrainArguments(base=str(tiny_bert), loss="distill", **SMALL)
    report = train(data, tmp_path / "out", arguments=arguments).training
    assert set(report["documents_by_source"]["judged"]) == {"positive", "judged"}
    assert report["teacher"] is None


def test_a_taught_loss_without_scores_says_what_to_do(tmp_path: Path, data: Dataset) -> None:
    arguments = TrainArguments(loss="margin-mse", **SMALL)
    with pytest.raises(UsageError, match=r"--teacher, or .* teacher_score .*\b0 of 60 "):
        train(data, tmp_path / "out", arguments=arguments)
    holes = load(with_column(tmp_path / "holes.csv", holes=True))
    with pytest.raises(UsageError, match="59 of 60 judgements of holes have one"):
        train(holes, tmp_path / "out", arguments=arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["holes.csv"]


def test_a_teacher_for_another_loss_is_refused() -> None:
    with pytest.raises(
        UsageError, match="the loss listwise does not use a teacher; choose margin-mse or dist"
    ):
        TrainArguments(teacher="somewhere")


@pytest.mark.parametrize("cell", ["high", "nan", "inf"])
def test_scores_that_are_none_are_named(cell: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"query,title,label,teacher_score\na,b,1,0.5\na,c,0,{cell}\n")
    with pytest.raises(DataError, match=f"line 3: teacher_score '{cell}' is not a finite number"):
        load(path)


def test_two_scores_for_one_pair_are_a_contradiction(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    row = {"query": "a", "title": "b", "label": 1}
    path.write_text("".join(json.dumps({**row, "teacher_score": n}) + "\n" for n in (1, 1, 2)))
    with pytest.raises(DataError, match="line 3: teacher_score of query 'a' .* is 2 here and 1"):
        load(path)
