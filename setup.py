"""Compile the Cython sources; everything else is declared in pyproject.toml.

Cython finds `.pxd` files by import name, while the folders here are `core/`, `bench/` and so on: it would silently
ignore every `.pxd`. A folder of links, build/namespace/rookery/{core,server,api,bench}, gives Cython (and the type
checkers) the import names.

ROOKERY_MODULES, a comma-separated list of path prefixes (`core/wire,bench`), restricts a build to these modules.
ROOKERY_ANNOTATE=1 writes Cython's annotated HTML beside the generated C, ROOKERY_SANITIZE=1 compiles with the
address and undefined-behaviour sanitizers.
"""

import os
from contextlib import suppress
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

NAME = "rookery"
NAMESPACE = Path("build/namespace")
FOLDERS = ("core", "server", "api", "bench")
SANITIZE = ["-fsanitize=address,undefined", "-fno-omit-frame-pointer", "-g"]


def link_namespace() -> None:
    """Make the folders reachable under their import names."""
    parent = NAMESPACE / NAME
    parent.mkdir(parents=True, exist_ok=True)
    for folder in FOLDERS:
        link = parent / folder
        # Another build of the same tree may make it in between.
        with suppress(FileExistsError):
            link.symlink_to(Path("../../..") / folder)


def extensions() -> list[Extension]:
    """One Extension per .pyx, named by its place under the import root."""
    chosen = tuple(filter(None, os.environ.get("ROOKERY_MODULES", "").split(",")))
    sources = sorted(source for folder in FOLDERS for source in Path(folder).rglob("*.pyx"))
    if chosen:
        sources = [source for source in sources if source.as_posix().startswith(chosen)]
    sanitize = SANITIZE if os.environ.get("ROOKERY_SANITIZE") == "1" else []
    return [
        Extension(
            ".".join((NAME, *source.with_suffix("").parts)),
            [str(source)],
            include_dirs=["core/structures"],
            extra_compile_args=["-O3", "-fno-strict-aliasing", "-Wno-unreachable-code", *sanitize],
            extra_link_args=["-pthread", *sanitize],
        )
        for source in sources
    ]


link_namespace()
setup(
    ext_modules=cythonize(
        extensions(),
        include_path=[str(NAMESPACE)],
        build_dir="build/cython",
        annotate=os.environ.get("ROOKERY_ANNOTATE") == "1",
        show_all_warnings=False,
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "initializedcheck": False,
            "cdivision": True,
        },
    ),
)
