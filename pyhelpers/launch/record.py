"""Named fields without `typing`, whose import costs 8 ms of every start. For mypy it is NamedTuple."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple as Record
else:

    class Record:
        """The annotated fields, in order, are the constructor's arguments; class values are defaults."""

        _fields: tuple[str, ...] = ()

        def __init_subclass__(cls) -> None:
            cls._fields = tuple(cls.__annotations__)

        def __init__(self, *values: object, **named: object) -> None:
            named.update(zip(self._fields, values))
            for field in self._fields:
                if field in named:
                    setattr(self, field, named[field])
                elif not hasattr(type(self), field):
                    raise TypeError(f"{type(self).__name__} needs {field}")

        def __iter__(self) -> object:
            return (getattr(self, field) for field in self._fields)

        def _replace(self, **changed: object) -> Record:
            return type(self)(**{field: changed.get(field, getattr(self, field)) for field in self._fields})


__all__ = ["TYPE_CHECKING", "Record"]
