"""Settings whose value is the name of a member of a registry."""

from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from raydisc.registry import Registry


@dataclass(frozen=True)
class NameIn:
    """An annotation of a string that has to be the name of a member: ``Annotated[str, NameIn(LOSSES)]``.

    Attributes:
        registry: The registry; its members are not imported.
    """

    registry: Registry[Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the schema of a string that is checked when it is read."""
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the JSON Schema, which lists the names that are known now."""
        return {**handler(schema), "enum": list(self.registry.names())}

    def _checked(self, name: str) -> str:
        if name not in self.registry:
            noun, context = self.registry.noun, {"key": name[:60], "hint": self.registry.hint(name)}
            raise PydanticCustomError(f"unknown_{noun}", f"unknown {noun} '{{key}}'{{hint}}", context)
        return name
