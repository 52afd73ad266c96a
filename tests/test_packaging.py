"""The package as others get it: an sdist, the wheel that is built from it, and a clean environment that installs it."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Compiling everything takes a minute or two on a slow machine.
BUILD_DEADLINE_S = 900


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Standard output; what went wrong is in the failure."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "ROOKERY_MODULES")}
    result = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=BUILD_DEADLINE_S,
        check=False,
    )
    assert result.returncode == 0, f"{command}:\n{result.stdout[-2000:]}\n{result.stderr[-4000:]}"
    return result.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made from what git has, so that nothing that happens to lie about gets in."""
    source = tmp_path_factory.mktemp("source")
    archive = tmp_path_factory.mktemp("archive") / "tree.tar"
    subprocess.run(["git", "archive", "--output", archive, "HEAD"], cwd=ROOT, check=True)
    subprocess.run(["tar", "--extract", "--file", archive], cwd=source, check=True)
    out_folder = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "build", "--no-isolation", "--sdist", "--outdir", out_folder, source, cwd=source)
    [path] = out_folder.glob("*.tar.gz")
    return path


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the sdist alone: what the sdist forgot cannot be found elsewhere."""
    folder = tmp_path_factory.mktemp("wheel")
    run(
        sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
        "--wheel-dir", folder, sdist, cwd=folder,
    )  # fmt: skip
    [path] = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def clean_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that has the wheel, and the dependencies of the one that runs the tests."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin" / "python"
    packages = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", packages, wheel, cwd=folder)
    # Dependencies by a path file at the end, behind what was installed; its editable rookery is no folder there.
    own = next(path for path in map(Path, sys.path) if path.name == "site-packages")
    (Path(packages) / "dependencies.pth").write_text(f"{own}\n")
    return python


def test_sdist_holds_the_sources_and_no_generated_code(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = ["/".join(name.split("/")[1:]) for name in archive.getnames()]
    for needed in ("core/engine.pyx", "core/sessions/state.pxd", "core/engine.pyi", "core/py.typed", "LICENSE"):
        assert needed in names
    assert [name for name in names if name.endswith((".c", ".so"))] == []


def test_wheel_holds_only_the_packages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"rookery"}
    assert {name.split("/")[1] for name in names if name.startswith("rookery/")} == {"api", "bench", "core", "server"}
    assert any(name.startswith("rookery/core/engine.") and name.endswith(".so") for name in names)
    assert "rookery/core/py.typed" in names


def test_installed_package_imports_from_its_environment(clean_python: Path, tmp_path: Path) -> None:
    where = run(clean_python, "-c", "import rookery.core.engine as e; print(e.__file__)", cwd=tmp_path).strip()
    assert Path(where).is_relative_to(clean_python.parents[1])


def test_every_module_of_the_tree_is_installed(clean_python: Path, tmp_path: Path) -> None:
    tracked = subprocess.run(["git", "ls-files", "core", "server", "api"], cwd=ROOT, capture_output=True, check=True)
    modules = {
        "rookery." + ".".join(Path(name).with_suffix("").parts).removesuffix(".__init__")
        for name in tracked.stdout.decode().split()
        if name.endswith((".py", ".pyx"))
    }
    script = f"import importlib; [importlib.import_module(name) for name in {sorted(modules)!r}]"
    run(clean_python, "-c", script, cwd=tmp_path)


def test_folders_are_no_packages_of_their_own(clean_python: Path, tmp_path: Path) -> None:
    for name in ("core", "server", "api", "bench"):
        result = subprocess.run([clean_python, "-c", f"import {name}"], cwd=tmp_path, capture_output=True, check=False)
        assert b"ModuleNotFoundError" in result.stderr


def test_installed_command_tells_its_version(clean_python: Path, tmp_path: Path) -> None:
    # pip's --target puts scripts below the packages; the entry point is what counts.
    script = "from importlib.metadata import entry_points as e; [s] = e(group='console_scripts', name='rookery'); "
    out = run(clean_python, "-c", script + "s.load()(['--version'])", cwd=tmp_path)
    assert out.startswith("rookery 0.")
