"""The registry: every ModelVersion that is known, parsed once, in the order of its model's versions."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

from modelswap.api.v1alpha1.model_version import ModelVersion

from .semver_order import Precedence, VersionRange, precedence


class Versions:
    """The versions of one model, in rising order; never changes."""

    __slots__ = ("_items", "_order")

    def __init__(self, order: tuple[Precedence, ...] = (), items: tuple[ModelVersion, ...] = ()) -> None:
        self._order = order
        self._items = items

    @classmethod
    def of(cls, items: Iterable[ModelVersion]) -> Versions:
        """Of versions in any order, each there once."""
        ordered = sorted(((precedence(item.spec.version), item) for item in items), key=lambda pair: pair[0])
        return cls(tuple(order for order, _ in ordered), tuple(item for _, item in ordered))

    def __iter__(self) -> Iterator[ModelVersion]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, version: object) -> bool:
        return isinstance(version, str) and self.get(version) is not None

    def get(self, version: str) -> ModelVersion | None:
        """The one of this number, or None."""
        wanted = precedence(version)
        place = bisect_left(self._order, wanted)
        return self._items[place] if place < len(self._order) and self._order[place] == wanted else None

    def within(self, wanted: VersionRange) -> Iterator[ModelVersion]:
        """Those that a range admits, the highest first."""
        first, last = self._bounds(wanted)
        for place in range(last - 1, first - 1, -1):
            if wanted.admits_precedence(self._order[place]):
                yield self._items[place]

    def _bounds(self, wanted: VersionRange) -> tuple[int, int]:
        first, last = 0, len(self._order)
        for sign, bound in wanted.comparators:
            if sign in (">=", ">", "="):
                first = max(first, bisect_left(self._order, bound))
            if sign in ("<=", "<", "="):
                last = min(last, bisect_right(self._order, bound))
        return first, last

    def with_(self, version: ModelVersion) -> Versions:
        """These, and this one in the place of what had its number."""
        order = precedence(version.spec.version)
        place = bisect_left(self._order, order)
        after = place + (place < len(self._order) and self._order[place] == order)
        return Versions(
            (*self._order[:place], order, *self._order[after:]), (*self._items[:place], version, *self._items[after:])
        )

    def without(self, version: str) -> Versions:
        """These, but for the one of this number."""
        order = precedence(version)
        first, last = bisect_left(self._order, order), bisect_right(self._order, order)
        return Versions(self._order[:first] + self._order[last:], self._items[:first] + self._items[last:])


NONE = Versions()


class Registry:
    """All versions of all models. What has gone leaves nothing behind."""

    def __init__(self) -> None:
        self._by_name: dict[tuple[str, str], ModelVersion] = {}
        self._models: dict[str, dict[str, Versions]] = {}
        """Namespace → model → its versions."""

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[ModelVersion]:
        return iter(tuple(self._by_name.values()))

    def put(self, version: ModelVersion) -> None:
        """Register a version, or what is now known of it."""
        meta, spec = version.metadata, version.spec
        old = self._by_name.get((meta.namespace, meta.name))
        # One name can be read as two models: `a-1.0.0-2.0.0`.
        if old is not None and (old.spec.model, old.spec.version) != (spec.model, spec.version):
            self.remove(meta.namespace, meta.name)
        self._by_name[meta.namespace, meta.name] = version
        models = self._models.setdefault(meta.namespace, {})
        models[spec.model] = models.get(spec.model, NONE).with_(version)

    def remove(self, namespace: str, name: str) -> None:
        """Unregister; nothing happens to what is not there."""
        version = self._by_name.pop((namespace, name), None)
        if version is None:
            return
        models, model = self._models[namespace], version.spec.model
        models[model] = models[model].without(version.spec.version)
        if not models[model]:
            del models[model]
        if not models:
            del self._models[namespace]

    def get(self, namespace: str, name: str) -> ModelVersion | None:
        """The ModelVersion of a name, or None."""
        return self._by_name.get((namespace, name))

    def models(self, namespace: str) -> list[str]:
        """Names of the models that have a version."""
        return sorted(self._models.get(namespace, ()))

    def versions(self, namespace: str, model: str) -> Versions:
        """A model's versions; none when nobody knows it."""
        return self._models.get(namespace, {}).get(model, NONE)
