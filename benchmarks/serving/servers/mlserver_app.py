"""MLServer with a runtime of one's own: https://docs.seldon.ai/mlserver/user-guide/custom."""

import os

import numpy as np
import torch
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from net import build


class Own(MLModel):
    async def load(self) -> bool:
        self.net = build(os.environ["MODEL"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        x = self.decode(payload.inputs[0], default_codec=NumpyCodec).astype(np.float32)
        with torch.inference_mode():
            answer = torch.softmax(self.net(torch.from_numpy(x)), dim=1).numpy()
        outputs = [
            NumpyCodec.encode_output("probabilities", answer),
            NumpyCodec.encode_output("label", answer.argmax(axis=1)),
        ]
        return InferenceResponse(id=payload.id, model_name=self.name, outputs=outputs)
