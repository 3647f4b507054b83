"""Stock Ray Serve: a plain deployment that is sent JSON, as its first pages have it.

https://docs.ray.io/en/latest/serve/getting_started.html
"""

import os

import torch
from net import build
from ray import serve
from starlette.requests import Request


@serve.deployment
class Model:
    def __init__(self, name: str) -> None:
        self.net = build(name)

    async def __call__(self, request: Request) -> dict:
        given = await request.json()
        with torch.inference_mode():
            answer = torch.softmax(self.net(torch.tensor(given["x"])), dim=1)
        return {"probabilities": answer.tolist(), "label": answer.argmax(dim=1).tolist()}


if __name__ == "__main__":
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PORT"])})
    serve.run(Model.bind(os.environ["MODEL"]), blocking=True)
