"""Texts that the zoo evaluates as Python, as ``policy_kwargs: "dict(net_arch=[64])"``: read, never evaluated."""

import ast

from sb3_mdpo.hub.allowed import NAMES

LONGEST = 4000  # characters: Python's own parser can be brought down by longer ones


def checked_expression(text: str) -> str:
    """
    :param text: Python source
    :return: the same expression, written anew from what was checked
    :raises ValueError: where it is anything but numbers, texts, lists, dictionaries, ``dict(...)`` and known classes
    """
    if len(text) > LONGEST:
        raise ValueError(f"it has more than {LONGEST} characters")
    try:
        expression = ast.parse(text.strip(), mode="eval").body
        _check(expression)
        return ast.unparse(expression)
    except SyntaxError as error:
        raise ValueError(f"it is no Python expression: {error.msg}") from error
    except (RecursionError, MemoryError):  # the parser's own answers to what is nested too deeply
        raise ValueError("it is too deeply nested") from None


def is_dictionary(text: str) -> bool:
    """
    :param text: what :func:`checked_expression` returned
    :return: whether its value is a dictionary
    """
    return isinstance(ast.parse(text, mode="eval").body, ast.Dict | ast.Call)


def _check(node: ast.expr) -> None:
    match node:
        case ast.Constant(value=None | bool() | int() | float() | str()):
            return
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=ast.Constant(value=int() | float())):
            return
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            parts: list[ast.expr] = elements
        case ast.Dict(keys=keys, values=values) if None not in keys:  # {**others}
            parts = [key for key in keys if key is not None] + values
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords) if all(one.arg for one in keywords):
            parts = [keyword.value for keyword in keywords]
        case ast.Name() | ast.Attribute() if ast.unparse(node) in NAMES:
            return
        case _:
            raise ValueError(f"{ast.unparse(node)[:80]} is neither a number, a text, a dict(...) nor a known class")
    for part in parts:
        _check(part)
