"""What a file of the user's imports from beside it, found without being run."""

from pathlib import Path

from tuneyard.core.edited_code import notes_on_edits
from tuneyard.core.files import sha256_of_file
from tuneyard.core.imported_files import imported_files
from tuneyard.core.references import CodeFile, CodeRef, load_code
from tuneyard.core.run_folder import create_run
from tuneyard.core.specs import TrainSpec


def write(folder: Path, **files: str) -> Path:
    """Files of a folder: `a__b` is a/b.py. Returns the file `main`."""
    for name, text in files.items():
        path = folder.joinpath(*name.split("__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "main.py"


def names(main: Path) -> set[str]:
    return {file.relative_to(main.parent).as_posix() for file in imported_files(main)}


def test_modules_and_packages_beside_a_file_are_found_and_what_they_import(tmp_path: Path) -> None:
    main = write(
        tmp_path,
        main="import os, json.decoder, scores\nfrom parts import first\n\n\ndef late():\n    import late_one\n",
        scores="from parts.second import x\nimport main\n",
        late_one="x = 1\n",
        unused="x = 1\n",
        parts__init="",
        parts__first="from . import third\nfrom ..scores import y\n",
        parts__second="from .deep.fourth import z\n",
        parts__third="",
        parts__deep__fourth="",
    )
    (tmp_path / "parts" / "init.py").rename(tmp_path / "parts" / "__init__.py")
    assert names(main) == {
        "scores.py",
        "late_one.py",
        "parts/__init__.py",
        "parts/first.py",
        "parts/second.py",
        "parts/third.py",
        "parts/deep/fourth.py",
    }


def test_what_is_no_python_or_not_there_imports_nothing(tmp_path: Path) -> None:
    main = write(tmp_path, main="import broken, gone\n", broken="def f(:\n")
    assert names(main) == {"broken.py"}
    assert imported_files(tmp_path / "gone.py") == []


def test_code_may_import_what_lies_beside_it(tmp_path: Path) -> None:
    main = write(tmp_path, main="from one_that_helps import twice\n", one_that_helps="def twice(x): return 2 * x\n")
    assert load_code(CodeRef.model_validate(f"{main}:twice"))(21) == 42


def test_an_edit_of_what_a_callback_imports_is_told_after_the_data_are_prepared(tmp_path: Path) -> None:
    files = ("callback.py", "beside.py", "rows.py")
    write(tmp_path, callback="import beside\n", beside="x = 1\n", rows="x = 1\n")
    spec = TrainSpec.model_validate(
        {
            "model": "builtin:tiny",
            "dataset": "builtin:arithmetic",
            "callbacks": [f"{tmp_path / 'callback.py'}:f"],
            "engine": {"stage": "sft"},
        }
    )
    code = [CodeFile(path=str(tmp_path / name), sha256=sha256_of_file(tmp_path / name)) for name in files]
    spec = spec.model_copy(update={"code": code})
    run = create_run(tmp_path / "runs", "train", "x")
    run.data.mkdir()
    run.data_manifest.write_text("{}")
    for name in ("beside.py", "rows.py"):
        (tmp_path / name).write_text("x = 2\n")
    assert [note.partition(" ")[0] for note in notes_on_edits(run, spec)] == [str(tmp_path / "beside.py")]
