"""A file is run where it can end nothing but its own process."""

import os
import signal
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compression.engine.passes.context import PassContext
from compression.engine.passes.culprits import spare_culprits
from compression.engine.search.deadline import interrupt_after
from compression.exceptions import BudgetSpentError, ModelUnsupportedError
from compression.measure import smoke
from compression.measure.samples import Samples
from compression.measure.smoke import list_calls, smoke_run
from servers.patience import Patience
from tests.factories.compression import build, make_model, make_samples

ROWS = list_calls(Samples({"x": make_samples(8, seed=1)[0]}, None))


def endless(path):
    """A loop that ends in years."""
    keep = helper.make_node("Identity", ["go"], ["going"])
    add = helper.make_node("Add", ["s", "one"], ["more"])
    body = helper.make_graph(
        [keep, add],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("s", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("more", TensorProto.FLOAT, None),
        ],
        [numpy_helper.from_array(np.float32([1.0]), "one")],
    )
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("Loop", ["trips", "", "flat"], ["y"], body=body),
    ]
    onnx.save(build(nodes, {"trips": np.int64(2**62)}, ("y", 144), "N"), str(path))


def find_fork():
    """The process that runs the file now, a child of the server."""
    server = smoke._SERVER._process
    if server is None:
        return None
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    return int(children[0]) if children else None


def test_a_file_that_ends_its_process_is_told_and_the_next_one_is_run(tmp_path):
    path = tmp_path / "model.onnx"
    endless(path)
    found = []
    thread = threading.Thread(target=lambda: found.append(smoke_run(path, ROWS, threads=1)))
    thread.start()
    patience = Patience("the file being run")
    while (fork := find_fork()) is None:
        patience.look(0)
    os.kill(fork, signal.SIGSEGV)
    thread.join()
    assert "the process ended with signal 11" in found[0].failure
    onnx.save(make_model(), str(path))
    assert smoke_run(path, ROWS, threads=1).failure == ""


def test_a_time_limit_leaves_no_answer_for_the_next_question(tmp_path):
    path = tmp_path / "model.onnx"
    endless(path)
    with pytest.raises(BudgetSpentError), interrupt_after(2.0):
        smoke_run(path, ROWS, threads=1)
    onnx.save(make_model(), str(path))
    found = smoke_run(path, ROWS, threads=1)
    assert found.failure == ""
    assert found.signature == [("x", "tensor(float)", 4), ("logits", "tensor(float)", 2)]


def test_a_file_is_run_with_one_thread_and_more_on_batches_of_several_sizes(tmp_path):
    """A Reshape to one row runs with one row alone, and then says so."""
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["row"]),
        helper.make_node("Flatten", ["row"], ["y"]),
    ]
    path = tmp_path / "model.onnx"
    onnx.save(build(nodes, {"shape": np.array([1, 144])}, ("y", 144), "N"), str(path))
    found = smoke_run(path, ROWS, threads=2)
    assert found.signature == [("x", "tensor(float)", 4), ("y", "tensor(float)", 2)]
    assert found.failure.startswith("with 1 thread on 2 rows: ")
    path.write_bytes(b"no model")
    assert smoke_run(path, ROWS, threads=2).signature is None


def test_what_the_quantizer_gives_up_on_is_named_and_left_out(tmp_path):
    """Halving finds both nodes at fault of nine; a fault of all together is refused."""
    model = make_model()
    context = PassContext(tmp_path / "a", tmp_path / "out.onnx", tmp_path / "a", tmp_path)
    names = [f"node{index}" for index in range(9)]
    bad = {"node3", "node7"}

    def quantize(excluded, only):
        quantized = set(names if only is None else only) - set(excluded)
        if bad & quantized:
            raise KeyError("scale")
        onnx.save(model, str(context.destination))

    found = spare_culprits("quantize.static", quantize, context, names, ["node0"])
    assert set(found) == bad and "KeyError" in found["node3"]

    def never(excluded, only):
        if only is None:
            raise KeyError("scale")
        onnx.save(model, str(context.destination))

    with pytest.raises(ModelUnsupportedError, match="does not work on this graph: KeyError"):
        spare_culprits("quantize.static", never, context, names, [])
