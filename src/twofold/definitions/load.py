"""From a file or a module to the project that it declares."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from twofold.definitions.project import Project
from twofold.errors import DefinitionError, did_you_mean


def load_project(path_or_spec: str | Path) -> Project:
    """The project of `flights.py`, of `flights.py:project`, of a module `fraud.app` or of `fraud.app:project`.

    Without a name, the one `tw.Project` that stands in the module. The file's folder (for a module the working directory) can be
    imported from while it loads. Raises DefinitionError, with file and line where the file itself fails.
    """
    text = str(path_or_spec)
    spec, _, name = text.rpartition(":") if ":" in text[2:] else (text, "", "")
    module = _load_file(Path(spec)) if spec.endswith(".py") or "/" in spec else _load_module(spec)
    return _project_of(module, spec, name)


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        nearest = did_you_mean(path.name, (found.name for found in path.parent.glob("*.py"))) if path.parent.is_dir() else ""
        raise DefinitionError(f"there is no file {str(path)!r}.{nearest}")
    path = path.resolve()
    module = ModuleType(_module_name(path))
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    try:
        with _importable(path.parent):
            exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[module.__name__]
        raise _failure(error, path) from error
    return module


def _module_name(path: Path) -> str:
    """The file's own name, so that what it defines can be found again; another where an installed module has it."""
    loaded = sys.modules.get(path.stem)
    is_free = loaded is None or getattr(loaded, "__file__", None) == str(path)
    is_free = is_free and path.stem not in sys.stdlib_module_names
    return path.stem if is_free and path.stem.isidentifier() else f"project_{path.stem}"


def _load_module(spec: str) -> ModuleType:
    with _importable(Path.cwd()):
        try:
            return importlib.import_module(spec)
        except ModuleNotFoundError as error:
            if error.name is not None and (spec == error.name or spec.startswith(f"{error.name}.")):
                raise DefinitionError(f"there is no module {spec!r}; give a file, as in flights.py, or package.module:name") from None
            raise _failure(error, None) from error
        except DefinitionError:
            raise
        except Exception as error:
            raise _failure(error, None) from error


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if str(folder) in sys.path:
            sys.path.remove(str(folder))


def _failure(error: BaseException, path: Path | None) -> DefinitionError:
    """An exception of the project file with the file and line where it was raised; Twofold's own errors stay of their kind."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return DefinitionError(f"{Path(error.filename).name}:{error.lineno}: {error.msg}")
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if path is None or frame.filename == str(path)] or list(frames)
    kind = type(error) if isinstance(error, DefinitionError) else DefinitionError
    text = str(error) if isinstance(error, DefinitionError) else f"{type(error).__name__}: {error}"
    return kind(f"{Path(own[-1].filename).name}:{own[-1].lineno}: {text}")


def _project_of(module: ModuleType, spec: str, name: str) -> Project:
    projects = {key: value for key, value in vars(module).items() if isinstance(value, Project)}
    if name:
        if name not in projects:
            has = ", ".join(projects) or "none"
            raise DefinitionError(f"{spec} has no project {name!r}; it has {has}.{did_you_mean(name, projects)}")
        return projects[name]
    distinct = list({id(project): project for project in projects.values()}.values())
    if not distinct:
        raise DefinitionError(f"{spec} declares no project; end it with project = tw.Project('name', models=[...])")
    if len(distinct) > 1:
        raise DefinitionError(
            f"{spec} declares {len(distinct)} projects; say which, as in {spec}:{next(iter(projects))}; it has {', '.join(projects)}"
        )
    return distinct[0]
