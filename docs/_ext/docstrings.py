"""Docstrings for Sphinx: bars and stars as mathematics, short type names with links."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sphinx.util.inspect import signature as sphinx_signature
from sphinx.util.inspect import stringify_signature

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx

CODE = re.compile(r"(``.*?``|`[^`]+`)")
MARKUP = re.compile(r"(?<!\\)(\||(?<!^)\*(?! )|(?<=\w)\*|(?<=\w)_(?!\w))")
ARRAY_LIKE = re.compile(r"[~\w.]*Buffer \| [~\w.]*_SupportsArray\[.*?\| bytes \| str\]")
HOMES = {
    "Tensor": "torch.Tensor",
    "Module": "torch.nn.Module",
    "nn.Module": "torch.nn.Module",
    "Generator": "torch.Generator",
    "Size": "torch.Size",
    "np.ndarray": "numpy.ndarray",
    "NDArray": "numpy.typing.NDArray",
}


def readable(lines: list[str]) -> list[str]:
    r"""The lines with ``|x|``, ``*`` and a trailing ``_`` escaped, outside code and examples.

    Example:
        >>> print(*readable(["|x| of ``a * b``, coef_", ">>> a * b"]), sep="; ")
        \|x\| of ``a * b``, coef\_; >>> a * b
    """
    found, example = [], False
    for line in lines:
        example = line.lstrip().startswith(">>>") or (example and bool(line.strip()))
        if example or line.lstrip().startswith(".."):
            found.append(line)
        else:
            parts = CODE.split(line)
            parts[::2] = [MARKUP.sub(r"\\\1", part) for part in parts[::2]]
            found.append("".join(parts))
    return found


def process(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Rewrite one docstring in place, before napoleon reads its sections."""
    # napoleon reads "type: text" in the first line of a property, unless that line is empty.
    lines[:] = ([""] if what == "property" else []) + readable(lines)


def types(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """After napoleon: a trailing underscore in a type, as in np.str_, is a part of the name."""
    lines[:] = [
        re.sub(r"_(?=[]\s,]|$)", r"\_", line) if line.startswith(":vartype") else line
        for line in lines
    ]


def signature(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, args: str, returns: str
) -> Any:
    """The signature of a class: that of its constructor, also where a metaclass wraps it."""
    if what == "class" and (args or "").startswith("(*args: "):
        args = stringify_signature(
            sphinx_signature(obj.__init__, bound_method=True), unqualified_typehints=True
        )
    return (ARRAY_LIKE.sub("ArrayLike", args), returns) if args else None


def foreign(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """True for members to leave out: those of scikit-learn, and fields of named tuples."""
    module = getattr(obj, "__module__", None)
    elsewhere = isinstance(module, str) and not module.startswith("rectilinear")
    return True if elsewhere or type(obj).__name__ == "_tuplegetter" else None


def resolve(app: Sphinx, env: Any, node: Any, contnode: nodes.Node) -> nodes.Node | None:
    """A reference to a short foreign name, such as Tensor, by its full one in the inventories."""
    from sphinx.ext.intersphinx import missing_reference

    home = HOMES.get(node.get("reftarget", ""))
    if node.get("refdomain") != "py" or home is None:
        return None
    node["reftarget"] = home
    return missing_reference(app, env, node, contnode)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect all of these."""
    app.connect("autodoc-process-docstring", process, priority=400)  # napoleon has 500
    app.connect("autodoc-process-docstring", types, priority=600)
    app.connect("autodoc-process-signature", signature)
    app.connect("autodoc-skip-member", foreign)
    app.connect("missing-reference", resolve, priority=400)
    return {"parallel_read_safe": True}
