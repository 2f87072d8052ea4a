"""Which rooms of the package may import which, read from the sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import esc_arch

PACKAGE = Path(esc_arch.__file__).parent
TOOLS = {"analyze", "upscale", "export", "compare", "benchmark", "prepare", "report", "web"}
# what each room imports of the others; every room may import itself, and `common` and `errors` are everyone's
MAY_IMPORT: dict[str, set[str]] = {
    "layers": set(),
    "archs": {"layers"},
    "fast": {"layers"},
    "graphs": {"layers"},
    "common": {"fast", "version"},  # the description of the machine names the kernels
}


def modules() -> dict[str, Path]:
    """All modules of the package, by name."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = ("esc_arch", *path.relative_to(PACKAGE).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imported(name: str, within_functions: bool = True) -> set[str]:
    """The modules of this package that a module imports."""
    return set(_imports(ast.parse(MODULES[name].read_text()), within_functions))


def _imports(node: ast.AST, within_functions: bool) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and not within_functions:
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names if alias.name in MODULES)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "relative imports are not used here"
            for alias in child.names:
                below = f"{child.module}.{alias.name}"
                if below in MODULES:
                    yield below
                elif child.module in MODULES:
                    yield child.module
        else:
            yield from _imports(child, within_functions)


def room(name: str) -> str:
    """The folder, or the module, directly below the package; the package itself is ''."""
    return [*name.split("."), ""][1]


def test_the_sources_are_read() -> None:
    assert {"layers", "archs", "fast", "bridge", "checks", "common", "graphs", "weights"} | TOOLS <= {
        room(name) for name in MODULES
    }
    assert "esc_arch.layers.block" in imported("esc_arch.layers.trunk")
    assert "esc_arch.fast.ways" in imported("esc_arch")
    assert "esc_arch.archs" in imported("esc_arch.bridge.plugin")  # within a function
    assert "esc_arch.archs" not in imported("esc_arch.bridge.plugin", within_functions=False)


@pytest.mark.parametrize("importer", MAY_IMPORT)
def test_rooms_know_no_others(importer: str) -> None:
    allowed = MAY_IMPORT[importer] | {importer, "common", "errors"}
    for name in MODULES:
        if room(name) == importer:
            further = {other for other in imported(name) if room(other) not in allowed}
            assert not further, f"{name} imports {', '.join(sorted(further))}"


def test_nothing_imports_a_tool() -> None:
    """But the tool itself, so that its folder can be deleted; the package names `upscale_image` on first use.

    The page in the browser is a face of `upscale`, and calls what that gives to everybody.
    """
    for name in MODULES:
        tools = {other for other in imported(name) if room(other) in TOOLS and room(other) != room(name)}
        if name == "esc_arch":
            tools -= {"esc_arch.upscale.array"}
        if room(name) == "web":
            tools -= {"esc_arch.upscale"}
        assert not tools, f"{name} imports {', '.join(sorted(tools))}"


def test_no_circles() -> None:
    """Imports within functions count, too: they are for what is slow to import, not for cutting circles."""
    graph = {name: imported(name) - {name} for name in MODULES}
    while leaves := [name for name, others in graph.items() if not others & graph.keys()]:
        for name in leaves:
            del graph[name]
    assert not graph, _circle(graph)


def _circle(graph: dict[str, set[str]]) -> str:
    """Follow imports until one module comes again."""
    path = [next(iter(graph))]
    while path[-1] not in path[:-1]:
        path.append(next(other for other in sorted(graph[path[-1]]) if other in graph))
    return " imports ".join(path[path.index(path[-1]) :])
