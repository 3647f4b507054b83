"""BentoML, as its first page has it: https://docs.bentoml.com/en/latest/get-started/hello-world.html."""

import os

import bentoml
import numpy as np
import torch
from net import build


@bentoml.service
class Model:
    def __init__(self) -> None:
        self.net = build(os.environ["MODEL"])

    @bentoml.api
    def predict(self, x: np.ndarray) -> dict:
        with torch.inference_mode():
            answer = torch.softmax(self.net(torch.from_numpy(x.astype(np.float32))), dim=1)
        return {"probabilities": answer.tolist(), "label": answer.argmax(dim=1).tolist()}
