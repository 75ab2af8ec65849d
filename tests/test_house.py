"""The house is in order: imports go down, nothing goes round, and files and functions stay readable.

The order of the folders is the one in which a newcomer reads them: a folder may use those above it in FOLDERS
and nothing below. The names of imports are read from the source, so that imports inside functions and those
for the type checker count as well.
"""

import ast
import importlib
import warnings
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

import nanoocr

LIBRARY = Path(nanoocr.__file__).parent
ROOT = LIBRARY.parent

# "" is the files that lie in nanoocr/ itself. `pretrained` stands after `inference`, because what is loaded
# from elsewhere is asked some questions before it is trusted (pretrained/text_check.py).
FOLDERS = (
    "",
    "model",
    "layout",
    "data",
    "tasks",
    "formats",
    "inference",
    "pretrained",
    "eval",
    "train",
    "finetune",
    "serve",
    "batch",
    "cli",
)
FRONT_DOORS = ("__init__.py", "__main__.py")  # of the whole package: they lead to what lies deeper

MOST_LINES = 400
LONG_FILES: dict[str, str] = {}  # file -> why it may be longer than MOST_LINES; today none is
LONGEST_FUNCTION = 60
# Folders whose odd lines need a reason, and between which shares of their lines comments of a line's own lie.
COMMENTED = ("model", "layout", "inference", "train")
LEAST_COMMENTS, MOST_COMMENTS = 0.04, 0.10

OLD_ADDRESSES = (
    ("nanoocr.train.checkpoint", "load_model", "nanoocr.model.folder"),
    ("nanoocr.train.checkpoint", "save_model", "nanoocr.model.folder"),
    ("nanoocr.model.pretrained", "load_gpt", "nanoocr.pretrained.load"),
    ("nanoocr.model.pretrained", "Report", "nanoocr.model.folder"),
    ("nanoocr.image_process", "open_image", "nanoocr.pictures"),
)


def sources() -> list[Path]:
    return sorted(LIBRARY.rglob("*.py"))


def everything() -> list[Path]:
    """The library, the scripts and the tests."""
    return [path for name in ("nanoocr", "scripts", "tests") for path in sorted((ROOT / name).rglob("*.py"))]


def folder_of(path: Path) -> str:
    parts = path.relative_to(LIBRARY).parts
    return parts[0] if len(parts) > 1 else ""


def module_of(path: Path) -> str:
    name = ".".join(path.relative_to(LIBRARY.parent).with_suffix("").parts)
    return name.removesuffix(".__init__")


def imported(path: Path) -> Iterator[str]:
    """Every module of the project that a file imports, wherever in the file it does."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "nanoocr")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "nanoocr":
            for alias in node.names:
                whole = LIBRARY.parent.joinpath(*f"{node.module}.{alias.name}".split("."))
                is_module = whole.is_dir() or whole.with_suffix(".py").is_file()
                yield f"{node.module}.{alias.name}" if is_module else str(node.module)


def folder_of_module(module: str) -> str:
    parts = module.split(".")[1:]
    return parts[0] if parts and (LIBRARY / parts[0]).is_dir() else ""


def circles(uses: dict[str, set[str]]) -> list[str]:
    """Names from which one comes back to the start by following what each uses."""

    def reach(start: str) -> set[str]:
        found, waiting = set[str](), [start]
        while waiting:
            for name in uses.get(waiting.pop(), set()) - found:
                found.add(name)
                waiting.append(name)
        return found

    return sorted(name for name in uses if name in reach(name))


def test_every_folder_has_its_place():
    assert {folder_of(path) for path in sources()} <= set(FOLDERS)


def test_no_import_goes_upwards():
    upwards = [
        f"{path.relative_to(LIBRARY)} imports {module}"
        for path in sources()
        for module in imported(path)
        if path.relative_to(LIBRARY).as_posix() not in FRONT_DOORS
        and FOLDERS.index(folder_of_module(module)) > FOLDERS.index(folder_of(path))
    ]
    assert not upwards


def test_no_folder_and_no_file_is_in_a_circle():
    between_folders: dict[str, set[str]] = {name: set() for name in FOLDERS}
    between_files: dict[str, set[str]] = {}
    for path in sources():
        used = set(imported(path)) if path.relative_to(LIBRARY).as_posix() not in FRONT_DOORS else set()
        between_files[module_of(path)] = used - {module_of(path)}
        between_folders[folder_of(path)] |= {folder_of_module(m) for m in used} - {folder_of(path)}
    assert circles(between_folders) == []
    assert circles(between_files) == []


def test_a_circle_is_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a", "b", "c"]


def test_the_library_needs_no_script_and_no_test():
    roots = {
        name.split(".")[0]
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert not roots & {"scripts", "tests", "tasks"}


def test_files_are_short():
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in everything()}
    long = {name for name, length in lengths.items() if length > MOST_LINES}
    assert long == set(LONG_FILES)


def test_functions_are_short():
    long = [
        f"{path.relative_to(ROOT)}: {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for path in everything()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.lineno + 1 > LONGEST_FUNCTION
    ]
    assert not long


@pytest.mark.parametrize("folder", COMMENTED)
def test_odd_lines_have_their_reason_beside_them(folder):
    lines = [line for path in (LIBRARY / folder).glob("*.py") for line in path.read_text().splitlines()]
    comments = sum(line.lstrip().startswith("#") for line in lines)
    assert LEAST_COMMENTS <= comments / len(lines) <= MOST_COMMENTS


def without_docstring(tree: ast.Module) -> list[str]:
    """Functions and classes that have no docstring and no underscore before their own name, as dotted names.

    Those inside functions count as well: a reader meets them without their surroundings in a traceback. The
    signatures of `@overload` are exempt: the docstring of a function is that of its implementation.
    """

    def look(node: ast.AST, inside: str) -> Iterator[str]:
        for one in ast.iter_child_nodes(node):
            if not isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield from look(one, inside)
                continue
            exempt = one.name.startswith("_") or "overload" in map(ast.unparse, one.decorator_list)
            if not exempt and ast.get_docstring(one) is None:
                yield inside + one.name
            yield from look(one, f"{inside}{one.name}.")

    return list(look(tree, ""))


def test_all_that_is_public_has_a_docstring():
    trees = {path.relative_to(LIBRARY).as_posix(): ast.parse(path.read_text()) for path in sources()}
    assert [name for name, tree in trees.items() if tree.body and ast.get_docstring(tree) is None] == []
    assert [f"{name}: {missing}" for name, tree in trees.items() for missing in without_docstring(tree)] == []


def test_a_missing_docstring_is_found():
    source = (
        "class A:\n  def b(self): ...\n  def _c(self):\n    def e(): ...\n"
        "@overload\ndef d(): ...\ndef d(): ..."
    )
    assert without_docstring(ast.parse(source)) == ["A", "A.b", "A._c.e", "d"]


def without_help(source: str) -> list[str]:
    """Flags without a help text: fields of a parsed class that have neither a comment nor a docstring."""
    tree, lines = ast.parse(source), source.splitlines()
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args]
    parsed = {ast.unparse(call.args[0]) for call in calls if ast.unparse(call.func) in ("parse", "tyro.cli")}
    silent = []
    for config in ast.walk(tree):
        if not isinstance(config, ast.ClassDef) or config.name not in parsed:
            continue
        for field, after in zip(config.body, [*config.body[1:], None]):
            explained = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            around = lines[field.lineno - 2 : field.end_lineno] if isinstance(field, ast.AnnAssign) else []
            if (
                around
                and not explained
                and not any("# " in line for line in [around[0].lstrip()[:2], *around[1:]])
            ):
                silent.append(f"{config.name}.{ast.unparse(field.target)}")
    return silent


def test_every_flag_of_a_script_says_what_it_is():
    scripts = sorted((ROOT / "scripts").rglob("*.py"))
    found = [
        f"{path.relative_to(ROOT)}: {name}" for path in scripts for name in without_help(path.read_text())
    ]
    assert not found


def test_a_silent_flag_is_found():
    source = "class C:\n    a: int = 1  # one\n    b: int = 2\n    # three\n    c: int = 3\n\nparse(C)\n"
    assert without_help(source) == ["C.b"]


@pytest.mark.parametrize(("old", "name", "new"), OLD_ADDRESSES)
def test_an_old_address_works_and_says_once_where_it_went(old, name, new):
    module, home = importlib.import_module(old), importlib.import_module(new)
    vars(module).pop(name, None)  # as in a process that has not asked yet
    with pytest.warns(DeprecationWarning, match=new):
        assert getattr(module, name) is getattr(home, name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert getattr(module, name) is getattr(home, name)


def test_names_that_never_were_are_still_missing():
    for module, name in product(dict.fromkeys(old for old, _, _ in OLD_ADDRESSES), ("nonsense",)):
        with pytest.raises(AttributeError, match="nonsense"):
            getattr(importlib.import_module(module), name)
