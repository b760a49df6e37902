"""Nothing of a program's text becomes code: what is not known to be harmless is refused."""

import json
from typing import Any

import pytest

from infermesh.errors import LoadFailed
from infermesh.worker.backends import pt2_graph


def program(**graph: Any) -> dict[str, Any]:
    return {"graph_module": {"graph": {"nodes": [], **graph}, "module_call_graph": [], "metadata": {"custom": "x()"}}}


@pytest.mark.parametrize(
    "text",
    [
        "Symbol('s77', positive=True, integer=True)",
        "2*s0 + 1",
        "s0//2",
        "FloorDiv(s0, 2)",
        "Mul(Integer(2), Symbol('s3', integer=True))",
        "Max(1, s0 - 3)",
        "Mod(s77, 2) < 4",
        "-u0",
        "Float('1.5', precision=53)",
        "(s0 + 1)**2",
    ],
)
def test_arithmetic_passes(text: str) -> None:
    pt2_graph.check({"expr_str": text})


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('id')",
        "().__class__.__bases__[0]",
        "s0.func",
        "exec('x')",
        "eval('1')",
        "Symbol('__import__(1)')",
        "Symbol(f'{s0}')",
        "lambda: 0",
        "[x for x in (1,)]",
        "(lambda: 1)()",
        "Symbol('s0')('s1')",
        "globals",
        "a := 1",
        "s0 if s0 else s1",
        "1 2",
        "",
        "'text'",
        "b'x'",
        "(" * 500,
    ],
)
def test_more_than_arithmetic_does_not(text: str) -> None:
    with pytest.raises(LoadFailed, match=r"model\.json: size"):
        pt2_graph.check({"expr_str": text})


@pytest.mark.parametrize(
    "target",
    [
        "torch.ops.aten.linear.default",
        "torch.ops.aten.add_.Tensor",
        "torch.ops.aten.__and__.Tensor",
        "torch.ops.aten._assert_tensor_metadata.default",
        "torch.ops.aten.sum.dim_IntList",
        "torch.ops.higher_order.cond",
        "torch.sym_max",
        "_operator.getitem",
        "math.ceil",
    ],
)
def test_operators_that_compute_pass(target: str) -> None:
    pt2_graph.check({"target": target})


@pytest.mark.parametrize(
    "target",
    [
        "torch.os.system",
        "torch.hub.load",
        "torch.load",
        "torch.ops.load_library",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.__class__.mro",
        "torch.ops.aten.add.__globals__",
        "torch.ops.aten.add.default.__class__",
        "torch.ops.mylib.evil.default",
        "torch.ops.higher_order.call_torchbind",
        "torch.ops.higher_order.triton_kernel_wrapper_functional",
        "torch.sym_max.__globals__",
        "_operator.attrgetter",
        "_operator.methodcaller",
        "_operator.call",
        "math.__loader__.load_module",
        "builtins.eval",
        "#aoti:x",
        "torch.ops.aten.add.default\n",
        "torch.ops.аten.add.default",  # a Cyrillic letter
        "",
    ],
)
def test_operators_that_could_do_anything_do_not(target: str) -> None:
    with pytest.raises(LoadFailed, match="is not among those that are allowed"):
        pt2_graph.check({"nodes": [{"target": target}]})


@pytest.mark.parametrize("name", ["x; import os", "x\n", "a.b", "1x", "x)", "é"])
def test_names_are_identifiers(name: str) -> None:
    with pytest.raises(LoadFailed, match="expected an identifier"):
        pt2_graph.check({"as_tensor": {"name": name}})


@pytest.mark.parametrize(
    "value", [{"parameter_name": 'net"].x'}, {"type": "cpu\n"}, {'a"b': 1}, {"x": ["ok", "no no"]}]
)
def test_other_texts_are_words(value: Any) -> None:
    with pytest.raises(LoadFailed, match="expected letters, digits"):
        pt2_graph.check(value)


def test_texts_for_operators_may_be_anything() -> None:
    pt2_graph.check({"as_string": "tanh'); import os #"})


@pytest.mark.parametrize("key", ["as_custom_obj", "custom_obj"])
def test_custom_objects_are_refused(key: str) -> None:
    with pytest.raises(LoadFailed, match="custom objects are not allowed"):
        pt2_graph.check({"arg": {key: {}}})


def structure(kind: Any, context: Any, *children: Any) -> dict[str, Any]:
    return {"type": kind, "context": context, "children_spec": list(children)}


LEAF = structure(None, None)


@pytest.mark.parametrize(
    "spec",
    [
        LEAF,
        structure("builtins.tuple", "null", LEAF, structure("builtins.list", "null", LEAF)),
        structure("builtins.dict", '["a", "b c"]', LEAF, LEAF),
    ],
)
def test_plain_structures_pass(spec: Any) -> None:
    pt2_graph.check({"in_spec": json.dumps([1, spec])})


@pytest.mark.parametrize(
    "text",
    [
        "[2, null]",
        "no",
        json.dumps([1, structure("transformers.Cache", "null")]),
        json.dumps([1, structure("builtins.dict", '{"__enum__": true, "fqn": "os:x"}')]),
        json.dumps([1, structure("builtins.dict", '[{"__enum__": true, "fqn": "os:x"}]')]),
        json.dumps([1, structure("builtins.tuple", "null", structure("builtins.dict", '{"__enum__": 1}'))]),
        json.dumps([1, "x"]),
    ],
)
def test_structures_that_import_do_not(text: str) -> None:
    with pytest.raises(LoadFailed, match="out_spec"):
        pt2_graph.check({"out_spec": text})


def test_what_only_people_read_is_dropped() -> None:
    node = {"target": "torch.ops.aten.relu.default", "metadata": {"stack_trace": "evil()"}}
    cond = {
        "target": "torch.ops.higher_order.cond",
        "metadata": {},
        "inputs": [{"arg": {"as_graph": {"nodes": [node]}}}],
    }
    given = {**program(nodes=[cond]), "guards_code": ["evil()"]}
    given["graph_module"]["module_call_graph"] = [{"fqn": ""}, {"fqn": "net.0; evil()"}]
    assert "evil" not in json.dumps(pt2_graph.clean(given))


@pytest.mark.parametrize("given", [None, [], {}, {"graph_module": 1}])
def test_other_documents_are_refused(given: Any) -> None:
    with pytest.raises(LoadFailed, match="expected an exported program"):
        pt2_graph.clean(given)
