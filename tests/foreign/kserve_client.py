"""KServe's own REST client, in an environment of its own: ask, and print what came back as JSON.

Arguments: URL, model, rows as JSON.
"""

import asyncio
import json
import sys

import httpx
import numpy as np
from kserve.inference_client import InferenceRESTClient, RESTConfig
from kserve.protocol.infer_type import InferInput, InferRequest, RequestedOutput


async def main(url: str, model: str, rows: str) -> None:
    x = np.array(json.loads(rows), np.float32)
    told = {"answers": []}
    async with InferenceRESTClient(RESTConfig(protocol="v2", timeout=60)) as client:
        told["live"] = await client.is_server_live(url)
        told["ready"] = await client.is_server_ready(url)
        told["model_ready"] = await client.is_model_ready(url, model)
        told["other_ready"] = await client.is_model_ready(url, "other")
        for binary in (False, True):
            tensor = InferInput("input", list(x.shape), "FP32", parameters={"content_type": "np"})
            tensor.set_data_from_numpy(x, binary_data=binary)
            as_bytes = {"binary_data": binary}
            for names in (None, ("label", "class")):
                wanted = names and [RequestedOutput(name, dict(as_bytes)) for name in names]
                request = InferRequest(
                    model,
                    [tensor],
                    request_id="kserve-1",
                    parameters={"binary_data_output": binary, "mine": "x"},
                    request_outputs=wanted,
                )
                answer = await client.infer(url, request, model_name=model)
                told["answers"].append(
                    {
                        "id": answer.id,
                        "model": answer.model_name,
                        "outputs": {o.name: o.as_numpy().tolist() for o in answer.outputs},
                    }
                )
        wide = InferInput("input", list(x.shape), "INT64", [2**24 + 1] * x.size)
        try:
            await client.infer(url, InferRequest(model, [wide]), model_name=model)
        except httpx.HTTPStatusError as error:
            told["refused"] = [error.response.status_code, str(error)]
    print(json.dumps(told))  # noqa: T201


asyncio.run(main(*sys.argv[1:]))
