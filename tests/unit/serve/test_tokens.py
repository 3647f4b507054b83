"""What a token may do, and the file of those that have a name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from undrift.errors import RequestError, StoreError
from undrift.serve.tokens import Tokens, TokenScope, digest, make_token, read_tokens, remove_token


def status(tokens: Tokens, given: str, scope: TokenScope) -> int:
    try:
        tokens.check(given, scope)
    except RequestError as error:
        return error.status
    return 200


@pytest.mark.parametrize("scope", TokenScope)
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_operator_may_do_everything(tmp_path: Path, scheme: str, scope: TokenScope) -> None:
    Tokens(digest("secret"), tmp_path / "none").check(f"{scheme} secret", scope)


@pytest.mark.parametrize(
    "given", ["", "Bearer", "Bearer ", "secret", "Basic secret", "Bearer Secret", "Bearer \xff"]
)
def test_anything_but_a_token_is_401(tmp_path: Path, given: str) -> None:
    for operator in ("secret", ""):
        tokens = Tokens(digest(operator), tmp_path / "none")
        with pytest.raises(RequestError, match="Bearer TOKEN") as caught:
            tokens.check(given, TokenScope.READ)
        assert caught.value.status == 401


def test_hash_of_a_token_is_no_token(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    made = make_token(path, "shop", [TokenScope.READ])
    tokens = Tokens(digest("secret"), path)
    for text in (digest("secret"), digest(made)):
        assert status(tokens, f"Bearer {text}", TokenScope.READ) == 401


def test_named_token_may_do_what_its_scopes_say(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    shop = "Bearer " + make_token(path, "shop", [TokenScope.FEEDBACK, TokenScope.READ])
    night = "Bearer " + make_token(path, "night", [TokenScope.OPERATE])
    tokens = Tokens(digest("secret"), path)
    assert [status(tokens, shop, scope) for scope in TokenScope] == [200, 200, 403]
    assert [status(tokens, night, scope) for scope in TokenScope] == [403, 403, 200]
    with pytest.raises(RequestError, match="token of shop may feedback, read; this needs operate"):
        tokens.check(shop, TokenScope.OPERATE)


def test_named_token_that_is_made_anew_or_removed_ends_at_once(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    tokens = Tokens(digest("secret"), path)
    first = "Bearer " + make_token(path, "shop", [TokenScope.READ])
    make_token(path, "other", [TokenScope.READ])
    assert status(tokens, first, TokenScope.READ) == 200
    second = "Bearer " + make_token(path, "shop", [TokenScope.READ])
    assert [status(tokens, given, TokenScope.READ) for given in (first, second)] == [401, 200]
    remove_token(path, "shop")
    assert status(tokens, second, TokenScope.READ) == 401
    assert [token.name for token in read_tokens(path)] == ["other"]


def test_file_holds_no_token_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    made = make_token(path, "shop", [TokenScope.READ, TokenScope.FEEDBACK])
    assert path.read_text() == f"shop feedback,read {digest(made)}\n"
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "line",
    ["shop", "shop read", "shop write " + "0" * 64, "shop read secret", "a/b read " + "0" * 64],
)
def test_damaged_file_is_named_by_line_and_lets_the_operator_in_alone(
    tmp_path: Path, line: str
) -> None:
    path = tmp_path / "tokens"
    made = make_token(path, "shop", [TokenScope.READ])
    with path.open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(StoreError, match="tokens, line 2: expected NAME SCOPE"):
        read_tokens(path)
    tokens = Tokens(digest("secret"), path)
    assert status(tokens, f"Bearer {made}", TokenScope.READ) == 503
    assert status(tokens, "Bearer secret", TokenScope.OPERATE) == 200


def test_name_must_be_one_word_and_known_to_be_removed(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="a name has letters"):
        make_token(tmp_path / "tokens", "a b", [TokenScope.READ])
    with pytest.raises(StoreError, match="has no token of 'shop'"):
        remove_token(tmp_path / "tokens", "shop")
    assert not os.listdir(tmp_path)
