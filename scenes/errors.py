"""The errors a user sees: one sentence each, saying where it went wrong and what to do."""


def printable(text: str) -> str:
    r"""A text as a terminal may show it: control characters of files and servers are escaped.

    >>> print(printable("\x1b[31mred \udcff"))
    \x1b[31mred \udcff
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class TvrError(Exception):
    """The work or the data failed; the command ends with status 1."""

    exit_status = 1


class ConfigError(TvrError):
    """Wrong usage or configuration, found before work began; the command ends with status 2."""

    exit_status = 2


class ParameterError(ConfigError):
    """A parameter of a function has a value that cannot be used."""

    def __init__(self, parameter: str, message: str, value: object = None) -> None:
        self.parameter, self.value, self.message = parameter, value, message
        shown = parameter if value is None else f"{parameter}={value}"
        super().__init__(f"{shown}: {message}")

    def __reduce__(self) -> tuple[type["ParameterError"], tuple[str, str, object]]:
        return type(self), (self.parameter, self.message, self.value)


class PlanError(TvrError):
    """No scene satisfying the rules was found in the allowed number of tries."""


class DataError(TvrError):
    """A file is missing, unreadable, or does not say what its schema asks for."""
