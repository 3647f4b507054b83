"""Bare FastAPI: the Open Inference Protocol, V2, with binary tensors, checked as undrift checks.

https://fastapi.tiangolo.com/deployment/manually/
"""

import math
import os
import uuid

import numpy as np
import orjson
import torch
from fastapi import FastAPI, HTTPException, Request, Response
from net import SHAPES, build

NAME = os.environ["MODEL"]
SHAPE = list(SHAPES[NAME])
LENGTH = "inference-header-content-length"
OUTPUTS = ("probabilities", "label")
MOST_BYTES, MOST_ROWS = 16 * 2**20, 4096
app = FastAPI()
net = build(NAME)


def refuse(text: str, status: int = 400) -> HTTPException:
    return HTTPException(status, text)


def parse(body: bytes, kind: str, length: str | None) -> tuple[str, np.ndarray, dict[str, bool]]:
    """Return id, rows, and the outputs that are wanted, with whether as bytes."""
    if len(body) > MOST_BYTES:
        raise refuse("too large", 413)
    if kind.partition(";")[0] != ("application/json" if length is None else kind):
        raise refuse("send application/json", 415)
    if length is not None and not (length.isdecimal() and int(length) <= len(body)):
        raise refuse(f"{LENGTH} is wrong")
    end = len(body) if length is None else int(length)
    try:
        request = orjson.loads(body[:end])
        (tensor,) = request["inputs"]
        shape, datatype = tensor["shape"], tensor["datatype"]
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        raise refuse("the body is no inference") from None
    found = request.get("id") or str(uuid.uuid4())
    if not isinstance(found, str) or len(found) > 128 or not found.isprintable():
        raise refuse("'id' is no short text")
    if tensor.get("name") != "input" or datatype != "FP32":
        raise refuse("send one tensor 'input' of FP32")
    if not isinstance(shape, list) or shape[1:] != SHAPE or not 0 < shape[0] <= MOST_ROWS:
        raise refuse("the shape is wrong")
    if "data" in tensor:
        try:
            x = np.array(tensor["data"], np.float32)
        except (TypeError, ValueError):
            raise refuse("'data' holds no numbers") from None
    else:
        size = tensor.get("parameters", {}).get("binary_data_size")
        if size != len(body) - end or size % 4:
            raise refuse("binary_data_size is wrong")
        x = (
            np.frombuffer(body, np.float32, offset=end)
            if end % 4 == 0
            else np.frombuffer(body[end:], np.float32)
        )
    if x.size != math.prod(shape):
        raise refuse("'data' has another size than the shape")
    if not np.isfinite(x).all():
        raise refuse("'data' must be finite")
    as_bytes = request.get("parameters", {}).get("binary_data_output", False)
    wanted = {}
    for item in request.get("outputs", []):
        if item.get("name") not in OUTPUTS:
            raise refuse("no such output")
        wanted[item["name"]] = item.get("parameters", {}).get("binary_data", as_bytes)
    return found, x.reshape(shape), wanted or dict.fromkeys(OUTPUTS, as_bytes)


@app.post("/v2/models/{name}/infer")
async def infer(name: str, request: Request) -> Response:
    if name != NAME:
        raise refuse("no such model", 404)
    headers = request.headers
    body = await request.body()
    found, x, wanted = parse(body, headers.get("content-type", ""), headers.get(LENGTH))
    with torch.inference_mode():
        answer = torch.softmax(net(torch.from_numpy(x.copy())), dim=1).numpy()
    if not np.isfinite(answer).all():
        raise refuse("the answer is not finite", 422)
    tensors, blobs = [], []
    for output, as_bytes in wanted.items():
        values = answer if output == "probabilities" else answer.argmax(axis=1)
        datatype = "FP32" if output == "probabilities" else "INT64"
        tensor = {"name": output, "shape": list(values.shape), "datatype": datatype}
        if as_bytes:
            blobs.append(values.tobytes())
            tensor["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            tensor["data"] = values.ravel().tolist()
        tensors.append(tensor)
    head = orjson.dumps({"model_name": NAME, "model_version": "1", "id": found, "outputs": tensors})
    if not blobs:
        return Response(head, media_type="application/json")
    told = {LENGTH: str(len(head))}
    return Response(b"".join([head, *blobs]), headers=told, media_type="application/octet-stream")
