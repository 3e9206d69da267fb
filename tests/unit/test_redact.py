"""Passwords are left out, and nothing else."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sparsesearch.errors import StoreError, UserInputError, one_line
from sparsesearch.redact import without_password

SECRET = "s3cr€t!x"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:{}@db:5432/studies", "postgresql://me:***@db:5432/studies"),
        (
            "postgresql+psycopg://me:{}@db/studies?sslmode=require",
            "postgresql+psycopg://me:***@db/studies?sslmode=require",
        ),
        ("http://me:{}@mlflow:5000/x", "http://me:***@mlflow:5000/x"),
        ("postgresql://:{}@db/x", "postgresql://:***@db/x"),
        ("at 'postgresql://me:{}@db/x'; check", "at 'postgresql://me:***@db/x'; check"),
        ("https://{}@mlflow.example.org", "https://***@mlflow.example.org"),
        (
            "postgresql://db/x?user=me&password={}&sslmode=require",
            "postgresql://db/x?user=me&password=***&sslmode=require",
        ),
        ("https://mlflow/?access_token={}#top", "https://mlflow/?access_token=***#top"),
        ("host=db password={} dbname=x", "host=db password=*** dbname=x"),
        ("host=db password='a {} b' dbname=x", "host=db password=*** dbname=x"),
        ("connect(host='db', password='{}', port=1)", "connect(host='db', password=***, port=1)"),
        ('{{"user": "me", "password": "{}"}}', '{{"user": "me", "password": ***}}'),
        ("tracking_token='{}'", "tracking_token=***"),
        ("two: postgresql://a:{0}@b/c and http://d:{0}@e/f", "two: postgresql://a:***@b/c and http://d:***@e/f"),
    ],
)
def test_the_password_alone_is_left_out(text: str, shown: str) -> None:
    for secret in (quote(SECRET, safe=""), "simple"):
        found = without_password(text.format(secret))
        assert secret not in found
        assert found == shown.replace("{{", "{").replace("}}", "}")


def test_headers() -> None:
    assert without_password("Authorization: Bearer abcdefgh.ijkl") == "Authorization: Bearer ***"
    assert without_password("Basic training of 8 epochs") == "Basic training of 8 epochs"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "trial 3: loss 0.1 at step 5",
        "sqlite:////home/me/studies.db",
        "http://localhost:5000/#/experiments/1 me@example.org",
        "http://127.0.0.1:5000",
        "postgresql://me@db:5432/studies",
        "give a user:password@ in the URL",
        "s3://bucket/path@v1",
        "the password authentication of user me failed",
        "12 tokens are kept: num_token=3, token=5, class_token=True",
        "git@host:repository.git",
    ],
)
def test_other_text_stays(text: str) -> None:
    assert without_password(text) == text


@given(st.text(st.characters(exclude_characters="@\n", exclude_categories=["Cs"]), min_size=1))
@example("a/b:c?d#e")
@example("p w'd\"")
@example("5432/x")
@example("%40%2F%3A")
def test_any_password_of_a_database(secret: str) -> None:
    """As SQLAlchemy accepts them: everything up to the next @."""
    assert without_password(f"cannot reach postgresql://me:{secret}@db:5432/x; check it") == (
        "cannot reach postgresql://me:***@db:5432/x; check it"
    )


@given(st.text(min_size=6))
def test_any_password_that_is_percent_encoded(secret: str) -> None:
    encoded = quote(secret, safe="", errors="surrogatepass")
    for scheme in ("postgresql", "http", "https", "mysql+x"):
        assert without_password(f"{scheme}://me:{encoded}@db/x") == f"{scheme}://me:***@db/x"
        assert without_password(f"{scheme}://db/x?token={encoded}&a=b") == f"{scheme}://db/x?token=***&a=b"


@given(st.text())
def test_any_text(text: str) -> None:
    found = without_password(text)
    assert without_password(found) == found


def test_errors_have_no_endless_words() -> None:
    assert len(str(UserInputError(f"no study {'x' * 5000!r} in {'y' * 300}"))) < 500
    path = "/a" * 150
    assert str(UserInputError(f"no such file: {path}")).endswith(path)


def test_errors_have_no_passwords() -> None:
    url = f"postgresql://me:{SECRET}@db/x"
    assert str(StoreError(f"cannot reach {url}")) == "cannot reach postgresql://me:***@db/x"
    assert one_line(ValueError(url)) == "postgresql://me:***@db/x"
