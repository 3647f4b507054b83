"""MLServer's own types, in an environment of their own: ask, and print what came back as JSON.

Arguments: URL, model, rows as JSON. MLServer has no REST client; any HTTP client carries its types.
"""

import json
import sys
from urllib.request import Request, urlopen

import numpy as np
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import (
    InferenceRequest,
    InferenceResponse,
    MetadataModelResponse,
    MetadataServerResponse,
    Parameters,
    RequestInput,
    RequestOutput,
)


def main(url: str, model: str, rows: str) -> None:
    x = np.array(json.loads(rows), np.float32)
    like_numpy = Parameters(content_type="np", headers={"x": "y"})
    data = {"name": "input", "shape": list(x.shape), "datatype": "FP32", "data": x.tolist()}
    asked = [
        InferenceRequest(inputs=[NumpyCodec.encode_input("input", x)]),
        InferenceRequest(inputs=[NumpyCodec.encode_input("input", x.astype(np.float64))]),
        InferenceRequest(
            id="mlserver-1",
            parameters=like_numpy,
            inputs=[RequestInput(parameters=like_numpy, **data)],
            outputs=[RequestOutput(name="label", parameters=like_numpy)],
        ),
    ]
    told = {
        "server": read(MetadataServerResponse, f"{url}/v2/").name,
        "inputs": [i.name for i in read(MetadataModelResponse, f"{url}/v2/models/{model}").inputs],
        "answers": [],
    }
    for request in asked:
        for less in ({}, {"exclude_unset": False, "exclude_none": False}):  # with nulls, too
            body = request.model_dump_json(**less).encode()
            path = f"{url}/v2/models/{model}/infer"
            head = {"Content-Type": "application/json"}
            answer = read(InferenceResponse, Request(path, body, head))
            told["answers"].append(
                {
                    "id": answer.id,
                    "model": answer.model_name,
                    "outputs": {o.name: decoded(o) for o in answer.outputs},
                }
            )
    print(json.dumps(told))  # noqa: T201


def read(kind, request):
    with urlopen(request, timeout=60) as answer:
        return kind.model_validate_json(answer.read())


def decoded(output):
    codec = StringCodec if output.datatype == "BYTES" else NumpyCodec
    values = codec.decode_output(output)
    return values.tolist() if codec is NumpyCodec else values


main(*sys.argv[1:])
