"""Makes the program text of a `.pt2` archive safe to hand to torch. Pure, without torch; used by `pt2_archive.py`.

A `.pt2` looks like data, but torch turns parts of its `model.json` into Python: symbolic sizes are evaluated, names
are written into generated source that is executed, operators are looked up by dotted path from `torch` (through which
`torch.os.system` can be reached), guards are source text, and structures may import modules. So nothing passes here
but what is known to be harmless: text that only people read is dropped, the rest must be of a known form.
"""

import ast
import json
import re
from collections.abc import Callable
from typing import Any, Final

from infermesh.errors import LoadFailed

_IDENTIFIER: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_WORD: Final = re.compile(r"[\w.+-]{0,512}", re.ASCII)
_NUMBER: Final = re.compile(r"[-+]?[\d.]+(e[-+]?\d+)?", re.ASCII)

_OPERATOR: Final = re.compile(
    r"torch\.ops\.(aten|prims|quantized_decomposed)\.(?P<name>\w+)\.[A-Za-z]\w*"
    r"|torch\.ops\.higher_order\.(cond|while_loop|map_impl|scan|associative_scan|wrap_with_set_grad_enabled"
    r"|wrap_with_autocast)"
    r"|torch\._?sym_[a-z]+"
    r"|math\.[a-z0-9]+"
    r"|_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|pow|neg|pos|abs|eq|ne|lt|le|gt|ge|and_|or_|xor|not_|lshift"
    r"|rshift)",
    re.ASCII,
)
_DUNDER_OPERATORS: Final = frozenset(
    f"__{prefix}{name}__" for prefix in ("", "i") for name in ("and", "or", "xor", "lshift", "rshift")
)
_FORBIDDEN_OPERATORS: Final = frozenset({"from_file"})  # maps a file of the machine

_FUNCTION: Final = re.compile(
    r"Symbol|Integer|Float|Rational|Add|Mul|Pow|Max|Min|Abs|Eq|Ne|Lt|Le|Gt|Ge|And|Or|Not|Piecewise|floor|ceiling"
    r"|Equality|Unequality|StrictLessThan|StrictGreaterThan|LessThan|GreaterThan|FloorDiv|ModularIndexing|Where"
    r"|PythonMod|Mod|CleanDiv|CeilToInt|FloorToInt|CeilDiv|LShift|RShift|PowByNatural|FloatPow|FloatTrueDiv|IntTrueDiv"
    r"|IsNonOverlappingAndDenseIndicator|TruncToFloat|TruncToInt|RoundToInt|RoundDecimal|ToFloat|Identity"
)
_SYMBOL: Final = re.compile(r"[a-z]{1,4}\d+|true|false|oo|int_oo", re.ASCII)
_EXPRESSION_NODES: Final = (
    ast.Expression,
    ast.BinOp,
    ast.UnaryOp,
    ast.Compare,
    ast.Tuple,
    ast.operator,
    ast.unaryop,
    ast.cmpop,
    ast.Load,
    ast.keyword,
)
_STRUCTURES: Final = frozenset({None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"})
_REFUSED_KEYS: Final = frozenset({"as_custom_obj", "custom_obj", "class_fqn"})


def clean(program: Any) -> Any:
    """Returns the parsed `model.json` without what only people read. Raises LoadFailed for what may do harm."""
    if not isinstance(program, dict) or not isinstance(program.get("graph_module"), dict):
        raise LoadFailed("model.json: expected an exported program")
    module = {**program["graph_module"], "metadata": {}, "treespec_namedtuple_fields": {}}
    calls = [call for call in module.get("module_call_graph", []) if call.get("fqn") == ""]
    cleaned = {**program, "guards_code": [], "graph_module": {**module, "module_call_graph": calls}}
    _drop_metadata(cleaned["graph_module"].get("graph"))
    check(cleaned)
    return cleaned


def _drop_metadata(value: Any) -> None:
    """Empties the metadata of every node, subgraphs included: stack traces and module paths."""
    if isinstance(value, dict):
        if "target" in value and "metadata" in value:
            value["metadata"] = {}
        for child in value.values():
            _drop_metadata(child)
    elif isinstance(value, list):
        for child in value:
            _drop_metadata(child)


def check(value: Any, key: str = "") -> None:
    """Raises LoadFailed unless every text in a parsed document is of a known form; `key` is the field it is in."""
    if isinstance(value, dict):
        for name, child in value.items():
            if name in _REFUSED_KEYS:
                raise LoadFailed(f"model.json: {name}: custom objects are not allowed, they would have to be unpickled")
            _check_word(name, "a key")
            check(child, name)
    elif isinstance(value, list):
        for child in value:
            check(child, key)
    elif isinstance(value, str):
        _CHECKS.get(key, _check_word)(value, key)


def _check_word(text: str, key: str) -> None:
    if not _WORD.fullmatch(text):
        raise LoadFailed(f"model.json: {key}: expected letters, digits, '_', '.', '+', '-', got {text[:80]!r}")


def _check_name(text: str, key: str) -> None:
    if text and not _IDENTIFIER.fullmatch(text):
        raise LoadFailed(f"model.json: {key}: expected an identifier, got {text[:80]!r}")


def _check_operator(text: str, key: str) -> None:
    match = _OPERATOR.fullmatch(text)
    name = match["name"] if match else None
    dunder = name is not None and name.startswith("__") and name not in _DUNDER_OPERATORS
    if match is None or dunder or name in _FORBIDDEN_OPERATORS:
        raise LoadFailed(f"model.json: operator {text[:80]!r} is not among those that are allowed")


def _check_text(text: str, key: str) -> None:
    """Accepts any text: torch writes it into its source by `repr`."""


def _check_structure(text: str, key: str) -> None:
    try:
        protocol, spec = json.loads(text)
    except ValueError as error:
        raise LoadFailed(f"model.json: {key}: not a structure: {error}") from error
    if protocol != 1:
        raise LoadFailed(f"model.json: {key}: expected structures of protocol 1, got {protocol!r}")
    _check_spec(spec, key)


def _check_spec(spec: Any, key: str) -> None:
    kind = spec.get("type") if isinstance(spec, dict) else "?"
    if kind not in _STRUCTURES:
        raise LoadFailed(f"model.json: {key}: expected tensors in tuples, lists and dicts, got {kind!r}")
    context = json.loads(spec["context"]) if isinstance(spec.get("context"), str) else None
    keys = context if isinstance(context, list) else []
    if (context is not None and context is not keys) or not all(isinstance(name, str | int) for name in keys):
        raise LoadFailed(f"model.json: {key}: expected plain names of tensors, got {spec['context'][:80]!r}")
    for child in spec.get("children_spec", []):
        _check_spec(child, key)


def _check_expression(text: str, key: str) -> None:
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise LoadFailed(f"model.json: size {text[:80]!r} is not an expression") from error
    for node in ast.walk(tree):
        if not _is_harmless(node):
            raise LoadFailed(f"model.json: size {text[:80]!r} holds more than arithmetic")


def _is_harmless(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and _FUNCTION.fullmatch(node.func.id) is not None
    if isinstance(node, ast.Name):
        return (_FUNCTION.fullmatch(node.id) or _SYMBOL.fullmatch(node.id)) is not None
    if isinstance(node, ast.Constant):
        return not isinstance(node.value, str | bytes) or _is_symbol_or_number(node.value)
    return isinstance(node, _EXPRESSION_NODES)


def _is_symbol_or_number(text: str | bytes) -> bool:
    return isinstance(text, str) and (_SYMBOL.fullmatch(text) or _NUMBER.fullmatch(text)) is not None


_CHECKS: Final[dict[str, Callable[[str, str], None]]] = {
    "name": _check_name,
    "forward_arg_names": _check_name,
    "target": _check_operator,
    "as_operator": _check_operator,
    "as_string": _check_text,
    "as_strings": _check_text,
    "expr_str": _check_expression,
    "in_spec": _check_structure,
    "out_spec": _check_structure,
}
