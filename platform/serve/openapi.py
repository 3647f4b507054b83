"""The OpenAPI document of what one replica serves, with the model's own name and shapes."""

from __future__ import annotations

from typing import Any

from undrift.ids import KEY_HEADER, MAX_ID_LENGTH, MAX_KEY_LENGTH
from undrift.model.settings import InputSettings
from undrift.serve.body import ALL_REJECTED, MAX_ORIGIN, WEIGHTS
from undrift.serve.inputs import BYTES, datatypes
from undrift.serve.protocol import BINARY, JSON, LENGTH_HEADER, ModelSpec
from undrift.serve.settings import ServeSettings
from undrift.views import (
    MAX_EVENTS,
    VERBS,
    VIEWS,
    AuditView,
    DriftView,
    EventsPage,
    StatusView,
    VersionView,
    schemas,
)

Schema = dict[str, Any]

_TEXT, _COUNT = {"type": "string"}, {"type": "integer", "minimum": 0}
_CODED = {"type": "string", "description": "base64, if the values are; else they are UTF-8."}
_VERSION = {"name": "version", "in": "path", "required": True, "schema": _TEXT}
_JSON_LENGTH = {
    "name": LENGTH_HEADER,
    "in": "header",
    "description": "Bytes of JSON at the start of the body; tensors follow as bytes.",
    "schema": {"type": "integer", "minimum": 0},
}
_KEY = {
    "name": KEY_HEADER,
    "in": "header",
    "description": "Names the order: what comes again under the same name is carried out once.",
    "schema": {"type": "string", "maxLength": MAX_KEY_LENGTH},
}
_VIEW_TYPES = {"StatusView": StatusView, "DriftView": DriftView, "VersionView": VersionView}
_TYPES: dict[str, str | Schema] = {
    "status": "StatusView",
    "drift": "DriftView",
    "versions": {"type": "array", "items": {"$ref": "#/components/schemas/VersionView"}},
}
_PACKED = "As it is, or packed as Content-Encoding says: gzip or deflate."
_READ = (404, 409)
_BODY = (400, 404, 408, 413, 415, 503)


def document(spec: ModelSpec, settings: ServeSettings, version: str) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document.

    Args:
        spec: The model.
        settings: Limits that the document states.
        version: Version of undrift.

    Example:
        >>> paths = document(ModelSpec("m", (2,), n_classes=3), ServeSettings(), "1.0")["paths"]
        >>> sorted(paths["/v2/models/{name}/infer"])
        ['parameters', 'post']
    """
    model, numbered = "/v2/models/{name}", "/v2/models/{name}/versions/{version}"
    name = {"name": "name", "in": "path", "required": True, "schema": {"enum": [spec.name]}}
    live, ready = _object(live={"const": True}), _object(ready={"const": True})
    paths: dict[str, Any] = {
        "/v2": {"get": _read("Server metadata", "ServerMetadata")},
        "/v2/health/live": {"get": _read("Does the process answer?", live)},
        "/healthz": {"get": _read("Does the process answer?", live)},
        "/v2/health/ready": {"get": _read("Is a version loaded?", ready, 503)},
        "/readyz": {"get": _read("Is a version loaded?", ready, 503)},
        f"{model}/feedback": {"post": _feedback()},
    }
    for root in ("", f"/v2/models/{spec.name}"):
        paths[f"{root}/openapi.json"] = {"get": _read("This document", {"type": "object"})}
        page = _operation("Prometheus page", {"text/plain": {"schema": _TEXT}})
        paths[f"{root}/metrics"] = {"get": page}
    for base in (model, numbered):
        paths[base] = {"get": _read("Model metadata", "ModelMetadata", *_READ)}
        paths[f"{base}/ready"] = {"get": _read("Does it answer?", "ModelReady", *_READ, 503)}
        paths[f"{base}/infer"] = {"post": _infer()}
    paths[f"{numbered}/audit"] = {"get": _read("How it was made", "AuditView", 404, 503)}
    for view, (summary, _) in VIEWS.items():
        paths[f"{model}/{view}"] = {"get": _read(summary, _TYPES[view], 404, 503)}
    paths[f"{model}/events"] = {"get": _events()}
    for verb, arguments in VERBS.items():
        paths[f"{model}/{verb}"] = {"post": _operator(verb, arguments)}
    paths[f"{model}/{WEIGHTS}"] = {"post": _weights()}
    closed = [] if settings.is_loopback else [f"{model}/feedback"]
    if settings.token_to_read:
        views = (*VIEWS, "events", "infer")
        closed += [f"{numbered}/audit", f"{numbered}/infer", *(f"{model}/{v}" for v in views)]
    for operation in (paths[path][method] for path in closed for method in paths[path]):
        operation |= {"security": [{"token": []}]}
        operation["responses"] |= {"401": operation["responses"]["403"]}
    for path, item in paths.items():
        variables = [name] * ("{name}" in path) + [_VERSION] * ("{version}" in path)
        if variables:
            item["parameters"] = variables
    return {
        "openapi": "3.1.0",
        "info": {"title": f"undrift: {spec.name}", "version": version},
        "paths": paths,
        "components": {
            "schemas": _schemas(spec, settings),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _read(summary: str, answer: str | Schema, *refusals: int) -> dict[str, Any]:
    return _operation(summary, {JSON: {"schema": _schema(answer)}}, *refusals)


def _operation(summary: str, content: dict[str, Any], *refusals: int) -> dict[str, Any]:
    error = {"description": "Why not", "content": {JSON: {"schema": _schema("Error")}}}
    return {
        "summary": summary,
        "responses": {
            "200": {"description": "Done", "content": content},
            **{str(status): error for status in (403, *refusals)},
        },
    }


def _infer() -> dict[str, Any]:
    answers = {JSON: {"schema": _schema("InferResponse")}, BINARY: {}}
    return {
        **_operation("Inference", answers, *_BODY, 409, 422, 504),
        "parameters": [_JSON_LENGTH],
        "requestBody": {
            "required": True,
            "description": _PACKED,
            "content": {JSON: {"schema": _schema("InferRequest")}, BINARY: {}},
        },
    }


def _feedback() -> dict[str, Any]:
    labels = {"type": "array", "items": _schema("Label")}
    body = {"anyOf": [labels, _object(labels=labels)]}
    operation = _read("Late labels, durable once acknowledged", "Acknowledgement", *_BODY)
    none = {"description": "None accepted", "content": {JSON: {"schema": _schema("Rejection")}}}
    operation["responses"] |= {str(ALL_REJECTED): none}
    content = {JSON: {"schema": body}}
    return {
        **operation,
        "requestBody": {"required": True, "description": _PACKED, "content": content},
    }


def _events() -> dict[str, Any]:
    after = {"name": "after", "in": "query", "schema": _COUNT}
    limit = {"type": "integer", "minimum": 1, "maximum": MAX_EVENTS}
    return {
        **_read("What happened since the state was made", "EventsPage", 400, 404, 503),
        "parameters": [after, {"name": "limit", "in": "query", "schema": limit}],
    }


def _operator(verb: str, arguments: Schema) -> dict[str, Any]:
    body = {"type": "object", "properties": arguments, "additionalProperties": False}
    operation = _read(f"Operator: {verb}", "StatusView", 401, 409, *_BODY)
    required = {"promote": {"required": ["version"]}}.get(verb, {})
    return {
        **operation,
        "parameters": [_KEY],
        "security": [{"token": []}],
        "requestBody": {"content": {JSON: {"schema": body | required}}},
    }


def _weights() -> dict[str, Any]:
    operation = _read("Operator: weights trained elsewhere", "StatusView", 401, 409, *_BODY)
    name = {**_TEXT, "maxLength": MAX_ORIGIN}
    return {
        **operation,
        "parameters": [_KEY, {"name": "origin", "in": "query", "schema": name}],
        "security": [{"token": []}],
        "requestBody": {
            "required": True,
            "description": "A safetensors file that fits the model; the gate decides.",
            "content": {BINARY: {}},
        },
    }


def _schema(value: str | Schema) -> Schema:
    return {"$ref": f"#/components/schemas/{value}"} if isinstance(value, str) else value


def _object(optional: Schema | None = None, closed: bool = True, **required: Schema) -> Schema:
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        **({"additionalProperties": False} if closed else {}),
    }


def _nullable(*schemas: Schema) -> Schema:
    return {"anyOf": [*schemas, {"type": "null"}]}


def _open(**optional: Schema) -> Schema:
    """Return the schema of an object in which null is absent, and unknown keys are let pass."""
    return _nullable(_object({k: _nullable(v) for k, v in optional.items()}, closed=False))


def _list(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


def _tensor() -> Schema:
    """Return the schema of a tensor that is answered; -1 in a shape means any number of rows."""
    sizes = _list({"type": "integer", "minimum": -1})
    return _object(closed=False, name=_TEXT, shape=sizes, datatype=_TEXT)


def _sent(one: InputSettings, max_rows: int) -> Schema:
    """Return the schema of a tensor of a request."""
    rows = {"type": "integer", "minimum": 1, "maximum": max_rows}
    sizes: list[Schema]
    parameters: dict[str, Schema]
    sizes, least = [{"const": size} for size in one.shape], 1 + len(one.shape)
    parameters = {"binary_data_size": _COUNT}
    if one is BYTES:
        sizes, parameters = [{"const": 1}], {**parameters, "content_type": _CODED}
    shape = {
        "type": "array",
        "prefixItems": [rows, *sizes],
        "minItems": least,
        "maxItems": 1 + len(sizes),
    }
    return _object(
        {"data": _nullable({"type": "array"}), "parameters": _open(**parameters)},
        closed=False,
        name={"const": one.name},
        shape=shape,
        datatype={"enum": list(datatypes(one))},
    )


def _schemas(spec: ModelSpec, settings: ServeSettings) -> dict[str, Schema]:
    row_id = {"type": "string", "minLength": 1, "maxLength": MAX_ID_LENGTH, "pattern": "^[^:]+$"}
    parameters = _open(
        binary_data_output={"type": "boolean"},
        timeout={**_COUNT, "description": "Microseconds until an answer is of no use."},
    )
    label: Schema = {"type": "integer", "minimum": 0, "maximum": spec.n_classes - 1}
    if spec.targets:
        label = {"type": "number"}
    if spec.targets > 1:
        label = _list(label, minItems=spec.targets, maxItems=spec.targets)
    if spec.classes:
        label = {"anyOf": [label, {"enum": list(spec.classes)}]}
    metadata = _list(_tensor())
    rejected = _list(_object(index=_COUNT, error=_TEXT))
    wanted = _object(
        {"parameters": _open(binary_data={"type": "boolean"})},
        closed=False,
        name={"enum": list(spec.outputs)},
    )
    sent = [_sent(one, settings.max_rows_per_request) for one in spec.inputs]
    items = sent[0] if len(sent) == 1 else {"anyOf": sent}
    return {
        **schemas({"AuditView": AuditView, "EventsPage": EventsPage, **_VIEW_TYPES}),
        "Error": _object(error=_TEXT),
        "ServerMetadata": _object(name=_TEXT, version=_TEXT, extensions=_list(_TEXT)),
        "ModelMetadata": _object(
            name=_TEXT, versions=_list(_TEXT), platform=_TEXT, inputs=metadata, outputs=metadata
        ),
        "ModelReady": _object(name=_TEXT, ready={"const": True}),
        "InferRequest": _object(
            {
                "id": _nullable(row_id),
                "parameters": parameters,
                "outputs": _nullable(_list(wanted)),
            },
            closed=False,
            inputs=_list(items, minItems=len(sent), maxItems=len(sent)),
        ),
        "InferResponse": _object(
            model_name=_TEXT,
            model_version=_TEXT,
            id=_TEXT,
            parameters=_object({"labels": _COUNT}, weights_hash=_TEXT),
            outputs=_list(_tensor()),
        ),
        "Label": _object(
            {"timestamp": {"type": ["number", "string", "null"]}},
            id=_TEXT,
            label={"anyOf": [label, _list(label, minItems=1)]},
        ),
        "Acknowledgement": _object(accepted=_COUNT, rejected=rejected),
        "Rejection": _object(error=_TEXT, accepted={"const": 0}, rejected=rejected),
    }
