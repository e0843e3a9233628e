from pathlib import Path

import pytest

from ranker.errors import ArtifactError
from ranker.files import new_folder, read_json, sha256, write_json, write_text


def left_overs(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_a_folder_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with new_folder(out, replace_marker="mark") as folder:
        (folder / "mark").touch()
        assert not out.exists()
    assert (out / "mark").is_file()
    assert left_overs(out.parent) == []


def test_an_error_leaves_nothing_and_keeps_the_old(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mark").write_text("old")
    with pytest.raises(KeyboardInterrupt), new_folder(out, replace_marker="mark") as folder:
        (folder / "mark").write_text("new")
        raise KeyboardInterrupt
    assert (out / "mark").read_text() == "old"
    assert left_overs(tmp_path) == []


def test_another_folder_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").touch()
    with (
        pytest.raises(ArtifactError, match="it holds other files"),
        new_folder(tmp_path, replace_marker="mark"),
    ):
        pass
    assert (tmp_path / "thesis.doc").exists()
    file = tmp_path / "thesis.doc"
    with (
        pytest.raises(ArtifactError, match="a file of that name"),
        new_folder(file, replace_marker="mark"),
    ):
        pass


def test_json_round_trip_is_sorted_and_atomic(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"b": 1, "a": "é"})
    assert path.read_text(encoding="utf-8") == '{\n  "a": "é",\n  "b": 1\n}\n'
    assert read_json(path, what="thing") == {"a": "é", "b": 1}
    assert left_overs(tmp_path) == []


def test_what_cannot_be_read_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"is not a bundle: x\.json is missing"):
        read_json(tmp_path / "x.json", what="bundle")
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(ArtifactError, match="is damaged: not JSON"):
        read_json(tmp_path / "x.json", what="bundle")
    with pytest.raises(ArtifactError, match="expected a folder with a bundle"):
        read_json(tmp_path / "x.json" / "y.json", what="bundle")


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    write_text(tmp_path / "x", "abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256(tmp_path / "x") == expected
