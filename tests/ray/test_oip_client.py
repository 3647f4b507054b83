"""Triton's own Python client, unchanged, against the platform."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from tests.ray.running import MODEL, Running

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("same_replicas")]

X = np.random.default_rng(0).uniform(-1, 1, (5, 2)).astype(np.float32)
OUTPUTS = ("probabilities", "label", "class")


@pytest.fixture
def client(platform: Running) -> Iterator[triton.InferenceServerClient]:
    url = platform.url.removeprefix("http://")
    with triton.InferenceServerClient(url, network_timeout=60) as client:
        yield client


def given(x: np.ndarray, datatype: str = "FP32", binary: bool = True) -> list[triton.InferInput]:
    tensor = triton.InferInput("input", list(x.shape), datatype)
    tensor.set_data_from_numpy(x, binary_data=binary)
    return [tensor]


def wanted(binary: bool) -> list[triton.InferRequestedOutput]:
    return [triton.InferRequestedOutput(name, binary_data=binary) for name in OUTPUTS]


def refused(client: triton.InferenceServerClient, status: int, **request: object) -> str:
    with pytest.raises(InferenceServerException) as caught:
        client.infer(**{"model_name": MODEL, "inputs": given(X), **request})
    assert caught.value.status() == str(status)
    return str(caught.value.message())


def test_health_and_metadata(client: triton.InferenceServerClient, platform: Running) -> None:
    live = str(platform.client.status().live_version)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert client.is_model_ready(MODEL, live)
    assert not client.is_model_ready(MODEL, "99")
    assert not client.is_model_ready("other")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    assert client.get_model_metadata(MODEL, live)["versions"] == [live]


def test_answers_are_the_same_in_bytes_in_json_and_mixed(
    client: triton.InferenceServerClient,
) -> None:
    ways = [(True, True), (True, False), (False, True), (False, False)]
    answers = [client.infer(MODEL, given(X, binary=i), outputs=wanted(o)) for i, o in ways]
    answers.append(client.infer(MODEL, given(X)))
    p = answers[0].as_numpy("probabilities")
    assert p.shape == (5, 3)
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)
    for answer in answers:
        np.testing.assert_allclose(answer.as_numpy("probabilities"), p, atol=1e-6)
        np.testing.assert_array_equal(answer.as_numpy("label"), p.argmax(1))
        names = [n.decode() if isinstance(n, bytes) else n for n in answer.as_numpy("class")]
        assert names == [("red", "green", "blue")[i] for i in p.argmax(1)]


@pytest.mark.parametrize(
    "datatype", ["FP16", "FP64", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT64", "BOOL"]
)
def test_other_datatypes_are_converted(client: triton.InferenceServerClient, datatype: str) -> None:
    x = np.array([[0, 1], [1, 1]])
    numpy = {"BOOL": "?", "FP16": "f2", "FP64": "f8"}.get(datatype, datatype.lower())
    one = client.infer(MODEL, given(x.astype(numpy), datatype))
    other = client.infer(MODEL, given(x.astype(np.float32)))
    p = one.as_numpy("probabilities")
    np.testing.assert_allclose(p, other.as_numpy("probabilities"), atol=1e-6)


def test_id_version_and_hash_come_back(
    client: triton.InferenceServerClient, platform: Running
) -> None:
    live = platform.client.status().live_version
    answer = client.infer(MODEL, given(X), str(live), request_id="triton-1").get_response()
    assert answer["id"] == "triton-1"
    assert answer["model_version"] == str(live)
    assert answer["parameters"]["weights_hash"] == platform.store.manifest(live).hash


def test_concurrent_requests_are_each_answered_with_their_own(
    platform: Running,
) -> None:
    url = platform.url.removeprefix("http://")
    with triton.InferenceServerClient(url, concurrency=8, network_timeout=60) as client:
        asked = [
            client.async_infer(MODEL, given(X * i), request_id=f"c{i}", timeout=50_000_000)
            for i in range(40)
        ]
        assert [a.get_result().get_response()["id"] for a in asked] == [f"c{i}" for i in range(40)]


def test_refusals_arrive_as_the_clients_own_errors(client: triton.InferenceServerClient) -> None:
    assert "there is 'spirals'" in refused(client, 404, model_name="other")
    assert "no version '99'" in refused(client, 404, model_version="99")
    assert "'shape' must be [rows, 2]" in refused(client, 400, inputs=given(X.T))
    rounded = given(np.full((1, 2), 2**24 + 1), "INT64")
    assert "number 0 of the binary data, 16777217, would become" in refused(
        client, 400, inputs=rounded
    )
    other = [triton.InferRequestedOutput("logits")]
    assert "out of probabilities" in refused(client, 400, outputs=other)
    assert "the deadline passed" in refused(client, 504, timeout=1_000)
    best = [triton.InferRequestedOutput("probabilities", class_count=2)]
    assert "'classification' of 'probabilities' is not served" in refused(client, 400, outputs=best)
    assert "without sequences" in refused(client, 400, sequence_id=7, sequence_start=True)
    there = triton.InferInput("input", [5, 2], "FP32")
    there.set_shared_memory("region", 40)
    assert "'shared_memory_region' of 'input'" in refused(client, 400, inputs=[there])
    large = given(np.zeros((30_000, 2), np.float32))
    assert "the body has more than" in refused(
        client, 413, inputs=large, request_compression_algorithm="gzip"
    )


@pytest.mark.parametrize("packed", ["gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
def test_packed_requests_and_offers_to_unpack_answers_change_nothing(
    client: triton.InferenceServerClient, packed: str, binary: bool
) -> None:
    plain = client.infer(MODEL, given(X, binary=binary), outputs=wanted(binary))
    answer = client.infer(
        MODEL,
        given(X, binary=binary),
        outputs=wanted(binary),
        request_id="packed",
        request_compression_algorithm=packed,
        response_compression_algorithm=packed,
    )
    assert answer.get_response()["id"] == "packed"
    for name in OUTPUTS:
        assert answer.as_numpy(name).tolist() == plain.as_numpy(name).tolist()


def test_parameters_of_ones_own_and_a_priority_are_let_pass(
    client: triton.InferenceServerClient,
) -> None:
    mine = {"content_type": "np", "shop": "x", "weight": 2}
    answer = client.infer(MODEL, given(X), priority=3, parameters=mine)
    assert answer.as_numpy("probabilities").shape == (5, 3)
