"""Named statements: those of every engine, and an engine's own."""

import re

import pytest

from authapi.database.statements import SQL, load

NAME = re.compile(r"^-- name: (\w+)\(([\w, ]*)\)(\S*)$", re.MULTILINE)
ENGINES = sorted(path.parent.name for path in SQL.glob("*/queries"))
# What SQLite alone understands, or understands otherwise than PostgreSQL.
ONE_ENGINE_ONLY = re.compile(
    r"\b(iif|unixepoch|ifnull|datetime|strftime)\(|sqlite_|PRAGMA|AUTOINCREMENT|\bSTRICT\b"
    r"|\bIS (NOT )?:|LIMIT -1|\b(max|min)\([^()]*,|INSERT OR |REPLACE INTO|SKIP LOCKED|::",
    re.IGNORECASE,
)


def statements(path):
    """Return the name, parameters, mark and text of each statement in a file."""
    text = path.read_text()
    found = list(NAME.finditer(text))
    ends = [one.start() for one in found[1:]] + [len(text)]
    return {
        one[1]: (one[2], one[3], text[one.end() : end].strip())
        for one, end in zip(found, ends, strict=True)
    }


@pytest.mark.parametrize("path", sorted(SQL.glob("queries/*.sql")), ids=lambda path: path.stem)
def test_common_statements(path):
    """The statements in `sql/queries` are SQL that every engine accepts."""
    for name, (_, _, text) in statements(path).items():
        code = re.sub(r"--.*", "", text)
        assert not ONE_ENGINE_ONLY.search(code), name


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engines_own_statements(engine):
    """An engine's file says why it is there; what replaces a statement is called the same way."""
    for path in sorted(SQL.glob(f"{engine}/queries/*.sql")):
        assert path.read_text().startswith("-- "), path
        shared = SQL / "queries" / path.name
        common = statements(shared) if shared.exists() else {}
        for name, (parameters, mark, text) in statements(path).items():
            if name in common:
                assert common[name][:2] == (parameters, mark), name
                assert common[name][2] != text, name
                assert text.startswith("--"), f"{name} says not why"


def test_an_engines_statement_replaces_the_common_one(tmp_path):
    """Statements of an engine's file come before those of the same name for all engines."""
    for folder in ("queries", "sqlite/queries"):
        (tmp_path / folder).mkdir(parents=True)
    common, own = tmp_path / "queries" / "a.sql", tmp_path / "sqlite" / "queries" / "a.sql"
    common.write_text("-- name: one()$\nSELECT 1;\n\n-- name: two()$\nSELECT 2;\n")
    own.write_text("-- Why.\n\n-- name: two()$\nSELECT 22;\n\n-- name: three()$\nSELECT 3;\n")

    loaded = load("a", "sqlite", tmp_path)

    texts = {name: statement.sql for name, statement in loaded.items()}
    assert texts == {"one": "SELECT 1;", "two": "SELECT 22;", "three": "SELECT 3;"}


@pytest.mark.parametrize("head", ["one()£", "one", "one() $", "one($)"])
def test_a_misspelt_statement(tmp_path, head):
    """A statement whose first line is misspelt stops the start, and is never left out unseen."""
    (tmp_path / "queries").mkdir()
    (tmp_path / "queries" / "a.sql").write_text(f"-- name: {head}\nSELECT 1;\n")

    with pytest.raises(ValueError, match=r"queries/a\.sql: write -- name: statement"):
        load("a", "sqlite", tmp_path)
