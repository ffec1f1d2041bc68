"""What a `$` expression of a config would do, from its syntax tree alone: MONAI hands such text to Python's eval.

No library at hand judges expressions; RestrictedPython rewrites code in order to run it, and nothing here is run.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from clinibundle.exchange.names import (
    DANGEROUS_ATTRIBUTES,
    DANGEROUS_BUILTINS,
    DANGEROUS_DUNDERS,
    DANGEROUS_MODULES,
    DANGEROUS_WITHIN,
    HARMLESS_ATTRIBUTES,
    HARMLESS_BUILTINS,
    HARMLESS_ENVIRONMENT,
    HARMLESS_IMPORTS,
    HARMLESS_NAMES,
    USUAL_ALIASES,
    is_within,
)
from clinibundle.exchange.verdicts import Verdict

Judgement = tuple[Verdict, str]
CLEAN: Judgement = (Verdict.CLEAN, "")

# As MONAI finds references in an expression (monai.bundle.ReferenceResolver.id_matcher).
_REFERENCE = re.compile(r"@\w+(?:(?:::|#)\w+)*")
_STANDS_FOR_REFERENCE = "reference_of_the_config"
_LONGEST_EXPRESSION = 4000
_LARGEST_EXPONENT, _LARGEST_REPETITION = 64, 10**5
_FULL_NAMES = {alias: module for module, alias in USUAL_ALIASES.items()}
# How bundles make a package of their own importable; the package's Python is judged for itself.
_OWN_PACKAGE_FIRST = f"sys.path.insert(0, str(pathlib.Path({_STANDS_FOR_REFERENCE}).resolve()))"
_IN_TEXT = re.compile("|".join(map(re.escape, sorted(DANGEROUS_DUNDERS | {"__class__"}))))


def judge_expression(text: str) -> Judgement:
    """The verdict on a string that begins with `$`, and why.

    Clean are arithmetic, comparison, comprehension, references, and the names and methods that
    `clinibundle.exchange.names` calls harmless. What cannot be read as Python, MONAI cannot run either; it needs trust.
    """
    if len(text) > _LONGEST_EXPRESSION:
        return Verdict.DANGEROUS, f"an expression of {len(text)} characters hides what it does"
    code = _REFERENCE.sub(_STANDS_FOR_REFERENCE, text.removeprefix("$").strip())
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Verdict.NEEDS_TRUST, "is no Python that can be read"
    if ast.unparse(tree) == _OWN_PACKAGE_FIRST:
        return CLEAN
    judgements = [_judge(node, _bound_names(tree)) for node in _outermost(tree)]
    if len(tree.body) > 1:
        judgements.append((Verdict.NEEDS_TRUST, "several statements in one expression"))
    return max(judgements, key=lambda each: each[0], default=CLEAN)


def _bound_names(tree: ast.AST) -> frozenset[str]:
    """Loop variables of comprehensions and arguments of lambdas."""
    stored = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return frozenset(stored | {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)})


def _outermost(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node, but of a dotted name `a.b.c` only the whole, and nothing of `os.environ['LOCAL_RANK']`."""
    pending = [tree]
    while pending:
        node = pending.pop()
        if _is_environment_read(node):
            continue
        yield node
        if not (isinstance(node, ast.Attribute) and dotted_name(node)):
            pending.extend(ast.iter_child_nodes(node))


def dotted_name(node: ast.AST) -> str | None:
    """`a.b.c` as text; None of anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else None


_PLAIN = (
    ast.Module, ast.Expression, ast.Expr, ast.Load, ast.Store, ast.UnaryOp, ast.unaryop, ast.operator, ast.BoolOp,
    ast.boolop, ast.Compare, ast.cmpop, ast.IfExp, ast.Subscript, ast.Slice, ast.List, ast.Tuple, ast.Dict, ast.Set,
    ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.comprehension, ast.Starred, ast.keyword,
    ast.JoinedStr, ast.FormattedValue, ast.Lambda, ast.arguments, ast.arg, ast.alias,
)  # fmt: skip


def _judge(node: ast.AST, bound: frozenset[str]) -> Judgement:  # noqa: PLR0911 - a line a kind of node
    if isinstance(node, ast.Name):
        return _judge_name(node.id, bound)
    if isinstance(node, ast.Attribute):
        return _judge_attribute(node, bound)
    if isinstance(node, ast.Call):
        return _judge_call(node)
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return judge_import(node)
    if isinstance(node, ast.Constant):
        return _judge_constant(node.value)
    if isinstance(node, ast.BinOp):
        return _judge_arithmetic(node)
    if isinstance(node, _PLAIN):
        return CLEAN
    return Verdict.NEEDS_TRUST, f"{type(node).__name__} is more than an expression needs"


def _judge_name(name: str, bound: frozenset[str]) -> Judgement:
    if name in DANGEROUS_BUILTINS or name in DANGEROUS_DUNDERS:
        return Verdict.DANGEROUS, f"{name} runs or reaches anything"
    shadowed = name in bound and (name in HARMLESS_BUILTINS or name in HARMLESS_IMPORTS or name in _FULL_NAMES)
    if shadowed:
        return Verdict.NEEDS_TRUST, f"gives {name} another meaning"
    if name in bound or name in HARMLESS_BUILTINS or name == _STANDS_FOR_REFERENCE:
        return CLEAN
    if is_within(_FULL_NAMES.get(name, name), DANGEROUS_MODULES) or name == "open":
        return Verdict.DANGEROUS, f"{name} reaches files, the network or other programs"
    return Verdict.NEEDS_TRUST, f"{name} is not among the names that configs need"


def _judge_attribute(node: ast.Attribute, bound: frozenset[str]) -> Judgement:
    name = dotted_name(node)
    if name is None:
        # The rest of the chain is judged by itself.
        return _judge_attributes([node.attr])
    root, *attributes = name.split(".")
    if root == _STANDS_FOR_REFERENCE or root in bound:
        return _judge_attributes(attributes)
    whole = _with_full_module(name)
    if name in HARMLESS_NAMES or whole in HARMLESS_NAMES:
        return CLEAN
    dangerous = [part for part in attributes if part in DANGEROUS_ATTRIBUTES | DANGEROUS_DUNDERS | DANGEROUS_WITHIN]
    if root in DANGEROUS_BUILTINS or dangerous or is_within(whole, DANGEROUS_MODULES):
        return Verdict.DANGEROUS, f"{name} reaches files, the network or other programs"
    return Verdict.NEEDS_TRUST, f"{name} is not among the names that configs need"


def _with_full_module(name: str) -> str:
    """`np.array` as `numpy.array`."""
    root, _, rest = name.partition(".")
    return f"{_FULL_NAMES.get(root, root)}.{rest}"


def _judge_attributes(attributes: list[str]) -> Judgement:
    if dangerous := [each for each in attributes if each in DANGEROUS_ATTRIBUTES | DANGEROUS_DUNDERS]:
        return Verdict.DANGEROUS, f".{dangerous[0]} reaches files, the network or other programs"
    if unknown := [each for each in attributes if each not in HARMLESS_ATTRIBUTES]:
        return Verdict.NEEDS_TRUST, f".{unknown[0]} is not among the attributes that configs need"
    return CLEAN


def _judge_call(node: ast.Call) -> Judgement:
    """What is called must have a name that is judged; a function that comes out of an expression has none."""
    if isinstance(node.func, (ast.Name, ast.Attribute)):
        return CLEAN
    return Verdict.NEEDS_TRUST, "calls what an expression gives"


def judge_import(node: ast.Import | ast.ImportFrom) -> Judgement:
    """Of an import statement in a config."""
    for alias in node.names:
        whole = alias.name if isinstance(node, ast.Import) else f"{node.module or ''}.{alias.name}".lstrip(".")
        if is_within(whole, DANGEROUS_MODULES) or alias.name in DANGEROUS_ATTRIBUTES | DANGEROUS_BUILTINS:
            return Verdict.DANGEROUS, f"imports {whole}"
        if isinstance(node, ast.ImportFrom) or alias.name not in HARMLESS_IMPORTS:
            return Verdict.NEEDS_TRUST, f"imports {whole}, which configs do not need"
        if alias.asname not in (None, USUAL_ALIASES.get(alias.name)):
            return Verdict.DANGEROUS, f"imports {whole} under the name {alias.asname}"
    return CLEAN


def _judge_constant(value: object) -> Judgement:
    if isinstance(value, str) and (found := _IN_TEXT.search(value)):
        return Verdict.DANGEROUS, f"names {found.group()} in a text"
    return CLEAN


def _judge_arithmetic(node: ast.BinOp) -> Judgement:
    """Numbers and texts that would fill the memory."""
    right, left = node.right, node.left
    number = right.value if isinstance(right, ast.Constant) and isinstance(right.value, (int, float)) else None
    if isinstance(node.op, (ast.Pow, ast.LShift)) and (number is None or abs(number) > _LARGEST_EXPONENT):
        return Verdict.DANGEROUS, "a power whose size is not bounded"
    if isinstance(node.op, ast.Mult):
        for sequence, times in ((left, right), (right, left)):
            if _is_sequence(sequence) and not _is_small_number(times):
                return Verdict.DANGEROUS, "a repetition whose size is not bounded"
    return CLEAN


def _is_sequence(node: ast.AST) -> bool:
    literal = isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes))
    return literal or isinstance(node, (ast.List, ast.Tuple, ast.JoinedStr))


def _is_small_number(node: ast.AST) -> bool:
    """A number, or a reference, which is one if it is to be run at all."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int) and node.value <= _LARGEST_REPETITION
    return isinstance(node, ast.Name) and node.id == _STANDS_FOR_REFERENCE


def _is_environment_read(node: ast.AST) -> bool:
    """`os.environ['LOCAL_RANK']` and its like."""
    return (
        isinstance(node, ast.Subscript)
        and dotted_name(node.value) == "os.environ"
        and isinstance(node.slice, ast.Constant)
        and node.slice.value in HARMLESS_ENVIRONMENT
    )
