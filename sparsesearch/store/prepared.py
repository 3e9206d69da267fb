"""Statements that are compiled once and executed by the driver, for writes that have to be quick."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import JSON, Column, Connection, TableValuedAlias, Text, bindparam, cast, column, func
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.sql.expression import ClauseElement

Parameters = Mapping[str, Any]


class Prepared:
    """A statement without expanding parameters. It costs a tenth of what SQLAlchemy needs to execute it.

    Errors are those of the driver; `Database` translates them.

    Args:
        statement: The statement; its values are plain numbers and text.
        columns: Of an INSERT, the columns that its rows have; by default all of the table.
        of_json: The same for many rows at once on PostgreSQL, made with `rows_of_json`.
    """

    def __init__(
        self, statement: ClauseElement, *, columns: Sequence[str] | None = None, of_json: ClauseElement | None = None
    ) -> None:
        self._statement = statement
        self._columns = columns
        self._of_json = None if of_json is None else Prepared(of_json)
        self._texts: dict[str, tuple[str, tuple[str, ...] | None]] = {}

    def run(self, connection: Connection, values: Parameters) -> DBAPICursor:
        """Execute it in the transaction of a connection, and return the cursor."""
        text, names = self._text(connection)
        cursor = connection.connection.cursor()
        cursor.execute(text, values if names is None else [values[name] for name in names])
        return cursor

    def run_all(self, connection: Connection, rows: Sequence[Parameters]) -> int:
        """Execute it for each of some rows, and return how many rows of the database it concerned."""
        if len(rows) == 1:
            return self.run(connection, rows[0]).rowcount
        if self._of_json is not None and connection.dialect.name == "postgresql":
            return self._of_json.run(connection, {"rows": json.dumps(rows)}).rowcount
        text, names = self._text(connection)
        cursor = connection.connection.cursor()
        cursor.executemany(text, rows if names is None else [[row[name] for name in names] for row in rows])
        return cursor.rowcount

    def _text(self, connection: Connection) -> tuple[str, tuple[str, ...] | None]:
        dialect = connection.dialect
        found = self._texts.get(dialect.name)
        if found is None:
            compiled = self._statement.compile(dialect=dialect, column_keys=self._columns)
            names = getattr(compiled, "positiontup", None)
            found = self._texts[dialect.name] = (str(compiled), None if names is None else tuple(names))
        return found


def rows_of_json(columns: Mapping[str, Column[Any]]) -> TableValuedAlias:
    """Return the table of a JSON array of rows, for PostgreSQL: one statement then serves many rows.

    Args:
        columns: The columns of the tables that give its columns their types, by name.
    """
    typed = [column(name, one.type) for name, one in columns.items()]
    rows = func.json_to_recordset(cast(bindparam("rows", type_=Text), JSON))
    return rows.table_valued(*typed, name="given").render_derived(with_types=True)
