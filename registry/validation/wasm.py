"""What a processor module may be; pure rules over the bytes, none of which is run.

A processor is a WebAssembly core module (specification 2.0, section 5.5) that devices run in a
sandbox. The sandbox refuses whatever is wrong on its own; refusing it here tells the person who
uploads it, and no device downloads it. Only the sections that matter are read: types, imports,
functions, memories and exports. Every count is checked against the bytes that are left before it is
believed.
"""

from dataclasses import dataclass, field

from registry.validation.rules import RuleError

MAX_MODULE_BYTES = 1 << 20
MAX_ITEMS = 10_000
"""Of any one section."""
MAX_MEMORY_PAGES = 256
"""Of 64 KiB: what the agent's sandbox gives."""
HEADER = b"\0asm\1\0\0\0"
COMPONENT = b"\0asm\x0d\0\1\0"
TYPES, IMPORTS, FUNCTIONS, MEMORIES, EXPORTS = 1, 2, 3, 5, 7
FUNCTION, TABLE, MEMORY, GLOBAL = 0, 1, 2, 3
LAST_SECTION = 12
I32, F32 = 0x7F, 0x7D

Signature = tuple[tuple[int, ...], tuple[int, ...]]
HOST_MODULE = "wasi_ephemeral_nn"
HOST_CALLS: dict[str, Signature] = {
    name: ((I32,) * arity, (I32,))
    for name, arity in (
        ("load", 5),
        ("load_by_name", 3),
        ("init_execution_context", 2),
        ("set_input", 3),
        ("compute", 1),
        ("get_output", 5),
    )
}
"""All that a module may import, with its type."""
NEEDED_EXPORTS: dict[str, Signature] = {
    "edge_alloc": ((I32,), (I32,)),
    "edge_init": ((I32,) * 5, (I32,)),
    "edge_normalise": ((I32, F32, F32), (I32,)),
    "edge_classify": ((I32,) * 5, (I32,)),
}
"""What the agent calls, beside the exported `memory`."""


@dataclass
class Module:
    """What was read of a module."""

    types: list[Signature] = field(default_factory=list)
    imports: list[tuple[str, str, int]] = field(default_factory=list)
    """Module, name and index of the function's type."""
    functions: list[int] = field(default_factory=list)
    """Index of the type of each function of the module's own."""
    memory_pages: list[int] = field(default_factory=list)
    exports: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Kind and index by name."""

    def signature_of(self, function: int) -> Signature:
        """The type of a function; imported ones come first."""
        kinds = [kind for _, _, kind in self.imports] + self.functions
        try:
            return self.types[kinds[function]]
        except IndexError:
            raise RuleError(f"The module refers to a function {function} that it has not") from None


def check_processor(data: bytes) -> Module:
    """The module when an agent's sandbox would take it.

    Raises:
        RuleError: with the first rule that is broken.
    """
    module = parse_module(data)
    for host, name, kind in module.imports:
        expected = HOST_CALLS.get(name) if host == HOST_MODULE else None
        if expected is None:
            raise RuleError(
                f"The module imports {host!r}.{name!r}; devices offer only "
                f"{HOST_MODULE}: {', '.join(HOST_CALLS)}"
            )
        if kind >= len(module.types) or module.types[kind] != expected:
            raise RuleError(f"The module imports {name!r} with another type than it has")
    if module.exports.get("memory", (-1, 0))[0] != MEMORY:
        raise RuleError("The module exports no memory of the name 'memory'")
    if len(module.memory_pages) != 1 or module.memory_pages[0] > MAX_MEMORY_PAGES:
        raise RuleError(
            f"Expected one memory of at most {MAX_MEMORY_PAGES} pages; got {module.memory_pages}"
        )
    for name, signature in NEEDED_EXPORTS.items():
        kind, index = module.exports.get(name, (-1, 0))
        if kind != FUNCTION or module.signature_of(index) != signature:
            raise RuleError(f"The module exports no function {name!r} of the type devices call")
    return module


def parse_module(data: bytes) -> Module:
    """The parts of a core module that the rules ask about.

    Raises:
        RuleError: too large, not a core module, or malformed in a part that is read.
    """
    if not 0 < len(data) <= MAX_MODULE_BYTES:
        raise RuleError(f"The processor has {len(data)} bytes; accepted: 1 to {MAX_MODULE_BYTES}")
    if data.startswith(COMPONENT):
        raise RuleError("The processor is a WebAssembly component; expected a core module")
    if not data.startswith(HEADER):
        raise RuleError("The processor is not a WebAssembly module of version 1")
    module, reader = Module(), Reader(data, len(HEADER))
    seen: set[int] = set()
    while reader.left:
        section = reader.byte()
        body = reader.part(reader.number())
        if section > LAST_SECTION or (section and section in seen):
            raise RuleError(f"The module has a section {section} too many")
        seen.add(section)
        if section == TYPES:
            module.types = [_read_type(body) for _ in range(body.count())]
        elif section == IMPORTS:
            module.imports = [_read_import(body) for _ in range(body.count())]
        elif section == FUNCTIONS:
            module.functions = [body.number() for _ in range(body.count())]
        elif section == MEMORIES:
            module.memory_pages = [_read_limits(body) for _ in range(body.count())]
        elif section == EXPORTS:
            rows = [(body.name(), body.byte(), body.number()) for _ in range(body.count())]
            module.exports = {name: (kind, index) for name, kind, index in rows}
            if len(module.exports) != len(rows):
                raise RuleError("The module exports one name twice")
        else:
            continue
        if body.left:
            raise RuleError(f"Section {section} of the module has {body.left} bytes too many")
    return module


class Reader:
    """Takes values off a part of the bytes; never past its end."""

    def __init__(self, data: bytes, start: int = 0, end: int | None = None) -> None:
        self._data = data
        self._at = start
        self._end = len(data) if end is None else end

    @property
    def left(self) -> int:
        return self._end - self._at

    def byte(self) -> int:
        if self._at >= self._end:
            raise RuleError("The module is cut off")
        self._at += 1
        return self._data[self._at - 1]

    def number(self) -> int:
        """An unsigned 32-bit number in LEB128: 1 to 5 bytes of 7 bits, lowest first."""
        value = 0
        for shift in range(0, 35, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value >> 32:
                    break
                return value
        raise RuleError("A number of the module passes 32 bits")

    def count(self) -> int:
        """How many items follow; each has one byte at least."""
        count = self.number()
        if count > min(self.left, MAX_ITEMS):
            raise RuleError(f"The module promises {count} items in {self.left} bytes")
        return count

    def part(self, size: int) -> "Reader":
        """A reader of the next `size` bytes, which are skipped here."""
        if size > self.left:
            raise RuleError("The module is cut off")
        self._at += size
        return Reader(self._data, self._at - size, self._at)

    def name(self) -> str:
        part = self.part(self.number())
        try:
            return self._data[part._at : part._end].decode("utf-8")
        except UnicodeDecodeError as error:
            raise RuleError("A name of the module is not UTF-8") from error


def _read_type(reader: Reader) -> Signature:
    form = reader.byte()
    if form != 0x60:
        raise RuleError(f"The module has a type of the form 0x{form:02x}; expected functions")
    parameters = tuple(reader.byte() for _ in range(reader.count()))
    return parameters, tuple(reader.byte() for _ in range(reader.count()))


def _read_import(reader: Reader) -> tuple[str, str, int]:
    host, name, kind = reader.name(), reader.name(), reader.byte()
    if kind != FUNCTION:
        raise RuleError(f"The module imports {host!r}.{name!r}, which is no function")
    return host, name, reader.number()


def _read_limits(reader: Reader) -> int:
    flags = reader.byte()
    if flags > 1:
        raise RuleError("The module has a memory that is shared or of 64 bits")
    pages = reader.number()
    if flags:
        reader.number()
    return pages
