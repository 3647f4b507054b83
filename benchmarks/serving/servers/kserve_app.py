"""KServe's Python server with a model of one's own.

https://kserve.github.io/website/docs/model-serving/predictive-inference/frameworks/custom-predictor/custom-predictor
"""

import argparse
import os
import uuid

import numpy as np
import torch
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer, model_server
from net import build


class Own(Model):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.load()

    def load(self) -> None:
        self.net = build(self.name)
        self.ready = True

    def predict(self, payload: InferRequest, headers: dict | None = None) -> InferResponse:
        del headers
        x = payload.inputs[0].as_numpy().astype(np.float32)
        with torch.inference_mode():
            answer = torch.softmax(self.net(torch.from_numpy(x)), dim=1).numpy()
        label = answer.argmax(axis=1)
        outputs = [
            InferOutput("probabilities", list(answer.shape), "FP32"),
            InferOutput("label", list(label.shape), "INT64"),
        ]
        binary = bool((payload.parameters or {}).get("binary_data_output", False))
        for output, values in zip(outputs, (answer, label), strict=True):
            output.set_data_from_numpy(values, binary_data=binary)
        return InferResponse(payload.id or str(uuid.uuid4()), self.name, outputs)


parser = argparse.ArgumentParser(parents=[model_server.parser])
args, _ = parser.parse_known_args()

if __name__ == "__main__":
    ModelServer(workers=1).start([Own(os.environ["MODEL"])])
