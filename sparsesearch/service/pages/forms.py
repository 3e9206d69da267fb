"""Forms as browsers send them."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import Depends, HTTPException, Request

_KIND = "application/x-www-form-urlencoded"
_MAX_FIELDS = 40


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form, without spaces around their values; of fields of one name, the last.

    Raises:
        HTTPException: 415 if it is no form, 422 if it cannot be read.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _KIND:
        raise HTTPException(415, f"send the form as {_KIND}")
    try:
        fields = parse_qsl(
            (await request.body()).decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS
        )
    except ValueError as error:
        raise HTTPException(422, "the form cannot be read; reload the page and send it again") from error
    return {name: value.strip() for name, value in fields}


FormOf = Annotated[dict[str, str], Depends(read_form)]
