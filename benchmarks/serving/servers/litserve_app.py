"""LitServe, as its first page has it: https://lightning.ai/docs/litserve/home/get-started."""

import os

import litserve as ls
import torch
from net import build


class Model(ls.LitAPI):
    def setup(self, device: str) -> None:
        self.net = build(os.environ["MODEL"]).to(device)

    def decode_request(self, request: dict) -> torch.Tensor:
        return torch.tensor(request["x"])

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return torch.softmax(self.net(x), dim=1)

    def encode_response(self, output: torch.Tensor) -> dict:
        return {"probabilities": output.tolist(), "label": output.argmax(dim=1).tolist()}


if __name__ == "__main__":
    server = ls.LitServer(Model(), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(os.environ["PORT"]), generate_client_file=False)
