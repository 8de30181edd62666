"""Bodies that are JSON with a photo in it as base64."""

from __future__ import annotations

import base64
import binascii
from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from relocalize.serve.refusals import RefusedError
from relocalize.serve.service import Service

Shape = TypeVar("Shape", bound=BaseModel)


async def json_body(service: Service, request: Request, shape: type[Shape]) -> Shape:
    """The body as a shape.

    Raises:
        RefusedError: it is too long, comes too slowly, or is of another shape.
    """
    body = await service.uploads.body(request)
    try:
        return shape.model_validate_json(body)
    except ValidationError as error:
        raise RefusedError(422, "wrong_request", first_fault(error)) from None


def first_fault(error: ValidationError | RequestValidationError, *within: str) -> str:
    """What is wrong first, after where it is: names of fields, those of what it is ``within``."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, (*within, *first['loc']))) or 'body'}: {first['msg']}"


def photo_of(text: str) -> bytes:
    """The bytes of a photo in base64, with or without ``data:image/...;base64,`` before it.

    Raises:
        RefusedError: it is not base64, or empty.
    """
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        photo = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise RefusedError(422, "no_photo", "the photo is not base64") from None
    if not photo:
        raise RefusedError(422, "no_photo", "the photo is empty")
    return photo


def documented(shape: type[BaseModel]) -> dict[str, Any]:
    """What the OpenAPI document says of a body, with its schema in it: ``$defs`` are not found."""
    schema = shape.model_json_schema()
    parts = schema.pop("$defs", {})

    def inlined(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                return inlined(parts[value["$ref"].rpartition("/")[2]])
            return {key: inlined(inner) for key, inner in value.items()}
        return [inlined(inner) for inner in value] if isinstance(value, list) else value

    content = {"application/json": {"schema": inlined(schema)}}
    return {"requestBody": {"required": True, "content": content}}
