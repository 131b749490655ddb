"""Registries whose parts are built by name, with their contract checked at once."""

from typing import Any

from detectron2.utils.registry import Registry

from .errors import UserError


class PartRegistry(Registry):
    """Detectron2's registry, which says in one sentence what does not fit.

    Attributes:
        key: of the configuration, that names an entry.
        needs: attributes that every part has.
    """

    def __init__(self, name: str, key: str, needs: tuple[str, ...], contract: str):
        """
        Args:
            contract: what a part is given and gives; becomes the docstring.
        """
        super().__init__(name)
        self.key = key
        self.needs = needs
        self.__doc__ = contract

    def get(self, name: str) -> Any:
        """The entry `name`; a `UserError` where there is none."""
        if name not in self:
            names = ", ".join(known for known, _ in self)
            raise UserError(
                f"{self.key} is {name}, which is not registered: name one of {names}, or import "
                "the module that registers it, with --import or IMPORTS."
            )
        return super().get(name)

    def build(self, name: str, *arguments) -> Any:
        """Call the entry `name`; a `UserError` where what it gives lacks something."""
        return self.checked(name, self.get(name)(*arguments))

    def checked(self, name: str, part: Any) -> Any:
        """`part` itself; a `UserError` where it lacks something that the contract names."""
        missing = [attribute for attribute in self.needs if not hasattr(part, attribute)]
        if missing:
            raise UserError(
                f"{self.key} {name} lacks {', '.join(missing)}: the contract of "
                f"{self._name}_REGISTRY says what it must be."
            )
        return part
