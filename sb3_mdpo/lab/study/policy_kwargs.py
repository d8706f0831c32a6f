"""``policy_kwargs`` as the zoo's files write them, read and changed without being executed."""

import ast
from typing import Any


class Expression(str):
    """Python source of a value that is no literal, e.g. ``nn.GELU``: the zoo evaluates it, nobody else does."""

    def __repr__(self) -> str:
        return str(self)


def read_policy_kwargs(written: str | dict[str, Any] | None) -> dict[str, Any]:
    """
    :param written: ``"dict(net_arch=[64], activation_fn=nn.GELU)"``, a mapping, or None for no arguments
    :return: the arguments by name, nested dictionaries as dictionaries and what is no literal as
        :class:`Expression`
    :raises ValueError: if the text is no dictionary
    """
    if not isinstance(written, str):
        return dict(written or {})
    try:
        arguments = _value(ast.parse(written, mode="eval").body)
    except SyntaxError:
        arguments = None
    if not isinstance(arguments, dict):
        raise ValueError(f'policy_kwargs: {written!r} is no dictionary: write "dict(net_arch=[64])", for example.')
    return arguments


def write_policy_kwargs(arguments: dict[str, Any]) -> str:
    """
    :param arguments: what :func:`read_policy_kwargs` returned, changed perhaps
    :return: text that the zoo evaluates
    """
    return repr(arguments)


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Dict) and all(isinstance(key, ast.Constant) for key in node.keys):
        return {ast.literal_eval(key): _value(value) for key, value in zip(node.keys, node.values, strict=True) if key}
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "dict" and not node.args:
        keywords = {keyword.arg: _value(keyword.value) for keyword in node.keywords}
        if None not in keywords:  # dict(**others)
            return keywords
    try:
        return ast.literal_eval(node)
    except ValueError:
        return Expression(ast.unparse(node))
