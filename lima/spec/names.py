"""Names that stand in specs for what can be extended: engines, rubrics, sources, batch builders.

A spec is read where torch and lxml are not installed, so the names that ship are known here; what
stands behind each is in a `Registry` of its chapter. A package of others adds to such a registry
in a module that its entry point in the group `lima.extensions` names, and so does a file of a
study's own, which `lima.spec.extension_files` runs. Both are met when a name is that is not known
otherwise. Such names have a dot: `PACKAGE.NAME`.
"""

from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from msgspec import Meta

from lima.errors import SpecError
from lima.spec import extension_files

T = TypeVar("T")
GROUP = "lima.extensions"
"""Group of entry points of packages that add names."""
_EVERY: list["Names"] = []


class Names:
    """The names that one field of a spec may have."""

    def __init__(self, kind: str, *shipped: str) -> None:
        """Know the names that ship; `kind` is what they are names of, in the plural."""
        self.kind, self._known = kind, list(shipped)
        _EVERY.append(self)

    def __iter__(self) -> Iterator[str]:
        """Yield the names that are known, those that ship first."""
        return iter(self._known)

    def __contains__(self, name: object) -> bool:
        """Say whether there is such a name, here or in a package of others."""
        if name not in self._known:
            _import_extensions()
        return name in self._known

    def add(self, name: str) -> None:
        """Make a name known.

        Raises:
            ValueError: it does not ship, and has no dot.
            SpecError: it is no name for the file that runs.

        """
        self.require_own(name, taken=name not in self._known)
        if name in self._known:
            return
        if "." not in name:
            raise ValueError(f"{name}: write PACKAGE.NAME, which no name that ships can be")
        self._known.append(name)

    def require_own(self, name: str, *, taken: bool) -> None:
        """Refuse a name that a file which is being run would add, and that is not of its package.

        What ships may be imported by that file, and adds its own: names that are not `taken`.

        Raises:
            SpecError: it is another's.

        """
        package = extension_files.running()
        if package and not name.startswith(f"{package}.") and (taken or "." in name):
            raise SpecError(
                f"adds {name!r} to the {self.kind}: {package}.py may add names {package}.… alone"
            )

    def forget(self, package: str) -> None:
        """Forget the names of a package: another content of its file may have others."""
        self._known = [name for name in self._known if not name.startswith(f"{package}.")]

    def meta(self, description: str) -> Meta:
        """Return what a field of a spec says of its type `str`: these names alone."""
        schema: dict[str, Any] = {"anyOf": [{"enum": list(self._known)}, {"pattern": r"\."}]}
        return Meta(description=description, extra_json_schema=schema, extra={"names": self})


class Registry(Generic[T]):
    """What stands behind each of some names."""

    def __init__(self, names: Names) -> None:
        """Begin with nothing."""
        self.names, self._of = names, dict[str, T]()

    def add(self, name: str, what: T) -> None:
        """Add what a name stands for; specs may have the name from now on.

        Raises:
            SpecError: it is no name for the file that runs.

        """
        self.names.require_own(name, taken=name in self._of)
        self.names.add(name)
        self._of[name] = what

    def __getitem__(self, name: str) -> T:
        """Return what a name stands for.

        Raises:
            KeyError: there is no such name; a spec that was decoded has none of these.

        """
        if name not in self._of:
            _import_extensions()
        return self._of[name]

    def get(self, name: str) -> T | None:
        """Return what a name stands for; None: it may be of a package that is not here."""
        return self[name] if name in self.names and name in self._of else None

    def __iter__(self) -> Iterator[T]:
        """Yield all that is registered."""
        return iter(self._of.values())


def names_of(metadata: tuple[Any, ...]) -> Names | None:
    """Return the names that a field may have, of the metadata of its annotation; None: any."""
    found = (meta.extra.get("names") for meta in metadata if isinstance(meta, Meta) and meta.extra)
    return next((names for names in found if isinstance(names, Names)), None)


def load_file(package: str, data: bytes, where: str) -> None:
    """Run a study's own file, which adds names of its package; the same content runs once.

    Args:
        package: What its names begin with.
        data: Its bytes.
        where: What messages call it.

    Raises:
        SpecError: it fails, or adds other names.

    """
    with extension_files.LOCK:
        if extension_files.is_loaded(package, data):
            return
        # Before: what the file imports of them would count as its own.
        _import_packages()
        _forget(package)
        try:
            extension_files.execute(package, data, where)
        except SpecError:
            _forget(package)
            raise


def _forget(package: str) -> None:
    for names in _EVERY:
        names.forget(package)


def _import_packages() -> None:
    for entry in entry_points(group=GROUP):
        entry.load()


def _import_extensions() -> None:
    # Together: another thread shall not look before the names are there.
    with extension_files.LOCK:
        _import_packages()
        for file in extension_files.handed_on():
            # A file may ask for names itself, and is not begun again for that.
            if not extension_files.is_running(file.package):
                load_file(file.package, file.data, file.where)


ENGINES = Names("engines", "transformers", "vllm")
BATCH_BUILDERS = Names("batch builders", "packed", "padded")
RUBRICS = Names("rubrics", "likert-6", "preference")
SOURCES = Names(
    "sources",
    "stackexchange",
    "wikihow",
    "writingprompts",
    "askreddit",
    "natural_instructions",
    "alpaca",
    "authored",
    "examples",
)
