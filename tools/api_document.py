"""Write docs/openapi.json: the API document of a service whose features are all on."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from authapi import AuthAPI, Settings, create_app
from authapi.openapi import document

PLACE = Path(__file__).parents[1] / "docs" / "openapi.json"
ALL_ON = {  # what turns on the features that are off by default
    "mail_url": "console:",
    "mail_from": "noreply@example.com",
    "pages_url": "https://app.example.com",
    "mail_login": "on",
}


def application(folder: str) -> AuthAPI:
    """Return an application with all features, on a new database in a folder."""
    return create_app(Settings(database_url=f"sqlite:///{folder}/authapi.db", **ALL_ON))


def text_of(made: dict[str, Any]) -> str:
    """Return a document as a text whose changes can be read line by line."""
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the file."""
    with tempfile.TemporaryDirectory() as folder:
        app = application(folder)
        PLACE.write_text(text_of(document(app)), encoding="utf-8")
        app.close()


if __name__ == "__main__":
    main()
